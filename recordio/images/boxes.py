"""Sizes and boxes of image transforms: checks of size arguments, and torchvision's formulas.

Pure arithmetic; `recordio.images.pixels` moves the pixels. A check returns the value in its plain form, or raises
SchemaError naming the argument.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from recordio.arguments import integers
from recordio.errors import SchemaError
from recordio.images.decode import Pixels
from recordio.images.header import MAX_IMAGE_PIXELS

Size = tuple[int, int]


class Box(NamedTuple):
    """A rectangle in an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Pixels) -> Pixels:
        """A view of these pixels."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    def reduced(self, factor: int) -> Box:
        """The box in an image `factor` times smaller, edges rounded; both its sides must be at least `factor`."""
        top, left = round(self.top / factor), round(self.left / factor)
        bottom, right = round((self.top + self.height) / factor), round((self.left + self.width) / factor)
        return Box(top, left, bottom - top, right - left)


def scaled_size(height: int, width: int, shorter: int, max_size: int | None) -> Size:
    """The (height, width) with a shorter side of `shorter`, or less to keep the longer within `max_size`."""
    longer = shorter * max(height, width) // min(height, width)
    if max_size is not None and longer > max_size:
        shorter, longer = max(1, max_size * shorter // longer), max_size
    return (longer, shorter) if height > width else (shorter, longer)


def centre_box(height: int, width: int, size: Size) -> Box:
    """The middle of an image at least as large as `size`."""
    return Box(round((height - size[0]) / 2), round((width - size[1]) / 2), *size)


def box_of_aspect(height: int, width: int, size: Size) -> Box:
    """The largest centred box with about the aspect of `size`."""
    across = min(width, max(1, round(height * size[1] / size[0])))
    down = min(height, max(1, round(width * size[0] / size[1])))
    return Box((height - down) // 2, (width - across) // 2, down, across)


def placed_box(height: int, width: int, size: Size, rng: np.random.Generator) -> Box:
    """A box of `size`, placed uniformly. Two draws: top, left."""
    top = int(rng.random() * (height - size[0] + 1))
    return Box(top, int(rng.random() * (width - size[1] + 1)), *size)


def random_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A box with a share of the area in `scale` and an aspect (width / height, log-uniform) in `ratio`.

    Up to ten tries of two draws each: area, aspect. The first to fit is placed with two more draws: top, left. If none
    fits, the largest centred box with an aspect within `ratio`, without further draws.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * (scale[0] + rng.random() * (scale[1] - scale[0]))
        aspect = math.exp(low + rng.random() * (high - low))
        size = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < size[0] <= height and 0 < size[1] <= width:
            return placed_box(height, width, size, rng)
    across = min(width, max(1, round(height * ratio[1])))
    down = min(height, max(1, round(width / ratio[0])))
    return Box((height - down) // 2, (width - across) // 2, down, across)


def reduction(box: Box, size: Size) -> int:
    """The factor, 1, 2, 4 or 8, to reduce a JPEG by while decoding, keeping twice the pixels of the result."""
    times = min(box.height // size[0], box.width // size[1])
    return next(factor for factor in (8, 4, 2, 1) if factor == 1 or times >= 2 * factor)


def crop_size(value: Any) -> Size:
    """(height, width) from a pair or a single integer."""
    size: Size = integers("size", value, (1, 2)) * 2
    return check_pixels(size[0], size[1])


def check_pixels(height: int, width: int) -> Size:
    if height * width > MAX_IMAGE_PIXELS:
        raise SchemaError(f"size of {width} x {height} pixels is over the limit of {MAX_IMAGE_PIXELS}")
    return height, width
