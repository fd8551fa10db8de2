"""Making a batch: gather its samples from the windows they lie in, finish them, put them together.

A job says what a batch is made of. Whoever gets it, a thread or another process, makes the same batch of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from recordio.errors import CorruptError, RecordIOError
from recordio.format.page import Indices
from recordio.format.schema import Columns
from recordio.reader.batches.page_table import Window
from recordio.reader.columns import Empty, collate, collate_as_torch, concatenate, values_of
from recordio.reader.dataset import ShardDataset
from recordio.reader.open_shard import scatter
from recordio.reader.order.shuffle import Step
from recordio.reader.processing import Origin

_MAX_ERRORS = 10


class Readable(Protocol):
    """A window, once it has been loaded."""

    def take(self, slot: Indices, row: Indices) -> Columns: ...


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window, and the slots that could not be loaded."""

    window: Window
    failed: Mapping[int, RecordIOError]

    def take(self, slot: Indices, row: Indices) -> Columns:
        """As Window.take. Raises the error of a slot that was not loaded."""
        for bad, error in self.failed.items():
            if (slot == bad).any():
                raise error
        return self.window.take(slot, row)


@dataclass(slots=True)  # not frozen, as are Job and Made: that would cost more than all the rest of a small batch
class Part:
    """Samples begin to end - 1 of a step of the order, for one batch.

    Attributes:
        source: the number of the dataset among those of the loader.
        window: the number of the step's window among all that are loaded.
        columns: the samples when they have been taken already, or why they could not be.
    """

    source: int
    window: int
    step: Step
    begin: int
    end: int
    columns: Columns | RecordIOError | None = None

    def __len__(self) -> int:
        return self.end - self.begin

    def cut(self, rows: Indices | slice) -> Part:
        """Some of the samples, by themselves."""
        columns = self.columns
        if isinstance(columns, dict):
            columns = {name: _rows(column, rows) for name, column in columns.items()}
        step = self.step.cut(slice(self.begin, self.end)).cut(rows)
        return Part(self.source, self.window, step, 0, len(step), columns)

    @property
    def places(self) -> tuple[Indices, Indices]:
        """int64 (n,) both: the slot and the row of each sample in the window."""
        return self.step.slot[self.begin : self.end], self.step.row[self.begin : self.end]


def _rows(column: Any, rows: Indices | slice) -> Any:
    if isinstance(column, np.ndarray) or isinstance(rows, slice):
        return column[rows]
    return [column[k] for k in rows.tolist()]


@dataclass(slots=True)
class Job:
    """A batch of the samples of parts, source after source. `sources` says which one each place of the batch takes."""

    parts: Sequence[Part]
    sources: Indices | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def places(self) -> Indices:
        """int64 (n,): the place in the batch of each sample of the parts."""
        return np.arange(len(self)) if self.sources is None else np.argsort(self.sources, kind="stable")

    def only(self, kept: Sequence[int]) -> Job:
        """The batch of the samples at these places, ascending."""
        mask = np.zeros(len(self), bool)
        mask[kept] = True
        parts = np.split(mask[self.places], np.cumsum([len(part) for part in self.parts])[:-1])
        cut = [part.cut(np.flatnonzero(rows)) for part, rows in zip(self.parts, parts, strict=True) if rows.any()]
        return Job(cut, None if self.sources is None else self.sources[mask])


@dataclass(frozen=True, slots=True)
class IndexJob:
    """A batch of the samples at these places of the dataset."""

    indices: Sequence[int]
    word: int

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, kept: Sequence[int]) -> IndexJob:
        return replace(self, indices=[self.indices[k] for k in kept])


@dataclass(slots=True)
class Made:
    """A batch of `samples`, None when nothing is left of it; how many were skipped, and some of the reasons."""

    batch: Any
    samples: int
    skipped: int = 0
    errors: Sequence[str] = ()


@dataclass
class BatchMaker:
    """Makes batches of the samples of some datasets.

    Attributes:
        datasets: the datasets; a part names one by its number. An IndexJob is of the first.
        windows: the loaded windows by number.
        collate_fn: makes a batch of a list of samples; None for columns.
        unbatched: a batch is a list of samples, each of which `collate_fn` has seen.
        skip: leave out the samples that cannot be read or finished.
    """

    datasets: Sequence[Any]
    windows: Mapping[int, Readable] = field(default_factory=dict)
    collate_fn: Callable[[Any], Any] | None = None
    unbatched: bool = False
    skip: bool = False

    def __call__(self, job: Job | IndexJob, empty: Empty = np.empty) -> Made:
        """The batch of a job. What is put together of single values lies in arrays that `empty` makes."""
        try:
            return Made(self._made(job, empty), len(job))
        except Exception as error:
            if not self.skip:
                raise
            return self._made_of_the_good(job, error)

    def _made_of_the_good(self, job: Job | IndexJob, error: Exception) -> Made:
        """Tries the samples one by one, then makes the batch without those that fail."""
        good, errors = [], []
        for place in range(len(job)):
            try:
                self._made(job.only([place]))
                good.append(place)
            except Exception as one:  # noqa: BLE001
                errors.append(one)
        if not errors:  # together they fail, each by itself does not: nothing that skipping could help
            raise error
        batch = self._made(job.only(good)) if good else None
        return Made(batch, len(good), len(errors), [_described(one) for one in errors[:_MAX_ERRORS]])

    def _made(self, job: Job | IndexJob, empty: Empty = np.empty) -> Any:
        if isinstance(job, IndexJob):
            return self._finished(list(self._indexed(job)), None, empty)
        plain = self.collate_fn is None and not self.unbatched and job.sources is None
        if plain and self.datasets[job.parts[0].source].finish.is_plain:
            return self._columns(job.parts)
        return self._finished(list(self._gathered(job)), None if job.sources is None else job.places, empty)

    def _finished(
        self, found: Sequence[tuple[ShardDataset, Columns, Origin]], places: Indices | None, empty: Empty
    ) -> Any:
        """The batch of the samples of each dataset; the k-th of all of them belongs at places[k]."""
        if self.collate_fn is None and not self.unbatched and not any(dataset.finish.maps for dataset, *_ in found):
            parts = [dataset.finish.columns(columns, origin, empty) for dataset, columns, origin in found]
            return parts[0] if places is None else {name: _mixed([p[name] for p in parts], places) for name in parts[0]}
        samples = [s for dataset, columns, origin in found for s in dataset.finish.samples(columns, origin)]
        if places is not None:
            samples = [samples[k] for k in np.argsort(places).tolist()]
        if self.unbatched:
            return samples if self.collate_fn is None else [self.collate_fn(sample) for sample in samples]
        if self.collate_fn is None or self.collate_fn is collate_as_torch:
            return (self.collate_fn or collate)(samples, empty)
        return self.collate_fn(samples)

    def _indexed(self, job: IndexJob) -> Iterator[tuple[ShardDataset, Columns, Origin]]:
        dataset: ShardDataset = self.datasets[0]
        numbers = dataset.resolve(job.indices)
        origin = Origin(dataset.store, numbers, np.asarray(job.indices, np.int64), job.word)
        yield dataset, dataset.store.take(numbers), origin

    def _gathered(self, job: Job) -> Iterator[tuple[ShardDataset, Columns, Origin]]:
        """The samples of each dataset, one dataset after the other."""
        for (source, word), group in groupby(job.parts, key=lambda part: (part.source, part.step.word)):
            dataset, parts = self.datasets[source], list(group)
            index = _joined([part.step.index[part.begin : part.end] for part in parts])
            origin = Origin(dataset.store, _joined([self._numbers(part) for part in parts]), index, word)
            yield dataset, self._columns(parts), origin

    def _columns(self, parts: Sequence[Part]) -> Columns:
        if len(parts) == 1:
            return self.take(parts[0])
        taken = [self.take(part) for part in parts]
        return {name: concatenate([columns[name] for columns in taken]) for name in taken[0]}

    def take(self, part: Part) -> Columns:
        """The samples of a part, as they are stored. Raises CorruptError, which names the first that is damaged."""
        if isinstance(part.columns, RecordIOError):
            raise part.columns
        if part.columns is not None:  # a second try must find what the first one found
            return deepcopy(part.columns) if self.skip else part.columns
        try:
            return self.windows[part.window].take(*part.places)
        except CorruptError as error:
            raise self.datasets[part.source].store.located(error, self._numbers(part)) from None

    def taken(self, part: Part) -> list[Part]:
        """The part with its samples, or the error with which making a batch of it is to fail.

        Where samples are skipped it comes in pieces, of which only the bad ones fail.
        """
        try:
            return [replace(part, columns=self.take(part))]
        except RecordIOError as error:
            if not self.skip or len(part) == 1:
                return [replace(part, columns=error)]
        return [piece for k in range(len(part)) for piece in self.taken(part.cut(slice(k, k + 1)))]

    def _numbers(self, part: Part) -> Indices:
        """int64 (n,): the numbers of the samples in their dataset."""
        slot, row = part.places
        numbers: Indices = self.datasets[part.source].store.blocks.first[part.step.blocks[slot]] + row
        return numbers


def _joined(parts: Sequence[Indices]) -> Indices:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _mixed(parts: Sequence[Any], places: Indices) -> Any:
    """One column of those of several datasets; a list if they are not arrays of one dtype and shape."""
    kinds = {(p.dtype, p.shape[1:], type(p)) if isinstance(p, np.ndarray) else type(p) for p in parts}
    return scatter(parts if len(kinds) == 1 else [values_of(part) for part in parts], places)


def _described(error: Exception) -> str:
    try:
        return " - ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    except Exception:  # noqa: BLE001 a user's error may be unable to say what it is
        return type(error).__name__
