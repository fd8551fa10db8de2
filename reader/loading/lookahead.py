"""The windows of a dataset in an object store, asked for before they are loaded.

The order of an epoch is known ahead, so every page that will be needed is too: as many windows as fit into a budget are
asked for at a time, past the end of the epoch as well.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.reader.dataset import ShardDataset
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.shuffle import OrderOptions, WindowPlan
from recordio.reader.order.units import WholeUnits
from recordio.reader.page_access import Projection

_AT_A_TIME = 2  # windows

NextEpoch = Callable[[], Iterator[WindowPlan]]
Widened = Callable[[Indices], Indices]


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
        self._plans = plans
        self._limit = nbytes
        self._threads = threads
        self._following = following
        self._widened = widened
        self._later: Iterator[WindowPlan] = iter(())
        self._ahead: deque[tuple[WindowPlan, int]] = deque()
        self._ahead_nbytes = 0
        self._later_nbytes = 0
        self._asking: Future[None] | None = None
        self._is_first = True

    def __iter__(self) -> Iterator[WindowPlan]:
        return self

    def __next__(self) -> WindowPlan:
        asked = [plan.blocks for plan in self._next_to_ask_for()]
        if asked and self._is_first:  # before anything else: all wait for this one
            self._is_first = False
            self._ask(None, [asked.pop(0)])
        if asked:
            self._asking = self._threads.submit(self._ask, self._asking, asked)
        if not self._ahead:
            raise StopIteration
        plan, nbytes = self._ahead.popleft()
        self._ahead_nbytes -= nbytes
        return plan

    def _ask(self, before: Future[None] | None, windows: Sequence[Indices]) -> None:
        """Asks for windows after those before: what comes first is fetched first."""
        if before is not None:
            wait([before])
        if self._widened is not None:
            windows = list(map(self._widened, windows))
        shards = np.unique(self._dataset.shard_of(np.concatenate([*windows])))
        with contextlib.suppress(RecordIOError):  # raised again by those who load them
            if not all(self._dataset.file(shard).is_here for shard in shards.tolist()):
                self._dataset.ask_for(windows, self._fields)

    def _next_to_ask_for(self) -> Iterator[WindowPlan]:
        """Windows up to the limit, but the next one anyway.

        A few at a time: to ask for all of them at the start would keep the first one waiting.
        """
        for _ in range(_AT_A_TIME):
            if self._ahead and self._ahead_nbytes >= self._limit:
                return
            if (plan := next(self._plans, None)) is None:
                yield from self._of_the_next_epoch()
                return
            nbytes = self._nbytes(plan)
            self._ahead.append((plan, nbytes))
            self._ahead_nbytes += nbytes
            yield plan

    def _of_the_next_epoch(self) -> Iterator[WindowPlan]:
        if self._following is not None:
            self._later, self._following = self._following(), None
        while self._ahead_nbytes + self._later_nbytes < self._limit:
            if (plan := next(self._later, None)) is None:
                break
            self._later_nbytes += self._nbytes(plan)
            yield plan

    def _nbytes(self, plan: WindowPlan) -> int:
        return int(self._dataset.blocks.nbytes[plan.blocks].sum())


def widened_to_units(view: ShardDataset, order: OrderOptions) -> Widened | None:
    """A function from blocks to those of the units that they begin, each once, while the cache has room for pools.

    None if the order has no pools, or there is no cache for them.
    """
    storage = view.store.storage
    if not (order.shuffle and order.pool_bytes and storage.is_remote):
        return None
    from recordio.remote.remote_storage import RemoteStorage  # takes as long as the first batch of a local dataset

    if not (isinstance(storage, RemoteStorage) and storage.cache is not None):
        return None
    blocks, cache = view.store.blocks, storage.cache
    units = WholeUnits(blocks, view.numbers, order.unit_bytes)

    def widened(window: Indices) -> Indices:
        found = units.begun_by(window)
        if not cache.has_room(int(blocks.nbytes[found].sum())):
            return window
        units.begin(found)
        return found

    return widened
