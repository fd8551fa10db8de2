"""Arrays with one row per sample, in a file or folder that another library reads: HDF5, Zarr.

Rows are read in slabs, some MiB of all arrays together, in line with the chunks that they are stored in.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.fields import Field
from recordio.format.layout import MAX_FIELDS
from recordio.format.schema import Columns, Sample, Schema
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.source import Source
from recordio.writer.sources.split_names import SPLITS, split_word

_SLABS = 64 << 20  # bytes of all arrays together
_VARIABLE_ROWS = 32  # at a time, where their size is not known before
_VARIABLE_NBYTES = 64  # of a row at least, for an estimate
_MOST = 0.9  # of the bytes have to be in arrays of one length
_MAX_EMPTY_ROWS = 1 << 24
_MAX_ATTRIBUTES = 1 << 20  # characters of JSON
_MAX_BATCH = 1 << 16  # rows
_SHOWN = 5


class Column(NamedTuple):
    """A field, and where it is from.

    Attributes:
        name: of the field.
        path: of the array.
        field: its type.
        value: makes a value of the field of a row of the array; None for a row that is one.
        member: of the array's records, None for the whole row.
        row_nbytes: bytes of a row, None if they differ.
        chunk_rows: rows that are stored together, 1 for an array that is not cut.
    """

    name: str
    path: str
    field: Field
    value: Callable[[Any], Any] | None
    member: str | None
    row_nbytes: int | None
    chunk_rows: int


class _Slab(NamedTuple):
    start: int
    rows: npt.NDArray[Any]


class ArrayRows(Source):
    """Samples are rows. A subclass calls `_set_columns`, and implements `_rows`."""

    path: str
    notes: tuple[str, ...] = ()

    def _set_columns(self, columns: list[Column], length: int, nbytes: int) -> None:
        """`nbytes`: stored bytes of the arrays whose rows have no fixed size, for an estimate."""
        if not columns:
            raise SourceError("there are no arrays with rows").at(file=self.path)
        if len(columns) > MAX_FIELDS:
            raise SourceError(f"there are {len(columns)} arrays, and a dataset has at most {MAX_FIELDS} fields")
        fixed = sum(column.row_nbytes or 0 for column in columns)
        if not fixed and length > _MAX_EMPTY_ROWS and all(column.row_nbytes == 0 for column in columns):
            raise SourceError(f"{length} rows without elements").at(file=self.path)
        variable = sum(column.row_nbytes is None for column in columns)
        self._columns, self._length = columns, length
        self._row_nbytes = fixed + (_VARIABLE_NBYTES * variable + nbytes // length if variable else 0)
        share = _SLABS // len({column.path for column in columns})
        self._slab_rows = {column.path: _slab_rows(column, share) for column in columns}
        self._slabs: dict[str, _Slab] = {}
        self.schema = Schema({column.name: column.field for column in columns})

    def _rows(self, path: str, start: int, end: int) -> npt.NDArray[Any]:
        """Rows of an array. Raises SourceError."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_slabs": {}}

    def __len__(self) -> int:
        return self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.full(self._length, self._row_nbytes, np.int64)

    def key(self, index: int) -> str:
        return f"{os.path.basename(os.path.normpath(self.path))} row {index}"

    def sample(self, index: int) -> Sample:
        return {name: rows[0] for name, rows in self._taken(index, index + 1).items()}

    def batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns] | None:
        if not len(indices) or (np.diff(indices) != 1).any():
            return None
        return self._batches(int(indices[0]), int(indices[-1]) + 1)

    def _batches(self, start: int, end: int) -> Iterator[Columns]:
        step = min(_MAX_BATCH, *self._slab_rows.values())
        while start < end:
            stop = min((start // step + 1) * step, end)
            yield self._taken(start, stop)
            start = stop

    def _taken(self, start: int, stop: int) -> Columns:
        """The columns of some rows. Raises SourceError."""
        taken: Columns = {}
        for column in self._columns:
            try:
                rows = self._span(column.path, start, stop)
                rows = rows if column.member is None else rows[column.member]
                taken[column.name] = rows if column.value is None else [column.value(row) for row in rows]
            except SourceError as error:
                error.at(field=column.name)
                raise
        return taken

    def _span(self, path: str, start: int, stop: int) -> npt.NDArray[Any]:
        parts = []
        while start < stop:
            slab = self._slab(path, start)
            parts.append(slab.rows[start - slab.start : stop - slab.start])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _slab(self, path: str, index: int) -> _Slab:
        """The slab of an array that holds a row. Raises SourceError."""
        slab = self._slabs.get(path)
        if slab is None or not slab.start <= index < slab.start + len(slab.rows):
            rows = self._slab_rows[path]
            # A row out of turn may be the only one that is wanted of its slab.
            in_turn = index % rows == 0 or (slab is not None and index == slab.start + len(slab.rows))
            end = (index // rows + 1) * rows if in_turn else index + 1
            found = self._rows(path, index, min(end, self._length))
            if not len(found):
                raise SourceError("changed while it was converted: it has fewer rows now")
            slab = self._slabs[path] = _Slab(index, found)
        return slab


def _slab_rows(column: Column, nbytes: int) -> int:
    """Rows to read at a time: whole chunks, as many as there is room for."""
    if column.row_nbytes is None:
        return _VARIABLE_ROWS
    rows = max(1, nbytes // max(1, column.row_nbytes))
    return rows // column.chunk_rows * column.chunk_rows or rows


def common_length(arrays: Mapping[str, tuple[tuple[int, ...], int]]) -> int:
    """The first length of the arrays, each a shape and the bytes of an element, that hold nearly all the bytes.

    Raises SourceError if there is none.
    """
    nbytes: dict[int, int] = defaultdict(int)
    for shape, itemsize in arrays.values():
        if shape:
            nbytes[shape[0]] += math.prod(shape) * itemsize
    length = max(nbytes, key=lambda rows: nbytes[rows], default=0)
    if not length:
        raise SourceError("there are no arrays with rows")
    if nbytes[length] < _MOST * sum(nbytes.values()):
        listed = [f"{name} {list(shape)}" for name, (shape, _) in arrays.items() if shape]
        names = ", ".join(listed[:_SHOWN]) + (", ..." if listed[_SHOWN:] else "")
        text = f"the arrays have different lengths ({names}): which rows belong together cannot be told; "
        raise SourceError(text + "write those of one length to a file of their own")
    return length


def without_rows(arrays: Mapping[str, tuple[tuple[int, ...], int]], length: int) -> tuple[str, ...]:
    """A note about the arrays that are no field."""
    rest = [f"{name} {list(shape)}" for name, (shape, _) in arrays.items() if shape[:1] != (length,)]
    if not rest:
        return ()
    names = ", ".join(rest[:_SHOWN]) + (", ..." if rest[_SHOWN:] else "")
    return (f"left out: {counted(len(rest), 'array')} without {length:,} rows ({names})",)


def refuse_sparse(names: Iterable[str]) -> None:
    """Raises SourceError for the parts of a sparse matrix, whose first lengths mean nothing."""
    known = set(names)
    for name in known:
        folder = name.removesuffix("indptr")
        if folder != name and {folder + "indices", folder + "data"} <= known:
            text = f"{folder.rstrip('/') or 'it'} is a sparse matrix, which is not read"
            raise SourceError(f"{text}: write its rows with recordio.DatasetWriter")


def named_parts(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The top names of a file by split, each with the field that it is; {"": ...} without splits.

    `train` and `test` are groups of each; `x_train`, `y_train`, `x_test` and `y_test` are `x` and `y` of each.
    """
    names = list(names)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        word = split_word(name)
        if word is not None:
            found[word[0]][word[1].replace("*", "").strip("_-. ")] = name
    if len(found) > 1 and sum(map(len, found.values())) == len(names):
        return {split: found[split] for split in SPLITS if split in found}
    return {"": {name: name for name in names}}


def attribute_metadata(owners: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`attributes` by owner, as far as they are JSON and not too large, and a note on what is left out."""
    found: dict[str, Any] = {}
    left: list[str] = []
    room = _MAX_ATTRIBUTES
    for owner, values in owners.items():
        for key, value in values.items():
            try:
                size = room + 1 if value is None else len(json.dumps([key, value], allow_nan=False))
            except (TypeError, ValueError):
                size = room + 1
            if size > room:
                left.append(joined(owner.strip("/"), key))
            else:
                found.setdefault(owner, {})[key] = value
                room -= size
    names = ", ".join(left[:_SHOWN]) + (", ..." if left[_SHOWN:] else "")
    notes = (f"left out: {counted(len(left), 'attribute')} that JSON has no place for ({names})",) if left else ()
    return ({"attributes": found} if found else {}), notes


def joined(field: str, rest: str) -> str:
    """The name of a field: the parts of a path with slashes between."""
    return "/".join(part for part in (field, rest) if part)
