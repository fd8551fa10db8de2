"""The pixels of image transforms: what makes them of any image, and the OpenCV that moves them.

Pixels are uint8 (H, W, C) with 1 to 4 channels. Nothing here writes to what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.arguments import choice, describe
from recordio.errors import MissingPackageError, SchemaError
from recordio.images import decode
from recordio.images.boxes import Box, Size, check_pixels, reduction
from recordio.images.decode import CHANNELS, Pixels, decode_image, opencv
from recordio.images.header import Header, read_header

ENCODED = (bytes, memoryview)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
BORDERS = {"constant": "CONSTANT", "edge": "REPLICATE", "reflect": "REFLECT_101", "symmetric": "REFLECT"}

_COLOURSPACES = {"RGB": "RGB", "RGBA": "RGBA", "L": "GRAY"}
_PIL_MODES = {"1", "LA", "P", "PA", "CMYK", "YCbCr", "HSV"}  # 8 bits a channel, in other words than CHANNELS
_SMOOTHED_UP_TO = 4  # times smaller; beyond, averaging areas first costs less than a long kernel
_AS_IT_IS = np.array([0, 1, 0], np.float32)  # [1] beside a longer kernel takes OpenCV twice as long


def as_pixels(image: Any, mode: str) -> Pixels:
    """The pixels of an image: bytes decode to `mode`, arrays and PIL's usual modes stay as they are.

    Raises SchemaError for what is no image, DecodeError for bytes that do not decode.
    """
    if isinstance(image, ENCODED):
        return _decoded(image, read_header(image), mode, 1)[0]
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
    """A box of an image in another size, as `plan(height, width)` says; of a JPEG in a reduction where that will do."""
    if not isinstance(image, ENCODED):
        pixels = as_pixels(image, mode)
        box, size = plan(*pixels.shape[:2])
    else:
        header = read_header(image)
        box, size = plan(header.height, header.width)
        factor = reduction(box, size) if antialias and interpolation != "nearest" else 1
        pixels, factor = _decoded(image, header, mode, factor)
        box = box.reduced(factor) if factor > 1 else box
    return resize(box.of(pixels), size, interpolation, antialias)


def _decoded(data: Any, header: Header, mode: str, factor: int) -> tuple[Pixels, int]:
    """The pixels, and how many times smaller they are: `factor`, or 1 where it is not the JPEG decoder's to do.

    What that does not decode is for `decode_image` to repair or to refuse.
    """
    if header.format == "jpeg" and header.channels in ((1,) if mode == "L" else (1, 3)) and mode in CHANNELS:
        height, width = -(-header.height // factor), -(-header.width // factor)
        reduced = {"min_height": height, "min_width": width, "min_factor": factor} if factor > 1 else {}
        try:
            return decode._package("simplejpeg").decode_jpeg(data, _COLOURSPACES[mode], **reduced), factor
        except ValueError:
            pass
    return decode_image(data, mode), 1


def resize(pixels: Pixels, size: Size, interpolation: str, antialias: bool) -> Pixels:
    """The image in another size: (H, W, C) -> (*size, C). The same size gives the same array."""
    if pixels.shape[:2] == size:
        return pixels
    cv2 = opencv()
    if antialias and interpolation != "nearest":
        pixels = _smoothed(pixels, size)
    flag = {"nearest": cv2.INTER_NEAREST_EXACT, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    return _scaled(pixels, size, flag[interpolation])


def _scaled(pixels: Pixels, size: Size, flag: int) -> Pixels:
    """OpenCV's resize, by Intel's IPP where there is one: faster, and here and there a value off by one.

    Which of them it is holds for the calling thread, whose own resizing must give what it gave before.
    """
    cv2 = opencv()
    before = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    try:
        return _restored(cv2.resize(pixels, size[::-1], interpolation=flag), pixels)
    finally:
        cv2.ipp.setUseIPP_NotExact(before)


def _smoothed(pixels: Pixels, size: Size) -> Pixels:
    """The image without the detail that `size` cannot show, no smaller than `size`."""
    cv2 = opencv()
    height, width = (2 * m if n > _SMOOTHED_UP_TO * m else n for n, m in zip(pixels.shape[:2], size, strict=True))
    if (height, width) != pixels.shape[:2]:
        pixels = _scaled(pixels, (height, width), cv2.INTER_AREA)
    down, across = smoothing(height, size[0]), smoothing(width, size[1])
    if down is across is _AS_IT_IS:
        return pixels
    return _restored(cv2.sepFilter2D(pixels, -1, across, down, borderType=cv2.BORDER_REPLICATE), pixels)


@lru_cache(maxsize=4096)
def smoothing(length: int, target: int) -> npt.NDArray[np.float32]:
    """The kernel, float32 (odd,), to apply before interpolating `length` pixels to `target`.

    An antialiasing resize (Pillow's) weighs pixels by a triangle r = length / target times as wide as the one that
    interpolates: the variance is r^2 / 6 for 1 / 6. The difference is had from [a, 1 - 2a, a], with a variance of 2a,
    applied n times. Weights are whole 256ths, which OpenCV's 8-bit filters need to leave the brightness as it is.
    """
    if length <= target:
        return _AS_IT_IS
    variance = ((length / target) ** 2 - 1) / 6
    times = math.ceil(2 * variance)
    a = variance / times / 2
    kernel = np.ones(1)
    for _ in range(times):
        kernel = np.convolve(kernel, [a, 1 - 2 * a, a])
    weights = np.rint(kernel * 256)
    weights[times] += 256 - weights.sum()
    trimmed = np.trim_zeros(weights / 256).astype(np.float32)
    return trimmed if len(trimmed) > 1 else _AS_IT_IS


def flip(pixels: Pixels) -> Pixels:
    """The image mirrored left to right."""
    return _restored(opencv().flip(pixels, 1), pixels)


def pad(pixels: Pixels, by: tuple[int, int, int, int], mode: str = "constant", fill: tuple[int, ...] = (0,)) -> Pixels:
    """The image with a border of `by` (left, top, right, bottom) pixels. A `fill` of one value is for all channels."""
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
    """Each value looked up in its channel's table: uint8 (H, W, C) by (C or 1, 256) -> float32 (C, H, W)."""
    height, width, channels = pixels.shape
    planes = np.empty((channels, height, width), np.float32)
    for channel, plane in enumerate(planes):
        _look_up(pixels, channel, tables[channel % len(tables)], plane)
    return planes


def _look_up(pixels: Pixels, channel: int, table: npt.NDArray[np.float32], plane: npt.NDArray[np.float32]) -> None:
    try:
        cv2 = opencv()
    except MissingPackageError:  # arrays become tensors without the images extra; OpenCV does it in half the time
        np.take(table, pixels[:, :, channel], out=plane, mode="clip")
    else:
        cv2.LUT(cv2.extractChannel(pixels, channel), table, dst=plane)


def _restored(pixels: Pixels, like: Pixels) -> Pixels:
    """OpenCV drops the last dimension where it is 1."""
    return pixels.reshape(*pixels.shape[:2], like.shape[2])
