"""The order of a loader as indices of its dataset."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from recordio.format.page import Indices
from recordio.reader.batches.index_batch import IndexBatch, Making, Source
from recordio.reader.view import DatasetView, Plans


def indices_of(dataset: DatasetView, plans: Plans) -> Iterator[Indices]:
    """The indices of the samples, in chunks. Raises SchemaError when a sample has no index."""
    windows, sources = plans
    if sources is None:
        for plan in windows[0]:
            yield plan.index
        return
    streams = [_Stream(plan.index for plan in one) for one in windows]
    for labels in sources:
        index = np.empty(len(labels), np.int64)
        for source in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == source)
            index[rows] = dataset.index_of(source, streams[source].take(len(rows)))
        yield index


def index_batches(
    chunks: Iterator[Indices], size: int, *, drop_last: bool, drawn: Indices | None, making: Making, source: Source
) -> Iterator[IndexBatch]:
    """Batches of this size; the last one may be smaller. `drawn`: the sample of each index, if drawn by weight."""
    stream = _Stream(chunks)
    for number in count():
        index = stream.take(size)
        if not len(index) or (len(index) < size and drop_last):
            return
        samples = index if drawn is None else drawn[index]
        batch = IndexBatch(samples.tolist(), making, None if drawn is None else index.tolist())
        batch.source, batch.number = source, number
        yield batch


class _Stream:
    """Chunks of numbers, taken in other portions."""

    def __init__(self, chunks: Iterator[Indices]) -> None:
        self._chunks = chunks
        self._left = np.zeros(0, np.int64)

    def take(self, count: int) -> Indices:
        """The next numbers, fewer at the end."""
        found, missing = [self._left], count - len(self._left)
        while missing > 0 and (chunk := next(self._chunks, None)) is not None:
            found.append(chunk)
            missing -= len(chunk)
        numbers = np.concatenate(found) if len(found) > 1 else self._left
        self._left = numbers[count:]
        return numbers[:count]
