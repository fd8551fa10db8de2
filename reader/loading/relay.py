"""Batches for other people's loaders, made ahead by the workers of the loader whose order they follow."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from recordio.determinism import key
from recordio.reader.batches.index_batch import IndexBatch, Making
from recordio.reader.batches.requests import BatchResult
from recordio.reader.loading.checks import check_indexable
from recordio.reader.loading.index_order import index_batches, indices_of
from recordio.reader.loading.making import maker_of
from recordio.reader.order.ranks import RankShare, distributed_ranks
from recordio.reader.view import DatasetView

if TYPE_CHECKING:
    from recordio.reader.loading.loader import DataLoader

_MOST_BEGINNINGS = 5


def index_batches_of(
    loader: DataLoader, batch_size: int | None, drop_last: bool | None
) -> Generator[IndexBatch, None, None]:
    """See DataLoader.indices."""
    options = loader.options
    check_indexable(loader.dataset, options)
    drop_last = options.drop_last if drop_last is None else drop_last
    cursor = loader._begin()
    epoch_key = key(loader.seed, cursor.epoch)
    drawn, dataset = loader.epoch_order.drawn(loader.dataset, epoch_key)
    share = loader.share(cursor.position, batch_size, drop_last=drop_last)
    size = batch_size or options.batch_size or 1
    chunks = indices_of(dataset, dataset.plan(loader.order, epoch_key, share))
    making = Making(epoch_key, skip=options.on_error == "skip", samples=options.collates)
    cursor.by_index = True
    with closing(Relay(loader, epoch_key, share, size)) as source:
        yield from index_batches(chunks, size, drop_last=drop_last, drawn=drawn, making=making, source=source)
    cursor.move_to(cursor.epoch + 1)


class Relay:
    """The batches of an epoch, for whoever asks for them one after the other, or for every n-th.

    A tool that skips batches begins with a later one, and processes that share an epoch ask for every n-th. If the
    batch that is asked for is not the one that is next, the epoch begins again there, but not for ever.

    Args:
        loader: its options and workers are used; its state does not change.
        epoch_key: the key of the epoch.
        share: the positions of the epoch.
        batch_size: samples a batch.
    """

    def __init__(self, loader: DataLoader, epoch_key: int, share: RankShare, batch_size: int) -> None:
        self._loader, self._maker, self._process = loader, _twin_of(loader), os.getpid()
        self._epoch_key, self._share, self._batch_size = epoch_key, share, batch_size
        self._results: Generator[BatchResult, None, None] | None = None
        self._last: int | None = None  # the number of the batch that was asked for last
        self._step = 1
        self._beginnings = 0
        self._ended = loader.options.on_error == "skip"  # batches without some samples are not those of the indices

    @property
    def dataset(self) -> DatasetView:
        return self._loader.dataset

    def count(self, result: BatchResult) -> None:
        self._loader.stats.add(result)

    def batch(self, number: int, samples: int) -> BatchResult | None:
        """The batch of this number; None if it is not to be had in this way."""
        if os.getpid() != self._process:  # a fork has none of the threads
            return None
        if self._results is None or number - self._step != self._last:
            self._begin(number)
        self._last = number
        result = None if self._results is None else next(self._results, None)
        return result if result is not None and result.samples == samples else None

    def close(self) -> None:
        """Ends the workers, for good."""
        self._ended = True
        self._stop()

    def _stop(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None

    def _begin(self, number: int) -> None:
        self._stop()
        others = distributed_ranks() if self._share.world == 1 else None
        step = number - self._last if self._last is not None else others[1] if others else 1
        share = self._from(number, step)
        if share is not None and not self._ended and self._beginnings < _MOST_BEGINNINGS:
            self._beginnings += 1
            self._step, self._results = step, self._made(share)

    def _from(self, number: int, step: int) -> RankShare | None:
        """The positions of every `step`-th batch from this one on."""
        share, size = self._share, self._batch_size
        start = share.start + number * size * share.world
        if step == 1:
            return replace(share, start=start)
        if step < 1 or share.world > 1 or start % size:
            return None
        return RankShare(rank=start // size % step, world=step, start=start, stop=share.stop, run=size)

    def _made(self, share: RankShare) -> Generator[BatchResult, None, None]:
        maker = self._maker
        with maker.runs.begin(
            maker.options, maker_of(maker.options, maker.dataset, None), maker.dataset, self._epoch_key
        ) as run:
            plans, sources = maker.epoch_order.plan(maker.dataset, self._epoch_key, share)
            yield from run.windowed(plans, sources, len(share), self._batch_size, maker.dataset.parts)


def _twin_of(loader: DataLoader) -> DataLoader:
    """A loader with workers of its own that makes the same batches, in order: of columns, or else the samples."""
    given = loader.options
    if loader._twin is None or loader._twin[0] is not given:
        twin = copy(loader)
        collate_fn = list if given.collates or loader.dataset.has_maps else None
        twin.options = replace(given, collate_fn=collate_fn, in_order=True)
        loader._twin = given, twin
    loader._twin[1].dataset = loader.dataset
    return loader._twin[1]
