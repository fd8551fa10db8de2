"""Missing values in arrays. What is given: a masked value is missing, the number under its mask is arbitrary.

What is read: a column of an optional field is a masked array, its mask true where a value is missing. Libraries that
know no masks see what lies under it, so that is never a number that could be a value: see `missing_value`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.format.tensors import is_tensor, tensor_array

if TYPE_CHECKING:
    from numpy.ma import MaskedArray

_MISSING = "the value is masked, so it is missing: only an optional field takes it, such as Scalar('f4', optional=True)"
_PARTLY = "some elements are masked: an array is there or missing as a whole; fill them first, as array.filled(0) does"
_MASKLESS = (int, float, complex, str, bytes, bytearray, memoryview, np.generic, type(None))
_COMMON = frozenset({int, float, bool, complex, str, bytes})
# What NumPy and the `__array__` of other libraries raise for a value that is no array.
NOT_AN_ARRAY = (TypeError, ValueError, OverflowError, RuntimeError)


@cache
def missing_value(dtype: np.dtype[Any]) -> Any:
    """What stands for a missing value of this dtype where there is no mask.

    NaN for floats and complex numbers, the lowest value for signed integers, the highest for unsigned ones. Nothing can
    mark a missing bool: it is False.
    """
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min if dtype.kind == "i" else limits.max
    return {"f": math.nan, "c": complex(math.nan, math.nan)}.get(dtype.kind, False)


def masked_column(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> MaskedArray[Any, Any]:
    """The column of an optional field from its values (n, *shape), which this changes, and a bool (n,) for each."""
    mask = np.broadcast_to(missing.reshape(-1, *[1] * (values.ndim - 1)), values.shape).copy()
    np.copyto(values, missing_value(values.dtype), where=mask)
    return np.ma.MaskedArray(values, mask)


def missing_rows(column: MaskedArray[Any, Any]) -> npt.NDArray[np.bool_]:
    """bool (n,): which values of a column are missing. A value is missing as a whole."""
    mask: Any = np.ma.getmaskarray(column)
    return mask[(slice(None), *[0] * (mask.ndim - 1))]  # type: ignore[no-any-return]


def is_masked_array(value: Any) -> TypeGuard[MaskedArray[Any, Any]]:
    """Whether this is a masked array. None is before someone imports numpy.ma, which takes 10 ms."""
    # Asked of every value that is packed, and most are no arrays.
    return isinstance(value, np.ndarray) and isinstance(value, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def is_missing(value: Any) -> bool:
    """Whether this is a masked array with every element masked, such as `numpy.ma.masked`."""
    return has_masked(value) and bool(np.ma.getmaskarray(value).all())


def has_masked(value: Any) -> bool:
    """Whether any element of an array is masked. Ignores structured masks: no field takes records."""
    if not is_masked_array(value):
        return False
    mask = np.ma.getmask(value)
    return mask.dtype.names is None and bool(mask.any())


def plain_array(value: Any) -> npt.NDArray[Any]:
    """Like `numpy.asarray`, which drops masks, but a masked element at any depth raises SchemaError.

    Tensors, alone or in lists, become arrays as `tensor_array` says. Raises one of NOT_AN_ARRAY for anything else.
    """
    if type(value) is np.ndarray:
        return value
    if is_tensor(value):
        return tensor_array(value)
    if not isinstance(value, _MASKLESS) and isinstance(value, Sequence):
        if _holds_masked(value):
            raise SchemaError(_PARTLY)
        value = _without_tensors(value)
    array = np.asanyarray(value)  # netCDF4 variables turn into masked arrays here
    if has_masked(array):
        raise SchemaError(_MISSING if is_missing(array) else _PARTLY)
    return np.asarray(array)


def _holds_masked(value: Any) -> bool:
    """Whether any element is masked, in an array or in nested lists of arrays."""
    if type(value) is list or (isinstance(value, Sequence) and not isinstance(value, _MASKLESS)):
        return not _holds_numbers(value) and any(map(_holds_masked, value))
    return hasattr(value, "__array__") and not is_tensor(value) and has_masked(np.asanyarray(value))


def _without_tensors(value: Any) -> Any:
    """Nested lists with each tensor replaced by its array."""
    if is_tensor(value):
        return tensor_array(value)
    if isinstance(value, (list, tuple)) and not _holds_numbers(value):
        return list(map(_without_tensors, value))
    return value


def _holds_numbers(values: Sequence[Any]) -> bool:
    """Whether a list holds nothing but plain numbers and text.

    It has few types, and collecting them is faster than checking each number.
    """
    kinds = set(map(type, values))
    return kinds <= _COMMON or all(issubclass(kind, _MASKLESS) for kind in kinds)
