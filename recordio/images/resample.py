"""Pillow's bilinear filter, which is antialiased, in C, in a seventh of Pillow's time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from recordio import kernels
from recordio.images.boxes import Size
from recordio.images.decode import Pixels, pil_image

if TYPE_CHECKING:
    from PIL import Image

BILINEAR = 2  # of PIL.Image.Resampling


def bilinear(pixels: Pixels, size: Size) -> Pixels | None:
    """uint8 (H, W, 3), a copy of which is made unless it is a box of contiguous pixels, as uint8 (*size, 3).

    The values of `PIL.Image.resize`; off by one where that resizes columns first. None where the kernel declines:
    without it, for other pixels, and for a few rows or columns.
    """
    if kernels.c is None or pixels.shape[2] != 3:
        return None
    if pixels.strides[1:] != (3, 1) or pixels.strides[0] < 3 * pixels.shape[1]:
        pixels = np.ascontiguousarray(pixels)
    out = np.empty((*size, 3), np.uint8)
    return out if kernels.c.resize_rgb(pixels, out) else None


def as_pillow(pixels: Pixels, size: Size) -> Image.Image:
    """uint8 (H, W, C) as a picture of (height, width) `size`: the bytes of `PIL.Image.resize`, whoever makes them."""
    if pixels.shape[:2] == size:
        return pil_image(pixels)
    may = kernels.c is not None and not _columns_first(pixels.shape[:2], size) and _is_pillows()
    made = bilinear(pixels, size) if may else None
    return pil_image(pixels).resize(size[::-1], BILINEAR) if made is None else pil_image(made)


def _columns_first(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a version of Pillow resizes columns before rows, which rounds other numbers."""
    fewer_rows, fewer_columns = before[0] - after[0], before[1] - after[1]
    return fewer_rows > 0 and fewer_columns != 0 and (fewer_rows > 2 * fewer_columns or before[0] > 100 * before[1])


@cache
def _is_pillows() -> bool:
    """Whether the Pillow that is here gives the same bytes: another version could change its filter, or its order."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    sizes = [(21, 30), (8, 44), (60, 20), (47, 63), (48, 17), (90, 100)]
    made = [(bilinear(pixels, size), np.asarray(pil_image(pixels).resize(size[::-1], BILINEAR))) for size in sizes]
    return all(ours is not None and np.array_equal(ours, pillows) for ours, pillows in made)
