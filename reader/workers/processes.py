"""Batches made by processes: how workers learn of windows in shared memory, and make batches from them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import process
from typing import Any

import numpy as np

from recordio.determinism import key
from recordio.errors import RecordIOError, WorkerError
from recordio.reader.batches.fetch_plan import WindowLayout
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchRequest, BatchResult, IndexRequest, WindowSlice
from recordio.reader.columns import Empty
from recordio.reader.page_table import PageTable
from recordio.reader.workers.pool import WorkerPool
from recordio.reader.workers.protocol import FailedTask, Task
from recordio.reader.workers.slots import SharedMemory
from recordio.storage.machine import share_of_files

_SPARE_SLOTS = 5  # for the consumer, who holds one batch while asking for the next; the pool keeps two
_MAX_SLOTS = 200  # a forkserver passes on 250 descriptors at most


@dataclass(frozen=True, slots=True)
class WindowReady:
    """The message that a window has been loaded: the shared memory, where the window begins in it, None without one."""

    number: int
    source: int
    layout: WindowLayout
    memory: tuple[int, int] | None
    failed: Mapping[int, RecordIOError]


@dataclass(frozen=True, slots=True)
class _ChildWindow:
    """A window in a worker."""

    source: int
    layout: WindowLayout
    table: PageTable


class _ChildMaker:
    """A BatchMaker in a worker, which reads from the windows of its parent."""

    def __init__(self, make: BatchMaker, memories: Sequence[SharedMemory]) -> None:
        self._make, self._memories = make, memories
        self._windows: dict[int, _ChildWindow] = {}
        self._calls_others = make.calls_others

    def receive(self, message: WindowReady | int) -> None:
        """A window that is ready, or the number of one that is no longer needed."""
        if isinstance(message, int):
            window = self._windows.pop(message)
            window.layout.unmap(self._make.datasets[window.source].store)
            return
        layout, dataset = message.layout, self._make.datasets[message.source]
        number, start = message.memory or (0, 0)
        memory = self._memories[number].view(start + layout.nbytes) if message.memory else b""
        table = layout.table(dataset.store, dataset.fields, memory, message.failed, start)
        self._windows[message.number] = _ChildWindow(message.source, layout, table)

    def __call__(self, request: BatchRequest | IndexRequest, empty: Empty) -> BatchResult:
        self._make.empty = empty
        if self._calls_others:
            seed_generators(request.seed)  # which worker makes a batch is chance
        if isinstance(request, BatchRequest):
            request = replace(request, slices=[self._unpacked(one) for one in request.slices])
        return self._make.timed(request)

    def _unpacked(self, one: WindowSlice) -> WindowSlice:
        if one.columns is not None:
            return one
        window = self._windows[one.window]
        return replace(one, window=window, plan=replace(one.plan, blocks=window.layout.blocks))


def _packed(one: WindowSlice) -> WindowSlice:
    """By itself, without the rest of its plan and the blocks of its window."""
    one = one.cut(slice(None))
    if one.columns is not None:
        return replace(one, window=None, plan=one.plan.with_needed_blocks())
    return replace(one, window=one.window.number, plan=replace(one.plan, blocks=one.plan.blocks[:0]))


class ProcessWorkers:
    """A pool of processes.

    Args:
        make: makes the batches.
        memories: the shared memories that hold the windows.
        start: starts a pool that calls the given maker.

    Raises WorkerError when the processes cannot be started.
    """

    def __init__(
        self,
        make: BatchMaker,
        memories: Sequence[SharedMemory],
        start: Callable[[Callable[[Any, Empty], Any]], WorkerPool],
    ) -> None:
        if process.current_process().daemon:
            guard = 'is the main module\'s own work guarded by `if __name__ == "__main__":`?'
            raise WorkerError(f"a worker cannot start workers; {guard}")
        self._memories = memories
        self._announced: set[int] = set()
        self._pool = start(_ChildMaker(make, memories))

    def submit(self, request: BatchRequest | IndexRequest) -> Task:
        if isinstance(request, IndexRequest):
            return self._pool.submit(request)
        try:
            for one in request.slices:
                if one.columns is None and one.window.number not in self._announced:
                    self._announce(one.window)
        except RecordIOError as error:  # the window could not be loaded: this batch fails
            return FailedTask(error)
        return self._pool.submit(replace(request, slices=[_packed(one) for one in request.slices]))

    def _announce(self, window: Any) -> None:
        window.wait_until_loaded()
        region = window.memory
        memory = None if region is None else (self._memories.index(region.memory), region.start)
        self._pool.broadcast(WindowReady(window.number, window.source, window.layout, memory, window.failed))
        self._announced.add(window.number)

    def forget(self, window: Any) -> None:
        if window.number in self._announced:
            self._announced.discard(window.number)
            self._pool.broadcast(window.number)

    def close(self) -> bool:
        self._pool.close()
        return True


def slots_for(ahead: int) -> int:
    """The number of slots of a pool that makes so many batches ahead."""
    most = min(_MAX_SLOTS, share_of_files(16))  # each takes two descriptors, for its memory and for its map
    return min(ahead + _SPARE_SLOTS, max(most, _SPARE_SLOTS + 1))


def seed_worker(epoch_key: int, init: Callable[[int], Any] | None, number: int) -> None:
    """Seeds a worker's global generators from the epoch and its number, then calls `init` with the number.

    Limits torch to one thread: the other cores belong to the other workers.
    """
    seed_generators(key(number, after=epoch_key))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for a torch that is imported later
    if init is not None:
        init(number)


def seed_generators(seed: int) -> None:
    """Seeds the global generators of Python, NumPy, and torch if it is imported."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
