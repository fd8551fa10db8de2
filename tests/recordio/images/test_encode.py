"""Pictures on their way into a dataset: whole, resized on request, otherwise unchanged."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recordio.errors import DecodeError, SchemaError
from recordio.images.decode import decode_image
from recordio.images.encode import check_image, resize_image, target_size
from recordio.images.header import image_size, read_header

H, W = 60, 90
FORMATS = ("JPEG", "PNG", "WEBP")
every_format = pytest.mark.parametrize("kind", FORMATS)


def photo(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:H, :W]
    return Image.fromarray(np.stack([x * 2, y * 4, x + y], axis=-1).astype("u1")).convert(mode)


def save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@every_format
def test_check_image_refuses_truncated_pictures(kind: str) -> None:
    data = save(photo(), kind)
    check_image(data, "RGB")
    for nbytes in (0, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(DecodeError):
            check_image(data[:nbytes], "RGB")
        with pytest.raises(DecodeError):
            resize_image(data[:nbytes], None)


@every_format
@pytest.mark.parametrize("resize", [None, H, H + 1, 1000, (H, W)])
def test_unchanged_picture_keeps_its_bytes(kind: str, resize: Any) -> None:
    data = save(photo(), kind)
    assert resize_image(data, resize) is data


@every_format
@pytest.mark.parametrize(
    ("resize", "size"), [(30, (30, 45)), (7, (7, 10)), ((20, 10), (20, 10)), ((120, 100), (120, 100))]
)
def test_resized_picture_has_the_size_and_keeps_its_format(kind: str, resize: Any, size: tuple[int, int]) -> None:
    data = resize_image(save(photo(), kind), resize)
    assert image_size(data) == size
    assert read_header(data).format == kind.lower()
    assert decode_image(data, "RGB").shape == (*size, 3)


@pytest.mark.parametrize(
    ("size", "resize", "target"),
    [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((256, 500), 256, (256, 500)),
        ((200, 500), 256, (200, 500)),
        ((300, 300), 100, (100, 100)),
        ((200, 500), (256, 256), (256, 256)),
        ((200, 500), [10, 20], (10, 20)),
        ((200, 500), None, (200, 500)),
    ],
)
def test_int_resize_sets_the_shorter_side_and_never_enlarges(size: tuple[int, int], resize: Any, target: Any) -> None:
    assert target_size(size, resize) == target


@pytest.mark.parametrize("resize", [0, -1, (0, 5), (5,), (1, 2, 3), 2.5, (2.5, 3), "5"])
def test_invalid_resize_is_refused(resize: Any) -> None:
    with pytest.raises(SchemaError, match="resize is a positive int or a pair"):
        resize_image(save(photo(), "PNG"), resize)


def test_resize_to_more_pixels_than_are_read_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"resize is \(100000, 100000\): expected at most 268435456 pixels"):
        resize_image(save(photo(), "PNG"), (100_000, 100_000))


@pytest.mark.parametrize(("kind", "most"), [("JPEG", 65_500), ("WEBP", 16_383)])
def test_resize_beyond_what_a_format_holds_is_refused(kind: str, most: int) -> None:
    assert image_size(resize_image(save(photo(), kind), (most, 1))) == (most, 1)
    with pytest.raises(SchemaError, match=f"makes 1 x {most + 1} pixels, and a {kind.lower()} file has at most {most}"):
        resize_image(save(photo(), kind), (most + 1, 1))


def test_resize_is_antialiased_bilinear() -> None:
    want = photo().resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode_image(resize_image(save(photo(), "PNG"), 20), "RGB"), np.asarray(want))
    stripes = Image.fromarray(np.tile(np.array([0, 255], "u1"), (40, 20)))
    grey = decode_image(resize_image(save(stripes, "PNG"), 10, mode="L"), "L")
    assert np.abs(grey.astype(int) - 127).max() < 40


def test_quality_alone_reencodes_jpeg_and_webp_but_not_png() -> None:
    for kind in ("JPEG", "WEBP"):
        data = save(photo(), kind, quality=100)
        low, high = resize_image(data, None, 20), resize_image(data, None, 95)
        assert len(low) < len(high) < len(data)
        assert image_size(low) == (H, W)
    data = save(photo(), "PNG")
    assert resize_image(data, None, 20) is data


@pytest.mark.parametrize("quality", [0, 101, -3])
def test_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(SchemaError, match="quality is 1 to 100"):
        resize_image(save(photo(), "JPEG"), None, quality)


def test_default_quality_of_a_resized_jpeg_is_92() -> None:
    data = save(photo(), "JPEG")
    assert resize_image(data, 30) == resize_image(data, 30, 92) != resize_image(data, 30, 91)


def test_lossless_webp_stays_lossless_without_quality() -> None:
    data = save(photo("RGBA"), "WEBP", lossless=True)
    smaller = resize_image(data, 30, mode="RGBA")
    assert read_header(smaller).lossless
    assert not read_header(resize_image(data, 30, 80, "RGBA")).lossless
    want = photo("RGBA").resize((45, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode_image(smaller, "RGBA"), np.asarray(want))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_picture_stays_grey_in_rgb_mode(kind: str) -> None:
    assert read_header(resize_image(save(photo("L"), kind), 30, mode="RGB")).channels == 1


@every_format
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("stored", ["RGB", "L", "RGBA"])
def test_every_format_resizes_in_every_mode(kind: str, mode: str, stored: str) -> None:
    data = resize_image(save(photo("RGB" if (kind, stored) == ("JPEG", "RGBA") else stored), kind), 30, mode=mode)
    assert decode_image(data, mode).shape[:2] == (30, 45)


def test_alpha_is_kept_in_rgba_mode() -> None:
    picture = photo("RGBA")
    picture.putalpha(photo("L"))
    data = resize_image(save(picture, "PNG"), 30, mode="RGBA")
    assert len(np.unique(decode_image(data, "RGBA")[..., 3])) > 10


@every_format
def test_exif_orientation_is_neither_applied_nor_kept(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = resize_image(save(photo(), kind, exif=exif), 30)
    assert image_size(data) == (30, 45)
    assert not Image.open(BytesIO(data)).getexif()


@every_format
def test_resizing_is_deterministic(kind: str) -> None:
    data = save(photo(), kind)
    assert resize_image(data, 31, 80) == resize_image(bytes(bytearray(data)), 31, 80)
