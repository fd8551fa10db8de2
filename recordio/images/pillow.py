"""Pictures of all formats that Pillow reads: opened, and what their headers say. Pillow is imported on first use.

A format that is known is opened by its own plug-in: nothing else is tried, no format runs other programs (EPS would),
and the limit on pixels is ours. Orientation is applied here, never by the reader.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recordio.errors import DISTRIBUTION, DecodeError, RecordIOError
from recordio.images.formats import HEAD_NBYTES, STORED, UNREADABLE, picture_format
from recordio.images.header import MAX_IMAGE_PIXELS
from recordio.images.memory import require_memory
from recordio.packages import optional

if TYPE_CHECKING:
    from PIL import Image

_IDS = {"bmp": ("BMP", "DIB"), "ico": ("ICO", "CUR"), "pcx": ("PCX", "DCX")}  # elsewhere one, the format's own name
_PLUGIN_FORMATS = (*STORED, "bmp", "gif", "tiff", "jpeg2000", "avif", "ppm", "ico", "icns", "qoi", "dds", "psd", "pcx",
                   "sgi", "sun", "xbm", "xpm", "msp", "fli", "blp", "tga")  # fmt: skip
_JPEG2000_SIZE = re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL)
_PPM_HEADER = re.compile(rb"P[2356]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*(\d+)\s")
_HEAD = 1 << 16
_lock = threading.Lock()


class Depth(NamedTuple):
    """The numbers of a picture that 8 bits do not hold: their dtype, and how many there are for each pixel."""

    dtype: np.dtype[Any]
    channels: int


def format_of(data: bytes, name: str) -> str:
    """The format of a file by its content, or else by its name; "" if neither says. Raises DecodeError."""
    if not data:
        raise DecodeError("the file is empty")
    found = picture_format(name, data[:HEAD_NBYTES]) or ""
    if found in UNREADABLE:
        raise DecodeError(f"{UNREADABLE[found]} ({found}) is no picture that can be read: save it as PNG, or remove it")
    return found


@contextmanager
def opened(file: IO[bytes] | bytes, name: str) -> Iterator[Image.Image]:
    """Opens a file of a known format, or of any if `name` is "". Only its header has been read.

    Pillow's warnings are dropped: what they say is said by an error, or does not touch the pixels. They are a setting
    of the process, so one thread at a time is in here.
    """
    pixels = 0
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _open(BytesIO(file) if isinstance(file, bytes) else file, name) as picture:
                width, height = picture.size
                if not 0 < width * height <= MAX_IMAGE_PIXELS:
                    text = f"the file says it has {width} x {height} pixels: expected 1 to {MAX_IMAGE_PIXELS}"
                    raise DecodeError(text)
                pixels = width * height
                yield picture
        except (RecordIOError, MemoryError):
            raise
        except Exception as error:  # plug-ins raise nearly anything
            require_memory(pixels, error)
            kind = f"the {name} file" if name else "the file"
            raise DecodeError(f"{kind} does not decode: {error or type(error).__name__}") from error


def _open(file: IO[bytes], name: str) -> Image.Image:
    if name == "heif":
        return _open_heif(file)
    registered = pillow().OPEN
    reasons = []
    for identity in (one for known in ((name,) if name else _PLUGIN_FORMATS) for one in _ids(known)):
        factory, accept = registered[identity]
        file.seek(0)
        if not name and accept and not accept(file.read(16)):
            continue
        file.seek(0)
        try:
            picture: Image.Image = factory(file, "")
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error) as error:  # "not a file of this format"
            reasons.append(str(error))
        else:
            return picture
    if not name:
        raise DecodeError("not a picture of a format that can be read")
    raise DecodeError(f"not a {name} file: {reasons[0]}")


def _ids(name: str) -> tuple[str, ...]:
    return _IDS.get(name, (name.upper(),))


def _open_heif(file: IO[bytes]) -> Image.Image:
    try:
        plugin = import_module("pillow_heif")
    except ImportError as error:
        raise DecodeError(f"HEIC pictures need the package pillow-heif: pip install '{DISTRIBUTION}[heic]'") from error
    picture: Image.Image = plugin.HeifImageFile(file)
    return picture


@cache
def pillow() -> Any:
    """PIL.Image with its plug-ins. Raises MissingPackageError."""
    package = optional("PIL.Image", "pictures", "images")
    package.init()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # or its errors would go to stderr, unless asked for
    return package


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; itself if there is none."""
    turned: Image.Image = import_module("PIL.ImageOps").exif_transpose(picture)
    return turned if picture.getexif().get(0x0112, 1) != 1 else picture


def depth_of(picture: Image.Image, head: bytes) -> Depth | None:
    """What 8 bits do not hold of an opened picture, None if they hold all. `head` is the beginning of the file.

    Pillow reads colours of 16 bits as 8, without a word, so the mode of a picture does not tell.
    """
    if picture.mode == "F":
        return Depth(np.dtype("f4"), 1)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PPM", "PNG")):
        return Depth(np.dtype("u2"), 1)
    if picture.mode == "I":
        tags: Any = getattr(picture, "tag_v2", {})
        unsigned = tags.get(258) == (32,) and tags.get(339, (1,)) == (1,)
        return Depth(np.dtype("u4" if unsigned else "i4"), 1)
    return Depth(np.dtype("u2"), len(picture.getbands())) if _bits(picture, head) > 8 else None


def _bits(picture: Image.Image, head: bytes) -> int:
    """The bits of a channel as the file has them."""
    if picture.format == "PNG":
        return head[24]
    if picture.format == "TIFF":
        return int(max(getattr(picture, "tag_v2", {}).get(258, (8,))))
    if picture.format == "PPM" and (found := _PPM_HEADER.match(head)):
        return int(found[1]).bit_length()
    if picture.format == "JPEG2000" and (found := _JPEG2000_SIZE.search(head)):
        return (found[1][0] & 0x7F) + 1
    return 16 if picture.format == "SGI" and head[3:4] == b"\2" else 8


def lost_bits(head: bytes, name: str) -> int:
    """The bits of a channel of an AVIF or HEIC picture, which Pillow reads as 8; 8 for all others."""
    box = {"avif": b"av1C", "heif": b"hvcC"}.get(name)
    at = head.find(box) if box else -1
    if at < 0 or len(head) < at + 24:
        return 8
    if name == "avif":
        flags = head[at + 6]
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return (head[at + 4 + 17] & 7) + 8


def read_head(file: IO[bytes]) -> bytes:
    """The beginning of a file, as much as any header needs."""
    file.seek(0)
    return file.read(_HEAD)
