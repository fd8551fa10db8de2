"""What decoding a JPEG, PNG or WebP file leaves out: its orientation, its transparency, its other frames.

Read from the header's segments and chunks in microseconds, without any package.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from recordio.errors import DecodeError
from recordio.format.image_field import JPEG
from recordio.images.header import (
    APP1,
    SEQUENTIAL,
    SOF,
    SOS,
    Data,
    Header,
    checked,
    jpeg_segments,
    jpeg_size,
    read_header,
)

_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
_SEGMENTS = {*range(0xC0, 0xD0), *range(0xDB, 0xFF)}  # JPEG markers that a length follows
_PLAIN_SEGMENTS = _SEGMENTS - SOF - {APP1}


class Traits(NamedTuple):
    """Attributes:
    orientation: of EXIF, 1 to 8; 1 is upright.
    alpha: whether there is an alpha channel, or a transparent colour.
    animated: whether there is more than one frame.
    """

    orientation: int = 1
    alpha: bool = False
    animated: bool = False


UPRIGHT = Traits()


def read_traits(data: bytes, name: str) -> Traits:
    """The traits of a file of the format `name`. What is damaged counts as not there: decoding finds it."""
    view = memoryview(data)
    try:
        return {"jpeg": _jpeg, "png": _png, "webp": _webp}[name](view)
    except (struct.error, IndexError, DecodeError):
        return Traits()


def header_and_traits(data: bytes) -> tuple[Header, Traits]:
    """Both of a JPEG, PNG or WebP file; a whole JPEG is passed over once. Raises DecodeError as `read_header` does."""
    found = jpeg_at_once(data) if data.startswith(JPEG) else None
    if found is not None:
        return found
    header = read_header(data)
    return header, read_traits(data, header.format)


def upright_jpeg(data: bytes) -> Header | None:
    """The header of an ordinary JPEG file; None for any other file, and for one of which there is more to be said."""
    try:
        found = jpeg_at_once(data) if data.startswith(JPEG) else None
    except DecodeError:
        return None
    return found[0] if found is not None and found[1] == UPRIGHT else None


def jpeg_at_once(data: Data) -> tuple[Header, Traits] | None:
    """Both of a JPEG; None for one that is broken, ends before its pixels, or has anything between its segments."""
    at, size, last, exif = 2, 0, 0, 0
    try:
        while (marker := data[at + 1]) != SOS:
            if data[at] != 0xFF:
                return None
            if marker not in _PLAIN_SEGMENTS:
                if marker in SOF:
                    size, last = size or at, at
                elif marker == APP1 and not exif and data[at + 4 : at + 10] == _EXIF:
                    exif = at
                elif marker not in _SEGMENTS:
                    return None
            at += 2 + (data[at + 2] << 8 | data[at + 3])
        if not size:
            return None
        view = memoryview(data)
        one_scan = data[last + 1] in SEQUENTIAL and data[last + 9] == data[at + 4]
        header = checked(jpeg_size(view, size), view, one_scan)
        return header, _turned(view, exif) if exif else UPRIGHT
    except (struct.error, IndexError):
        return None


def _is_exif(view: memoryview, at: int) -> bool:
    return bytes(view[at + 4 : at + 10]) == _EXIF


def _turned(view: memoryview, at: int) -> Traits:
    """By the EXIF segment at `at`."""
    end = at + 2 + struct.unpack_from(">H", view, at + 2)[0]
    return Traits(_orientation(view[at + 10 : end]))


def _jpeg(view: memoryview) -> Traits:
    exif = (at for marker, at in jpeg_segments(view) if marker == APP1 and _is_exif(view, at))
    return next((_turned(view, at) for at in exif), Traits())


def _png(view: memoryview) -> Traits:
    orientation, alpha, animated = 1, bool(view[25] & 4), False
    at, kind = 8, b""
    while kind != b"IEND" and at + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        alpha |= kind == b"tRNS"
        animated |= kind == b"acTL" and struct.unpack_from(">I", view, at + 8)[0] > 1
        if kind == b"eXIf":
            orientation = _orientation(view[at + 8 : at + 8 + length])
        at += 12 + length
    return Traits(orientation, alpha, animated)


def _webp(view: memoryview) -> Traits:
    kind = bytes(view[12:16])
    if kind == b"VP8L":
        return Traits(alpha=bool(view[24] & 0x10))
    if kind != b"VP8X":
        return Traits()
    flags, orientation, at = view[20], 1, 30
    while flags & 0x08 and at + 8 <= len(view):
        name, nbytes = struct.unpack_from("<4sI", view, at)
        if name == b"EXIF":
            exif = view[at + 8 : at + 8 + nbytes]
            orientation = _orientation(exif[6:] if bytes(exif[:6]) == b"Exif\0\0" else exif)
        at += 8 + nbytes + nbytes % 2
    return Traits(orientation, bool(flags & 0x10), bool(flags & 0x02))


def _orientation(exif: memoryview) -> int:
    """The orientation in EXIF data, which has the structure of a TIFF file; 1 if there is none or it is broken."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
            if (tag, kind, count) == (_ORIENTATION, 3, 1):
                (value,) = struct.unpack_from(order + "H", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
