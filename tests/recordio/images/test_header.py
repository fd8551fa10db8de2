"""Headers: they give format and size, and pictures too deep or too large are refused by them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recordio.errors import DecodeError
from recordio.images.decode import decode_image
from recordio.images.header import MAX_IMAGE_PIXELS, image_size, read_header
from tests.recordio.images.pictures import PICTURES, H, W, png

Read = Callable[[bytes], Any]

every_reader = pytest.mark.parametrize("read", [read_header, image_size, decode_image])


@pytest.mark.parametrize("name", PICTURES)
def test_header_states_format_and_size(name: str) -> None:
    assert image_size(PICTURES[name]) == (H, W)
    assert read_header(PICTURES[name]).format == name.split(",")[0]


@every_reader
@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"II*\0" + bytes(50), b"RIFF\x40\0\0\0WAVE"])
def test_other_formats_are_refused(read: Read, data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a JPEG, PNG or WebP file"):
        read(data)


@every_reader
@pytest.mark.parametrize(("bits", "colour"), [(16, 0), (16, 2), (16, 6)])
def test_16_bits_per_channel_are_refused(read: Read, bits: int, colour: int) -> None:
    data = png(2, 2, bytes(2 * (1 + 2 * 8)), bits=bits, colour=colour)
    with pytest.raises(DecodeError, match=r"16 bits a channel.*store it as an Array"):
        read(data)


@every_reader
@pytest.mark.parametrize("side", [50_000, (1 << 14) + 1, (1 << 31) - 1])
def test_png_header_with_too_many_pixels_is_refused(read: Read, side: int) -> None:
    assert side * side > MAX_IMAGE_PIXELS
    with pytest.raises(DecodeError, match=f"{side} x {side} pixels: expected 1 to {MAX_IMAGE_PIXELS}"):
        read(png(side, side, bytes(100)))


@every_reader
def test_jpeg_header_with_too_many_pixels_is_refused(read: Read) -> None:
    data = bytearray(PICTURES["jpeg"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(DecodeError, match="65535 x 65535 pixels"):
        read(bytes(data))


@every_reader
def test_webp_header_with_too_many_pixels_is_refused(read: Read) -> None:
    data = bytearray(PICTURES["webp, animated"])
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff\xff\x00\xff\xff\x00"
    with pytest.raises(DecodeError, match="65536 x 65536 pixels"):
        read(bytes(data))


@every_reader
@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_picture_without_pixels_is_refused(read: Read, width: int, height: int) -> None:
    with pytest.raises(DecodeError, match="pixels: expected 1 to"):
        read(png(width, height, bytes(100)))
