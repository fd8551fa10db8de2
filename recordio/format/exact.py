"""Integers in float fields: a float of n binary digits holds every integer up to 2**n, but only some larger ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError


def require_exact(integers: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Raises SchemaError for the first integer that a float or complex dtype would round. To NumPy the cast is safe."""
    digits = np.finfo(dtype).nmant + 1
    if not integers.size or (-(1 << digits) <= int(integers.min()) and int(integers.max()) <= 1 << digits):
        return
    wide = integers.ravel().astype(np.int64 if integers.dtype.kind == "i" else np.uint64)
    magnitude = np.abs(wide).view(np.uint64)  # correct even for -2**63
    lowest_bit = magnitude & (~magnitude + np.uint64(1))
    rounded = magnitude // np.maximum(lowest_bit, np.uint64(1)) >> np.uint64(digits) != 0
    if rounded.any():
        raise SchemaError(
            f"{dtype} would round the integer {wide[rounded.argmax()]}: give it as a float where that is meant, "
            "or store it in a field of integers"
        )


def require_exact_list(values: Any, array: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Like `require_exact`, for a list that mixes integers and floats: `array`, NumPy's version, has them rounded."""
    if array.ndim and (np.abs(array) >= np.ldexp(1.0, np.finfo(dtype).nmant + 1)).any():
        for value in np.asarray(values, object).ravel():
            if isinstance(value, (int, np.integer)):
                require_exact(np.asarray(value), dtype)


def unsigned_list(values: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A list of integers of which only some are above 2**63 - 1: `array`, NumPy's version, has them rounded.

    `array` itself for any other list. Raises OverflowError for integers that uint64 does not hold either.
    """
    whole = np.asarray(values, object)
    if whole.size and all(isinstance(value, (int, np.integer)) for value in whole.flat):
        return whole.astype(np.uint64)
    return array
