"""PIL pictures that were opened from a JPEG file and not changed are stored as that file, not as a PNG of ten times its
size."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.image_field import JPEG, Image
from recordio.format.pil import is_picture
from recordio.images.decode import decode_image


def picture_packer(field: Image) -> Callable[[Any], bytes]:
    """The packer of a field of encoded pictures."""
    pack = field.packer()

    def packed(value: Any) -> bytes:
        if type(value) is bytes and value.startswith(JPEG):  # as most are: half the time
            return value
        data = jpeg_file(value) if is_picture(value) else None
        return pack(value) if data is None else data

    return packed


def jpeg_file(picture: Any) -> bytes | None:
    """The JPEG file that a PIL picture was opened from; None for any other picture, or if a single pixel differs.

    A picture may have been drawn on, and its file replaced, so the pixels are compared, as they will be read: decoding
    takes a tenth of the time that coding a PNG does.
    """
    if getattr(picture, "format", None) != "JPEG":
        return None
    with suppress(OSError, ValueError, SyntaxError, TypeError, AttributeError, RecordIOError):
        data = _file_bytes(picture)
        mode = "L" if picture.mode == "L" else "RGB"
        expected = np.asarray(picture if picture.mode == mode else picture.convert(mode))
        if np.array_equal(decode_image(data, mode).reshape(expected.shape), expected) and _same_kind(picture, data):
            return data
    return None


def _same_kind(picture: Any, data: bytes) -> bool:
    """A CMYK picture may have been changed where its RGB does not show it; one that became grey stays grey."""
    with type(picture)(BytesIO(data)) as again:
        same: bool = again.mode == picture.mode
        return same and (picture.mode != "CMYK" or again.tobytes() == picture.tobytes())


def _file_bytes(picture: Any) -> bytes:
    """To be called before Pillow loads the picture, and forgets its file."""
    file = getattr(picture, "fp", None)
    if file is None or file.closed:
        path = Path(picture.filename)
        if not path.is_file():
            raise FileNotFoundError(path)
        return path.read_bytes()
    at = file.tell()
    try:
        file.seek(0, os.SEEK_SET)
        data: bytes = file.read()
    finally:
        file.seek(at)
    return data
