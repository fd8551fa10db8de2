"""Batches made by processes: what a worker is told of windows that lie in shared memory, and what it makes of a job."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import process
from typing import Any

import numpy as np

from recordio.determinism import key
from recordio.errors import RecordIOError, WorkerError
from recordio.reader.batches.maker import BatchMaker, IndexJob, Job, LoadedWindow, Made, Part
from recordio.reader.batches.page_table import WindowLayout
from recordio.reader.columns import Empty
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.prefetch import LoadingWindow
from recordio.reader.workers.inline_threads import Failed, Task
from recordio.reader.workers.pool import WorkerPool
from recordio.reader.workers.slots import SharedMemory

_SPARE_SLOTS = 5  # for batches that the consumer holds: a loop holds one, as it takes the next; the pool keeps two
_MAX_SLOTS = 200  # each is a descriptor, and a forkserver hands on no more than 250


@dataclass(frozen=True, slots=True)
class _News:
    """A window that has been loaded into one of the memories."""

    number: int
    source: int
    layout: WindowLayout
    memory: int | None
    failed: Mapping[int, RecordIOError]


class _RemoteMaker:
    """A BatchMaker in another process, which sees the windows of its parent."""

    def __init__(self, make: BatchMaker, memories: Sequence[SharedMemory]) -> None:
        self._windows: dict[int, LoadedWindow] = {}
        self._layouts: dict[int, tuple[int, WindowLayout]] = {}
        self._memories = memories
        self._make = replace(make, windows=self._windows)

    def receive(self, news: _News | set[int]) -> None:
        """Of a window, or of the numbers of those that are done with."""
        if isinstance(news, set):
            for number in news:
                del self._windows[number]
                source, layout = self._layouts.pop(number)
                layout.unmap(self._make.datasets[source].store)
            return
        memory = b"" if news.memory is None else self._memories[news.memory].view(news.layout.nbytes)
        window = news.layout.window(self._make.datasets[news.source].store, memory)
        self._windows[news.number] = LoadedWindow(window, news.failed)
        self._layouts[news.number] = news.source, news.layout

    def __call__(self, job: Job | IndexJob, empty: Empty) -> Made:
        if isinstance(job, Job):
            job = replace(job, parts=[self._unpacked(part) for part in job.parts])
        return self._make(job, empty)

    def _unpacked(self, part: Part) -> Part:
        if part.columns is not None:
            return part
        return replace(part, step=replace(part.step, blocks=self._layouts[part.window][1].blocks))


def _packed(part: Part) -> Part:
    """By itself, without the rest of its step and the blocks of its window."""
    part = part.cut(slice(None))
    if part.columns is not None:
        return replace(part, step=part.step.tidied())
    return replace(part, step=replace(part.step, blocks=part.step.blocks[:0]))


class ProcessWorkers:
    """A pool of processes.

    Args:
        make: makes the batches, of windows that lie in `memories`.
        options: of the loader.
        word: what the global generators of a worker, which maps may use, are seeded with, together with its number.

    Raises WorkerError when they cannot be started.
    """

    def __init__(self, make: BatchMaker, options: LoaderOptions, memories: Sequence[SharedMemory], word: int) -> None:
        if process.current_process().daemon:
            guard = 'is the main module\'s own work guarded by `if __name__ == "__main__":`?'
            raise WorkerError(f"a worker cannot start workers; {guard}")
        self._memories, self._live = memories, make.windows
        self._known: set[int] = set()  # the windows that the workers have been told of
        self._pool = WorkerPool(
            options.num_workers,
            _RemoteMaker(make, memories),
            context=options.multiprocessing_context,
            slots=min(options.ahead + _SPARE_SLOTS, _MAX_SLOTS),
            timeout=options.timeout,
            init=partial(_begin, word, options.worker_init_fn),
        )

    def submit(self, job: Job | IndexJob, windows: Sequence[LoadingWindow]) -> Task:
        if gone := self._known - self._live.keys():
            self._known -= gone
            self._pool.broadcast(gone)
        try:
            for window in windows:
                if window.number not in self._known:
                    self._announce(window)
        except RecordIOError as error:  # the window could not be loaded: an error of this batch
            return Failed(error)
        if isinstance(job, Job):
            job = replace(job, parts=[_packed(part) for part in job.parts])
        return self._pool.submit(job)

    def _announce(self, window: LoadingWindow) -> None:
        window.task.result()
        memory = None if window.arena is None else self._memories.index(window.arena)
        self._pool.broadcast(_News(window.number, window.source, window.layout, memory, window.failed))
        self._known.add(window.number)

    def close(self) -> bool:
        self._pool.close()
        return True


def _begin(word: int, init: Callable[[int], Any] | None, number: int) -> None:
    """Makes a worker's global generators its own, and leaves the other cores to the other workers."""
    seed = key(number, after=word)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for a torch that is imported later
    if init is not None:
        init(number)
