"""The windows of a dataset in an object store, asked for before they are loaded.

The order of an epoch is known ahead, so every page that will be needed is too: as many windows as fit into a budget are
asked for at a time, past the end of the epoch as well. With a block that is not urgent come its neighbours that are due
soon: fewer requests, for the same bytes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.reader.dataset import ShardDataset
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.shuffle import OrderOptions, WindowPlan
from recordio.reader.order.units import WholeUnits, are_among, ascending, neighbours
from recordio.reader.page_access import Projection

if TYPE_CHECKING:
    from recordio.remote.shard_cache import ShardCache

_AT_A_TIME = 2  # windows
_TOGETHER = 1 << 20  # bytes of neighbours: a request of this size takes little longer than one of a block
_MOST_PLANNED = 1 << 20  # samples of windows that are not asked for yet: 40 MB

NextEpoch = Callable[[], Iterator[WindowPlan]]
Widened = Callable[[Indices], Indices]


class AskingOrder:
    """Which blocks are asked for before which window is taken: decisions without any waiting.

    Args:
        blocks: those of the dataset.
        plans: the windows of the epoch.
        nbytes: ask for so many bytes ahead.
        stays_on_disk: whether so many bytes more would be kept there, and take no memory.
        following: gives the windows of the next epoch, if there may be one.

    Attributes:
        joins: whether neighbours are asked for together.
    """

    def __init__(
        self,
        blocks: Blocks,
        plans: Iterator[WindowPlan],
        nbytes: int,
        stays_on_disk: Callable[[int], bool],
        following: NextEpoch | None = None,
    ) -> None:
        self._blocks = blocks
        self._plans = plans
        self._limit = nbytes
        self._stays_on_disk = stays_on_disk
        self._following = following
        self._later: Iterator[WindowPlan] = iter(())
        self._later_nbytes = 0
        self._ahead: deque[WindowPlan] = deque()
        self._ahead_nbytes = 0
        self._planned: deque[WindowPlan] = deque()  # the windows after those that are asked for
        self._early = np.empty(0, np.int64)  # blocks of theirs that are asked for
        self.joins = False

    def take(self) -> WindowPlan | None:
        """The next window, of which the blocks have been asked for; None at the end."""
        if not self._ahead:
            return None
        plan = self._ahead.popleft()
        self._ahead_nbytes -= self._nbytes(ascending(plan.blocks))
        return plan

    def next_to_ask_for(self) -> Iterator[Indices]:
        """The blocks of windows up to the limit, but of the next one anyway.

        A few at a time: to ask for all of them at the start would keep the first one waiting.
        """
        for _ in range(_AT_A_TIME):
            if self._ahead and self._ahead_nbytes >= self._limit:
                return
            if (plan := self._planned.popleft() if self._planned else next(self._plans, None)) is None:
                yield from self._of_the_next_epoch()
                return
            self._ahead.append(plan)
            yield self._with_neighbours(ascending(plan.blocks))

    def _with_neighbours(self, window: Indices) -> Indices:
        """The blocks of a window that are not asked for yet, and neighbours of them that are due soon.

        The windows that are due next get nothing beside them that would keep them waiting, and memory holds no more
        than the limit.
        """
        blocks = window[~are_among(window, self._early)]
        self._early = self._early[~are_among(self._early, window)]
        is_urgent = self._ahead_nbytes < self._limit // 4
        self._ahead_nbytes += self._nbytes(blocks)
        if is_urgent or not self.joins:
            return blocks
        due = ascending(np.concatenate([plan.blocks for plan in self._soon_due()] or [blocks[:0]]))
        due = due[~are_among(due, self._early) & ~are_among(due, blocks)]
        more = neighbours(blocks, due, self._blocks, _TOGETHER)
        if not self._stays_on_disk(self._nbytes(blocks) + self._nbytes(more)):
            behind = self._blocks.nbytes[more].cumsum()
            more = more[: behind.searchsorted(self._limit - self._ahead_nbytes, side="right")]
        self._early = np.sort(np.concatenate([self._early, more]))
        self._ahead_nbytes += self._nbytes(more)
        return np.concatenate([blocks, more])

    def _soon_due(self) -> deque[WindowPlan]:
        """The windows of the next so many bytes."""
        nbytes = sum(self._nbytes(plan.blocks) for plan in self._planned)
        while nbytes < self._limit and sum(map(len, self._planned)) < _MOST_PLANNED:
            if (plan := next(self._plans, None)) is None:
                break
            self._planned.append(plan)
            nbytes += self._nbytes(plan.blocks)
        return self._planned

    def _of_the_next_epoch(self) -> Iterator[Indices]:
        if self._following is not None:
            self._later, self._following = self._following(), None
        while self._ahead_nbytes + self._later_nbytes < self._limit:
            if (plan := next(self._later, None)) is None:
                break
            self._later_nbytes += self._nbytes(plan.blocks)
            yield plan.blocks

    def _nbytes(self, blocks: Indices) -> int:
        return int(self._blocks.nbytes[blocks].sum())


class Lookahead:
    """The plans of an epoch's windows, of which the next ones are asked for when one is taken.

    Args:
        dataset, fields: the dataset, and the fields to fetch.
        plans: the windows of the epoch.
        nbytes: ask for so many bytes ahead.
        threads: do the asking: the indexes of shards are waited for.
        following: gives the windows of the next epoch, if there may be one.
        widened: the blocks to ask for, in place of those of a window.
    """

    def __init__(
        self,
        dataset: OpenDataset,
        fields: Projection,
        plans: Iterator[WindowPlan],
        nbytes: int,
        threads: FetchThreads,
        following: NextEpoch | None,
        widened: Widened | None = None,
    ) -> None:
        self._dataset = dataset
        self._fields = fields
        self._order = AskingOrder(dataset.blocks, plans, nbytes, partial(_stays_on_disk, dataset), following)
        self._threads = threads
        self._widened = widened
        self._asking: Future[None] | None = None
        self._is_first = True

    def __iter__(self) -> Iterator[WindowPlan]:
        return self

    def __next__(self) -> WindowPlan:
        windows = self._order.next_to_ask_for()
        if self._is_first and (first := next(windows, None)) is not None:
            self._is_first = False
            self._ask(None, [first])  # before anything else: all wait for this one
        if asked := list(windows):
            self._asking = self._threads.submit(self._ask, self._asking, asked)
        if (plan := self._order.take()) is None:
            raise StopIteration
        return plan

    def _ask(self, before: Future[None] | None, windows: Sequence[Indices]) -> None:
        """Asks for windows after those before: what comes first is fetched first."""
        if before is not None:
            wait([before])
        if self._widened is not None:
            windows = list(map(self._widened, windows))
        shards = np.unique(self._dataset.shard_of(np.concatenate([*windows])))
        with contextlib.suppress(RecordIOError):  # raised again by those who load them
            self._dataset.ask_for_indexes(shards)  # before the first shard's footer is waited for
            if not all(self._dataset.file(shard).is_here for shard in shards.tolist()):
                self._order.joins = self._widened is None
                self._dataset.ask_for(windows, self._fields)


def _stays_on_disk(dataset: OpenDataset, nbytes: int) -> bool:
    """Whether the cache has room for so much more."""
    cache = _cache_of(dataset)
    return cache is not None and cache.is_free(nbytes)


def _cache_of(dataset: OpenDataset) -> ShardCache | None:
    """The cache on disk of a dataset in an object store, if it has one."""
    if not dataset.storage.is_remote:
        return None
    from recordio.remote.remote_storage import RemoteStorage  # takes as long as the first batch of a local dataset

    return dataset.storage.cache if isinstance(dataset.storage, RemoteStorage) else None


def widened_to_units(view: ShardDataset, order: OrderOptions) -> Widened | None:
    """A function from blocks to those of the units that they begin, each once, while the cache has room for pools.

    None if the order has no pools, or there is no cache for them.
    """
    if not (order.shuffle and order.pool_bytes) or (cache := _cache_of(view.store)) is None:
        return None
    blocks = view.store.blocks
    units = WholeUnits(blocks, view.numbers, order.unit_bytes)

    def widened(window: Indices) -> Indices:
        found = units.begun_by(window)
        if not cache.has_room(int(blocks.nbytes[found].sum())):
            return window
        units.begin(found)
        return found

    return widened
