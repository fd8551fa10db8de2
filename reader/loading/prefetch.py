"""Windows on their way into memory, each being loaded while the one before is delivered.

Memory is reused as soon as a window has no readers left, and leases say who the readers are: a stream holds one for the
window that it delivers, a request one for each of its slices until its batch has been made. A lease is released exactly
once. A lost lease is an error at the stream's next batch, or where the next window needs its memory: never a hang.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from recordio.errors import RecordIOError
from recordio.reader.batches.fetch_plan import FetchPlan, Run, WindowLayout
from recordio.reader.batches.memory import Memory
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.loading.stats import LoaderStats, Stalls
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.shuffle import WindowPlan
from recordio.reader.page_access import PageAccess, Projection
from recordio.reader.page_reads import one_by_one
from recordio.reader.page_table import PageTable
from recordio.reader.workers.protocol import CompletedTask, FailedTask, Task

Loading = Future[PageTable] | CompletedTask | FailedTask


class WindowMemory(Protocol):
    """Memory for one window after another. After `reserve` a window may use so many bytes from `start` on."""

    start: int

    def reserve(self, nbytes: int) -> Memory: ...


class WindowLease:
    """The right to read from a window, until `release` or until the task that it was handed to is done."""

    __slots__ = ("_task", "_window")

    def __init__(self, window: PendingWindow) -> None:
        self._window = window
        self._task: Task | None = None

    def release(self) -> None:
        """Raises RuntimeError for the second call."""
        if self not in self._window.leases:
            raise RuntimeError(f"a lease of window {self._window.number} was released twice")
        del self._window.leases[self]

    def hand_to(self, task: Task) -> None:
        """From now on the lease lasts until this task, which reads from the window, is done."""
        if task.done():
            self.release()
        else:
            self._task = task

    def release_if_done(self) -> bool:
        """Whether its task was done, and it is released now."""
        if self._task is None or not self._task.done():
            return False
        self.release()
        return True

    def wait(self) -> None:
        """Waits for its task and releases it. Raises RuntimeError if it has none, and what the task's `wait` raises."""
        if self._task is None:
            raise self.lost()
        self._task.wait()
        self.release()

    def lost(self) -> RuntimeError:
        """The error of a lease that nobody is going to release."""
        return RuntimeError(f"a lease of window {self._window.number} was lost: its memory could never be reused")

    @property
    def has_task(self) -> bool:
        return self._task is not None


@dataclass(slots=True, eq=False)
class PendingWindow:
    """A window that is being loaded, or has been.

    Attributes:
        number: counts the windows of the loader.
        source: number of its dataset among those of the loader.
        plan: the samples to deliver.
        memory: holds its decoded pages; None if it has none.
        layout: where each page lies.
        failed: the error of each slot that could not be loaded.
        loading: the task that loads it.
        stalls: counts how long it is waited for.
        leases: its readers, the first one first.
    """

    number: int
    source: int
    plan: WindowPlan
    memory: WindowMemory | None
    layout: WindowLayout
    failed: Mapping[int, RecordIOError]
    loading: Loading
    stalls: Stalls
    leases: dict[WindowLease, None] = field(default_factory=dict)
    _table: PageTable | None = None

    def lease(self) -> WindowLease:
        lease = WindowLease(self)
        self.leases[lease] = None
        return lease

    @property
    def table(self) -> PageTable:
        """Waits until it has been loaded. Raises what loading it does."""
        return self._table or self._loaded(making=True)

    def wait_until_loaded(self) -> None:
        """Raises what loading it does."""
        if self._table is None:
            self._loaded(making=False)

    def _loaded(self, making: bool) -> PageTable:
        began = time.perf_counter()
        self._table = self.loading.result()
        self.stalls.add(time.perf_counter() - began, making)
        return self._table

    @property
    def is_free(self) -> bool:
        """Whether it has no readers left. Stops at the first that still reads, so that few tasks are polled."""
        return all(lease.release_if_done() for lease in list(self.leases))


@dataclass(frozen=True, slots=True)
class FetchContext:
    """Shared by the prefetchers of a loader.

    Attributes:
        threads: load the windows.
        forget: called with each window before its memory is reused.
        mapped_limit: datasets of up to this many bytes stay mapped.
        stats: counts what windows take, and how long they are waited for.
        accesses: how to read each dataset, if not as it does by itself.
        numbers: gives each window its number.
    """

    threads: FetchThreads
    forget: Callable[[PendingWindow], None]
    mapped_limit: int
    stats: LoaderStats
    accesses: Mapping[OpenDataset, PageAccess] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)


class WindowPrefetcher:
    """The windows of one dataset in order, one being loaded while another is delivered.

    There is memory for two of them. While both have readers the next one waits. One that needs no memory waits in the
    same way, but only until it is asked for.

    Args:
        source: number of the dataset among those of the loader.
        dataset, fields: the dataset, and the fields to fetch.
        plans: the plans of the windows.
        memories: the memory of each window that can be loaded at a time.
        context: shared with the other prefetchers of the loader.
    """

    def __init__(
        self,
        source: int,
        dataset: OpenDataset,
        fields: Projection,
        plans: Iterator[WindowPlan],
        memories: Sequence[WindowMemory],
        context: FetchContext,
    ) -> None:
        self._source = source
        self._dataset = dataset
        self._fields = fields
        self._plans = plans
        self._free_memories = list(memories)
        self._context = context
        self._planned: tuple[WindowPlan, FetchPlan] | None = None
        self._ahead: PendingWindow | None = None
        self._ended = False
        self._in_use: deque[PendingWindow] = deque()

    def start(self, now: bool = False) -> bool:
        """Begins to load the next window, if there is one. False when it has to wait for memory.

        `now`: the window is asked for, so one that needs no memory does not wait.
        """
        if self._ahead is not None or self._ended:
            return True
        self._reclaim()
        if self._planned is None:
            self._planned = self._plan()
            self._ended = self._planned is None
            if self._planned is None:
                return True
        needs_memory = self._planned[1].layout.nbytes > 0
        can_start = bool(self._free_memories) if needs_memory else now or len(self._in_use) < 2
        if can_start:
            self._ahead, self._planned = self._load(*self._planned), None
        return can_start

    def _plan(self) -> tuple[WindowPlan, FetchPlan] | None:
        """The next window and how to load it, for which indexes of shards may have to be read; None at the end."""
        indexes, stats = self._dataset.indexes, self._context.stats
        before, began = indexes.spent, time.perf_counter_ns()
        plan = next(self._plans, None)
        if plan is None:
            return None
        access = self._context.accesses.get(self._dataset)
        fetch = FetchPlan(self._dataset, self._fields, plan.blocks, self._context.mapped_limit, access)
        if spent := min(indexes.spent - before, time.perf_counter_ns() - began):  # other threads read some too
            fetch.times.storage += spent
            stats.stalls.add(spent * 1e-9, planning=True)
        return plan, fetch

    def next(self) -> PendingWindow | None:
        """The next window, after `start`; None at the end. The caller takes a lease of it at once."""
        self._context.stats.fold()
        window, self._ahead = self._ahead, None
        if window is not None:
            self._in_use.append(window)
        return window

    def wait_for_memory(self) -> None:
        """Until the oldest window that has memory has no readers left. Raises RuntimeError for a lost lease."""
        for window in self._in_use:
            for lease in list(window.leases):
                lease.wait()
            if window.memory is not None:
                return

    def check_leases(self, held: Collection[WindowLease | None] = ()) -> None:
        """Raises RuntimeError for a lost lease: one that has no task and is not among those held."""
        for window in self._in_use:
            for lease in window.leases:
                if not lease.has_task and lease not in held:
                    raise lease.lost()

    def finish(self) -> None:
        """Waits for everything under way, then gives up all windows. Raises WorkerError."""
        for window in self._windows():
            if isinstance(window.loading, Future):
                wait([window.loading])
            for lease in list(window.leases):
                if lease.has_task:
                    lease.wait()
        for window in self._windows():
            self._context.forget(window)
        self.unmap()

    def has_loaded(self, seconds: float) -> bool:
        """Whether the windows on their way are there within so many seconds."""
        on_their_way = [window.loading for window in self._windows() if isinstance(window.loading, Future)]
        return not wait(on_their_way, seconds).not_done

    def unmap(self) -> None:
        """Takes the maps of all windows, which must have no readers left, out of this process's memory."""
        for window in self._windows():
            window.layout.unmap(self._dataset)
            window.leases.clear()  # else window and lease would keep each other, and the plan, in memory
        self._in_use.clear()
        self._ahead = None
        self._ended = True

    def _windows(self) -> list[PendingWindow]:
        return [*self._in_use, *([] if self._ahead is None else [self._ahead])]

    def _reclaim(self) -> None:
        """Frees the oldest windows as far as they have no readers left: batches are copies."""
        while self._in_use and self._in_use[0].is_free:
            window = self._in_use.popleft()
            self._context.forget(window)
            window.layout.unmap(self._dataset)
            if window.memory is not None:
                self._free_memories.append(window.memory)

    def _load(self, plan: WindowPlan, fetch: FetchPlan) -> PendingWindow:
        staging = self._free_memories.pop() if fetch.layout.nbytes else None
        memory = staging.reserve(fetch.layout.nbytes) if staging else b""
        return PendingWindow(
            number=next(self._context.numbers),
            source=self._source,
            plan=plan,
            memory=staging,
            layout=fetch.layout,
            failed=fetch.failed,
            loading=self._loading(plan, fetch, memory, staging.start if staging else 0),
            stalls=self._context.stats.stalls,
        )

    def _loading(self, plan: WindowPlan, fetch: FetchPlan, memory: Memory, start: int) -> Loading:
        if fetch.has_work and not fetch.is_quick:
            threads = self._context.threads
            return threads.submit(self._fetched, plan, fetch, memory, start, threads.run)
        try:
            return CompletedTask(self._fetched(plan, fetch, memory, start, one_by_one))
        except (RecordIOError, MemoryError) as error:  # raised by the batch that reads from the window
            return FailedTask(error)

    def _fetched(self, plan: WindowPlan, fetch: FetchPlan, memory: Memory, start: int, run: Run) -> PageTable:
        table = fetch.load(memory, run, start)
        fetch.times.samples = len(plan)
        self._context.stats.loads.append(fetch.times)
        return table
