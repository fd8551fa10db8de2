"""Headers: they give format and size, and pictures too deep or too large are refused by them alone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from recordio.errors import DecodeError
from recordio.images.decode import decode_image
from recordio.images.header import MAX_IMAGE_PIXELS, image_size, read_header
from recordio.images.traits import header_and_traits
from tests.recordio.images.pictures import PICTURES, H, W, png

Read = Callable[[bytes], Any]

every_reader = pytest.mark.parametrize("read", [read_header, image_size, decode_image, header_and_traits])


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


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def of_scans(scans: int) -> bytes:
    """A progressive JPEG file of 256 x 256 grey pixels; all scans but the first say that nothing changes."""
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xDB, b"\0" + bytes([1] * 64)),
            _segment(0xC2, struct.pack(">BHHB", 8, 256, 256, 1) + b"\1\x11\0"),
            _segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\0"),
            _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xa0"),  # a run of 2^10 blocks
            _segment(0xDA, b"\1\1\0\0\0\0") + bytes(1024 // 8),
            (_segment(0xDA, b"\1\1\0\1\x3f\0") + b"\x00\x1f") * (scans - 1),
            b"\xff\xd9",
        )
    )


@every_reader
def test_jpeg_of_more_scans_than_its_pixels_allow_is_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.images.header.MAX_JPEG_WORK", 256 * 256 * 10)
    read(of_scans(10))
    with pytest.raises(DecodeError, match=r"more than 10 scans of 256 x 256 pixels.*save it anew"):
        read(of_scans(11))


def test_a_picture_of_few_pixels_may_have_many_scans() -> None:
    assert decode_image(of_scans(200)).shape == (256, 256, 3)


def test_marks_in_the_metadata_of_a_jpeg_are_no_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.images.header.MAX_JPEG_WORK", 256 * 256 * 10)
    data = of_scans(10)
    metadata = _segment(0xE1, b"Exif\0\0" + b"\xff\xda\0\2" * 100)
    assert image_size(data[:2] + metadata + data[2:] + b"\xff\xda" * 100) == (256, 256)


def test_a_sequential_jpeg_of_several_scans_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.images.header.MAX_JPEG_WORK", 0)
    whole = PICTURES["jpeg"]  # one scan holds all channels: no other may follow
    assert read_header(whole) == header_and_traits(whole)[0]
    data = bytearray(whole)
    data[data.index(b"\xff\xda") + 4] = 1
    frame = whole.index(b"\xff\xc0")
    of_one_channel = whole[frame : frame + 9] + b"\x01" + whole[frame + 10 : frame + 19]
    twice = whole[: frame + 19] + of_one_channel + whole[frame + 19 :]
    for several in (bytes(data), twice):
        for read in (read_header, header_and_traits):
            with pytest.raises(DecodeError, match="more than 0 scans"):
                read(several)


@pytest.mark.parametrize(("at", "chunk"), [(12, b"IDAT"), (8, struct.pack(">I", 14))])
def test_a_png_whose_first_chunk_is_no_header_is_refused(at: int, chunk: bytes) -> None:
    data = bytearray(png(2, 2, bytes(2 * (1 + 2 * 3)), colour=2))
    data[at : at + 4] = chunk
    with pytest.raises(DecodeError, match="first chunk is not an IHDR of 13 bytes"):
        read_header(bytes(data))


def test_a_webp_whose_first_chunk_is_unknown_is_refused() -> None:
    with pytest.raises(DecodeError, match="first chunk is b'VP8Z'"):
        read_header(b"RIFF\x40\0\0\0WEBPVP8Z" + bytes(50))
