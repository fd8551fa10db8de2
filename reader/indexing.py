"""What may stand in the brackets of a dataset besides a slice: one index, several of them, or a mask."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.reader.order.numbers import Integers, true_indices


def several_indices(index: Any, n: int) -> Integers | None:
    """The indices (m,) that a list, an array, a tensor or a mask asks for, possibly negative; None for anything else.

    A mask has a bool for each of the n samples; a masked one is false. A bool is no index.

    Raises TypeError, IndexError.
    """
    if not isinstance(index, list) and not getattr(index, "ndim", 0):
        return None
    try:
        given = np.asanyarray(index)
    except (TypeError, ValueError, RuntimeError):  # lists of several lengths, tensors that require a gradient
        raise _refused(index) from None
    if given.dtype == bool:
        mask = _mask(given, n)
        return true_indices([mask], int(np.count_nonzero(mask)), n)
    if isinstance(index, list):
        _check_integers(index, given, n)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size) or ma.is_masked(given):
        raise _refused(index, f" of {given.dtype}{list(given.shape)}")
    return given if given.size else np.zeros(0, np.int64)


def single_index(index: Any, n: int) -> int:
    """An index from 0 to n - 1; a negative one counts from the end. Raises TypeError, IndexError."""
    if isinstance(index, bool) or (type(index) is not int and "bool" in str(getattr(index, "dtype", ""))):
        raise _refused(index)
    try:
        number = operator.index(index)
    except TypeError:
        raise _refused(index) from None
    if not -n <= number < n:
        raise IndexError(f"sample {index} of a dataset of {n}")
    return number + n if number < 0 else number


def _check_integers(index: list[Any], given: npt.NDArray[Any], n: int) -> None:
    """Refuses what NumPy hides in the array of a list: bools among integers, and integers beyond its own."""
    kinds = set(map(type, index))
    if not kinds.isdisjoint((bool, np.bool_)):
        raise _refused(index, " of bools and other values")
    if given.dtype.kind not in "iu" and kinds == {int}:
        for number in index:
            single_index(number, n)


def _mask(given: npt.NDArray[Any], n: int) -> npt.NDArray[np.bool_]:
    if given.shape != (n,):
        raise IndexError(f"a mask of {list(given.shape)} for a dataset of {n}: a mask has one bool for each sample")
    mask: npt.NDArray[np.bool_] = ma.filled(given, False)
    return mask


def _refused(index: Any, what: str = "") -> TypeError:
    return TypeError(
        "an index is an integer, a slice, a list or array of integers, a mask of bools or the name of a field, "
        f"not {type(index).__name__}{what}: ds[[3, 1]] and select(indices) give views, take(indices) their columns"
    )
