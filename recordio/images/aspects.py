"""The aspect of an image as one integer, and the nearest of several sizes: alike for a batch and for a transform.

Integers alone, as docs/order.md has them, so that every machine finds the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.arguments import integers
from recordio.errors import SchemaError
from recordio.images.boxes import Size, check_pixels

HEIGHT = 1024
_MOST = 1 << 30  # its square fits in an int64
_LONGEST = 1 << 40  # so does this times HEIGHT

Integers = npt.NDArray[np.int64]


def aspects(heights: Any, widths: Any) -> Integers:
    """int64 (n,), 1 to 2^30: the width of each image at a height of 1024, rounded down. Without pixels it is 1024.

    Args:
        heights: int64 (n,), in pixels.
        widths: the same.
    """
    tall, wide = (np.minimum(np.asarray(one, np.int64), _LONGEST) for one in (heights, widths))
    empty = (tall <= 0) | (wide <= 0)
    return np.where(empty, HEIGHT, np.clip(wide * HEIGHT // np.where(empty, 1, tall), 1, _MOST))


def checked_buckets(value: Any) -> tuple[Size, ...]:
    """Sizes of several aspects as ((height, width), ...), the narrowest first. Raises SchemaError."""
    if not isinstance(value, (list, tuple)) or not value:
        raise SchemaError(f"buckets is a list of sizes (height, width), not {value!r}")
    sizes = [check_pixels(*integers("a size of buckets", size, (2,))) for size in value]
    sizes.sort(key=lambda size: int(aspects(*size)))
    for a, b in pairwise(sizes):
        if aspects(*a) == aspects(*b):
            raise SchemaError(f"buckets has {a} and {b}, which are of one aspect: an image could go to either")
    return tuple(sizes)


def aspects_of(buckets: tuple[Size, ...]) -> Integers:
    """int64 (n,): the aspect of each size, ascending for those that `checked_buckets` gives."""
    return aspects(*np.array(buckets, np.int64).T)


def nearest(found: Integers, buckets: tuple[Size, ...]) -> Integers:
    """int64 (n,): of which bucket each image is, by its aspect. The border of two is the mean of their logarithms.

    Args:
        found: int64 (n,), as `aspects` gives them.
        buckets: as `checked_buckets` gives them.
    """
    own = aspects_of(buckets)
    return np.searchsorted(own[1:] * own[:-1], np.asarray(found, np.int64) ** 2, side="right")
