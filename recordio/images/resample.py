"""Pillow's bilinear filter in C, for most pictures there are: RGB, of which rows are resized before columns.

The bytes are those of `PIL.Image.resize`, which takes seven times as long and serves wherever this declines.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from recordio import kernels
from recordio.images.decode import Pixels, pil_image

if TYPE_CHECKING:
    from PIL import Image

BILINEAR = 2  # of PIL.Image.Resampling


def resized(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    """uint8 (H, W, C) as a picture of (height, width) `size`."""
    if pixels.shape[:2] == size:
        return pil_image(pixels)
    may = kernels.c is not None and pixels.shape[2] == 3 and not _columns_first(pixels.shape[:2], size)
    made = _by_kernel(pixels, size) if may and _is_pillows() else None
    return pil_image(pixels).resize(size[::-1], BILINEAR) if made is None else pil_image(made)


def _by_kernel(pixels: Pixels, size: tuple[int, int]) -> Pixels | None:
    """None where it declines."""
    out = np.empty((*size, 3), np.uint8)
    return out if kernels.c.resize_rgb(pixels, out) else None


def _columns_first(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a version of Pillow resizes columns before rows, which rounds other numbers."""
    fewer_rows, fewer_columns = before[0] - after[0], before[1] - after[1]
    return fewer_rows > 0 and fewer_columns != 0 and (fewer_rows > 2 * fewer_columns or before[0] > 100 * before[1])


@cache
def _is_pillows() -> bool:
    """Whether the Pillow that is here gives the same bytes: another version could change its filter."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    sizes = [(21, 30), (48, 17), (90, 100)]
    made = [(_by_kernel(pixels, size), np.asarray(pil_image(pixels).resize(size[::-1], BILINEAR))) for size in sizes]
    return all(ours is not None and np.array_equal(ours, pillows) for ours, pillows in made)
