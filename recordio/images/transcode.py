"""Pictures of other formats become PNG, without loss; those of more than 8 bits a channel become arrays.

What is stored has the pixels that Pillow reads: `transcode` keeps them as a PNG, upright, and says by remarks what a
PNG of the first frame does not hold. A remark is a text that a conversion counts.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError
from recordio.format.pil import png
from recordio.images.decode import checked_png, opencv, pil_image
from recordio.images.pillow import Depth, depth_of, lost_bits, opened, read_head, upright

if TYPE_CHECKING:
    from PIL import Image

Remarks = tuple[str, ...]

_LABELS = {"jpeg2000": "JPEG 2000", "heif": "HEIC", "ppm": "PPM", "": "others"}
_AS_RGBA = {"PA", "La", "RGBa"}
_AS_RGB = {"RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_BY_OPENCV = ("png", "tiff", "ppm", "jpeg2000")  # with all bits of several channels
_LAYERED = ("psd",)  # their first frame is all layers together


def label(name: str) -> str:
    """What a person calls a format."""
    return _LABELS.get(name, name.upper())


def transcode(data: bytes, name: str) -> tuple[bytes, Remarks]:
    """A picture of the format `name` ("" for unknown) as a PNG file, upright.

    Raises DecodeError, also for more than 8 bits a channel.
    """
    picture, remarks = _loaded(data, name)
    how = f"in RGB: {label(name)} ({picture.mode})" if picture.mode in _AS_RGB else f"without loss: {label(name)}"
    return png(_storable(picture)), (f"stored as PNG, {how}", *remarks)


def mask_png(data: bytes, name: str) -> tuple[bytes, Remarks]:
    """A mask as a PNG file whose grey values are those of the mask: of a palette, the indices.

    A PNG of grey values stays as it is. Raises DecodeError for colours, and for formats that do not keep values.
    """
    if name in ("jpeg", "webp"):
        raise DecodeError(f"a {label(name)} file does not keep the values of a mask: save it as PNG")
    picture, remarks = _loaded(data, name)
    if name == "png" and picture.mode in ("1", "L"):
        return data, remarks
    changed = "the indices of a palette stored as grey values" if picture.mode == "P" else None
    if name == "png" and not changed:
        changed = "three equal channels stored as one"
    return png(values_of(picture)), (changed or f"stored as PNG, without loss: {label(name)}", *remarks)


def _loaded(data: bytes, name: str) -> tuple[Image.Image, Remarks]:
    """The first frame, upright but for PNG, whose chunks are checked; and what that leaves out."""
    remarks = []
    if name == "png":
        checked_png(data)
    with opened(data, name) as picture:
        if depth_of(picture, data[: 1 << 16]) is not None:
            raise DecodeError(too_deep(name))
        if name not in _LAYERED and getattr(picture, "is_animated", False):
            remarks.append(f"only the first frame or page kept: {label(name)}")
        if (bits := lost_bits(data[: 1 << 16], name)) > 8:
            remarks.append(f"stored as 8 bits a channel, of {bits}: {label(name)}")
        picture.load()
        return (picture if name == "png" else upright(picture)), tuple(remarks)


def _storable(picture: Image.Image) -> Image.Image:
    """The picture in a mode that PNG has. A profile that is one of other colours goes."""
    if picture.mode in _AS_RGB:
        picture.info.pop("icc_profile", None)
        return picture.convert("RGB")
    return picture.convert("RGBA") if picture.mode in _AS_RGBA else picture


def values_of(picture: Image.Image) -> Image.Image:
    """A mask as a picture of mode L: grey values, or the indices of a palette. Raises DecodeError for colours."""
    if picture.mode == "P":
        return pil_image(np.asarray(picture))
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    if picture.mode in ("RGB", "RGBA", "LA"):
        pixels = np.asarray(picture.convert("RGBA"))
        if (pixels[..., :3] == pixels[..., :1]).all() and (pixels[..., 3] == 255).all():
            return pil_image(np.ascontiguousarray(pixels[..., 0]))
        raise DecodeError("a mask has one value a pixel, and this picture has colours: save it with one channel")
    raise DecodeError(f"a mask has one value a pixel, and this picture has mode {picture.mode}: it is no mask")


def too_deep(name: str) -> str:
    """Why a picture of more than 8 bits cannot stand among others."""
    return (
        f"the {name} file has more than 8 bits a channel, and other pictures of the field have 8: save it with 8 bits, "
        "or convert the deep ones as a source of their own, as arrays"
    )


def deep_pixels(data: bytes, name: str, expected: Depth) -> npt.NDArray[Any]:
    """The numbers of a picture of more than 8 bits a channel: (height, width), or (height, width, channels).

    Raises DecodeError, also for a picture of another depth than `expected`.
    """
    with opened(data, name) as picture:
        found = depth_of(picture, read_head(BytesIO(data)))
        if found != expected:
            raise DecodeError(f"the {name} file has {_words(found)}, and others of the field have {_words(expected)}")
        picture.load()
        if picture.mode[0] not in "IF":
            return _by_opencv(data, name, found, np.asarray(picture))
        pixels = np.asarray(upright(picture))
    if found.dtype == np.dtype("u4"):
        return pixels.view("u4")
    return pixels.astype(found.dtype)


def _words(depth: Depth | None) -> str:
    return f"{depth.channels} x {depth.dtype} a pixel" if depth else "8 bits a channel"


def _by_opencv(data: bytes, name: str, depth: Depth, high_bits: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Colours of 16 bits, proven by the 8 of them that Pillow reads: OpenCV misreads some kinds of TIFF."""
    if name not in _BY_OPENCV:
        raise DecodeError(f"colours of more than 8 bits in a {name} file cannot be read: save it as PNG or TIFF")
    cv2 = opencv()
    encoded = checked_png(data) if name == "png" else data
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != depth.dtype or pixels.ndim != 3:
        raise DecodeError("the pixels are damaged or of a kind that OpenCV does not read")
    order = (0, 3) if depth.channels == 2 else (2, 1, 0, 3)[: depth.channels]
    if pixels.shape[2] <= max(order):
        raise DecodeError(f"OpenCV reads {pixels.shape[2]} channels of {depth.channels}")
    colours = np.ascontiguousarray(pixels[:, :, order])
    high = (colours >> 8).astype(np.int16)
    if high.shape != high_bits.shape or np.abs(high - high_bits).max() > 1:
        raise DecodeError(f"this kind of {name} file with more than 8 bits a channel cannot be read: save it as PNG")
    return colours
