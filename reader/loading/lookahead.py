"""The windows of a dataset in an object store, asked for before they are loaded.

The order of an epoch is known ahead, so every page that will be needed is too: as many windows as fit into a budget are
asked for at a time, past the end of the epoch as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.shuffle import WindowPlan
from recordio.reader.page_access import Projection

NextEpoch = Callable[[], Iterator[WindowPlan]]


class Lookahead:
    """The plans of an epoch's windows, of which the next ones are asked for when one is taken.

    Args:
        dataset, fields: the dataset, and the fields to fetch.
        plans: the windows of the epoch.
        nbytes: ask for so many bytes ahead.
        threads: do the asking: the indexes of shards are waited for.
        following: gives the windows of the next epoch, if there may be one.
    """

    def __init__(
        self,
        dataset: OpenDataset,
        fields: Projection,
        plans: Iterator[WindowPlan],
        nbytes: int,
        threads: FetchThreads,
        following: NextEpoch | None,
    ) -> None:
        self._dataset = dataset
        self._fields = fields
        self._plans = plans
        self._limit = nbytes
        self._threads = threads
        self._following = following
        self._later: Iterator[WindowPlan] = iter(())
        self._ahead: deque[tuple[WindowPlan, int]] = deque()
        self._ahead_nbytes = 0
        self._later_nbytes = 0

    def __iter__(self) -> Iterator[WindowPlan]:
        return self

    def __next__(self) -> WindowPlan:
        if asked := [plan.blocks for plan in self._next_to_ask_for()]:
            self._threads.submit(self._dataset.ask_for, asked, self._fields)
        if not self._ahead:
            raise StopIteration
        plan, nbytes = self._ahead.popleft()
        self._ahead_nbytes -= nbytes
        return plan

    def _next_to_ask_for(self) -> Iterator[WindowPlan]:
        """Windows up to the limit, but the next one anyway."""
        while not self._ahead or self._ahead_nbytes < self._limit:
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
