"""Samples into columns: what `take` does on disk, for samples that a function has touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ma

from recordio.errors import SchemaError
from recordio.schema import Columns


def collate(samples: Sequence[Any]) -> Columns:
    """A dict of columns from dicts: numbers and arrays of one shape are stacked, anything else is a list.

    Raises SchemaError when the samples are no dicts, or differ in their keys.
    """
    first = samples[0]
    if not isinstance(first, dict) or any(not isinstance(s, dict) or s.keys() != first.keys() for s in samples):
        raise SchemaError("samples of a batch are dicts with the same keys; give a collate_fn for anything else")
    return {name: _stack([sample[name] for sample in samples]) for name in first}


def _stack(values: list[Any]) -> Any:
    kinds = {(v.dtype, v.shape) if isinstance(v, (np.ndarray, np.generic)) else type(v) for v in values}
    if len(kinds) == 1 and isinstance(values[0], (np.ndarray, np.generic, bool, int, float, complex)):
        return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)
    return values


def concatenate(parts: Sequence[Any]) -> Any:
    """One column of several, one after the other: lists, arrays or masked arrays."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    return (ma if isinstance(parts[0], ma.MaskedArray) else np).concatenate(parts)


def uncollate(columns: Columns, n: int) -> list[dict[str, Any]]:
    """The n samples of a batch as dicts. Arrays of a sample are views of their column; a missing value is None."""
    lists = [values_of(column) for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)] if lists else [{}] * n


def values_of(column: Any) -> list[Any]:
    """The values of a column one by one, None where one is missing."""
    if not isinstance(column, ma.MaskedArray):
        return list(column)
    mask: Any = ma.getmaskarray(column)
    missing = mask[(slice(None), *[0] * (mask.ndim - 1))]  # a value is missing as a whole
    return [None if gone else value for value, gone in zip(list(column.data), missing.tolist(), strict=True)]
