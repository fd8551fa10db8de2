"""The mode inferred from the first images: it loses nothing of them; later ones that it would change are refused."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL

from recordio import DatasetWriter, Image, Scalar, Schema, SchemaError, ShardDataset
from recordio.writer import inference

RED, CLEAR = (250, 10, 10), (250, 10, 10, 128)


def grey(mode: str = "L") -> PIL.Image:
    return PIL.new("L", (4, 4), 100).convert(mode)


def palette(transparency: Any = None, colour: tuple[int, ...] = RED) -> PIL.Image:
    picture = PIL.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, *colour])
    if transparency is not None:
        picture.info["transparency"] = transparency
    return picture


def keyed(mode: str, colour: Any) -> PIL.Image:
    """An image with one transparent colour, as PNG allows."""
    picture = PIL.new(mode, (4, 4), colour)
    picture.info["transparency"] = colour
    return picture


def encoded(picture: PIL.Image, name: str = "PNG") -> bytes:
    out = BytesIO()
    picture.save(out, name)
    return out.getvalue()


COLOUR = PIL.new("RGB", (4, 4), RED)
REFUSED: dict[str, tuple[PIL.Image, Any, str]] = {
    "colour after grey": (grey(), COLOUR, "RGB"),
    "palette after grey": (grey(), palette(), "RGB"),
    "CMYK after grey": (grey(), COLOUR.convert("CMYK"), "RGB"),
    "YCbCr after grey": (grey(), COLOUR.convert("YCbCr"), "RGB"),
    "RGBA after grey": (grey(), PIL.new("RGBA", (4, 4), CLEAR), "RGBA"),
    "LA after grey": (grey(), PIL.new("LA", (4, 4), (100, 7)), "RGBA"),
    "transparent grey after grey": (grey(), keyed("L", 100), "RGBA"),
    "PNG in colour after grey": (grey(), encoded(COLOUR), "RGBA"),
    "JPEG in colour after grey": (grey(), encoded(COLOUR, "JPEG"), "RGBA"),
    "WebP in colour after grey": (grey(), encoded(COLOUR, "WEBP"), "RGBA"),
    "RGBA after colour": (COLOUR, PIL.new("RGBA", (4, 4), CLEAR), "RGBA"),
    "LA after colour": (COLOUR, PIL.new("LA", (4, 4), (100, 7)), "RGBA"),
    "transparent index after colour": (COLOUR, palette(1), "RGBA"),
    "transparent palette after colour": (COLOUR, palette(b"\xff\x07"), "RGBA"),
    "transparent colour after colour": (COLOUR, keyed("RGB", RED), "RGBA"),
    "transparent PNG after colour": (COLOUR, encoded(PIL.new("RGBA", (4, 4), CLEAR)), "RGBA"),
}


def write(writer: DatasetWriter, pictures: Sequence[Any], batch: bool) -> None:
    if batch:
        writer.write_batch({"image": pictures})
    else:
        for picture in pictures:
            writer.write({"image": picture})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_later_image_that_the_inferred_mode_would_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, batch: bool
) -> None:
    monkeypatch.setattr(inference, "MOST_SAMPLES", 1)
    first, second, fitting = REFUSED[case]
    with DatasetWriter(tmp_path / "a") as writer:
        writer.write({"image": first})
        with pytest.raises(SchemaError, match="inferred from the first picture") as caught:
            write(writer, [second] if batch else [first, second], batch)
        assert str(caught.value).count("schema") == 1
        assert f"give schema={{'image': Image('{first.mode}')}}".replace(first.mode, fitting) in str(caught.value)
        assert (caught.value.place.field, caught.value.place.sample) == ("image", 1 if batch else 2)
        write(writer, [first], batch)
    with DatasetWriter(tmp_path / "b", {"image": Image(fitting)}) as writer:
        write(writer, [first, second], batch)
    assert len(ShardDataset(tmp_path / "b")) == 2


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_inferred_mode_loses_nothing_of_any_of_the_first_images(tmp_path: Path, case: str, batch: bool) -> None:
    first, second, fitting = REFUSED[case]
    mode = "RGB" if "in colour" in case else fitting
    for name, schema in (("a", None), ("b", {"image": Image(mode)})):
        with DatasetWriter(tmp_path / name, schema) as writer:
            write(writer, [first, second], batch)
    assert files(tmp_path / "a") == files(tmp_path / "b")


LOSSLESS: dict[str, tuple[PIL.Image, Any]] = {
    "two values after grey": (grey(), grey("1")),
    "grey pixels in RGB": (grey(), grey("RGB")),
    "grey pixels in a palette": (grey(), palette(colour=(90, 90, 90))),
    "grey and opaque": (grey(), grey("RGBA")),
    "grey JPEG": (grey(), encoded(grey(), "JPEG")),
    "grey after colour": (COLOUR, grey()),
    "palette after colour": (COLOUR, palette()),
    "opaque after colour": (COLOUR, COLOUR.convert("RGBA")),
    "opaque palette after colour": (COLOUR, palette(b"\xff\xff")),
    "CMYK after colour": (COLOUR, COLOUR.convert("CMYK")),
    "JPEG after colour": (COLOUR, encoded(COLOUR, "JPEG")),
    "anything after RGBA": (PIL.new("RGBA", (4, 4), CLEAR), palette(b"\xff\x07")),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_lossless_image_is_stored_unchanged(tmp_path: Path, case: str) -> None:
    first, second = LOSSLESS[case]
    for name, schema, batch in (("a", None, False), ("b", None, True), ("c", {"image": Image(first.mode)}, False)):
        with DatasetWriter(tmp_path / name, schema) as writer:
            write(writer, [first, second], batch)
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_mode_advice_names_the_other_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MOST_SAMPLES", 1)
    with DatasetWriter(tmp_path) as writer:
        writer.write({"image": grey(), "label": 0})
        with pytest.raises(SchemaError, match=r"schema=\{'image': Image\('RGB'\)\} and the other fields"):
            writer.write({"image": COLOUR, "label": 1})


def test_damaged_image_after_a_grey_one_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.write({"image": grey()})
        with pytest.raises(SchemaError, match="cut short"):
            writer.write({"image": encoded(COLOUR)[:50]})


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_explicit_mode_permits_conversion(tmp_path: Path, mode: str) -> None:
    with DatasetWriter(tmp_path, {"image": Image(mode)}) as writer:
        for picture in (grey(), COLOUR, PIL.new("RGBA", (4, 4), CLEAR), palette(1), encoded(COLOUR)):
            writer.write({"image": picture})
    assert ShardDataset(tmp_path)[1]["image"].shape == (4, 4, len(mode))


@pytest.mark.parametrize(
    ("picture", "mode"),
    [
        (grey("1"), "RGB"),
        (palette(), "RGB"),
        (palette(b"\xff\xff"), "RGB"),
        (palette(1), "RGBA"),
        (palette(b"\xff\x07"), "RGBA"),
        (PIL.new("LA", (4, 4), (100, 255)), "RGB"),
        (PIL.new("LA", (4, 4), (100, 7)), "RGBA"),
        (keyed("L", 100), "RGBA"),
        (keyed("RGB", RED), "RGBA"),
        (COLOUR.convert("CMYK"), "RGB"),
        (COLOUR.convert("RGBA"), "RGBA"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.mode,
)
def test_inferred_mode_keeps_the_first_image_lossless(tmp_path: Path, picture: PIL.Image, mode: str) -> None:
    assert Schema.infer({"image": picture}) == Schema({"image": Image(mode)})
    with DatasetWriter(tmp_path) as writer:
        writer.write({"image": picture})
    got = PIL.fromarray(ShardDataset(tmp_path)[0]["image"]).convert("RGBA")
    want = (picture.convert("RGB") if picture.mode == "CMYK" else picture).convert("RGBA")
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "HSV"])
def test_pixels_are_taken_from_grey_rgb_and_rgba_images_only(mode: str) -> None:
    picture = COLOUR.convert(mode)
    numbers = np.asarray(picture)
    with pytest.raises(SchemaError, match=f"mode {mode} .*numpy.asarray"):
        Image(shape=numbers.shape).pack(picture)
    assert Image(shape=numbers.shape).pack(numbers) == numbers.astype(np.uint8).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pil_image_pixels_equal_its_array(mode: str) -> None:
    picture = COLOUR.convert(mode)
    field = Image(shape=np.asarray(picture).shape)
    assert field.packer()(picture) == np.asarray(picture).tobytes()


def test_label_beside_an_image_is_packed_unchanged(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "a") as writer:
        writer.write({"image": grey(), "label": 3})
    with DatasetWriter(tmp_path / "b", {"image": Image("L"), "label": Scalar("int64")}) as writer:
        writer.write({"image": grey(), "label": 3})
    assert files(tmp_path / "a") == files(tmp_path / "b")
