"""The loader's pipeline, bounded at every stage: plan, load windows, make batches, hand them over.

Windows are loaded one ahead by a few threads. Batches are made ahead by the workers, threads or processes, or by the
caller's thread when there are none. What a batch holds never depends on who makes it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.format.schema import Columns
from recordio.reader.batches.maker import IndexJob, Job, LoadedWindow, Made, Part, Readable
from recordio.reader.batches.page_table import Memory, Piece, Window, WindowLayout, WindowLoad
from recordio.reader.open_dataset import Store
from recordio.reader.order.shuffle import Step
from recordio.reader.workers.inline_threads import Done, Task, Workers, at_once

Work = tuple[Job | IndexJob, list["LoadingWindow"]]  # a batch, and the windows that it needs
READ_THREADS = min(4, os.cpu_count() or 1)


class Arena(Protocol):
    """Memory for one window after another."""

    def reserve(self, nbytes: int) -> Memory: ...


@dataclass(slots=True, eq=False)
class LoadingWindow:
    """A window on its way into memory, or there. It is free when nobody holds it and all
    `tasks` that read from it are done."""

    number: int
    source: int
    step: Step
    arena: Arena | None
    layout: WindowLayout
    failed: dict[int, RecordIOError]
    task: Future[Window] | Done
    tasks: list[Task] = field(default_factory=list)
    holders: int = 1  # the stream that delivers it, and each part that has not been handed to the workers yet
    loaded: Readable | None = None

    @property
    def is_free(self) -> bool:
        if self.holders:
            return False
        self.tasks = [task for task in self.tasks if not task.done()]
        return not self.tasks

    def take(self, slot: Indices, row: Indices) -> Columns:
        """As Window.take, when the window has been loaded."""
        if self.loaded is None:
            window = self.task.result()
            self.loaded = LoadedWindow(window, self.failed) if self.failed else window
        return self.loaded.take(slot, row)


@dataclass(frozen=True, slots=True)
class Loading:
    """What the windows of all datasets of a loader have in common.

    Attributes:
        readers: the threads that load.
        live: every window that is in memory, by number.
        numbers: gives each window its number.
        skip: keep the error of a page instead of raising it.
        room: a dataset of this size may stay mapped.
    """

    readers: ThreadPoolExecutor
    skip: bool
    room: int
    live: dict[int, LoadingWindow] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)


class Windows:
    """The windows of one dataset in order, each being loaded while the one before is delivered.

    There is memory for two of them. While both are still read from, the next one has to wait; one that needs no memory
    waits as well, until it is asked for.
    """

    def __init__(
        self, source: int, store: Store, steps: Iterator[Step], arenas: Sequence[Arena], loading: Loading
    ) -> None:
        self._source, self._store, self._steps = source, store, steps
        self._arenas, self._loading = list(arenas), loading
        self._planned: tuple[Step, WindowLoad, dict[int, RecordIOError]] | None = None
        self._ahead: LoadingWindow | None = None
        self._ended = False
        self.in_use: deque[LoadingWindow] = deque()

    def start(self, now: bool = False) -> bool:
        """Begins to load the next window, unless there is none. False when it has to wait."""
        self._release()
        if self._ahead is not None or self._ended:
            return True
        if self._planned is None:
            step = next(self._steps, None)
            self._ended = step is None
            if step is None:
                return True
            failed: dict[int, RecordIOError] = {}
            note = failed.__setitem__ if self._loading.skip else None
            self._planned = step, WindowLoad(self._store, step.blocks, note, self._loading.room), failed
        needs_memory = self._planned[1].layout.nbytes > 0
        has_room = bool(self._arenas) if needs_memory else now or len(self.in_use) < 2
        if not has_room:
            return False
        self._ahead, self._planned = self._load(*self._planned), None
        return True

    def next(self) -> LoadingWindow | None:
        """The next window, after `start`; None at the end."""
        window, self._ahead = self._ahead, None
        if window is not None:
            self.in_use.append(window)
        return window

    def wait(self) -> None:
        """Until nobody reads from the windows that were given."""
        for window in self.in_use:
            for task in window.tasks:
                task.wait()

    def _release(self) -> None:
        """Memory that nobody reads from any more can be used again: what was taken is a copy."""
        while self.in_use and self.in_use[0].is_free:
            window = self.in_use.popleft()
            del self._loading.live[window.number]
            window.layout.unmap(self._store)
            if window.arena is not None:
                self._arenas.append(window.arena)

    def _load(self, step: Step, load: WindowLoad, failed: dict[int, RecordIOError]) -> LoadingWindow:
        arena = self._arenas.pop() if load.layout.nbytes else None
        memory = arena.reserve(load.layout.nbytes) if arena else b""
        start = self._loading.readers.submit if load.has_work else at_once
        task = start(load.load, memory, self._run)
        number = next(self._loading.numbers)
        window = LoadingWindow(number, self._source, step, arena, load.layout, failed, task)
        self._loading.live[number] = window
        return window

    def _run(self, work: Iterable[Piece]) -> None:
        """Does the work in this thread, with the help of what other threads of the pool are idle."""
        source, lock = iter(work), threading.Lock()

        def drain() -> None:
            while True:
                with lock:
                    piece = next(source, None)
                if piece is None:
                    return
                piece()

        helpers = [self._loading.readers.submit(drain) for _ in range(READ_THREADS - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()


class Stream:
    """The samples of one dataset, in order, as parts of batches."""

    def __init__(self, windows: Windows, taken: Callable[[Part], list[Part]]) -> None:
        self._windows, self._taken = windows, taken
        self._window: LoadingWindow | None = None
        self._at = 0

    def take(self, n: int) -> list[tuple[Part, LoadingWindow]]:
        """The next n samples, and where they are."""
        taken: list[tuple[Part, LoadingWindow]] = []
        while n:
            if self._window is None or self._at == len(self._window.step):
                self._window = self._advance(taken)
            window = self._window
            end = min(len(window.step), self._at + n)
            taken.append((Part(window.source, window.number, window.step, self._at, end), window))
            window.holders += end < len(window.step)  # the stream's own hold goes over to the last part
            n, self._at = n - (end - self._at), end
        self._windows.start()
        return taken

    def _advance(self, taken: list[tuple[Part, LoadingWindow]]) -> LoadingWindow:
        """On to the next window. If that has to wait for memory, what this batch has so far is taken at once."""
        while not self._windows.start(now=True):
            waiting, taken[:] = taken[:], []
            for part, window in waiting:
                if part.columns is None:
                    taken += [(piece, window) for piece in self._taken(part)]
                    window.holders -= 1
                else:
                    taken.append((part, window))
            self._windows.wait()
        following = self._windows.next()
        assert following is not None, "the plan has fewer samples than it says"
        self._at = 0
        self._windows.start()
        return following


def jobs(streams: Sequence[Stream], sources: Iterator[Indices] | None, samples: int, batch_size: int) -> Iterator[Work]:
    """The batches of an epoch."""
    waiting = np.zeros(0, np.int64)
    for begin in range(0, samples, batch_size):
        n = min(batch_size, samples - begin)
        turns = None
        if sources is None:
            taken = streams[0].take(n)
        else:
            while len(waiting) < n:
                waiting = np.concatenate([waiting, next(sources)])
            turns, waiting = waiting[:n], waiting[n:]
            counts = np.bincount(turns, minlength=len(streams)).tolist()
            taken = [one for stream, count in zip(streams, counts, strict=True) for one in stream.take(count)]
        yield Job([part for part, _ in taken], turns), [window for part, window in taken if part.columns is None]


def run(work: Iterable[Work], workers: Workers, room: int, in_order: bool) -> Iterator[Made]:
    """The batches, as many ahead of the one that is given as there is room for."""
    ahead: deque[Task] = deque()
    for job, windows in work:
        task = workers.submit(job, windows)
        for window in windows:
            window.holders -= 1
            if not task.done():
                window.tasks.append(task)
        if not room:
            yield task.result()
            continue
        ahead.append(task)
        if len(ahead) > room:
            yield _next(ahead, in_order).result()
    while ahead:
        yield _next(ahead, in_order).result()


def _next(ahead: deque[Task], in_order: bool) -> Task:
    """The oldest task, or the oldest of those that are done, as soon as there is one."""
    if in_order:
        return ahead.popleft()
    if not any(task.done() for task in ahead):
        ahead[0].wait(ahead)
    at = next(k for k, task in enumerate(ahead) if task.done())
    task = ahead[at]
    del ahead[at]
    return task
