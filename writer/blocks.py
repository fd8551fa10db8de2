"""Packs and checks samples, and cuts them into blocks.

The cuts depend on the samples alone, not on whether they arrive one by one or in columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy import ma

from recordio.errors import SchemaError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.masks import has_masked, is_missing
from recordio.format.numeric import Numeric
from recordio.format.page import Indices, Packed
from recordio.format.schema import Sample, Schema
from recordio.images.encode import lossless_packer

MAX_BLOCK_ROWS = 1 << 16

Column = Packed | memoryview  # packed values, or the values of a fixed field end to end


class Packer:
    """Turns samples and columns into packed bytes. A SchemaError names the sample and changes nothing.

    With an `inferred` schema images are never converted: one that its mode would change does not fit.
    """

    def __init__(self, schema: Schema, inferred: bool = False) -> None:
        self._schema = schema
        self._names = tuple(schema)
        self._packs = [self._packer(name, inferred) for name in schema]
        self._any_optional = any(field.optional for field in schema.values())

    def _packer(self, name: str, inferred: bool) -> Any:
        field = self._schema[name]
        if inferred and isinstance(field, Image) and field.encoded:
            return lossless_packer(name, field, alone=len(self._schema) == 1)
        return _optional(field) if field.optional else field.packer()

    def pack(self, sample: Sample) -> list[bytes | None]:
        """One sample. Raises SchemaError with the field's name."""
        try:
            if self._any_optional:
                found = sum(name in sample for name in self._names)
                values = [sample.get(name) for name in self._names]
            else:
                found = len(self._names)
                values = [sample[name] for name in self._names]
            if found != len(sample):
                self._refuse_names(sample)
            return [pack(value) for pack, value in zip(self._packs, values, strict=True)]
        except (KeyError, TypeError, AttributeError, SchemaError) as error:
            self._explain(sample, error)

    def _refuse_names(self, sample: Sample) -> None:
        missing = [n for n, field in self._schema.items() if n not in sample and not field.optional]
        extra = [name for name in sample if name not in self._schema.fields]
        if missing or extra:
            faults = [
                f"{fault} {', '.join(map(repr, names))}"
                for fault, names in (("missing", missing), ("unknown", extra))
                if names
            ]
            raise SchemaError(f"the sample's fields do not match the schema: {'; '.join(faults)}")

    def _explain(self, sample: Sample, error: Exception) -> NoReturn:
        """Raises the error of the field at fault. Only called after packing failed."""
        if not isinstance(sample, Mapping):
            raise SchemaError(f"a sample is a dict, not {type(sample).__name__}") from error
        self._refuse_names(sample)
        for name, pack in zip(self._names, self._packs, strict=True):
            try:
                pack(sample.get(name))
            except SchemaError as cause:
                raise cause.at(field=name) from None
        raise error

    def pack_columns(self, columns: Mapping[str, Any]) -> tuple[int, list[Column]]:
        """A batch: the number of samples, and one packed column per field. Raises SchemaError."""
        samples = _column_length(columns)
        self._refuse_names(columns)
        missing = [None] * samples
        packed = [
            _pack_column(name, field, pack, columns.get(name, missing))
            for (name, field), pack in zip(self._schema.items(), self._packs, strict=True)
        ]
        return samples, packed


def _column_length(columns: Mapping[str, Any]) -> int:
    """The common length of the columns. Raises SchemaError."""
    if not isinstance(columns, Mapping):
        raise SchemaError(f"a batch is a dict of columns, not {type(columns).__name__}")
    lengths = {}
    for name, column in columns.items():
        if (
            not hasattr(column, "__len__")
            or isinstance(column, (str, bytes, Mapping))
            or getattr(column, "ndim", 1) == 0
        ):
            raise SchemaError(f"a column is a sequence of values, not {type(column).__name__}").at(field=name)
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"the columns differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def first_row(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The first sample of a batch. Raises SchemaError for an empty batch."""
    if not _column_length(columns):
        raise SchemaError("no schema can be inferred from an empty batch; give one")
    return {name: column[0] for name, column in columns.items()}


def _optional(field: Field) -> Any:
    pack = field.packer()
    return lambda value: None if value is None or is_missing(value) else pack(value)


def _pack_column(name: str, field: Field, pack: Any, column: Any) -> Column:
    out: list[bytes | None] = []
    try:
        if (
            isinstance(field, Numeric)
            and field.row_nbytes is not None
            and not field.optional
            and hasattr(column, "dtype")
        ):
            array = field.batch(column)
            return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")  # type: ignore[arg-type]
        out.extend(map(pack, _unmasked(column)))
    except SchemaError as error:
        raise error.at(field=name, sample=len(out))
    return out


def _unmasked(column: Any) -> Any:
    """The values of a column; missing ones are `ma.masked`. Raises SchemaError for a partly masked row."""
    if not isinstance(column, ma.MaskedArray):
        return column
    if not has_masked(column):
        return column.data
    rows = [(row.any(), row.all()) for row in ma.getmaskarray(column)]
    if any(some and not every for some, every in rows):
        raise SchemaError("an array is masked in part: a value is there or it is missing")
    return [ma.masked if some else value for (some, _), value in zip(rows, column.data, strict=True)]


@dataclass(slots=True)
class Segment:
    """Packed samples, from the front of which blocks are cut.

    Attributes:
        columns: one per field.
        sizes: int64 (n,), the bytes of each sample that is left.
        row_nbytes: the bytes of a value of each field in a memoryview.
        begin: the first sample that is left. Moving it costs nothing, where cutting a list copies the rest of it.
    """

    columns: list[Column]
    sizes: Indices
    row_nbytes: Sequence[int | None]
    begin: int = 0

    def cut(self, rows: int) -> list[Column]:
        """Takes away the first `rows` samples that are left, without copying the others."""
        head = self._columns(self.begin, self.begin + rows)
        self.sizes = self.sizes[rows:]
        self.begin += rows
        return head

    def keep(self) -> Segment:
        """Copies borrowed bytes, so that the caller may change its arrays."""
        left = self._columns(self.begin, self.begin + len(self.sizes))
        owned = [memoryview(bytes(column)) if isinstance(column, memoryview) else column for column in left]
        return Segment(owned, self.sizes, self.row_nbytes)

    def _columns(self, begin: int, end: int) -> list[Column]:
        out = []
        for column, nbytes in zip(self.columns, self.row_nbytes, strict=True):
            size = (nbytes or 0) if isinstance(column, memoryview) else 1
            out.append(column[begin * size : end * size])
        return out


@dataclass(frozen=True, slots=True)
class FullBlock:
    """The packed values of one block. `fields`: the parts of each field's page."""

    samples: int
    fields: list[list[Column]]

    def content(self) -> bytes:
        """All values end to end, field by field."""
        parts = [part for field in self.fields for part in field]
        return b"".join(
            bytes(part) if isinstance(part, memoryview) else b"".join(value or b"" for value in part) for part in parts
        )


class BlockBuilder:
    """Collects samples and cuts blocks from them.

    The target size is `block_bytes`. The first block of a shard sets the rows per block; later blocks keep that number
    while their size stays between half and twice the target, so most shards are one run of equal blocks. A sample that
    would take a block over twice the target starts the next block.
    """

    def __init__(self, schema: Schema, block_bytes: int, inferred: bool = False) -> None:
        self.schema = schema
        self.waiting = 0  # samples not yet in a block
        self._packer = Packer(schema, inferred)
        self._row_nbytes = [field.row_nbytes for field in schema.values()]
        self._target = block_bytes
        self._segments: deque[Segment] = deque()
        self._rows: list[list[bytes | None]] = []
        self._sizes: list[int] = []
        self._waiting_nbytes = 0
        self.restart()

    def restart(self) -> None:
        """Starts a new shard: its first block sets the rows per block again."""
        self._block_rows: int | None = None

    def add(self, sample: Sample) -> bool:
        """Takes one sample; True when a block may be full. On SchemaError nothing was taken."""
        packed = self._packer.pack(sample)
        size = sum([len(value) for value in packed if value is not None])
        self._rows.append(packed)
        self._sizes.append(size)
        self._waiting_nbytes += size
        self.waiting += 1
        return self._waiting_nbytes >= self._target // 2 or self.waiting >= MAX_BLOCK_ROWS

    def add_columns(self, columns: Mapping[str, Any]) -> None:
        """Takes a batch. Call `keep` before the caller's arrays change. On SchemaError nothing was taken."""
        samples, packed = self._packer.pack_columns(columns)
        if samples:
            self._gather_rows()
            self._segments.append(Segment(packed, self._sizes_of(samples, packed), self._row_nbytes))
            self._waiting_nbytes += int(self._segments[-1].sizes.sum())
            self.waiting += samples

    def take(self, limit: int | None = None) -> FullBlock | None:
        """The next full block, or None. `limit` samples are a full block too."""
        rows = self._rows_of_next(limit)
        return None if rows is None else self._take(rows)

    def flush(self) -> FullBlock | None:
        """The remaining samples as the last block. Call `take` until it returns None first."""
        return self._take(self.waiting) if self.waiting else None

    def keep(self) -> None:
        """Copies the bytes borrowed by `add_columns`."""
        self._segments = deque(segment.keep() for segment in self._segments)

    def _rows_of_next(self, limit: int | None) -> int | None:
        """Rows of the next block, None while no block is full."""
        rows = self._block_rows or 1
        least = self._target // 2 if self._block_rows else self._target
        waiting = self.waiting
        if (
            (limit is None or waiting < limit)
            and waiting < MAX_BLOCK_ROWS
            and (self._waiting_nbytes < least or (waiting < rows and self._waiting_nbytes <= 2 * self._target))
        ):
            return None
        self._gather_rows()
        ends = np.cumsum(self._next_sizes())
        full = max(rows, int(np.searchsorted(ends, least)) + 1)
        over = max(1, int(np.searchsorted(ends, 2 * self._target, side="right")))
        found = [n for n in (full, MAX_BLOCK_ROWS, limit or full) if n <= waiting] + ([over] if over < waiting else [])
        if found and min(found) != limit:
            self._block_rows = min(found)
        return min(found, default=None)

    def _next_sizes(self) -> Indices:
        """The sizes of as many samples as can matter for a block: looking at all would cost their square."""
        found: list[Indices] = []
        left = MAX_BLOCK_ROWS + 1
        for segment in self._segments:
            found.append(segment.sizes[:left])
            left -= len(found[-1])
            if not left:
                break
        return np.concatenate(found)

    def _gather_rows(self) -> None:
        if self._rows:
            columns: list[Column] = [list(column) for column in zip(*self._rows, strict=True)]
            self._segments.append(Segment(columns, np.array(self._sizes, np.int64), self._row_nbytes))
            self._rows, self._sizes = [], []

    def _take(self, rows: int) -> FullBlock:
        self._gather_rows()
        taken: list[list[Column]] = []
        left = rows
        while left:
            segment = self._segments[0]
            count = min(left, len(segment.sizes))
            self._waiting_nbytes -= int(segment.sizes[:count].sum())
            taken.append(segment.cut(count))
            left -= count
            if not len(segment.sizes):
                self._segments.popleft()
        self.waiting -= rows
        return FullBlock(rows, [[columns[i] for columns in taken] for i in range(len(self._row_nbytes))])

    def _sizes_of(self, samples: int, columns: Sequence[Column]) -> Indices:
        total = np.zeros(samples, np.int64)
        for nbytes, column in zip(self._row_nbytes, columns, strict=True):
            if isinstance(column, memoryview):
                total += nbytes or 0
            else:
                total += np.fromiter((len(value) if value is not None else 0 for value in column), np.int64, samples)
        return total
