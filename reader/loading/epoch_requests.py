"""What an epoch asks of an object store: the plan of the epoch, counted without reading any page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from recordio.determinism import key
from recordio.errors import SchemaError
from recordio.format.page import Indices
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.lookahead import AskingOrder
from recordio.reader.order.units import WholeUnits
from recordio.remote.page_sink import MAX_GAP
from recordio.remote.shard_parts import joined

_MEASURED_WINDOWS = 64
_MEASURED_WINDOWS_OF_FIELDS = 8  # where pages lie is in the indexes of shards, and each window reads many of those


@dataclass(frozen=True, slots=True)
class EpochRequests:
    """Of one rank, in an epoch of which nothing is in a cache.

    Attributes:
        samples, batches: what it gets.
        nbytes: bytes of pages that are fetched, with gaps that are fetched along.
        requests: for pages; those for the manifest, and for header and index of each shard, come once besides.
        first_nbytes: what is fetched before the first batch.
        is_exact: whether all windows were counted, and not some of them, and no gaps between their blocks.
    """

    samples: int
    batches: int
    nbytes: int
    requests: int
    first_nbytes: int
    is_exact: bool


def epoch_requests(loader: DataLoader) -> EpochRequests:
    """Counts the requests of an epoch over a ShardDataset, or a view of one, with room in the cache for what it needs.

    Raises CorruptError, StorageError, and SchemaError for other datasets.
    """
    dataset = loader.dataset
    if not isinstance(dataset, ShardDataset):
        raise SchemaError(f"expected a ShardDataset, got {type(dataset).__name__}")
    extents = _Extents(dataset)
    by_unit = loader.order.shuffle and loader.order.pool_bytes > 0
    units = WholeUnits(dataset.store.blocks, dataset.numbers, loader.order.unit_bytes) if by_unit else None
    share = loader.share(0)
    plans = dataset.plan(loader.order, key(loader.seed, 0), share)[0][0]
    counted = islice(plans, None if by_unit else extents.most_windows)
    ahead = AskingOrder(dataset.store.blocks, counted, loader.options.prefetch_bytes, lambda nbytes: True)
    ahead.joins = not by_unit
    samples, first, counts, weights = 0, 0, np.zeros(2, np.int64), list[int]()
    while True:
        for blocks in ahead.next_to_ask_for():
            if units is not None:
                blocks = units.begun_by(blocks)
                units.begin(blocks)
            weights.append(int(dataset.store.blocks.nbytes[blocks].sum()))
            if len(weights) <= extents.most_windows or not extents.needs_indexes:
                found = extents.counted(blocks)
                first, counts = first or found[0], counts + found
        if (plan := ahead.take()) is None:
            break
        samples += len(plan)
    measured = sum(weights[: extents.most_windows] if extents.needs_indexes else weights)
    part = len(share) / samples * (sum(weights) / measured) if measured else 0.0
    nbytes, requests = np.rint(counts * part).astype(np.int64).tolist()
    is_exact = next(plans, None) is None and sum(weights) == measured and not extents.gap_nbytes
    return EpochRequests(len(share), len(loader), nbytes, requests, first, is_exact)


class _Extents:
    """Where the pages of blocks lie: by the indexes of shards, or without them if all fields are read.

    Attributes:
        most_windows: as many are counted.
        needs_indexes: whether the indexes of their shards are read for that.
        gap_nbytes: bytes between the blocks, which were counted with them.
    """

    def __init__(self, dataset: ShardDataset) -> None:
        self._store = store = dataset.store
        self._max_gap = getattr(store.storage, "max_gap", MAX_GAP)
        self._columns = dataset.fields.columns
        self._ends: Indices | None = None
        self._fetched = np.zeros(len(store.blocks.nbytes), bool)
        self.gap_nbytes = 0
        self.most_windows = _MEASURED_WINDOWS_OF_FIELDS
        self.needs_indexes = True
        if len(self._columns) == len(store.manifest.schema):
            self.most_windows, self.needs_indexes = _MEASURED_WINDOWS, False
            self._ends = np.cumsum(self._stored_nbytes())

    def _stored_nbytes(self) -> Indices:
        """int64 (blocks,): what the manifest lets guess of each block: a share of its shard by its decoded size."""
        blocks, stored = self._store.blocks, self._store.manifest.table.nbytes
        decoded = np.add.reduceat(blocks.nbytes, blocks.shard[:-1]) if len(stored) else stored
        ratios = np.repeat(stored / np.maximum(1, decoded), np.diff(blocks.shard))
        return (blocks.nbytes * ratios).astype(np.int64)

    def counted(self, blocks: Indices) -> tuple[int, int]:
        """The bytes and requests for these blocks, but for those that were fetched already, if only as gaps."""
        blocks = np.unique(blocks[~self._fetched[blocks]])
        shard = self._store.shard_of(blocks)
        if self._ends is not None:
            begin, end = np.where(blocks > 0, self._ends[blocks - 1], 0), self._ends[blocks]
        else:
            entries, failed = self._store.entries(blocks, self._columns)
            for error in failed.values():
                raise error
            begin, end = entries.offset.ravel(), entries.end.ravel()
            shard = np.repeat(shard, len(self._columns))
        found = list(ranges(shard, begin, end, self._max_gap))
        nbytes = sum(high - low for low, high in found)
        self.gap_nbytes += nbytes - int((end - begin).sum())
        if self._ends is not None:
            for low, high in found:
                first, behind = np.searchsorted(self._ends, [low, high], side="right")
                self._fetched[first:behind] = True
        return nbytes, len(found)


def ranges(shard: Indices, begin: Indices, end: Indices, max_gap: int) -> Iterator[tuple[int, int]]:
    """Ascending ranges of shards as they are fetched."""
    cuts = np.flatnonzero(np.diff(shard)) + 1
    for begins, ends in zip(np.split(begin, cuts), np.split(end, cuts), strict=True):
        for first, behind in joined(begins, ends, max_gap):
            yield begins.item(first), ends.item(behind - 1)
