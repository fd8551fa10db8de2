"""Which samples of a chunk a filter keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.errors import SchemaError

_REALS: Any = (int, float, np.integer, np.floating, np.bool_)


def wanted_values(wanted: Any) -> list[Any]:
    """The accepted values of a filter: the elements of a list, set, range, array or tensor, or a single value."""
    if not isinstance(wanted, Iterable) or isinstance(wanted, (str, bytes, bytearray, Mapping)):
        return [wanted]
    return np.asarray(wanted).ravel().tolist() if hasattr(wanted, "ndim") else list(wanted)


def equals(column: Any, values: list[Any], name: str) -> npt.NDArray[np.bool_]:
    listed = not isinstance(column, np.ndarray)
    if any(isinstance(value, np.ndarray) for value in column) if listed else column.ndim > 1:
        raise SchemaError("a field of arrays is no value to compare; filter by a function").at(field=name)
    if listed:
        return np.fromiter((value in values for value in column), bool, len(column))
    present = [value for value in values if value is not None]
    if text := [value for value in present if isinstance(value, (str, bytes))]:
        raise SchemaError(f"the field holds {column.dtype}, which is never {text[0]!r}").at(field=name)
    missing: npt.NDArray[np.bool_] = ma.getmaskarray(column)
    equal = np.isin(ma.getdata(column), _as_integers(present, column.dtype))
    return equal & ~missing | missing & (len(present) < len(values))


def _as_integers(values: list[Any], dtype: np.dtype[Any]) -> Any:
    """For an integer dtype, the values that fit it, converted: NumPy would compare mixed dtypes as doubles."""
    if dtype.kind not in "iu":
        return values
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    reals = [value for value in values if isinstance(value, _REALS) and least <= value <= most]
    return np.array([int(value) for value in reals if value == int(value)], dtype)


def mask_of(answer: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[Any] = ma.filled(ma.asarray(answer), False)
    if mask.shape != (n,) or mask.dtype != bool:
        raise SchemaError(f"a filter's function gives a boolean array ({n},), not {mask.dtype}{list(mask.shape)}")
    return mask
