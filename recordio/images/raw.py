"""Raw pixels as MosaicML Streaming and LitData store a PIL picture: width, height and length of the mode, u32 each; the
mode's name; the pixels. They become PNG, without loss.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

from recordio.errors import DecodeError
from recordio.format.pil import png
from recordio.images.header import MAX_IMAGE_PIXELS
from recordio.images.pillow import pillow

_HEADER = struct.Struct("<III")
_PIXEL_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "I;16": 16, "RGB": 24, "YCbCr": 24, "HSV": 24, "LAB": 24, "RGBA": 32,
               "CMYK": 32}  # fmt: skip


def raw_png(data: bytes) -> bytes:
    """The PNG of a raw picture. Of mode "P" its indices, in grey: the palette is not there.

    Raises DecodeError, MissingPackageError without the images extra.
    """
    width, height, length = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (0, 0, 0)
    start = _HEADER.size + length
    if not 0 < length <= len(data) - _HEADER.size:
        raise DecodeError(f"a raw picture of {len(data)} bytes has no header that fits")
    mode = data[_HEADER.size : start].decode("latin-1")
    bits = _PIXEL_BITS.get(mode)
    if bits is None:
        raise DecodeError(f"a raw picture of mode {mode[:20]!r} cannot be read: expected {', '.join(_PIXEL_BITS)}")
    nbytes = (width * bits + 7) // 8 * height
    if not 0 < width * height <= MAX_IMAGE_PIXELS or len(data) - start != nbytes:
        text = f"a raw picture of {width} x {height} {mode} with {len(data) - start} bytes of pixels, not {nbytes}"
        raise DecodeError(text)
    picture: Any = pillow().frombytes("L" if mode == "P" else mode, (width, height), data[start:])
    if mode != "I;16":
        return png(picture)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
