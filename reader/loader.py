"""`DataLoader`: a short pipeline of bounded stages: plan, load a window, gather a batch, finish it, hand it over.

The plan is pure (recordio.reader.order). Windows are loaded one ahead by a few threads; batches are finished by the
workers, or by the caller's thread when there are none. What a batch holds never depends on the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recordio.errors import CorruptError, SchemaError
from recordio.page import Indices
from recordio.reader.arena import Arena
from recordio.reader.collate import concatenate
from recordio.reader.dataset import ShardDataset
from recordio.reader.order import Samples, Step
from recordio.reader.store import Store
from recordio.reader.window import Window, WindowLoad, Work
from recordio.schema import Columns

SHUFFLE_WINDOW_BYTES = 64 << 20
SEQUENTIAL_WINDOW_BYTES = 8 << 20
READ_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What a loader does with a dataset; see DataLoader."""

    batch_size: int
    shuffle: bool
    num_workers: int
    drop_last: bool
    prefetch_factor: int
    seed: int
    window_bytes: int | None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("num_workers", 0), ("prefetch_factor", 1), ("window_bytes", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise SchemaError(f"{name} is {value!r}: expected a whole number from {least}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 64:
            raise SchemaError(f"seed is {self.seed!r}: expected a whole number from 0 to 2^64 - 1")


class DataLoader:
    """Batches of a dataset, as dicts of columns.

    Every `iter()` is the next epoch, from 0, unless `set_epoch` says which. A shuffled epoch is a pure function of the
    dataset, the seed and the epoch; the number of workers changes nothing but the speed.

    Args:
        dataset: a ShardDataset or a view of one.
        batch_size: samples a batch; the last batch of an epoch may be smaller.
        shuffle: mix the samples anew each epoch: blocks over the whole dataset, samples within windows of blocks.
        num_workers: threads that make batches ahead: gather, decode images, apply maps; with 0 the caller's does it.
        drop_last: leave out a last batch that is not full.
        collate_fn: makes a batch of a list of samples; the columns of the samples if None.
        prefetch_factor: batches made ahead, for each worker.
        seed: the seed of the shuffling.
        window_bytes: how much is mixed at a time, in bytes before coding; 64 MiB if None. A window as large as the
            dataset is a uniform shuffle.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        num_workers: int = 0,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch_factor: int = 2,
        seed: int = 0,
        window_bytes: int | None = None,
    ) -> None:
        if not isinstance(dataset, ShardDataset):
            raise SchemaError(f"expected a ShardDataset, got {type(dataset).__name__}")
        self.dataset = dataset
        self.options = LoaderOptions(batch_size, shuffle, num_workers, drop_last, prefetch_factor, seed, window_bytes)
        self._collate = collate_fn
        self._epoch = 0

    def __len__(self) -> int:
        n, size = len(self.dataset), self.options.batch_size
        return n // size if self.options.drop_last else -(-n // size)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self._batches(self._steps(epoch))

    def _steps(self, epoch: int) -> Iterator[Step]:
        store, options, numbers = self.dataset.store, self.options, self.dataset.numbers
        whole = isinstance(numbers, range) and numbers == range(store.samples)
        chosen = None if whole else np.asarray(numbers, np.int64)
        samples = Samples(store.block_first, store.block_nbytes, chosen)
        if options.shuffle:
            return samples.shuffled(options.window_bytes or SHUFFLE_WINDOW_BYTES, options.seed, epoch)
        return samples.in_order(options.window_bytes or SEQUENTIAL_WINDOW_BYTES)

    def _batches(self, steps: Iterator[Step]) -> Iterator[Any]:
        """Makes batches in order, as many ahead as the workers have room for."""
        workers = self.options.num_workers
        readers = ThreadPoolExecutor(READ_THREADS, "recordio-read")
        pool = ThreadPoolExecutor(workers, "recordio-batch") if workers else Inline()
        windows = Windows(self.dataset.store, steps, readers)
        room = workers * self.options.prefetch_factor
        ahead: deque[tuple[Task, list[Part]]] = deque()
        try:
            for parts in self._plan(windows, pool):
                ahead.append((pool.submit(self._make, parts), parts))
                if len(ahead) > room:
                    yield _delivered(*ahead.popleft())
            while ahead:
                yield _delivered(*ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            readers.shutdown(wait=True, cancel_futures=True)
            windows.close()

    def _plan(self, windows: Windows, pool: ThreadPoolExecutor | Inline) -> Iterator[list[Part]]:
        """The parts of each batch."""
        size = self.options.batch_size
        carried: list[Part] = []
        for window in windows:
            begin = 0
            while begin < len(window):
                end = min(len(window), begin + size - sum(map(len, carried)))
                carried.append(Part(window, begin, end))
                window.users += 1
                if sum(map(len, carried)) == size:
                    yield carried
                    carried = []
                begin = end
            if carried:
                carried[-1].settle(pool)
        if carried and not self.options.drop_last:
            yield carried

    def _make(self, parts: Sequence[Part]) -> Any:
        columns = _join([part.take() for part in parts])
        if self._collate is None and self.dataset.is_plain:
            return columns
        numbers = np.concatenate([part.numbers() for part in parts])
        if self._collate is None:
            return self.dataset.finish(columns, numbers)
        return self._collate(self.dataset.finish_samples(columns, numbers))


def _delivered(task: Task, parts: list[Part]) -> Any:
    """The batch; its windows have one user less. Nothing here may keep the batch alive."""
    batch = task.result()
    for part in parts:
        part.window.users -= part.task is None
    return batch


class Task(Protocol):
    """Work that was handed to a pool."""

    def result(self) -> Any: ...
    def done(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Done:
    """A task that was done as it was handed in."""

    value: Any

    def result(self) -> Any:
        return self.value

    def done(self) -> bool:
        return True


class Inline:
    """A pool without threads."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Done:
        return Done(function(*args))

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        pass


@dataclass(slots=True, eq=False)
class LoadingWindow:
    """A window of the epoch on its way into memory. `users` are the parts of batches that may still read from it."""

    store: Store
    step: Step
    arena: Arena
    task: Task
    users: int = 0
    settled: Task | None = None

    def __len__(self) -> int:
        return len(self.step.slot)


class Windows:
    """The windows of an epoch in order, loaded by a pool, one beyond the one that was given last."""

    def __init__(self, store: Store, steps: Iterator[Step], pool: ThreadPoolExecutor) -> None:
        self._store, self._steps, self._pool = store, steps, pool
        self._loading: deque[LoadingWindow] = deque()
        self._given: list[LoadingWindow] = []

    def __iter__(self) -> Iterator[LoadingWindow]:
        while True:
            while len(self._loading) < 2 and (step := next(self._steps, None)):
                arena = self._free_arena()
                loading = WindowLoad(self._store, step.blocks)
                task = (
                    self._pool.submit(loading.load, arena, self._run)
                    if loading.has_work
                    else Done(loading.load(arena, self._run))
                )
                self._loading.append(LoadingWindow(self._store, step, arena, task))
            if not self._loading:
                return
            self._given.append(self._loading.popleft())
            yield self._given[-1]

    def _run(self, work: Iterable[Work]) -> None:
        """Does the work in this thread, with the help of what other threads of the pool are idle."""
        source, lock = iter(work), threading.Lock()

        def drain() -> None:
            while True:
                with lock:
                    piece = next(source, None)
                if piece is None:
                    return
                piece()

        helpers = [self._pool.submit(drain) for _ in range(READ_THREADS - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def _free_arena(self) -> Arena:
        """The arena of a window that has no users any more: what they took is a copy. Else another one."""
        for window in self._given:
            if window.users == 0 and (window.settled is None or window.settled.done()):
                self._given.remove(window)
                return window.arena
        return self._store.arenas.take()

    def close(self) -> None:
        """Gives the arenas back. All who load or read have ended."""
        for window in (*self._given, *self._loading):
            self._store.arenas.give_back(window.arena)


@dataclass(slots=True, eq=False)
class Part:
    """Some samples of a window, for one batch."""

    window: LoadingWindow
    begin: int
    end: int
    task: Task | None = None

    def __len__(self) -> int:
        return self.end - self.begin

    def settle(self, pool: ThreadPoolExecutor | Inline) -> None:
        """Takes the samples now: the batch will be complete only when the next window is there."""
        if self.task is None:
            self.task = self.window.settled = pool.submit(self._take)
            self.window.users -= 1

    def take(self) -> Columns:
        return self.task.result() if self.task is not None else self._take()

    def _take(self) -> Columns:
        window: Window = self.window.task.result()
        try:
            return window.take(*self._places())
        except CorruptError as error:
            raise self.window.store.located(error, self.numbers()) from None

    def numbers(self) -> Indices:
        """int64 (n,): the numbers of the samples in the dataset."""
        slot, row = self._places()
        return self.window.store.block_first[self.window.step.blocks[slot]] + row

    def _places(self) -> tuple[Indices, Indices]:
        step = self.window.step
        return step.slot[self.begin : self.end], step.row[self.begin : self.end]


def _join(parts: list[Columns]) -> Columns:
    """The columns of a batch from those of its parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: concatenate([part[name] for part in parts]) for name in parts[0]}
