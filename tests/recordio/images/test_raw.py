"""Raw pictures as MosaicML and LitData store them become PNG with the same pixels."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from recordio.errors import DecodeError
from recordio.images.raw import raw_png


def raw(picture: Image.Image) -> bytes:
    mode = picture.mode.encode()
    return struct.pack("<III", *picture.size, len(mode)) + mode + picture.tobytes()


def gradient(mode: str) -> Image.Image:
    numbers = np.arange(5 * 11, dtype=np.uint8).reshape(5, 11) * 4
    if mode == "I;16":
        return Image.fromarray(numbers.astype(np.uint16) * 257)
    return Image.fromarray(numbers).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_pixels_are_kept(mode: str) -> None:
    picture = gradient(mode)
    found = Image.open(BytesIO(raw_png(raw(picture))))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))


def test_of_a_palette_the_indices_are_kept() -> None:
    picture = gradient("RGB").quantize(7)
    found = Image.open(BytesIO(raw_png(raw(picture))))
    assert found.mode == "L"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colours_become_rgb_as_pillow_makes_them(mode: str) -> None:
    picture = gradient("RGB").convert(mode)
    found = Image.open(BytesIO(raw_png(raw(picture))))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "has no header that fits"),
        (struct.pack("<III", 1, 1, 1 << 31) + b"L", "has no header that fits"),
        (struct.pack("<III", 1, 1, 1) + b"F" + bytes(4), "a raw picture of mode 'F' cannot be read"),
        (struct.pack("<III", 0, 5, 1) + b"L", "a raw picture of 0 x 5 L"),
        (struct.pack("<III", 2, 5, 1) + b"L" + bytes(9), "with 9 bytes of pixels, not 10"),
        (struct.pack("<III", 1 << 31, 1 << 31, 1) + b"L", "with 0 bytes of pixels"),
    ],
)
def test_what_is_none_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(DecodeError) as caught:
        raw_png(data)
    assert fault in caught.value.fault
