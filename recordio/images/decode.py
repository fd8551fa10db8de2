"""Decoding JPEG, PNG and WebP to pixels.

The invariant: the pixels equal those of Pillow's `Image.open(...).convert(mode)`, whichever library decodes. Palettes
are expanded and grey is repeated; "RGB" and "L" drop alpha, and "RGBA" sets it to 255 if there is none. EXIF
orientation and colour profiles are never applied. An animation decodes to its first frame.

A picture decodes whole or raises DecodeError; MemoryError says that memory is short, which is no fault of the picture.
Truncated and damaged files are refused, and from the header alone, before anything is allocated, files of more than 8
bits per channel or MAX_IMAGE_PIXELS pixels.
simplejpeg decodes JPEG and OpenCV decodes PNG and WebP: both release the GIL and are strict about damage. Pillow is not
(it fills missing rows of a PNG with black), so it only decodes where the pixels of the others would differ, and only
files that one of them has accepted. Each package is imported on first use.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError, MissingPackageError, RecordIOError, SchemaError
from recordio.images.header import APP0, SOF, SOS, Data, Header, jpeg_segments, read_header
from recordio.images.memory import require_memory
from recordio.packages import optional

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

CHANNELS = {"RGB": 3, "L": 1, "RGBA": 4}
COLOURSPACES = {"RGB": "RGB", "RGBA": "RGBA", "L": "GRAY"}  # simplejpeg's names

_JPEG_PICTURE = {*SOF, 0xC4, 0xCC, 0xDB, 0xDD, 0xEE}  # with the tables, the restart interval and Adobe's transform
_PNG_OPAQUE = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_PNG_PICTURE = {*_PNG_OPAQUE, b"tRNS"}


def decode_image(data: Data, mode: str = "RGB", header: Header | None = None) -> Pixels:
    """The pixels of a picture: uint8, C-contiguous, (height, width, 3) for "RGB", 1 for "L", 4 for "RGBA".

    `header` is that of `read_header`, from whoever has read it.
    Raises DecodeError if the picture does not decode whole, MissingPackageError without the images extra.
    """
    if mode not in CHANNELS:
        raise SchemaError(f"unknown image mode {mode!r}: expected {', '.join(map(repr, CHANNELS))}")
    header = header or read_header(data)
    if mode == "L" and header.channels != 1:  # the libraries' grey values differ by up to 13
        return as_array(pil_image(_decode(data, header, "RGB")).convert("L"))
    return _decode(data, header, mode)


def decode_pil(data: Data, mode: str = "RGB") -> Image.Image:
    """The pixels of `decode_image` as a PIL.Image of this mode. Raises what `decode_image` raises."""
    return pil_image(decode_image(data, mode))


def pil_image(pixels: Pixels) -> Image.Image:
    """The PIL.Image of pixels (height, width) or (height, width, 1, 3 or 4): mode "L", "RGB" or "RGBA"."""
    picture: Image.Image = _package("PIL.Image").fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
    return picture


def _decode(data: Data, header: Header, mode: str) -> Pixels:
    try:
        return _DECODERS[header.format](data, header, mode)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own types, and Pillow leaks struct.error and others
        require_memory(header.height * header.width, error)
        if isinstance(error, RecordIOError):
            raise
        raise DecodeError(f"the {header.format} file does not decode: {error}") from error


def _decode_jpeg(data: Data, header: Header, mode: str) -> Pixels:
    is_cmyk = header.channels == 4
    colourspace = "CMYK" if is_cmyk else COLOURSPACES[mode]
    try:
        pixels: Pixels = _package("simplejpeg").decode_jpeg(data, colourspace)
    except ValueError as error:  # strict: the first warning is an error
        if "extraneous bytes before marker 0xd9" in str(error):  # stuffing after the last pixel: none is missing
            return _decode_by_pillow(data, header, mode)
        plain = _plain_jpeg(memoryview(data))
        if plain == data:
            raise
        return _decode_jpeg(plain, header, mode)
    return _decode_by_pillow(data, header, mode) if is_cmyk else pixels  # CMYK to RGB differs by 1 between libraries


def _plain_jpeg(view: memoryview) -> bytes:
    """The file with a header of nothing but what its pixels depend on, so that no other warning stops the decoder.

    Cameras and programs leave stray bytes, broken profiles and odd version numbers there, which no decoder minds. All
    that follows the header stays, and so does every warning about it.
    """
    pieces: list[Data | bytearray] = [b"\xff\xd8"]
    sequential = False
    for marker, at in jpeg_segments(view):
        end = at + 2 + struct.unpack_from(">H", view, at + 2)[0]
        segment = bytearray(view[at:end])
        if marker == SOS:
            segment[-3:] = b"\0\x3f\0" if sequential else segment[-3:]
            pieces += [segment, view[end:]]
        elif marker == APP0 and segment[4:9] == b"JFIF\0":
            segment[9] = 1
            pieces.append(segment)
        elif marker in _JPEG_PICTURE:
            sequential = marker <= 0xC1 if marker in SOF else sequential
            pieces.append(segment)
    return b"".join(pieces)


def _decode_png(data: Data, header: Header, mode: str) -> Pixels:
    if mode == "RGBA" and header.channels == 1:  # OpenCV ignores a transparent grey value
        _decode_by_opencv(checked_png(data, alpha=False), "L")
        return _decode_by_pillow(checked_png(data), header, mode)
    return _decode_by_opencv(checked_png(data, alpha=mode == "RGBA"), mode)


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


def checked_png(data: Data, alpha: bool = True) -> bytes:
    """The file reduced to the chunks that define its pixels, after checking the checksum of every chunk.

    libpng would warn on stderr about many of the others: profiles, texts, private chunks of megabytes, and, unless
    `alpha` is asked for, a transparent value that no pixel can have. Raises DecodeError.
    """
    view = memoryview(data)
    kinds = _PNG_PICTURE if alpha else _PNG_OPAQUE
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
        if kind in kinds:
            pieces.append(view[at:end])
        elif not kind[0] & 0x20 and kind not in _PNG_PICTURE:
            raise DecodeError(f"the png file needs an unknown chunk {kind!r}, at byte {at}")
        at = end
    return b"".join(pieces)


def opencv() -> Any:
    """OpenCV, with its own threads off: the loader's threads are enough. Raises MissingPackageError."""
    return _package("cv2")


@cache
def opencv_if_there() -> Any:
    """OpenCV, None if it is not installed: to look for it again at each call takes 0.1 ms."""
    try:
        return opencv()
    except MissingPackageError:
        return None


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
    """Calls the plug-in directly: Image.open would try other formats, and warns beyond a size limit of its own."""
    name = {"jpeg": "Jpeg", "png": "Png", "webp": "WebP"}[header.format]
    picture = getattr(_package(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")(BytesIO(data))
    return as_array(picture.convert(mode))


def as_array(picture: Image.Image) -> Pixels:
    """A copy of the pixels of a PIL.Image of 8 bits a channel: (height, width, channels)."""
    pixels = np.array(picture)
    return pixels.reshape(*pixels.shape[:2], -1)


@cache
def _package(name: str) -> Any:
    package = optional(name, "pictures", "images")
    if name == "cv2":
        package.setNumThreads(0)
    return package
