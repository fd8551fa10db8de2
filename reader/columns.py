"""Samples to columns and back, for samples that a function has processed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.errors import SchemaError
from recordio.format.masks import missing_rows
from recordio.format.page import Indices
from recordio.format.ragged import Ragged, concatenated
from recordio.format.schema import Columns

_MAX_AHEAD = 1 << 30  # largest column to allocate after seeing only its first value


class Empty(Protocol):
    """Allocates the arrays of a batch; numpy.empty by default."""

    def __call__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, /) -> npt.NDArray[Any]: ...


def collate(samples: Sequence[Any], empty: Empty = np.empty, as_torch: bool = False) -> Any:
    """A batch of samples, nested as they are, as torch's `default_collate` makes it.

    Dicts become one dict of columns, tuples a tuple of columns, and so on within them. Numbers, arrays and tensors of
    one shape are stacked. Anything else is a list of values: text, None, lists, arrays of several shapes, and in a
    field dicts of several keys.

    Args:
        samples: at least one.
        empty: allocates the arrays.
        as_torch: lists become a list of columns too; a list stands for a tuple that is not named, and tuples for the
            lists in one, as torch has it.

    Raises SchemaError when samples differ in their keys; when tuples, with `as_torch` lists, differ in their length,
    also within samples, for a batch of them would be turned over or not by chance; and when a sample is None.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if not _have_keys(samples, first):
            raise _unlike(samples)
        return _nested(samples, empty, as_torch)
    if any(sample is None or isinstance(sample, Mapping) for sample in samples):
        raise _unlike(samples)
    return _column(samples, empty, as_torch)


def collate_as_torch(samples: Sequence[Any], empty: Empty = np.empty) -> Any:
    """A batch of the types of `default_collate`, arrays aside."""
    return collate(samples, empty, as_torch=True)


def _column(values: Sequence[Any], empty: Empty, as_torch: bool) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return _nested(values, empty, as_torch) if _have_keys(values, first) else values
    kinds: Any = (tuple, list) if as_torch else tuple
    if not any(isinstance(one, kinds) for one in values) or not all(isinstance(one, (tuple, list)) for one in values):
        return _stack(values, empty)
    if any(len(one) != len(first) or not isinstance(one, kinds) for one in values):
        raise _unlike(values)
    return _nested(values, empty, as_torch)


def _have_keys(values: Sequence[Any], first: Mapping[Any, Any]) -> bool:
    keys, kind = first.keys(), type(first)
    return all((type(value) is kind or isinstance(value, Mapping)) and value.keys() == keys for value in values)


def _unlike(values: Sequence[Any]) -> SchemaError:
    found = " and ".join(list(dict.fromkeys(map(_described, values)))[:2])
    return SchemaError(
        "samples of a batch are dicts with the same keys or tuples of the same length, and so are tuples and lists "
        f"within them, not {found}: return arrays, which may differ in length, or give a collate_fn"
    )


def _described(sample: Any) -> str:
    if isinstance(sample, Mapping):
        return f"{{{', '.join(map(str, sample))}}}"
    return f"a {type(sample).__name__} of {len(sample)}" if isinstance(sample, (tuple, list)) else type(sample).__name__


def _nested(values: Sequence[Any], empty: Empty, as_torch: bool) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return rebuilt(first, {name: _column([one[name] for one in values], empty, as_torch) for name in first})
    columns = [_column(each if as_torch else list(each), empty, as_torch) for each in zip(*values, strict=True)]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*columns)
    return columns if as_torch else tuple(columns)


def rebuilt(mapping: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """These values in a mapping of the same type; a dict if that cannot be made so."""
    if type(mapping) is dict:
        return values
    try:
        if not isinstance(mapping, MutableMapping):
            return type(mapping)(values)  # type: ignore[call-arg]
        out = copy(mapping)
        out.update(values)
        return out
    except TypeError:
        return values


class ColumnBuilder:
    """Collects a column of n values one by one. Arrays of one dtype and shape are written straight into the column."""

    def __init__(self, n: int, empty: Empty = np.empty) -> None:
        self._n = n
        self._empty = empty
        self._array: npt.NDArray[Any] | None = None
        self._values: list[Any] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, value: Any) -> None:
        value = _as_array(value)
        if self._count == 0 and _is_plain(value) and value.nbytes * self._n <= _MAX_AHEAD:
            self._array = self._empty((self._n, *value.shape), value.dtype)
        array = self._array
        if array is not None and not _fits(array, value):
            self._values = list(array[: self._count])
            self._array = None
        if self._array is not None:
            self._array[self._count] = value
        else:
            self._values.append(value)
        self._count += 1

    def done(self) -> Any:
        """An array (n, *shape) when all values were arrays of one shape or numbers of one type, else a list."""
        if self._array is not None:
            return self._array
        return _stack(self._values, self._empty) if self._values else []


def _as_array(value: Any) -> Any:
    """A PyTorch tensor as an array that shares its memory, if NumPy has the dtype; any other value unchanged."""
    if not _is_tensor(type(value)):
        return value
    try:
        return value.detach().cpu().numpy()
    except (TypeError, RuntimeError):  # bfloat16, for one
        return value.detach()


def _is_tensor(kind: Any) -> bool:
    """Whether a class is torch.Tensor or derived from it, as in torchvision. Imports nothing."""
    return isinstance(kind, type) and issubclass(kind, getattr(sys.modules.get("torch"), "Tensor", ()))


def _is_plain(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not isinstance(value, ma.MaskedArray)


def _fits(column: npt.NDArray[Any], value: Any) -> bool:
    return _is_plain(value) and (value.dtype, value.shape) == (column.dtype, column.shape[1:])


def _stack(values: Sequence[Any], empty: Empty) -> Any:
    kinds = _kinds(values)
    if any(map(_is_tensor, kinds)):
        values = [_as_array(value) for value in values]
        kinds = _kinds(values)
    if len(kinds) == 1 and isinstance(values[0], (np.ndarray, np.generic)):
        if any(isinstance(value, ma.MaskedArray) for value in values):
            return ma.stack(values)  # np.stack would drop the masks
        if values[0].dtype.hasobject:
            return np.stack(values)  # an array in a cell is an object, not more cells
        column = empty((len(values), *values[0].shape), values[0].dtype)
        column[...] = values  # three times as fast as np.stack for small arrays
        return column
    if kinds == {int, float} or (len(kinds) == 1 and isinstance(values[0], (bool, int, float, complex))):
        column = np.array(values)
        rounds = (
            int in kinds and column.dtype.kind == "f" and any(type(one) is int and float(one) != one for one in values)
        )
        return list(values) if rounds or column.dtype.hasobject else column
    if all(map(_is_tensor, kinds)):
        with contextlib.suppress(RuntimeError):  # of different shapes
            return sys.modules["torch"].stack(values)
    return values


def _kinds(values: Sequence[Any]) -> set[Any]:
    return {(v.dtype, v.shape) if isinstance(v, (np.ndarray, np.generic)) else type(v) for v in values}


def concatenate(parts: Sequence[Any]) -> Any:
    """Joins columns end to end: lists, arrays, masked arrays or ragged columns."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Ragged):
        return concatenated(parts)
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    return (ma if isinstance(parts[0], ma.MaskedArray) else np).concatenate(parts)


def uncollate(columns: Columns, n: int) -> list[dict[str, Any]]:
    """The n samples of a batch as dicts. Arrays are views of their column; a missing value is None."""
    lists = [values_of(column) for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)] if lists else [{}] * n


def values_of(column: Any) -> list[Any]:
    """The values of a column one by one, None where one is missing."""
    if isinstance(column, Ragged):
        return column.to_list()
    if not isinstance(column, ma.MaskedArray):
        return list(column)
    missing = missing_rows(column).tolist()
    return [None if gone else value for value, gone in zip(list(column.data), missing, strict=True)]


def grouped(group: Indices) -> tuple[list[int], Indices, list[Indices]]:
    """The distinct groups, a stable sort by group, and the sort split into one run per group."""
    if len(group) and (group == group[0]).all():  # as where a window lies in one shard
        order = np.arange(len(group))
        return [int(group[0])], order, [order]
    order = np.argsort(group, kind="stable")
    found, starts = np.unique(group[order], return_index=True)
    return found.tolist(), order, np.split(order, starts[1:]) if len(found) else []


def scatter(parts: Sequence[Any], order: Indices) -> Any:
    """One column from several parts: value k of all parts, counted through, goes to order[k]."""
    if isinstance(parts[0], Ragged):
        return concatenate(parts)[np.argsort(order)]
    if isinstance(parts[0], ma.MaskedArray):
        whole = concatenate(parts)
        column = np.empty_like(whole)
        column[order] = whole
        return column
    if isinstance(parts[0], np.ndarray):
        column = np.empty((len(order), *parts[0].shape[1:]), parts[0].dtype)
        begin = 0
        for part in parts:
            begin, run = begin + len(part), order[begin : begin + len(part)]
            column[run] = part
        return column
    out: list[Any] = [None] * len(order)
    values = (value for part in parts for value in part)
    for row, value in zip(order.tolist(), values, strict=True):
        out[row] = value
    return out
