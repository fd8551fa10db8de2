"""Windows on their way into memory, each being loaded while the one before is delivered.

Memory is used again as soon as nobody reads from a window any more. Who does is known by leases: a stream holds one for
the window that it delivers, and a request one for each of its slices, until its batch has been made. A lease is
released exactly once; one that is lost is an error where the next window waits for its memory, never a hang.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from recordio.errors import RecordIOError
from recordio.reader.batches.fetch_plan import FetchPlan, WindowLayout, Work
from recordio.reader.batches.memory import Memory
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.open_shard import Projection
from recordio.reader.order.shuffle import WindowPlan
from recordio.reader.page_table import PageTable
from recordio.reader.workers.protocol import CompletedTask, Task

READ_THREADS = min(4, os.cpu_count() or 1)


class Staging(Protocol):
    """Memory for one window after another."""

    def reserve(self, nbytes: int) -> Memory: ...


class FetchThreads:
    """The threads that load windows."""

    def __init__(self, count: int = READ_THREADS) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, "recordio-read")

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(function, *args)

    def run(self, work: Iterable[Work]) -> None:
        """Does the work in the calling thread, with the help of idle threads of the pool."""
        source, lock = iter(work), threading.Lock()

        def drain() -> None:
            while True:
                with lock:
                    piece = next(source, None)
                if piece is None:
                    return
                piece()

        helpers = [self._pool.submit(drain) for _ in range(self._count - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class WindowLease:
    """The right to read from a window: held until `release`, or until the task that it was handed to is done."""

    __slots__ = ("_task", "_window")

    def __init__(self, window: PendingWindow) -> None:
        self._window, self._task = window, None  # type: tuple[PendingWindow, Task | None]

    def release(self) -> None:
        """Gives it back. Raises RuntimeError if that was done before."""
        try:
            self._window.leases.remove(self)
        except KeyError:
            raise RuntimeError(f"a lease of window {self._window.number} was released twice") from None

    def hand_to(self, task: Task) -> None:
        """The task reads from the window, and releases it by its completion."""
        if task.done():
            self.release()
        else:
            self._task = task

    def release_if_done(self) -> None:
        if self._task is not None and self._task.done():
            self.release()

    def wait(self) -> None:
        """Until it is released. Raises RuntimeError if nobody is left who could do that, and what the task does."""
        if self._task is None:
            raise RuntimeError(f"a lease of window {self._window.number} was lost: its memory can never be used again")
        self._task.wait()
        self.release()

    @property
    def has_task(self) -> bool:
        return self._task is not None


@dataclass(slots=True, eq=False)
class PendingWindow:
    """A window on its way into memory, or there.

    Attributes:
        number: its number among all that the loader has loaded.
        source: number of its dataset among those of the loader.
        plan: the samples to deliver.
        memory: where its decoded pages lie; None if it has none.
        layout: where each page lies.
        failed: the slots that could not be loaded, and why.
        loading: the task that loads it.
        leases: who reads from it.
    """

    number: int
    source: int
    plan: WindowPlan
    memory: Staging | None
    layout: WindowLayout
    failed: Mapping[int, RecordIOError]
    loading: Future[PageTable] | CompletedTask
    leases: set[WindowLease] = field(default_factory=set)
    _table: PageTable | None = None

    def lease(self) -> WindowLease:
        lease = WindowLease(self)
        self.leases.add(lease)
        return lease

    @property
    def table(self) -> PageTable:
        """Its pages, when it has been loaded. Raises what loading it does."""
        if self._table is None:
            self._table = self.loading.result()
        return self._table

    def wait_until_loaded(self) -> None:
        """Raises what loading it does."""
        _ = self.table

    @property
    def is_free(self) -> bool:
        """Whether nobody reads from it any more."""
        for lease in list(self.leases):
            lease.release_if_done()
        return not self.leases


@dataclass(frozen=True, slots=True)
class FetchContext:
    """What the prefetchers of a loader have in common.

    Attributes:
        threads: the threads that load.
        forget: called with each window whose memory is used again.
        mapped_limit: a dataset of this size may stay mapped.
        numbers: gives each window its number.
    """

    threads: FetchThreads
    forget: Callable[[PendingWindow], None]
    mapped_limit: int
    numbers: Iterator[int] = field(default_factory=itertools.count)


class WindowPrefetcher:
    """The windows of one dataset in order, one being loaded while another is delivered.

    There is memory for two of them. While both are still read from, the next one has to wait; one that needs no memory
    waits as well, until it is asked for.

    Args:
        source: number of the dataset among those of the loader.
        dataset, fields: the dataset, and the fields to fetch.
        plans: the plans of the windows.
        memories: the memory for windows.
        context: shared with the other prefetchers of the loader.
    """

    def __init__(
        self,
        source: int,
        dataset: OpenDataset,
        fields: Projection,
        plans: Iterator[WindowPlan],
        memories: Sequence[Staging],
        context: FetchContext,
    ) -> None:
        self._source, self._dataset, self._fields = source, dataset, fields
        self._plans, self._memories, self._context = plans, list(memories), context
        self._planned: tuple[WindowPlan, FetchPlan] | None = None
        self._ahead: PendingWindow | None = None
        self._ended = False
        self._in_use: deque[PendingWindow] = deque()

    def start(self, now: bool = False) -> bool:
        """Begins to load the next window, unless there is none. False when it has to wait for memory."""
        self._reclaim()
        if self._ahead is not None or self._ended:
            return True
        if self._planned is None:
            plan = next(self._plans, None)
            self._ended = plan is None
            if plan is None:
                return True
            fetch = FetchPlan(self._dataset, self._fields, plan.blocks, self._context.mapped_limit)
            self._planned = plan, fetch
        needs_memory = self._planned[1].layout.nbytes > 0
        can_start = bool(self._memories) if needs_memory else now or len(self._in_use) < 2
        if can_start:
            self._ahead, self._planned = self._load(*self._planned), None
        return can_start

    def next(self) -> PendingWindow | None:
        """The next window, after `start`; None at the end. The caller takes a lease of it at once."""
        window, self._ahead = self._ahead, None
        if window is not None:
            self._in_use.append(window)
        return window

    def wait_for_memory(self) -> None:
        """Until nobody reads from the windows that were given. Raises RuntimeError for a lease that was lost."""
        for window in self._in_use:
            for lease in list(window.leases):
                lease.wait()

    def finish(self) -> None:
        """Waits until all that is under way has ended, and gives everything up. Raises WorkerError."""
        for window in self._all():
            if isinstance(window.loading, Future):
                wait([window.loading])
            for lease in list(window.leases):
                if lease.has_task:
                    lease.wait()
        for window in self._all():
            self._context.forget(window)
        self.unmap()

    def unmap(self) -> None:
        """Takes the maps of all windows out of this process's memory. Nothing is read from them any more."""
        for window in self._all():
            window.layout.unmap(self._dataset)
        self._in_use.clear()
        self._ahead, self._ended = None, True

    def _all(self) -> list[PendingWindow]:
        return [*self._in_use, *([] if self._ahead is None else [self._ahead])]

    def _reclaim(self) -> None:
        """Memory that nobody reads from any more can be used again: batches are copies."""
        while self._in_use and self._in_use[0].is_free:
            window = self._in_use.popleft()
            self._context.forget(window)
            window.layout.unmap(self._dataset)
            if window.memory is not None:
                self._memories.append(window.memory)

    def _load(self, plan: WindowPlan, fetch: FetchPlan) -> PendingWindow:
        staging = self._memories.pop() if fetch.layout.nbytes else None
        memory = staging.reserve(fetch.layout.nbytes) if staging else b""
        threads = self._context.threads
        loading: Future[PageTable] | CompletedTask
        if fetch.has_work:
            loading = threads.submit(fetch.load, memory, threads.run)
        else:
            loading = CompletedTask(fetch.load(memory, threads.run))
        number = next(self._context.numbers)
        return PendingWindow(number, self._source, plan, staging, fetch.layout, fetch.failed, loading)
