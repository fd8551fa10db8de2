"""Makes batches: gathers samples from their windows, processes and collates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import groupby
from time import perf_counter_ns
from typing import Any

import numpy as np

from recordio.determinism import key
from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.format.schema import Columns
from recordio.reader.batches.layout import Layout, Packing
from recordio.reader.batches.requests import BatchRequest, BatchResult, BatchTimes, IndexRequest, WindowSlice
from recordio.reader.columns import Empty, collate, collate_as_torch, concatenate, scatter, values_of
from recordio.reader.dataset import ShardDataset
from recordio.reader.processing import SampleOrigin
from recordio.reader.view import DatasetView

_MAX_ERRORS = 10


@dataclass
class BatchMaker:
    """Makes batches.

    Attributes:
        datasets: the datasets of the loader, by their `source`. An IndexRequest is of the first.
        collate_fn: makes a batch of a list of samples; None for a dict of columns, of a view of `tuples` as well.
        unbatched: a batch is a list of samples, and `collate_fn` is applied to each of them.
        skip: leave out samples that cannot be read or processed.
        empty: allocates the arrays of collated values; a worker process allocates them in shared memory.
        layout: pads the values of a batch of columns, or packs them into rows.
        finish: applied by `finished` to each batch that is not several made together, to be cut.
    """

    datasets: Sequence[Any]
    collate_fn: Callable[[Any], Any] | None = None
    unbatched: bool = False
    skip: bool = False
    empty: Empty = np.empty
    layout: Layout | None = None
    finish: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        columns = self.collate_fn is None and not self.unbatched
        # Whether batches are dicts of columns, unless maps give other samples than dicts.
        self.makes_columns = columns or (self.collate_fn is collate_as_torch and not self.unbatched)
        columns = columns and self.layout is None
        parts = [one.parts for one in self.datasets]
        # Whether samples are decoded or processed, one by one or in the user's collate_fn.
        self.processes_samples = self._has_collate_fn or any(
            part.processing.fields or part.processing.maps for own in parts for part in own
        )
        # Whether the batches of each dataset are columns as they are stored.
        self._plain = [columns and all(part.processing.is_plain for part in own) for own in parts]
        # Whether no function of the user has a part in a batch, nor a decoder: several may be made together.
        self.is_gather = columns and not self.processes_samples

    @property
    def calls_functions(self) -> bool:
        """Whether batches pass through functions of the user, which may be in Python."""
        given = [part.processing for one in self.datasets for part in one.parts]
        return self._has_collate_fn or any(one.maps or one.transformed for one in given)

    @property
    def calls_others(self) -> bool:
        """Whether a batch passes through a function that is not of this package, and may draw by itself."""
        given = [part.processing for one in self.datasets for part in one.parts]
        return self._has_collate_fn or any(one.calls_others for one in given)

    @property
    def _has_collate_fn(self) -> bool:
        return self.collate_fn is not None and self.collate_fn is not collate_as_torch

    def __call__(self, request: BatchRequest | IndexRequest) -> BatchResult:
        """The batch of a request, not finished."""
        try:
            if type(request) is BatchRequest and request.sources is None and self._plain[request.slices[0].source]:
                return BatchResult(self._columns(request.slices), len(request))
            times = BatchTimes()
            return BatchResult(self._processed(request, times), len(request), times=times)
        except MemoryError:  # no fault of the samples
            raise
        except Exception as error:
            if not self.skip or (type(request) is BatchRequest and request.several):
                raise
            return self._retry_without_failures(request, error)

    def finished(self, request: BatchRequest | IndexRequest) -> BatchResult:
        """The batch of a request, finished."""
        result = self(request)
        if self.finish is not None and not (type(request) is BatchRequest and request.several):
            result.batch = self.finish(result.batch)
        return result

    def timed(self, request: BatchRequest | IndexRequest, run: int = 0) -> BatchResult:
        """The batch of a request, finished, with the times of its begin and its end; `run`: see BatchTimes."""
        began = perf_counter_ns()
        result = self.finished(request)
        times = result.times = result.times or BatchTimes()
        times.began, times.ended, times.run = began, perf_counter_ns(), run
        return result

    def _retry_without_failures(self, request: BatchRequest | IndexRequest, error: Exception) -> BatchResult:
        """Tries each sample alone, then makes a batch of those that work."""
        good: list[int] = []
        errors: list[Exception] = []
        times = BatchTimes()
        for row in range(len(request)):
            try:
                self._processed(request.only([row]), times)
                good.append(row)
            except MemoryError:
                raise
            except Exception as one:  # noqa: BLE001
                errors.append(one)
        if not errors:  # the samples fail only together: skipping cannot help
            raise error
        batch = self._processed(request.only(good), times) if good else None
        reasons = [_described(one) for one in errors[:_MAX_ERRORS]]
        return BatchResult(batch, samples=len(good), skipped=len(errors), errors=reasons, times=times)

    def _processed(self, request: BatchRequest | IndexRequest, times: BatchTimes) -> Any:
        """The batch; adds to `times` what it takes."""
        if isinstance(request, IndexRequest):
            found, batch_rows = self._indexed(request)
        else:
            found, batch_rows = list(self._gathered(request)), None if request.sources is None else request.batch_rows
        gathered = perf_counter_ns()
        made, is_batch = self._transformed(found, batch_rows)
        transformed = perf_counter_ns()
        times.transform += transformed - gathered
        if is_batch and self.layout is None:
            return made
        batch = made if is_batch else self._collated(made)
        if self.layout is not None:
            batch = self.layout(batch, request, self.empty)
        times.collate += perf_counter_ns() - transformed
        return batch

    def _transformed(
        self, found: Sequence[tuple[ShardDataset, Columns, SampleOrigin]], batch_rows: Indices | None
    ) -> tuple[Any, bool]:
        """The batch of the samples found in each dataset, or the list of its samples if it is false that this is it.

        The k-th sample of all goes to row batch_rows[k].
        """
        maps = any(dataset.processing.maps for dataset, *_ in found)
        if self.collate_fn is None and not self.unbatched and not maps:
            each = [dataset.processing.columns(columns, origin, self.empty) for dataset, columns, origin in found]
            if batch_rows is None:
                return each[0], True
            return {name: _interleaved([columns[name] for columns in each], batch_rows) for name in each[0]}, True
        samples = [s for dataset, columns, origin in found for s in dataset.processing.samples(columns, origin)]
        if batch_rows is not None:
            samples = [samples[k] for k in np.argsort(batch_rows).tolist()]
        return samples, False

    def _collated(self, samples: list[Any]) -> Any:
        if self.makes_columns:
            return (collate if self.collate_fn is None else collate_as_torch)(samples, self.empty)
        if self.datasets[0].tuple_fields is not None:
            samples = [self.datasets[0].formed(sample) for sample in samples]
        if self.collate_fn is None:
            return samples
        return [self.collate_fn(sample) for sample in samples] if self.unbatched else self.collate_fn(samples)

    def _indexed(
        self, request: IndexRequest
    ) -> tuple[list[tuple[ShardDataset, Columns, SampleOrigin]], Indices | None]:
        """The samples of each part of the dataset, and their rows in the batch if there are several."""
        dataset: DatasetView = self.datasets[0]
        drawn = None if request.random_index is None else np.asarray(request.random_index, np.int64)
        found, rows = [], []
        for piece in dataset.pieces(dataset.checked_indices(request.indices)):
            part, numbers, epoch_key = piece.dataset, piece.dataset.numbers_of(piece.indices), request.epoch_key
            index = piece.indices if drawn is None else drawn[piece.rows]
            if piece.source is not None and drawn is None:  # as in the first pass of a shuffled epoch
                epoch_key = key(piece.source, 0, after=epoch_key)
            found.append((part, part.read(numbers), part.origin(numbers, index, epoch_key)))
            rows.append(piece.rows)
        return found, None if len(found) == 1 else np.concatenate(rows)

    def _gathered(self, request: BatchRequest) -> Iterator[tuple[ShardDataset, Columns, SampleOrigin]]:
        """The samples of each dataset, one dataset after the other."""
        for (source, epoch_key), group in groupby(request.slices, key=lambda one: (one.source, one.plan.epoch_key)):
            dataset, slices = self.datasets[source], list(group)
            index = _joined([one.plan.index[one.begin : one.end] for one in slices])
            numbers = _joined([self._numbers(one) for one in slices])
            views = isinstance(self.layout, Packing) and dataset.processing.is_plain
            yield dataset, self._columns(slices, views=views), dataset.origin(numbers, index, epoch_key)

    def _columns(self, slices: Sequence[WindowSlice], *, views: bool = False) -> Columns:
        """The samples as they are stored. Raises CorruptError with the place of the first damaged sample.

        `views` gives arrays that are not copied: of a document in many pieces each would else copy all of it.
        """
        taken = []
        for one in slices:
            if one.columns is not None:
                early = self._columns_read_early(one)
                taken.append({name: values_of(column) for name, column in early.items()} if views else early)
                continue
            try:
                taken.append(one.window.table.take(one.slot, one.row, views=views))
            except RecordIOError as error:
                found = self.datasets[one.source].located(error, self._numbers(one))
                if found is error:
                    raise
                raise found from None
        if len(taken) == 1:
            return taken[0]
        return {name: concatenate([columns[name] for columns in taken]) for name in taken[0]}

    def _columns_read_early(self, one: WindowSlice) -> Columns:
        if isinstance(one.columns, RecordIOError):
            raise one.columns
        assert one.columns is not None
        return deepcopy(one.columns) if self.skip else dict(one.columns)  # processing may change it before a second try

    def read_early(self, one: WindowSlice) -> list[WindowSlice]:
        """Reads the slice now. On failure stores the error, raised later when its batch is made.

        A slice that fails is cut into single samples, so that only the bad ones fail, or the batches with them.
        """
        try:
            return [replace(one, columns=self._columns([one]))]
        except RecordIOError as error:
            if len(one) == 1:
                return [replace(one, columns=error)]
        return [piece for k in range(len(one)) for piece in self.read_early(one.cut(slice(k, k + 1)))]

    def _numbers(self, one: WindowSlice) -> Indices:
        """int64 (n,): the numbers of the samples."""
        first: Indices = self.datasets[one.source].store.blocks.first
        numbers: Indices = first[one.plan.blocks[one.slot]] + one.row
        return numbers


def _joined(arrays: Sequence[Indices]) -> Indices:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _interleaved(columns: Sequence[Any], batch_rows: Indices) -> Any:
    """One column from a column of each dataset; a list unless all are arrays of one dtype and shape."""
    kinds = {(one.dtype, one.shape[1:], type(one)) if isinstance(one, np.ndarray) else type(one) for one in columns}
    return scatter(columns if len(kinds) == 1 else [values_of(one) for one in columns], batch_rows)


def _described(error: Exception) -> str:
    try:
        return " - ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    except Exception:  # noqa: BLE001 a user's error may fail to describe itself
        return type(error).__name__
