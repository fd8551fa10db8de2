"""The pixels of image transforms: getting them from any image, and moving them with OpenCV.

Pixels are uint8 (H, W, C) with 1 to 4 channels. Nothing here modifies its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.arguments import choice, describe
from recordio.errors import SchemaError
from recordio.images import decode
from recordio.images.boxes import Box, Size, check_pixels, reduction
from recordio.images.decode import CHANNELS, COLOURSPACES, Pixels, decode_image, opencv, opencv_if_there
from recordio.images.header import Header, read_header
from recordio.images.jpeg_rows import Rows, decode_rows, only_rows
from recordio.images.resample import bilinear

ENCODED = (bytes, memoryview)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
BORDERS = {"constant": "CONSTANT", "edge": "REPLICATE", "reflect": "REFLECT_101", "symmetric": "REFLECT"}

_PIL_MODES = {"1", "LA", "P", "PA", "CMYK", "YCbCr", "HSV"}  # 8 bits per channel, convertible to CHANNELS
_SMOOTHED_UP_TO = 4  # reduction factor; beyond it, averaging areas first is cheaper than a long kernel
_IDENTITY = np.array([0, 1, 0], np.float32)  # OpenCV takes twice as long with [1] beside a longer kernel


def as_pixels(image: Any, mode: str) -> Pixels:
    """The pixels of an image: bytes decode to `mode`, arrays and PIL's usual modes stay unchanged.

    Raises SchemaError for a value that is not an image, DecodeError for bytes that do not decode.
    """
    if isinstance(image, ENCODED):
        header = read_header(image)
        return _decoded(image, header, mode, 1, 0, header.height)[0]
    if isinstance(image, np.ndarray):
        pixels = image[:, :, None] if image.ndim == 2 else image
    elif hasattr(image, "convert") and hasattr(image, "mode"):
        pixels = from_pil(image, image.mode if image.mode in CHANNELS else mode)
    else:
        raise SchemaError(f"not an image: {describe(image)}; expected encoded bytes, uint8 (H, W, C), or a PIL image")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or not pixels.size or pixels.shape[2] > 4:
        raise SchemaError(f"an image is uint8 (H, W, C) with 1 to 4 channels, not {describe(image)}")
    return pixels


def from_pil(picture: Any, mode: str) -> Pixels:
    """The pixels of a PIL image in this mode."""
    choice("mode", mode, CHANNELS)
    if picture.mode not in CHANNELS and picture.mode not in _PIL_MODES:
        raise SchemaError(f"a PIL image of mode {picture.mode} is not one of 8 bits a channel")
    pixels = np.array(picture if picture.mode == mode else picture.convert(mode))
    return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])


def resized(
    image: Any, mode: str, plan: Callable[[int, int], tuple[Box, Size]], interpolation: str, antialias: bool
) -> Pixels:
    """A box of an image, resized, both from `plan(height, width)`.

    Large JPEGs are decoded at reduced size, and of any only the rows of the box and what lies above.
    """
    if not isinstance(image, ENCODED):
        pixels = as_pixels(image, mode)
        box, size = plan(*pixels.shape[:2])
    else:
        header = read_header(image)
        box, size = plan(header.height, header.width)
        factor = reduction(box, size) if antialias and interpolation != "nearest" else 1
        pixels, factor, first = _decoded(image, header, mode, factor, box.top, box.top + box.height)
        box = box.reduced(factor) if factor > 1 else box
        box = box._replace(top=box.top - first)
    return resize(box.of(pixels), size, interpolation, antialias)


def cropped(image: Any, mode: str, plan: Callable[[int, int], Box]) -> Pixels:
    """A copy of a box of an image, from `plan(height, width)`; a view would keep the whole image alive."""
    if not isinstance(image, ENCODED):
        pixels = as_pixels(image, mode)
        return plan(*pixels.shape[:2]).of(pixels).copy()
    header = read_header(image)
    box = plan(header.height, header.width)
    pixels, _, first = _decoded(image, header, mode, 1, box.top, box.top + box.height)
    return box._replace(top=box.top - first).of(pixels).copy()


def _decoded(data: Any, header: Header, mode: str, factor: int, top: int, bottom: int) -> tuple[Pixels, int, int]:
    """The pixels; by what factor they are reduced: `factor`, or 1 where the JPEG decoder cannot reduce; the first row.

    No pixel outside of the rows from `top` to `bottom` (before reducing) is needed. Files that simplejpeg refuses go to
    `decode_image`, which repairs or refuses them.
    """
    channels = (1,) if mode == "L" else (1, 3)
    if header.format == "jpeg" and header.channels in channels and mode in CHANNELS:
        rows = only_rows(data, header, top, bottom, factor)
        try:
            return _decoded_jpeg(rows, header, mode, factor), factor, rows.first // factor
        except ValueError:
            pass
    return decode_image(data, mode, header), 1, 0


def _decoded_jpeg(rows: Rows, header: Header, mode: str, factor: int) -> Pixels:
    height, width = -(-rows.height // factor), -(-header.width // factor)
    reduced = {"min_height": height, "min_width": width, "min_factor": factor} if factor > 1 else {}
    decode_jpeg = decode._package("simplejpeg").decode_jpeg
    if rows.height == header.height:
        pixels: Pixels = decode_jpeg(rows.data, COLOURSPACES[mode], **reduced)
        return pixels
    return decode_rows(decode_jpeg, (height, width, CHANNELS[mode]), rows.data, COLOURSPACES[mode], **reduced)


def resize(pixels: Pixels, size: Size, interpolation: str, antialias: bool) -> Pixels:
    """Resizes (H, W, C) to (*size, C). Returns the same array if it has this size."""
    if pixels.shape[:2] == size:
        return pixels
    if antialias and interpolation == "bilinear" and (made := bilinear(pixels, size)) is not None:
        return made
    cv2 = opencv()
    if antialias and interpolation != "nearest":
        pixels = _smoothed(pixels, size)
    flag = {"nearest": cv2.INTER_NEAREST_EXACT, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    return _scaled(pixels, size, flag[interpolation])


def _scaled(pixels: Pixels, size: Size, flag: int) -> Pixels:
    """OpenCV's resize, with Intel's inexact IPP if available: faster, with a few values off by one.

    The switch is per thread and is restored, so that the caller's own OpenCV calls are unaffected.
    """
    cv2 = opencv()
    previous = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    try:
        return _restored(cv2.resize(pixels, size[::-1], interpolation=flag), pixels)
    finally:
        cv2.ipp.setUseIPP_NotExact(previous)


def _smoothed(pixels: Pixels, size: Size) -> Pixels:
    """Low-pass filters the image for `size`, reducing it first if it is far larger."""
    cv2 = opencv()
    height, width = (2 * m if n > _SMOOTHED_UP_TO * m else n for n, m in zip(pixels.shape[:2], size, strict=True))
    if (height, width) != pixels.shape[:2]:
        pixels = _scaled(pixels, (height, width), cv2.INTER_AREA)
    down, across = smoothing(height, size[0]), smoothing(width, size[1])
    if down is across is _IDENTITY:
        return pixels
    return _restored(cv2.sepFilter2D(pixels, -1, across, down, borderType=cv2.BORDER_REPLICATE), pixels)


@lru_cache(maxsize=4096)
def smoothing(length: int, target: int) -> npt.NDArray[np.float32]:
    """The kernel, float32 of odd length, to apply before interpolating `length` pixels to `target`.

    An antialiasing resize (Pillow's) weighs pixels by a triangle r = length / target times as wide as for plain
    interpolation: a variance of r^2 / 6 instead of 1 / 6. Convolving [a, 1 - 2a, a], of variance 2a, n times gives the
    difference. Weights are multiples of 1/256, so that OpenCV's 8-bit filters keep the brightness.
    """
    if length <= target:
        return _IDENTITY
    variance = ((length / target) ** 2 - 1) / 6
    times = math.ceil(2 * variance)
    a = variance / times / 2
    kernel = np.ones(1)
    for _ in range(times):
        kernel = np.convolve(kernel, [a, 1 - 2 * a, a])
    weights = np.rint(kernel * 256)
    weights[times] += 256 - weights.sum()
    trimmed = np.trim_zeros(weights / 256).astype(np.float32)
    return trimmed if len(trimmed) > 1 else _IDENTITY


def flip(pixels: Pixels) -> Pixels:
    """The image mirrored left to right."""
    return _restored(opencv().flip(pixels, 1), pixels)


def pad(pixels: Pixels, by: tuple[int, int, int, int], mode: str = "constant", fill: tuple[int, ...] = (0,)) -> Pixels:
    """Adds a border of `by` (left, top, right, bottom) pixels. A `fill` of one value applies to all channels."""
    left, top, right, bottom = by
    if not any(by):
        return pixels
    cv2 = opencv()
    check_pixels(pixels.shape[0] + top + bottom, pixels.shape[1] + left + right)
    if len(fill) not in (1, pixels.shape[2]):
        raise SchemaError(f"fill has {len(fill)} values, but the image has {pixels.shape[2]} channels")
    value = fill * 4 if len(fill) == 1 else fill
    border = getattr(cv2, f"BORDER_{BORDERS[mode]}")
    return _restored(cv2.copyMakeBorder(pixels, top, bottom, left, right, border, value=value), pixels)


def to_planes(pixels: Pixels, tables: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Looks up each value in its channel's table: uint8 (H, W, C) and (C or 1, 256) to float32 (C, H, W)."""
    height, width, channels = pixels.shape
    planes = np.empty((channels, height, width), np.float32)
    for channel, plane in enumerate(planes):
        _look_up(pixels, channel, tables[channel % len(tables)], plane)
    return planes


def _look_up(pixels: Pixels, channel: int, table: npt.NDArray[np.float32], plane: npt.NDArray[np.float32]) -> None:
    if (cv2 := opencv_if_there()) is None:  # arrays work without the images extra; OpenCV takes half the time
        np.take(table, pixels[:, :, channel], out=plane, mode="clip")
    else:
        cv2.LUT(cv2.extractChannel(pixels, channel), table, dst=plane)


def _restored(pixels: Pixels, like: Pixels) -> Pixels:
    """Restores the last dimension, which OpenCV drops if it is 1."""
    return pixels.reshape(*pixels.shape[:2], like.shape[2])
