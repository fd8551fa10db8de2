"""The headers of JPEG, PNG and WebP files, parsed without any package.

Nothing here decodes or allocates pixels: a picture of more than 8 bits per channel or MAX_IMAGE_PIXELS pixels is
refused by its header alone, and so is a JPEG file of so many scans that decoding it would take minutes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from recordio.errors import DecodeError
from recordio.format.image_field import image_format

Data = bytes | memoryview

MAX_IMAGE_PIXELS = 1 << 28
MAX_JPEG_WORK = 1 << 32  # pixels times scans: 16 scans of the largest picture; encoders write about ten

SOS, APP0, APP1 = 0xDA, 0xE0, 0xE1  # JPEG markers
SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # segments that state the size
_EOI = 0xD9
SEQUENTIAL = {0xC0, 0xC1, 0xC9}  # the SOF whose first scan may hold the whole picture; then no other may follow
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_MARKER = re.compile(rb"\xff[\x01-\xfe]")


class Header(NamedTuple):
    """Format and size of a picture. `channels` counts stored ones, without alpha; a palette counts as 3."""

    format: str
    height: int
    width: int
    channels: int = 3
    bits: int = 8
    lossless: bool = False


def read_header(data: Data) -> Header:
    """Parses the header of a JPEG, PNG or WebP file, in microseconds.

    Raises DecodeError for any other bytes, and for pictures of too many pixels or scans, or more than 8 bits a channel.
    """
    view = memoryview(data)
    return checked(_stated(view), view)


def _stated(view: memoryview) -> Header:
    name = image_format(bytes(view[:16]))
    if name is None:
        raise DecodeError(f"not a JPEG, PNG or WebP file: it starts with {bytes(view[:8])!r}")
    try:
        return _HEADERS[name](view)
    except (struct.error, IndexError) as error:
        raise DecodeError(f"the {name} file is cut short in its header, at {len(view)} bytes") from error


def stated_size(data: Data) -> tuple[int, int]:
    """(height, width) as the file says, (0, 0) if it does not. Touches no scan, and checks nothing."""
    try:
        header = _stated(memoryview(data))
    except DecodeError:
        return 0, 0
    return header.height, header.width


def checked(header: Header, view: memoryview, one_scan: bool = False) -> Header:
    """The same header, of this file. Raises DecodeError for too many pixels or scans, or more than 8 bits a channel.

    With `one_scan` the caller knows that a JPEG can have no second one.
    """
    name = header.format
    if not 0 < header.height * header.width <= MAX_IMAGE_PIXELS:
        raise DecodeError(
            f"the {name} file says it has {header.width} x {header.height} pixels: expected 1 to {MAX_IMAGE_PIXELS}"
        )
    if header.bits > 8:
        raise DecodeError(
            f"the {name} file has {header.bits} bits a channel, which 8-bit pixels would cut: store it as an Array, "
            "which `recordio convert` does for a source of such pictures alone"
        )
    if name == "jpeg" and not one_scan:
        _require_few_scans(view, header)
    return header


def image_size(data: Data) -> tuple[int, int]:
    """(height, width) from the header, without decoding. Raises DecodeError."""
    header = read_header(data)
    return header.height, header.width


def _jpeg_header(view: memoryview) -> Header:
    for marker, at in jpeg_segments(view):
        if marker in SOF:
            return jpeg_size(view, at)
    raise DecodeError("the jpeg file is broken: no size before its pixels")


def jpeg_size(view: memoryview, at: int) -> Header:
    """What the segment at `at`, one of SOF, says. Raises struct.error where the file ends before."""
    bits, height, width, channels = struct.unpack_from(">BHHB", view, at + 4)
    return Header("jpeg", height, width, channels=channels, bits=bits)


def jpeg_segments(view: memoryview, at: int = 2) -> Iterator[tuple[int, int]]:
    """(marker, offset) of each segment from a byte on, up to and including the start of the next scan.

    What lies between segments is passed over, as every decoder does: padding, and stray bytes of careless programs. So
    is the data of a scan, where `at` is its beginning.
    """
    marker = 0
    while marker not in (SOS, _EOI):
        if view[at] != 0xFF or view[at + 1] in (0, 0xFF):
            found = _MARKER.search(view, at)
            if found is None:
                raise IndexError("no marker")
            at = found.start()
        marker = view[at + 1]
        if marker in _WITHOUT_LENGTH:
            at += 2
        else:
            yield marker, at
            at += 2 + (view[at + 2] << 8 | view[at + 3])


def _require_few_scans(view: memoryview, header: Header) -> None:
    """Raises DecodeError for more scans than MAX_JPEG_WORK allows: each goes over all pixels, even if it is empty."""
    most = MAX_JPEG_WORK // (header.height * header.width)
    found = next(islice(_scans(view), most, None), None)
    if found is not None:
        raise DecodeError(
            f"the jpeg file has more than {most} scans of {header.width} x {header.height} pixels, which would take "
            "minutes to decode: save it anew with an ordinary encoder"
        )


def _scans(view: memoryview) -> Iterator[int]:
    """Where the scans of a file that may have several begin. What is cut off has no more of them."""
    marker, at, sequential, channels = 0, 0, False, 0
    with suppress(struct.error, IndexError):
        for marker, at in jpeg_segments(view):
            if marker in SOF:
                sequential, channels = marker in SEQUENTIAL, view[at + 9]
        if sequential and view[at + 4] == channels:
            return
        while marker == SOS:
            yield at
            *_, (marker, at) = jpeg_segments(view, at + 2 + int(struct.unpack_from(">H", view, at + 2)[0]))


def _png_header(view: memoryview) -> Header:
    length, kind, width, height, bits, colour = struct.unpack_from(">I4sIIBB", view, 8)
    if (length, kind) != (13, b"IHDR"):
        raise DecodeError("the png file is broken: its first chunk is not an IHDR of 13 bytes")
    return Header("png", height, width, channels=3 if colour & 2 else 1, bits=bits, lossless=True)


def _webp_header(view: memoryview) -> Header:
    kind = bytes(view[12:16])
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", view, 26)
        return Header("webp", height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", view, 21)
        return Header("webp", (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1, lossless=True)
    if kind != b"VP8X":
        raise DecodeError(f"the webp file is broken: its first chunk is {kind!r}")
    width_low, width_high, height_low, height_high = struct.unpack_from("<HBHB", view, 24)
    height, width = (height_low | height_high << 16) + 1, (width_low | width_high << 16) + 1
    return Header("webp", height, width, lossless=b"VP8L" in _chunks(view))


def _chunks(view: memoryview) -> Iterator[bytes]:
    """The names of the chunks in a WebP file."""
    at = 12
    while at + 8 <= len(view):
        name, nbytes = struct.unpack_from("<4sI", view, at)
        yield name
        at += 8 + nbytes + nbytes % 2


_HEADERS: dict[str, Callable[[memoryview], Header]] = {"jpeg": _jpeg_header, "png": _png_header, "webp": _webp_header}
