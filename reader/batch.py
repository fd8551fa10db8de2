"""Making a batch: gather its samples from the windows they lie in, finish them, put them together.

A job says what a batch is made of. Whoever gets it, a thread or another process, makes the same batch of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from recordio.errors import CorruptError, RecordIOError
from recordio.page import Indices
from recordio.reader.collate import collate, concatenate, values_of
from recordio.reader.dataset import ShardDataset
from recordio.reader.finish import Origin
from recordio.reader.shard import scatter
from recordio.reader.window import Window
from recordio.schema import Columns

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


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples of one window, for one batch; arrays int64 (n,).

    Attributes:
        source: the number of the dataset among those of the loader.
        window: the number of the window among all that are loaded.
        blocks, slot: each sample's block, in the dataset and in the window.
        row: its place in the block.
        index: its place in the view.
        word: the key of the epoch.
        columns: the samples, when they have been taken already.
    """

    source: int
    window: int
    blocks: Indices
    slot: Indices
    row: Indices
    index: Indices
    word: int
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.row)

    def only(self, rows: Indices) -> Part:
        columns = self.columns and {name: _rows(column, rows) for name, column in self.columns.items()}
        cut = {name: getattr(self, name)[rows] for name in ("blocks", "slot", "row", "index")}
        return replace(self, columns=columns, **cut)


def _rows(column: Any, rows: Indices) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else [column[k] for k in rows.tolist()]


@dataclass(frozen=True, slots=True)
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
        cut = [part.only(np.flatnonzero(rows)) for part, rows in zip(self.parts, parts, strict=True) if rows.any()]
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


@dataclass(frozen=True, slots=True)
class Made:
    """A batch of `samples`, None when nothing is left of it; how many were skipped, and some of the reasons."""

    batch: Any
    samples: int
    skipped: int = 0
    errors: list[str] = field(default_factory=list)


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
    windows: Mapping[int, Readable]
    collate_fn: Callable[[Any], Any] | None = None
    unbatched: bool = False
    skip: bool = False

    def __call__(self, job: Job | IndexJob) -> Made:
        try:
            return Made(self._made(job), len(job))
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

    def _made(self, job: Job | IndexJob) -> Any:
        found = list(self._indexed(job) if isinstance(job, IndexJob) else self._gathered(job))
        places = None if isinstance(job, IndexJob) or job.sources is None else job.places
        if self.collate_fn is None and not self.unbatched and not any(dataset.finish.maps for dataset, *_ in found):
            parts = [dataset.finish.columns(columns, origin) for dataset, columns, origin in found]
            return parts[0] if places is None else {name: _mixed([p[name] for p in parts], places) for name in parts[0]}
        samples = [s for dataset, columns, origin in found for s in dataset.finish.samples(columns, origin)]
        if places is not None:
            samples = [samples[k] for k in np.argsort(places).tolist()]
        if self.unbatched:
            return samples if self.collate_fn is None else [self.collate_fn(sample) for sample in samples]
        return collate(samples) if self.collate_fn is None else self.collate_fn(samples)

    def _indexed(self, job: IndexJob) -> Iterator[tuple[ShardDataset, Columns, Origin]]:
        dataset: ShardDataset = self.datasets[0]
        numbers = dataset.resolve(job.indices)
        origin = Origin(dataset.store, numbers, np.asarray(job.indices, np.int64), job.word)
        yield dataset, dataset.store.take(numbers), origin

    def _gathered(self, job: Job) -> Iterator[tuple[ShardDataset, Columns, Origin]]:
        """The samples of each dataset, one dataset after the other."""
        for (source, word), group in groupby(job.parts, key=lambda part: (part.source, part.word)):
            dataset: ShardDataset = self.datasets[source]
            parts = list(group)
            taken = [self.take(part) for part in parts]
            columns = taken[0] if len(taken) == 1 else {n: concatenate([t[n] for t in taken]) for n in taken[0]}
            first = dataset.store.blocks.first
            numbers = _joined([first[part.blocks] + part.row for part in parts])
            yield dataset, columns, Origin(dataset.store, numbers, _joined([p.index for p in parts]), word)

    def take(self, part: Part) -> Columns:
        """The samples of a part, as they are stored. Raises CorruptError, which names the first that is damaged."""
        if part.columns is not None:
            return part.columns
        store = self.datasets[part.source].store
        try:
            return self.windows[part.window].take(part.slot, part.row)
        except CorruptError as error:
            raise store.located(error, store.blocks.first[part.blocks] + part.row) from None


def _joined(parts: Sequence[Indices]) -> Indices:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _mixed(parts: Sequence[Any], places: Indices) -> Any:
    """One column of those of several datasets; a list if they are not arrays of one dtype and shape."""
    kinds = {(p.dtype, p.shape[1:], type(p)) if isinstance(p, np.ndarray) else type(p) for p in parts}
    return scatter(parts if len(kinds) == 1 else [values_of(part) for part in parts], places)


def _described(error: Exception) -> str:
    return " - ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
