"""Pictures: the bytes of a JPEG, PNG or WebP file, and their pixels.

The rule that everything here keeps: the pixels are those of Pillow's `Image.open(...).convert(mode)`, whichever
library decodes. Palettes are expanded, grey is repeated; alpha is dropped in "RGB" and "L", and 255 where "RGBA" finds
none. EXIF orientation and colour profiles are never applied. Of an animation the first frame is the picture.

A picture decodes whole or raises DecodeError: what is cut, damaged, deeper than 8 bits a channel or larger than
MAX_IMAGE_PIXELS is refused, the last two from the header, before anything is allocated.
simplejpeg decodes JPEG and OpenCV decodes PNG and WebP: both release the GIL and are strict about damage. Pillow is not
(it fills a PNG that lacks rows with black), so it only gives the pixels that the others would give otherwise, of files
that one of them has proved. All three are imported at the first picture that needs them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError, MissingPackageError, RecordIOError, SchemaError
from recordio.format.image_field import image_format

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Data = bytes | memoryview

MAX_IMAGE_PIXELS = 1 << 28
CHANNELS = {"RGB": 3, "L": 1, "RGBA": 4}

_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # the segments with the size
_SOS, _EOI, _APP0 = 0xDA, 0xD9, 0xE0
_PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself. `channels` are those stored, without alpha; a palette counts as 3."""

    format: str
    height: int
    width: int
    channels: int = 3
    bits: int = 8
    lossless: bool = False


def read_header(data: Data) -> Header:
    """The header of a JPEG, PNG or WebP file, in microseconds and without any package.

    Raises DecodeError for bytes that are no picture, and for one that is too large or too deep to be decoded.
    """
    view = memoryview(data)
    name = image_format(bytes(view[:16]))
    if name is None:
        raise DecodeError(f"not a JPEG, PNG or WebP file: it starts with {bytes(view[:8])!r}")
    try:
        header = _HEADERS[name](view)
    except (struct.error, IndexError) as error:
        raise DecodeError(f"the {name} file is cut short in its header, at {len(view)} bytes") from error
    if not 0 < header.height * header.width <= MAX_IMAGE_PIXELS:
        raise DecodeError(
            f"the {name} file says it has {header.width} x {header.height} pixels: expected 1 to {MAX_IMAGE_PIXELS}"
        )
    if header.bits > 8:
        raise DecodeError(
            f"the {name} file has {header.bits} bits a channel, which 8-bit pixels would cut: store it as an Array"
        )
    return header


def _jpeg_header(view: memoryview) -> Header:
    for marker, at in _jpeg_segments(view):
        if marker in _SOF:
            bits, height, width, channels = struct.unpack_from(">BHHB", view, at + 4)
            return Header("jpeg", height, width, channels, bits)
    raise DecodeError("the jpeg file is broken: no size before its pixels")


def _jpeg_segments(view: memoryview) -> Iterator[tuple[int, int]]:
    """Each marker of the header and the byte where it stands, the start of the first scan included."""
    at, marker = 2, 0
    while marker not in (_SOS, _EOI):
        if view[at] != 0xFF:
            raise DecodeError(f"the jpeg file is broken: no marker at byte {at}")
        marker = view[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
        else:
            yield marker, at
            at += 2 + int(struct.unpack_from(">H", view, at + 2)[0])


def _png_header(view: memoryview) -> Header:
    length, kind, width, height, bits, colour = struct.unpack_from(">I4sIIBB", view, 8)
    if (length, kind) != (13, b"IHDR"):
        raise DecodeError("the png file is broken: its first chunk is not an IHDR of 13 bytes")
    return Header("png", height, width, 3 if colour & 2 else 1, bits, lossless=True)


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
    low, width_high, height_low, high = struct.unpack_from("<HBHB", view, 24)
    return Header(
        "webp", (height_low | high << 16) + 1, (low | width_high << 16) + 1, lossless=b"VP8L" in _chunks(view)
    )


def _chunks(view: memoryview) -> Iterator[bytes]:
    """The names of a WebP file's chunks."""
    at = 12
    while at + 8 <= len(view):
        name, nbytes = struct.unpack_from("<4sI", view, at)
        yield name
        at += 8 + nbytes + nbytes % 2


_HEADERS: dict[str, Callable[[memoryview], Header]] = {"jpeg": _jpeg_header, "png": _png_header, "webp": _webp_header}


def decode_image(data: Data, mode: str = "RGB") -> Pixels:
    """The pixels of a picture: uint8, C-contiguous, (height, width, 3) for "RGB", 1 for "L", 4 for "RGBA".

    Raises DecodeError when the picture does not decode whole, MissingPackageError without the images extra.
    """
    if mode not in CHANNELS:
        raise SchemaError(f"unknown image mode {mode!r}: expected {', '.join(map(repr, CHANNELS))}")
    header = read_header(data)
    if mode == "L" and header.channels != 1:  # the libraries differ by up to 13 in how they mix colours into grey
        return _array(pil_image(_decode(data, header, "RGB")).convert("L"))
    return _decode(data, header, mode)


def decode_pil(data: Data, mode: str = "RGB") -> Image.Image:
    """The pixels of `decode_image` as a PIL.Image of this mode. Raises what `decode_image` raises."""
    return pil_image(decode_image(data, mode))


def pil_image(pixels: Pixels) -> Image.Image:
    """The PIL.Image of pixels (height, width) or (height, width, 1, 3 or 4): mode "L", "RGB" or "RGBA"."""
    picture: Image.Image = _package("PIL.Image").fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
    return picture


def image_size(data: Data) -> tuple[int, int]:
    """(height, width) as the header says, decoding nothing. Raises DecodeError."""
    header = read_header(data)
    return header.height, header.width


def _decode(data: Data, header: Header, mode: str) -> Pixels:
    try:
        return _DECODERS[header.format](data, header, mode)
    except (RecordIOError, MemoryError):
        raise
    except Exception as error:  # each library has types of its own, and Pillow lets struct.error and others through
        raise DecodeError(f"the {header.format} file does not decode: {error}") from error


def _decode_jpeg(data: Data, header: Header, mode: str) -> Pixels:
    four = header.channels == 4
    try:
        pixels: Pixels = _package("simplejpeg").decode_jpeg(data, "CMYK" if four else "GRAY" if mode == "L" else mode)
    except ValueError as error:  # strict: the first warning is an error
        if "extraneous bytes before marker 0xd9" in str(error):  # stuffing after the last pixel, so all are there
            return _decode_by_pillow(data, header, mode)
        repaired = _repaired_jpeg(data, str(error))
        if repaired == data:
            raise
        return _decode_jpeg(repaired, header, mode)
    return _decode_by_pillow(data, header, mode) if four else pixels  # CMYK to RGB differs by 1 between libraries


def _repaired_jpeg(data: Data, warning: str) -> bytes:
    """Puts right what some cameras write wrongly and no decoder uses, so that every other warning still counts."""
    repaired = bytearray(data)
    for marker, at in _jpeg_segments(memoryview(data)):
        if marker == _APP0 and "unknown JFIF revision" in warning:
            repaired[at + 9] = 1
        elif marker == _SOS and "Invalid SOS parameters" in warning:
            end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            repaired[end - 3 : end] = b"\0\x3f\0"
    return bytes(repaired)


def _decode_png(data: Data, header: Header, mode: str) -> Pixels:
    picture = _png_picture(memoryview(data))
    if mode == "RGBA" and header.channels == 1:  # OpenCV passes over a transparent grey
        _decode_by_opencv(picture, "L")
        return _decode_by_pillow(picture, header, mode)
    return _decode_by_opencv(picture, mode)


def _decode_webp(data: Data, header: Header, mode: str) -> Pixels:
    (nbytes,) = struct.unpack_from("<I", data, 4)
    if len(data) < nbytes + 8:
        raise DecodeError(f"the webp file is cut short: {len(data)} bytes of {nbytes + 8}")
    return _decode_by_opencv(data, mode)


_DECODERS: dict[str, Callable[[Data, Header, str], Pixels]] = {
    "jpeg": _decode_jpeg,
    "png": _decode_png,
    "webp": _decode_webp,
}


def _png_picture(view: memoryview) -> bytes:
    """The file without the chunks that do not make the picture, every chunk's checksum proved.

    libpng would write to stderr about many that are left out here: profiles, texts, private ones of megabytes.
    """
    pieces = [view[:8]]
    at, kind = 8, b""
    while kind != b"IEND":
        if at + 12 > len(view):
            raise DecodeError(f"the png file is cut short at {len(view)} bytes, before its end")
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            raise DecodeError(f"the png file is cut short: chunk {kind!r} ends at byte {end} of {len(view)}")
        (stored,) = struct.unpack_from(">I", view, end - 4)
        computed = zlib.crc32(view[at + 4 : end - 4])
        if stored != computed:
            raise DecodeError(
                f"checksum mismatch in png chunk {kind!r} at byte {at}: stored {stored:#x}, computed {computed:#x}"
            )
        if kind in _PNG_PICTURE:
            pieces.append(view[at:end])
        elif not kind[0] & 0x20:
            raise DecodeError(f"the png file needs an unknown chunk {kind!r}, at byte {at}")
        at = end
    return b"".join(pieces)


def opencv() -> Any:
    """OpenCV, with no threads of its own: the loader's threads are enough. Raises MissingPackageError."""
    return _package("cv2")


def _decode_by_opencv(data: Data, mode: str) -> Pixels:
    cv2 = opencv()
    encoded = np.frombuffer(data, np.uint8)
    if mode == "RGBA":
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)  # this flag ignores the orientation too
    else:
        colour = cv2.IMREAD_GRAYSCALE if mode == "L" else cv2.IMREAD_COLOR_RGB
        pixels = cv2.imdecode(encoded, colour | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise DecodeError("the pixels are damaged or cut short: OpenCV refuses them")
    if mode == "RGBA":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGBA)
    return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])  # type: ignore[no-any-return]


def _decode_by_pillow(data: Data, header: Header, mode: str) -> Pixels:
    """The plug-in is called directly: Image.open would try other formats and has a limit of its own that warns."""
    name = {"jpeg": "Jpeg", "png": "Png", "webp": "WebP"}[header.format]
    picture = getattr(_package(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")(BytesIO(data))
    return _array(picture.convert(mode))


def _array(picture: Image.Image) -> Pixels:
    pixels = np.array(picture)
    return pixels.reshape(*pixels.shape[:2], -1)


@cache
def _package(name: str) -> Any:
    try:
        package = import_module(name)
        if name == "cv2":
            package.setNumThreads(0)
        return package
    except ImportError as error:
        raise MissingPackageError(
            f"pictures need the package {name.partition('.')[0]} ({error}): pip install 'recordio[images]'"
        ) from error
