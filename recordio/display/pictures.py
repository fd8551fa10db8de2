"""Small versions of pictures, as data URIs: one way for notebooks and pages, whatever a picture is stored as.

Pixels need no package: they are shrunk by leaving out rows and columns, and written as PNG. Files are shrunk by Pillow;
without it, small ones are shown as they are.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.display.values import Damaged
from recordio.errors import DecodeError, MissingPackageError
from recordio.format.fields import Field
from recordio.format.image_field import Image, image_format
from recordio.format.numeric import Array
from recordio.format.pil import is_picture
from recordio.images.decode import pil_image
from recordio.images.header import image_size
from recordio.images.pillow import opened

SIDE = 192  # of a thumbnail, in pixels
TINY = 48
SMALL_NBYTES = 64 << 10  # a file of this size is shown as it is where Pillow is missing
MAX_SHRUNK_PIXELS = 1 << 26
_LEAST_SIDE = 4  # a smaller array is a table of numbers, such as boxes
_FEW_VALUES = 64  # pixels of a mask: as grey as they are, they would all look black
_PNG_COLOURS = {1: 0, 3: 2, 4: 6}


class Picture(NamedTuple):
    """A picture to show.

    Attributes:
        source: a data URI, "" if there is nothing to show.
        note: why not, or how it differs from what is stored.
        is_tiny: whether its pixels are few enough to be seen one by one.
    """

    source: str
    note: str = ""
    is_tiny: bool = False


def is_picture_field(kind: Field) -> bool:
    """Whether the values of a field are pictures: an Image, or pixels of 8 or 16 bits in an Array."""
    if isinstance(kind, Array):
        return kind.dtype.kind == "u" and kind.dtype.itemsize <= 2 and len(kind.shape) in (2, 3)
    return isinstance(kind, Image)


def picture_of(value: Any, side: int = SIDE) -> Picture | Damaged | None:
    """The value as a picture of at most `side` pixels a side; None if it is no picture, Damaged if it does not decode.

    Pictures are JPEG, PNG and WebP files, pictures of PIL, and arrays of pixels: (H, W), (H, W, C) or (C, H, W).
    """
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
            name = image_format(data[:16])
            return None if name is None else _of_file(data, name, side)
        if is_picture(value):
            return _of_pil(value, side)
        pixels = pixels_of(value)
        return None if pixels is None else _of_pixels(pixels, side)
    except DecodeError as error:
        return Damaged(str(error))
    except Exception:  # noqa: BLE001 maps return any object; one that only looks like a picture is shown as text
        return None


def pixels_of(value: Any) -> npt.NDArray[Any] | None:
    """The value as pixels (H, W) or (H, W, C), None if it does not look like pixels."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy() if value.is_floating_point() else value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif":
        return None
    if value.ndim == 3 and value.shape[2] not in _PNG_COLOURS and value.shape[0] in (1, 3):
        value = value.transpose(1, 2, 0)
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[:, :, 0]
    is_colour = value.ndim == 3 and value.shape[2] in (3, 4)
    fits = (value.ndim == 2 or is_colour) and min(value.shape[:2]) >= _LEAST_SIDE
    return value if fits and (is_colour or value.dtype.itemsize <= 4) else None


def data_uri(data: bytes, kind: str) -> str:
    """The bytes in a URI, `kind` such as "image/png"."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def as_png(pixels: npt.NDArray[Any], step: int = 1) -> tuple[bytes, str]:
    """Every `step`-th pixel as a PNG file of 8 bits a channel, and a note on how the values of all are shown."""
    eight_bits, note = _eight_bits(pixels)
    shown = eight_bits[::step, ::step]
    height, width = shown.shape[:2]
    colour = _PNG_COLOURS[1 if shown.ndim == 2 else shown.shape[2]]
    rows = np.zeros((height, 1 + shown[0].size), np.uint8)  # the first byte of a row is its filter: none
    rows[:, 1:] = shown.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body, note


def _eight_bits(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], str]:
    """The values from 0 to 255, and a note. Those that are masked or not finite are 0, and count for nothing."""
    data, masked = np.ma.getdata(pixels), np.ma.getmaskarray(pixels)
    known = np.isfinite(data) & ~masked
    if known.all():
        return _scaled(data, data)
    counts = {"masked": int(masked.sum()), "not finite": int((~known & ~masked).sum())}
    lost = " and ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    if not known.any():
        return np.zeros(data.shape, np.uint8), f"no value to show: of {data.size:,} values, {lost}"
    shown, note = _scaled(np.where(known, data, data[known][0]), data[known])
    note += f"{'; ' if note else ''}of {data.size:,} values, {lost}, shown as black"
    return shown * known.astype(np.uint8), note


def _scaled(pixels: npt.NDArray[Any], known: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], str]:
    """Values of 8 bits, and floats from 0 to 1, keep their meaning; others are stretched from least to most known."""
    if pixels.dtype == np.bool_:
        return pixels * np.uint8(255), ""
    if pixels.dtype == np.uint8 and (pixels.ndim == 3 or known.max() > _FEW_VALUES or not known.any()):
        return pixels, ""
    values, low, high = pixels.astype(np.float64), float(known.min()), float(known.max())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.round(values * 255).astype(np.uint8), ""
    half = high / 2 - low / 2  # high - low could overflow
    scaled = (values / 2 - low / 2) / half if half > 0 else np.zeros_like(values)
    return np.round(scaled * 255).astype(np.uint8), f"values {low:.6g} to {high:.6g}, shown as black to white"


def _of_pixels(pixels: npt.NDArray[Any], side: int) -> Picture:
    is_plain = pixels.ndim == 3 and pixels.dtype == np.uint8 and not np.ma.is_masked(pixels)
    if max(pixels.shape[:2]) > side and is_plain:
        with suppress(MissingPackageError):  # Pillow's result is smoother
            return _of_pil(pil_image(pixels), side)
    data, note = as_png(pixels, -(-max(pixels.shape[:2]) // side))
    return Picture(data_uri(data, "image/png"), note, is_tiny=max(pixels.shape[:2]) <= TINY)


def _of_file(data: bytes, name: str, side: int) -> Picture:
    height, width = image_size(data)
    if height * width > MAX_SHRUNK_PIXELS:
        return Picture("", f"{width} x {height} pixels are too many to shrink here")
    try:
        with opened(data, name) as picture:
            if max(height, width) <= side and len(data) <= SMALL_NBYTES:
                picture.load()  # or it would not be seen to be damaged
                return _as_it_is(data, name)
            picture.thumbnail((side, side))
            return _of_pil(picture, side)
    except MissingPackageError as error:
        return _as_it_is(data, name) if len(data) <= SMALL_NBYTES else Picture("", str(error))


def _as_it_is(data: bytes, name: str) -> Picture:
    return Picture(data_uri(data, f"image/{name}"))


def _of_pil(picture: Any, side: int) -> Picture:
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side))
    if picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16"):
        return _of_pixels(np.asarray(picture), side)
    out = BytesIO()
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture.convert("RGBA").save(out, "PNG")
        return Picture(data_uri(out.getvalue(), "image/png"))
    picture.convert("RGB").save(out, "JPEG", quality=85)
    return Picture(data_uri(out.getvalue(), "image/jpeg"))


def full_size(value: Any) -> tuple[bytes, str] | None:
    """The file of a picture at its full size, and its media type; None if the value is no picture.

    Files are as they are stored; pixels become a PNG.
    """
    if isinstance(value, bytes):
        name = image_format(value[:16])
        return None if name is None else (value, f"image/{name}")
    pixels = pixels_of(value)
    return None if pixels is None else (as_png(pixels)[0], "image/png")
