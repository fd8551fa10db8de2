"""Pictures on their way through `convert`: what Pillow reads is kept, values stay values, and every change is noted."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow, ImageOps

from recordio import Array, DecodeError, Image, SchemaError, ShardDataset, convert
from recordio.writer.convert.convert import ConvertReport
from tests.recordio.images.pictures import photo

LOSSLESS = {
    "bmp": "BMP", "dib": "DIB", "gif": "GIF", "tif": "TIFF", "ppm": "PPM", "tga": "TGA", "pcx": "PCX", "sgi": "SGI",
    "qoi": "QOI", "ico": "ICO", "jp2": "JPEG2000", "avif": "AVIF", "icns": "ICNS", "dds": "DDS",
}  # fmt: skip


def made(*args: Any, **options: Any) -> ConvertReport:
    report = convert(*args, **options)
    assert isinstance(report, ConvertReport)
    return report


def put(root: Path, picture: Pillow.Image, *names: str, form: str | None = None, **options: Any) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name, form, **options)
    return root


def only(path: Path) -> Any:
    (sample,) = ShardDataset(path)
    return sample["image"]


def turned() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("extension", LOSSLESS)
def test_other_formats_become_png_with_the_pixels_that_pillow_reads(tmp_path: Path, extension: str) -> None:
    source = put(tmp_path / "in", photo().resize((32, 32)), f"cat/a.{extension}", form=LOSSLESS[extension])
    report = made(source, tmp_path / "out")
    with Pillow.open(source / f"cat/a.{extension}") as picture:
        np.testing.assert_array_equal(only(tmp_path / "out"), np.array(picture.convert("RGB")))
    (data,) = (sample["image"] for sample in ShardDataset(tmp_path / "out", decode=None))
    assert data.startswith(b"\x89PNG")
    assert any("1 picture stored as PNG" in note for note in report.notes)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_tiff_of_any_mode_keeps_its_pixels(tmp_path: Path, mode: str) -> None:
    source = put(tmp_path / "in", photo().convert(mode), "cat/a.tif", "cat/b.jpg" if mode == "L" else "cat/b.tif")
    made(source, tmp_path / "out", mode="RGBA")
    with Pillow.open(source / "cat/a.tif") as picture:
        np.testing.assert_array_equal(ShardDataset(tmp_path / "out")[0]["image"], np.array(picture.convert("RGBA")))


def test_names_and_contents_that_disagree_go_by_content(tmp_path: Path) -> None:
    source = put(tmp_path / "in", photo(), "cat/a.jpg", form="PNG")
    put(source, photo(), "cat/b.jfif", "cat/c.jpe", "cat/d.heic", form="JPEG")
    report = made(source, tmp_path / "out")
    assert report.samples == 4
    assert {"1 picture named .jpg, but PNG by the content", "1 picture named .heic, but JPEG by the content"} <= {
        *report.notes
    }


def test_animation_is_kept_as_its_first_frame_with_a_note(tmp_path: Path) -> None:
    frames = [photo(), photo().rotate(90)]
    source = put(tmp_path / "in", frames[0], "cat/a.gif", save_all=True, append_images=frames[1:])
    put(source, frames[0], "cat/b.tif", "cat/c.webp", save_all=True, append_images=frames[1:], lossless=True)
    notes = made(source, tmp_path / "out").notes
    assert "1 picture only the first frame or page kept: GIF" in notes
    assert "1 picture only the first frame or page kept: TIFF" in notes
    assert "1 picture animated, of which the first frame is read" in notes


class TestDepth:
    def deep(self, channels: tuple[int, ...] = ()) -> np.ndarray[Any, Any]:
        return np.random.default_rng(1).integers(0, 1 << 16, (20, 30, *channels), np.uint16)

    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_grey_of_16_bits_becomes_an_array(self, tmp_path: Path, extension: str) -> None:
        source = put(tmp_path / "in", Pillow.fromarray(self.deep()), f"cat/a.{extension}")
        report = made(source, tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert dataset.schema["image"] == Array("uint16", (None, None))
        np.testing.assert_array_equal(dataset[0]["image"], self.deep())
        assert any("more than 8 bits" in note for note in report.notes)

    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_colours_of_16_bits_keep_all_of_them(self, tmp_path: Path, extension: str) -> None:
        cv2 = pytest.importorskip("cv2")
        (tmp_path / "in/cat").mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / f"in/cat/a.{extension}"), self.deep((3,))[..., ::-1])
        made(tmp_path / "in", tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert dataset.schema["image"] == Array("uint16", (None, None, 3))
        np.testing.assert_array_equal(dataset[0]["image"], self.deep((3,)))

    @pytest.mark.parametrize("dtype", ["i4", "f4"])
    def test_numbers_of_32_bits_become_an_array(self, tmp_path: Path, dtype: str) -> None:
        values = (np.arange(600).reshape(20, 30) * 1000 - 5).astype(dtype)
        made(put(tmp_path / "in", Pillow.fromarray(values), "cat/a.tif"), tmp_path / "out")
        np.testing.assert_array_equal(only(tmp_path / "out"), values)

    @pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
    def test_deep_picture_among_others_is_refused_by_name(self, tmp_path: Path, names: tuple[str, str]) -> None:
        source = put(tmp_path / "in", Pillow.fromarray(self.deep()), f"cat/{names[0]}.png")
        put(source, photo(), f"cat/{names[1]}.png")
        with pytest.raises(DecodeError, match=rf"more than 8 bits.*a source of their own.*cat/{names[0]}.png"):
            convert(source, tmp_path / "out")

    def test_resized_array_keeps_its_values(self, tmp_path: Path) -> None:
        values = np.where(self.deep() > 30_000, 60_000, 7).astype(np.uint16)
        made(put(tmp_path / "in", Pillow.fromarray(values), "cat/a.png"), tmp_path / "out", resize=11)
        assert only(tmp_path / "out").shape == (11, 16)
        assert {*np.unique(only(tmp_path / "out")).tolist()} == {7, 60_000}


class TestOrientation:
    @pytest.mark.parametrize("options", [{"resize": 20}, {"quality": 80}, {"upright": True}])
    @pytest.mark.parametrize("extension", ["jpg", "webp"])
    def test_recoded_picture_is_upright(self, tmp_path: Path, extension: str, options: dict[str, Any]) -> None:
        source = put(tmp_path / "in", photo(), f"cat/a.{extension}", exif=turned())
        report = made(source, tmp_path / "out", **options)
        (data,) = (sample["image"] for sample in ShardDataset(tmp_path / "out", decode=None))
        with Pillow.open(BytesIO(data)) as stored, Pillow.open(source / f"cat/a.{extension}") as original:
            upright = ImageOps.exif_transpose(original).resize(stored.size)
            assert stored.getexif().get(0x0112, 1) == 1
            assert stored.height > stored.width
            difference = np.abs(np.array(stored.convert("RGB"), int) - np.array(upright.convert("RGB"), int))
            assert difference.mean() < 12
        assert report.notes == ("1 picture turned as their EXIF orientation says",)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright_png_equals_pillows(self, tmp_path: Path, orientation: int) -> None:
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        source = put(tmp_path / "in", photo(), "cat/a.png", exif=exif)
        made(source, tmp_path / "out", upright=True)
        with Pillow.open(source / "cat/a.png") as original:
            np.testing.assert_array_equal(only(tmp_path / "out"), np.array(ImageOps.exif_transpose(original)))

    def test_picture_left_as_it_lies_is_counted(self, tmp_path: Path) -> None:
        source = put(tmp_path / "in", photo(), "cat/a.jpg", "cat/b.jpg", exif=turned())
        (note,) = made(source, tmp_path / "out").notes
        assert note.startswith("2 pictures stored and read as they lie")
        assert "--upright" in note


class TestMasks:
    VALUES = np.repeat(np.arange(8, dtype=np.uint8) % 3 * 2, 8)[None].repeat(64, 0)

    def palette(self) -> Pillow.Image:
        picture = Pillow.fromarray(self.VALUES)
        picture.putpalette([0, 0, 0, 9, 9, 9, 128, 0, 0, 9, 9, 9, 0, 128, 0])
        return picture

    def table(self, root: Path, name: str, *pictures: Pillow.Image) -> Path:
        for number, picture in enumerate(pictures):
            put(root, picture, f"{number}.png")
        rows = "".join(f"{number}.png\n" for number in range(len(pictures)))
        (root / "t.csv").write_text(f"{name}\n{rows}")
        return root / "t.csv"

    @pytest.mark.parametrize("resize", [None, 20])
    @pytest.mark.parametrize("name", ["mask", "seg_map", "labels"])
    def test_column_that_is_called_a_mask_keeps_its_values(self, tmp_path: Path, name: str, resize: int | None) -> None:
        table = self.table(tmp_path, name, self.palette(), Pillow.fromarray(self.VALUES))
        report = made(table, tmp_path / "out", embed=name, resize=resize)
        dataset = ShardDataset(tmp_path / "out")
        assert dataset.schema[name] == Image("L")
        for sample in dataset:
            assert {*np.unique(sample[name]).tolist()} == {0, 2, 4}
        if resize is None:
            np.testing.assert_array_equal(dataset[0][name][:, :, 0], self.VALUES)
        assert f"{name!r} holds masks: their values are kept, of a palette the indices" in report.notes

    def test_option_makes_any_column_one_of_masks(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "picture", self.palette())
        made(table, tmp_path / "out", embed="picture", masks="picture", resize=20)
        assert {*np.unique(ShardDataset(tmp_path / "out")[0]["picture"]).tolist()} == {0, 2, 4}

    def test_palettes_keep_their_colours_when_they_are_resized(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "voc", self.palette())
        made(table, tmp_path / "out", embed="voc", resize=20)
        pixels = ShardDataset(tmp_path / "out")[0]["voc"].reshape(-1, 3)
        assert {tuple(pixel) for pixel in pixels.tolist()} == {(0, 0, 0), (128, 0, 0), (0, 128, 0)}

    def test_colour_picture_that_is_to_be_a_mask_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DecodeError, match="this picture has colours: save it with one channel"):
            convert(self.table(tmp_path, "a", photo()), tmp_path / "out", embed="a", masks=("a",))
        put(tmp_path / "in", photo(), "cat/a.jpg")
        with pytest.raises(DecodeError, match=r"a JPEG file does not keep the values of a mask.*a\.jpg"):
            convert(tmp_path / "in", tmp_path / "out", masks=("image",))

    def test_field_without_pictures_cannot_be_masks(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match=r"'label'.*there are image"):
            convert(put(tmp_path / "in", photo(), "cat/a.png"), tmp_path / "out", masks="label")


def test_alpha_that_is_not_read_is_noted(tmp_path: Path) -> None:
    picture = photo()
    picture.putalpha(100)
    source = put(tmp_path / "in", picture, "cat/a.png", "cat/b.webp")
    (note,) = made(source, tmp_path / "out").notes
    assert note == "2 pictures with an alpha channel, which mode RGB does not read (--mode RGBA does)"
    assert made(source, tmp_path / "rgba", mode="RGBA").notes == ()
    assert ShardDataset(tmp_path / "rgba")[0]["image"].shape[2] == 4


@pytest.mark.parametrize(
    ("name", "words"), [("a.svg", "a vector drawing"), ("a.jxl", "JPEG XL"), ("a.tif", "tiff file")]
)
def test_picture_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, words: str) -> None:
    put(tmp_path / "in", photo(), "cat/b.png")
    (tmp_path / "in/cat" / name).write_bytes(b"<svg></svg>" if name.endswith("svg") else b"nothing of the kind")
    with pytest.raises(DecodeError, match=rf"{words}.*cat/{name}"):
        convert(tmp_path / "in", tmp_path / "out")


def test_unchecked_conversion_says_so_in_the_metadata(tmp_path: Path) -> None:
    source = put(tmp_path / "in", photo(), "cat/a.png")
    made(source, tmp_path / "out", check=False)
    record = {"check": False, "names": ["file"]}
    assert ShardDataset(tmp_path / "out").metadata == {"classes": ["cat"], "conversion": record}
    made(source, tmp_path / "checked")
    assert ShardDataset(tmp_path / "checked").metadata["conversion"] == {"names": ["file"]}


def test_remarks_outlive_a_stop(tmp_path: Path) -> None:
    source = put(tmp_path / "in", photo(), *(f"cat/{n}.bmp" for n in range(6)))
    (source / "cat/9.bmp").write_bytes(b"broken")
    with pytest.raises(DecodeError):
        convert(source, tmp_path / "out", shard_bytes=8000, workers=1)
    (source / "cat/9.bmp").unlink()
    assert "6 pictures stored as PNG, without loss: BMP" in made(source, tmp_path / "out", shard_bytes=8000).notes


def test_no_library_speaks_on_the_command_line(tmp_path: Path) -> None:
    source = put(tmp_path / "in", photo(), "cat/a.png", "cat/b.png")
    data = bytearray((source / "cat/a.png").read_bytes())
    at = data.index(b"IDAT") + 30
    data[at] ^= 255
    end = data.index(b"IEND") - 8
    data[end : end + 4] = zlib.crc32(bytes(data[data.index(b"IDAT") : end])).to_bytes(4, "big")
    (source / "cat/a.png").write_bytes(data)
    command = [sys.executable, "-m", "recordio", "convert", str(source), str(tmp_path / "out"), "--on-error", "skip"]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert "libpng" not in ran.stderr
    assert "skipped cat/a.png" in ran.stdout


def test_deep_pictures_in_a_flat_folder_are_arrays(tmp_path: Path) -> None:
    depth = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    put(tmp_path / "in", Pillow.fromarray(depth), "depth.png")
    made(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(ShardDataset(tmp_path / "out")[0]["image"], depth)


class TestSeveralPicturesOfASample:
    @staticmethod
    def folders(root: Path, mask: Pillow.Image, form: str = "png") -> Path:
        put(root, photo(), "images/a.jpg")
        return put(root, mask, f"masks/a.{form}")

    def test_the_file_at_fault_is_named(self, tmp_path: Path) -> None:
        source = self.folders(tmp_path / "in", Pillow.new("L", photo().size, 3))
        assert made(source, tmp_path / "out").notes == (
            "'mask' holds masks: their values are kept, of a palette the indices",
        )
        data = (source / "masks/a.png").read_bytes()
        (source / "masks/a.png").write_bytes(data[:-20])
        with pytest.raises(DecodeError, match=r"masks/a\.png, field 'mask'"):
            convert(source, tmp_path / "cut")

    def test_three_equal_channels_are_one(self, tmp_path: Path) -> None:
        size = photo().size
        source = self.folders(tmp_path / "in", Pillow.new("RGB", size, (7, 7, 7)))
        report = made(source, tmp_path / "out", masks="mask")
        assert "1 picture three equal channels stored as one" in report.notes
        assert np.unique(ShardDataset(tmp_path / "out")[0]["mask"]).tolist() == [7]
        put(source, Pillow.new("RGB", size, (7, 8, 7)), "masks/a.png")
        with pytest.raises(DecodeError, match=r"this picture has colours.*masks/a\.png"):
            convert(source, tmp_path / "other", masks="mask")

    def test_a_mask_of_another_size_is_told(self, tmp_path: Path) -> None:
        source = self.folders(tmp_path / "in", Pillow.new("L", (5, 5), 3))
        assert (
            "1 picture with a mask of another size: their pixels do not correspond"
            in made(source, tmp_path / "out").notes
        )


def test_threads_give_the_same_bytes_and_the_same_first_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        put(tmp_path / "in", photo().rotate(number), f"cat/{number:02}.jpg")
    monkeypatch.setattr("recordio.writer.convert.engines._default_workers", lambda: 4)
    made(tmp_path / "in", tmp_path / "threads")
    made(tmp_path / "in", tmp_path / "one", workers=1)
    shards = [next((tmp_path / name).glob("*.rio")).read_bytes() for name in ("threads", "one")]
    assert shards[0] == shards[1]
    for number in (20, 7):
        path = tmp_path / f"in/cat/{number:02}.jpg"
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DecodeError, match=r"cat/07\.jpg"):
        convert(tmp_path / "in", tmp_path / "cut")
    report = made(tmp_path / "in", tmp_path / "skipped", on_error="skip")
    assert [name for name, _ in report.skipped] == ["cat/07.jpg", "cat/20.jpg"]
