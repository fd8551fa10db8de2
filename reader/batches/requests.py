"""Requests for batches, and their results.

A request holds everything a batch depends on, so that any thread or process makes the same batch of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recordio.determinism import key
from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.format.ragged import Ragged
from recordio.format.schema import Columns
from recordio.reader.order.shuffle import WindowPlan
from recordio.reader.page_table import PageTable


class Window(Protocol):
    """The window of a slice."""

    @property
    def table(self) -> PageTable:
        """Its pages, once they have been loaded. Raises StorageError."""


@dataclass(slots=True)  # making a frozen one would cost more than a small batch; so for the dataclasses below
class WindowSlice:
    """Samples begin to end - 1 of a window's plan, for one batch.

    Attributes:
        source: number of the dataset among those of the loader.
        window: the window, or its number in a message to another process.
        plan: the plan of the window.
        columns: the samples if they were read early, or the error of reading them.
    """

    source: int
    window: Any
    plan: WindowPlan
    begin: int
    end: int
    columns: Columns | RecordIOError | None = None

    def __len__(self) -> int:
        return self.end - self.begin

    def cut(self, rows: Indices | slice) -> WindowSlice:
        """A slice of some of the samples, with a plan of their own."""
        columns = self.columns
        if isinstance(columns, dict):
            columns = {name: _rows(column, rows) for name, column in columns.items()}
        plan = self.plan.cut(slice(self.begin, self.end)).cut(rows)
        return WindowSlice(self.source, self.window, plan, 0, len(plan), columns)

    @property
    def slot(self) -> Indices:
        """int64 (n,): the slot of each sample."""
        return self.plan.slot[self.begin : self.end]

    @property
    def row(self) -> Indices:
        """int64 (n,): the row of each sample in its block."""
        return self.plan.row[self.begin : self.end]


def _rows(column: Any, rows: Indices | slice) -> Any:
    if isinstance(column, (np.ndarray, Ragged)) or isinstance(rows, slice):
        return column[rows]
    return [column[k] for k in rows.tolist()]


def first_of_bins(slices: Sequence[WindowSlice]) -> npt.NDArray[np.bool_]:
    """bool (n,): whether a sample of the slices is the first of its bin. No two passes over data have the same key."""
    position = np.concatenate([one.plan.position[one.begin : one.end] for one in slices])
    epoch_key = np.repeat(np.array([one.plan.epoch_key for one in slices], np.uint64), [len(one) for one in slices])
    first = np.ones(len(position), bool)
    first[1:] = (position[1:] != position[:-1]) | (epoch_key[1:] != epoch_key[:-1])
    return first


@dataclass(slots=True)
class BatchRequest:
    """A batch of these slices, dataset after dataset; or several batches made together.

    Attributes:
        slices: the slices.
        sources: int64 (n,), the dataset of each row; None if the rows are in the order of the slices.
        several: whether these are several batches, which are made one by one if that fails.
    """

    slices: Sequence[WindowSlice]
    sources: Indices | None = None
    several: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.slices))

    @property
    def batch_rows(self) -> Indices:
        """int64 (n,): the batch_row of each sample of the slices."""
        return np.arange(len(self)) if self.sources is None else np.argsort(self.sources, kind="stable")

    @property
    def seed(self) -> int:
        """The key of everything that functions of other people draw for this batch."""
        first = self.slices[0]
        return key(int(first.plan.position[first.begin]), after=first.plan.epoch_key)

    def only(self, kept: Sequence[int]) -> BatchRequest:
        """A batch of these rows, ascending."""
        mask = np.zeros(len(self), bool)
        mask[kept] = True
        masks = np.split(mask[self.batch_rows], np.cumsum([len(one) for one in self.slices])[:-1])
        cut = [one.cut(np.flatnonzero(own)) for one, own in zip(self.slices, masks, strict=True) if own.any()]
        return BatchRequest(cut, None if self.sources is None else self.sources[mask])

    def each(self, batch_size: int) -> Iterator[BatchRequest]:
        """The requests of several batches, one by one."""
        for rows in _batches(len(self), batch_size):
            yield self.only(rows)


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """A batch of these indices of the first dataset.

    Attributes:
        epoch_key: the key of the epoch.
        number: the number of the batch in the epoch.
        random_index: the numbers by which samples draw, if not their indices.
    """

    indices: Sequence[int]
    epoch_key: int
    number: int = 0
    random_index: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def seed(self) -> int:
        """The key of everything that functions of other people draw for this batch."""
        return key(self.number, after=self.epoch_key)

    def only(self, kept: Sequence[int]) -> IndexRequest:
        drawn = None if self.random_index is None else [self.random_index[k] for k in kept]
        return replace(self, indices=[self.indices[k] for k in kept], random_index=drawn)


@dataclass(slots=True)
class BatchTimes:
    """What making a batch has taken, in nanoseconds.

    Attributes:
        began, ended: when, by the clock of `time.perf_counter_ns`; 0 if the consumer's own thread made it, or if it
            was too quick to be timed.
        run: of which run of timed batches it is.
        transform: decoding pictures, functions of fields, maps; and putting their results into columns as they come.
        collate: making a batch of samples.
    """

    began: int = 0
    ended: int = 0
    transform: int = 0
    collate: int = 0
    run: int = 0


@dataclass(slots=True)
class BatchResult:
    """A batch of so many samples, None if all were skipped; the number of skipped samples, and some of the errors.

    `times` is None for a batch that the consumer's own thread has put together, and nothing else.
    """

    batch: Any
    samples: int
    skipped: int = 0
    errors: Sequence[str] = ()
    times: BatchTimes | None = None

    def each(self, batch_size: int) -> Iterator[BatchResult]:
        """Batches of columns that were made together, each in memory of its own."""
        for rows in _batches(self.samples, batch_size):
            columns = {name: column[rows.start : rows.stop].copy() for name, column in self.batch.items()}
            yield BatchResult(columns, len(rows), times=self.times if rows.start == 0 else None)


def _batches(samples: int, batch_size: int) -> Iterator[range]:
    """The rows of each batch; the last one may be smaller."""
    for begin in range(0, samples, batch_size):
        yield range(begin, min(samples, begin + batch_size))
