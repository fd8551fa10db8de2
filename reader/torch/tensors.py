"""NumPy's arrays and numbers as torch's tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy import ma

from recordio.errors import SchemaError
from recordio.format.masks import missing_value
from recordio.reader.batches.index_batch import MadeBatch
from recordio.reader.columns import collate_as_torch, rebuilt

_TORCHS = {one.dtype: torch.from_numpy(one).dtype for one in (np.empty(0, code) for code in "?bhilBHILefdFD")}
_DTYPES = _TORCHS.keys()
_PLAIN = frozenset([str, bytes, int, float, bool, type(None)])


def collate_tensors(samples: Sequence[Any]) -> Any:
    """A batch of tensors of samples: the `collate_fn` of a recordio.torch.DataLoader that was given none.

    Tools make loaders of their own from its attributes. torch's `default_collate` there would count as given.
    """
    return to_tensors(samples.batch if isinstance(samples, MadeBatch) else collate_as_torch(list(samples)))


def to_tensors(value: Any) -> Any:
    """Arrays as tensors that share their memory, NumPy's numbers as tensors too, within dicts, lists and tuples.

    A masked array NAME of a dict becomes two tensors: NAME, with `missing_value` where a value is missing, and
    NAME_mask, bool (n,), true there. It is there even if nothing is missing, so all batches have the same keys. In a
    list or a tuple, which has no room for it, missing floats are NaN and other missing values a SchemaError.

    What torch has no dtype for, text, bytes and anything else stay as they are. An array that cannot be written to,
    runs backwards, or is a field of records is copied: torch knows no such tensors.
    """
    if type(value) is np.ndarray:
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return _tensor(_unmasked(value) if _has_mask(value) else value)
    if isinstance(value, np.generic):
        return _tensor(np.asarray(value)) if value.dtype in _DTYPES else value
    if isinstance(value, Mapping):
        return rebuilt(value, _with_masks(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_tensors, value))
    if type(value) in (list, tuple) and not _PLAIN.issuperset(map(type, value)):
        return type(value)(map(to_tensors, value))
    return value


def dtype_of(array: npt.NDArray[Any]) -> torch.dtype | None:
    """torch's dtype for an array's values; None if it has none, or not in this byte order."""
    return _TORCHS.get(array.dtype)


def _tensor(array: npt.NDArray[Any]) -> Any:
    if array.dtype not in _DTYPES:
        return array
    if array.flags.writeable:
        with contextlib.suppress(ValueError):  # strides that torch does not have
            return torch.from_numpy(array)
    return torch.from_numpy(array.copy())


def _has_mask(value: Any) -> bool:
    return isinstance(value, ma.MaskedArray) and value.dtype in _DTYPES


def _with_masks(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values as tensors, with a mask beside each that was a masked array."""
    out: dict[Any, Any] = {}
    for name, value in values.items():
        if type(value) is np.ndarray or not _has_mask(value):
            out[name] = to_tensors(value)
            continue
        mask = f"{name}_mask"
        if mask in values:
            raise SchemaError(
                f"the tensor that says which values are missing is called {mask!r}, and there is a field of that name: "
                "select the fields that you need, ShardDataset(path, fields=[...]), or rename one in a map"
            ).at(field=name)
        out[name] = _tensor(ma.filled(value, missing_value(value.dtype)))
        out[mask] = torch.from_numpy(_rows_missing(value, name))
    return out


def _rows_missing(column: Any, name: Any) -> npt.NDArray[np.bool_]:
    """bool (n,): which values of a masked array are missing."""
    mask: Any = ma.getmaskarray(column)
    missing: npt.NDArray[np.bool_] = mask.reshape(len(mask), mask.size // max(1, len(mask))).any(axis=1)
    if (mask != missing.reshape(-1, *[1] * (mask.ndim - 1))).any():
        raise SchemaError(
            "an array is masked in part: a value is missing as a whole or not; fill it in your function"
        ).at(field=name)
    return missing


def _unmasked(array: Any) -> Any:
    """A masked array where nothing can say which values are missing."""
    if array.dtype.kind not in "fc" and ma.is_masked(array):
        raise SchemaError(
            f"values of {array.dtype} are missing, which have no NaN, in a tuple or a list, which has no room for a "
            "mask: deliver dicts, which get one, leave these samples out with ds.filter, or fill them in with ds.map; "
            "in an ImageFolder, target_transform= is called with None for a missing label"
        )
    return ma.filled(array, missing_value(array.dtype))
