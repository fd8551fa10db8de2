"""Collects packed samples, and cuts them into blocks.

The cuts depend on the samples alone, not on whether they arrive one by one or in columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from recordio.format.page import Indices
from recordio.format.schema import Sample, Schema
from recordio.writer.packing import Column, PackedList, Packer, fixed_nbytes, new_column

MAX_BLOCK_ROWS = 1 << 16
_MAX_LOOSE_VALUES = 1 << 16  # a number as an object takes some 60 bytes


@dataclass(slots=True)
class Segment:
    """Packed samples, from the front of which blocks are cut.

    Attributes:
        columns: one per field.
        sizes: int64 (n,), the bytes of each sample that is left.
        row_nbytes: the bytes of a value of each field in a memoryview, None for those in a list.
        borrowed: whether its bytes are the caller's.
        begin: the first sample that is left. Moving it costs nothing, where cutting a list copies the rest of it.
    """

    columns: list[Column]
    sizes: Indices
    row_nbytes: Sequence[int | None]
    borrowed: bool = False
    begin: int = 0

    def cut(self, rows: int) -> list[Column]:
        """Takes away the first `rows` samples that are left, without copying the others."""
        head = self._columns(self.begin, self.begin + rows)
        self.sizes = self.sizes[rows:]
        self.begin += rows
        return head

    def keep(self) -> Segment:
        """The samples that are left, with bytes of their own, so that the caller may change its arrays."""
        if not self.borrowed:
            return self
        return Segment([_owned(column) for column in self._left()], self.sizes, self.row_nbytes)

    def joined(self, other: Segment) -> Segment:
        """The samples that are left of this segment, then those of the other."""
        pairs = zip(self._left(), other._left(), strict=True)
        columns = [
            new_column(nbytes, chain(*pair) if nbytes is None else pair)
            for nbytes, pair in zip(self.row_nbytes, pairs, strict=True)
        ]
        return Segment(columns, np.concatenate([self.sizes, other.sizes]), self.row_nbytes)

    def _left(self) -> list[Column]:
        return self._columns(self.begin, self.begin + len(self.sizes))

    def _columns(self, begin: int, end: int) -> list[Column]:
        out = []
        for column, nbytes in zip(self.columns, self.row_nbytes, strict=True):
            size = 1 if nbytes is None else nbytes
            out.append(column[begin * size : end * size])
        return out


def _owned(column: Column) -> Column:
    return memoryview(bytes(column)) if isinstance(column, memoryview) else column


@dataclass(frozen=True, slots=True)
class FullBlock:
    """The packed values of one block. `fields`: the parts of each field's page."""

    samples: int
    fields: list[list[Column]]

    def owned(self) -> FullBlock:
        """The block, with a copy of what it borrows."""
        return FullBlock(self.samples, [[_owned(part) for part in parts] for parts in self.fields])

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
        self._row_nbytes = [fixed_nbytes(field) for field in schema.values()]
        sizes = [nbytes for nbytes in self._row_nbytes if nbytes is not None]
        self._sample_nbytes = sum(sizes) if len(sizes) == len(self._row_nbytes) else None  # of every sample
        self._max_rows = max(1, _MAX_LOOSE_VALUES // len(schema))
        self._target = block_bytes
        self._segments: deque[Segment] = deque()
        self._values: PackedList = []  # of the samples that came one by one
        self._sizes: list[int] = []
        self._waiting_nbytes = 0
        self.restart()

    def restart(self) -> None:
        """Starts a new shard: its first block sets the rows per block again."""
        self._block_rows, self._least = 1, self._target

    def add(self, sample: Sample) -> bool:
        """Takes one sample; True when a block may be full. On SchemaError nothing was taken."""
        return self._count(self._packer.pack_into(sample, self._values))

    def add_row(self, row: PackedList, nbytes: int) -> bool:
        """`add` of a sample that is packed already, and has so many bytes."""
        self._values += row
        return self._count(nbytes)

    def _count(self, nbytes: int) -> bool:
        self._sizes.append(nbytes)
        self._waiting_nbytes += nbytes
        self.waiting += 1
        if len(self._sizes) >= self._max_rows:
            self._gather_rows()
        if self._waiting_nbytes < self._least and self.waiting < MAX_BLOCK_ROWS:  # nearly always
            return False
        return self._is_due()

    def add_columns(self, columns: Mapping[str, Any]) -> None:
        """Takes a batch. Call `keep` before the caller's arrays change. On SchemaError nothing was taken."""
        samples, packed = self._packer.pack_columns(columns)
        if samples:
            self._gather_rows()
            sizes = self._sizes_of(samples, packed)
            self._segments.append(Segment(packed, sizes, self._row_nbytes, borrowed=True))
            self._waiting_nbytes += self._sum_of(sizes)
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
        segments, self._segments = self._segments, deque()
        for segment in segments:
            self._append(segment.keep())

    def _append(self, segment: Segment) -> None:
        """Joins it with those before it that are no larger, so that small batches are neither many nor copied often."""
        while self._segments and len(self._segments[-1].sizes) <= len(segment.sizes):
            segment = self._segments.pop().joined(segment)
        self._segments.append(segment)

    def _rows_of_next(self, limit: int | None) -> int | None:
        """Rows of the next block, None while no block is full."""
        waiting = self.waiting
        if not self._is_due() and (limit is None or waiting < limit):
            return None
        self._gather_rows()
        full, over = self._full_and_over(self._least)
        full, over = max(self._block_rows, full), max(1, over)
        found = [n for n in (full, MAX_BLOCK_ROWS, limit or full) if n <= waiting] + ([over] if over < waiting else [])
        if found and min(found) != limit:
            self._block_rows, self._least = min(found), self._target // 2
        return min(found, default=None)

    def _is_due(self) -> bool:
        """Whether the samples that wait make a block."""
        waiting, nbytes = self.waiting, self._waiting_nbytes
        return (nbytes >= self._least and (waiting >= self._block_rows or nbytes > 2 * self._target)) or (
            waiting >= MAX_BLOCK_ROWS
        )

    def _full_and_over(self, least: int) -> tuple[int, int]:
        """How many of the next samples have at least so many bytes, and how many have twice the target at most.

        One more than there are, or than matter, and as many as that, if these are not reached.
        """
        if self._sample_nbytes:
            most = min(self.waiting, MAX_BLOCK_ROWS + 1)
            full, over = -(-least // self._sample_nbytes), 2 * self._target // self._sample_nbytes
            return min(full, most + 1), min(over, most)
        ends = np.cumsum(self._next_sizes())
        return int(np.searchsorted(ends, least)) + 1, int(np.searchsorted(ends, 2 * self._target, side="right"))

    def _sum_of(self, sizes: Indices) -> int:
        return int(sizes.sum()) if self._sample_nbytes is None else self._sample_nbytes * len(sizes)

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
        if self._sizes:
            fields = len(self._row_nbytes)
            columns = [new_column(nbytes, self._values[k::fields]) for k, nbytes in enumerate(self._row_nbytes)]
            self._append(Segment(columns, np.array(self._sizes, np.int64), self._row_nbytes))
            self._values, self._sizes = [], []

    def _take(self, rows: int) -> FullBlock:
        self._gather_rows()
        taken: list[list[Column]] = []
        left = rows
        while left:
            segment = self._segments[0]
            count = min(left, len(segment.sizes))
            self._waiting_nbytes -= self._sum_of(segment.sizes[:count])
            taken.append(segment.cut(count))
            left -= count
            if not len(segment.sizes):
                self._segments.popleft()
        self.waiting -= rows
        return FullBlock(rows, [[columns[i] for columns in taken] for i in range(len(self._row_nbytes))])

    def _sizes_of(self, samples: int, columns: Sequence[Column]) -> Indices:
        if self._sample_nbytes is not None:
            return np.broadcast_to(np.int64(self._sample_nbytes), samples)
        total = np.zeros(samples, np.int64)
        for nbytes, column in zip(self._row_nbytes, columns, strict=True):
            if isinstance(column, memoryview):
                total += nbytes or 0
            else:
                total += np.fromiter((len(value) if value is not None else 0 for value in column), np.int64, samples)
        return total
