"""Batches made in this process: by the caller's own thread, or by a pool of threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from recordio.errors import WorkerError
from recordio.process_guard import ThreadPool
from recordio.reader.batches.requests import BatchRequest, BatchResult, IndexRequest, Window
from recordio.reader.workers.protocol import CompletedTask, Task
from recordio.reader.workers.thread_trial import ThreadTrial

_Batch = tuple[Future[BatchResult], BatchRequest | IndexRequest]
Make = Callable[[BatchRequest | IndexRequest], BatchResult]

_CALLER = 4  # of the loader, from `submit`, which EpochRun._deliver calls, and that DataLoader._delivered


class InlineWorkers:
    """The caller's own thread."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def submit(self, request: BatchRequest | IndexRequest) -> Task:
        return CompletedTask(self._make(request))

    def forget(self, window: Window) -> None: ...

    def close(self) -> bool:
        return True


class ThreadTask:
    """A task of a thread. `result` and `wait` raise WorkerError after `timeout` seconds, unless it is 0."""

    def __init__(self, future: Future[Any], timeout: float) -> None:
        self._future: Future[Any] | None = future
        self._timeout = timeout

    def result(self) -> Any:
        future = self._future
        assert future is not None
        self.wait()  # a TimeoutError of `future.result` could be the function's own
        result = future.result()
        self._future = None
        return result

    def done(self) -> bool:
        return self._future is None or self._future.done()

    def wait(self, others: Iterable[ThreadTask] = ()) -> None:
        if self.done():
            return
        futures = [task._future for task in (self, *others) if task._future is not None]
        if futures and not wait(futures, self._timeout or None, FIRST_COMPLETED).done:
            raise self._late()

    def _late(self) -> WorkerError:
        return WorkerError(f"no batch within timeout={self._timeout:g} seconds")


class ThreadWorkers:
    """A pool of threads.

    Args:
        count: the number of threads.
        make: makes the batches.
        timeout: seconds that a batch may take; 0 for no limit.
        trial: says how many threads make batches at a time.
        choose: gives what makes the next batch, where that is not always `make`.
    """

    def __init__(
        self,
        count: int,
        make: Make,
        timeout: float,
        trial: ThreadTrial,
        choose: Callable[[], Make] | None = None,
    ) -> None:
        self._pool = ThreadPool(count, "recordio-batch")
        self._make = make
        self._choose = choose or (lambda: make)
        self._timeout = timeout
        self._trial = trial
        self._under_way: set[Future[Any]] = set()
        self._lock = threading.Lock()  # of the following
        self._waiting: deque[_Batch] = deque()
        self._working = 0

    def submit(self, request: BatchRequest | IndexRequest) -> Task:
        if self._trial.limit == self._trial.count and self._trial.ended:
            return ThreadTask(self._start(self._choose(), request), self._timeout)
        self._trial.tell(_CALLER)
        batch: _Batch = Future(), request
        with self._lock:
            self._waiting.append(batch)
            enough = self._working >= self._trial.limit  # one of them takes the batch when it is done with its own
        if not enough:
            self._start(self._work)
        return ThreadTask(batch[0], self._timeout)

    def _start(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future = self._pool.submit(function, *arguments)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def _work(self) -> None:
        """Makes batches until none is waiting, or enough other threads do."""
        with self._lock:
            batch, working = self._take()
        while batch is not None:
            begun, cpu = time.perf_counter(), time.thread_time()
            _make(*batch, self._make)
            seconds, cpu = time.perf_counter() - begun, time.thread_time() - cpu
            with self._lock:
                self._trial.add(working, self._working, seconds, cpu)
                self._working -= 1
                batch, working = self._take()

    def _take(self) -> tuple[_Batch | None, int]:
        """The next batch for the calling thread, and how many threads are then at work."""
        if not self._waiting or self._working >= self._trial.limit:
            return None, 0
        self._working += 1
        return self._waiting.popleft(), self._working

    def forget(self, window: Window) -> None: ...

    def close(self) -> bool:
        """Waits for running batches. A thread cannot be killed: one that exceeds the timeout is left alone."""
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Ctrl-C between `add` and `add_done_callback` leaves a cancelled future in the set.
        running = [future for future in list(self._under_way) if not future.cancelled()]
        all_ended = not wait(running, self._timeout or None).not_done
        self._pool.shutdown(wait=all_ended)
        return all_ended


def _make(future: Future[BatchResult], request: BatchRequest | IndexRequest, make: Make) -> None:
    try:
        future.set_result(make(request))
    except BaseException as error:  # noqa: BLE001 raised by the task
        future.set_exception(error)
        del future, request  # the error holds this frame
