"""NumPy's arrays and numbers as torch's tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy import ma

from recordio.reader.batches.index_batch import MadeBatch
from recordio.reader.columns import collate_as_torch

_DTYPES = frozenset(map(np.dtype, "? b h i l q B H I L Q e f d F D".split()))
_PLAIN = frozenset([str, bytes, int, float, bool, type(None)])


def to_tensors(value: Any) -> Any:
    """Arrays as tensors that share their memory, NumPy's numbers as tensors too, within dicts, lists and tuples.

    What torch has no dtype for, masked arrays, text, bytes and anything else stay as they are. An array that cannot be
    written to, runs backwards, or is a field of records is copied: torch knows no such tensors.
    """
    if isinstance(value, np.ndarray):
        return value if isinstance(value, ma.MaskedArray) else _tensor(value)
    if isinstance(value, np.generic):
        return _tensor(np.asarray(value)) if value.dtype in _DTYPES else value
    if isinstance(value, dict):
        return {name: to_tensors(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_tensors, value))
    if type(value) in (list, tuple) and not _PLAIN.issuperset(map(type, value)):
        return type(value)(map(to_tensors, value))
    return value


def _tensor(array: npt.NDArray[Any]) -> Any:
    if array.dtype not in _DTYPES:
        return array
    if array.flags.writeable:
        with contextlib.suppress(ValueError):  # strides that torch does not have
            return torch.from_numpy(array)
    return torch.from_numpy(array.copy())


def collate_tensors(samples: Sequence[Any]) -> Any:
    """A batch of samples, as a loader without a `collate_fn` delivers it."""
    if isinstance(samples, MadeBatch):
        return to_tensors(samples.batch)
    return to_tensors(collate_as_torch(list(samples)))
