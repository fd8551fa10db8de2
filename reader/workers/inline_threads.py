"""Who makes batches: the caller's own thread, or a pool of threads. Processes are in `remote`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from recordio.errors import WorkerError
from recordio.reader.batches.maker import BatchMaker, IndexJob, Job, Made

if TYPE_CHECKING:
    from recordio.reader.loading.prefetch import LoadingWindow


class Task(Protocol):
    """Work that was handed to a pool. `result` is called once: the task keeps nothing of it."""

    def result(self) -> Any: ...
    def done(self) -> bool: ...
    def wait(self, others: Iterable[Any] = ()) -> None:
        """Until it is done, or one of `others`: tasks that were handed to the same pool."""


class Workers(Protocol):
    """Who makes batches."""

    def submit(self, job: Job | IndexJob, windows: Sequence[LoadingWindow]) -> Task:
        """The batch of a job, to be made of these windows."""

    def close(self) -> bool:
        """Ends them. False when one may go on reading from the windows."""


@dataclass(slots=True)
class Done:
    """A task that was done as it was handed in."""

    value: Any

    def result(self) -> Any:
        return self.value

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...


@dataclass(slots=True)
class Failed:
    """A task that cannot be done."""

    error: Exception

    def result(self) -> Any:
        raise self.error

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...


def at_once(function: Callable[..., Any], *args: Any) -> Done:
    """What a pool would do in a thread, done here."""
    return Done(function(*args))


class Pending:
    """A task that a thread does. Raises WorkerError when it takes longer than `timeout` seconds, if that is not 0."""

    def __init__(self, future: Future[Any], timeout: float) -> None:
        self._future: Future[Any] | None = future
        self._timeout = timeout

    def result(self) -> Any:
        assert self._future is not None
        try:
            result = self._future.result(self._timeout or None)
        except TimeoutError:
            if self._future.done():  # the function's own
                raise
            raise self._late() from None
        self._future = None
        return result

    def done(self) -> bool:
        return self._future is None or self._future.done()

    def wait(self, others: Iterable[Pending] = ()) -> None:
        futures = [task._future for task in (self, *others) if task._future is not None]
        if futures and not wait(futures, self._timeout or None, FIRST_COMPLETED).done:
            raise self._late()

    def _late(self) -> WorkerError:
        return WorkerError(f"no batch within timeout={self._timeout:g} seconds")


class NoWorkers:
    """The caller's own thread."""

    def __init__(self, make: BatchMaker) -> None:
        self._make = make

    def submit(self, job: Job | IndexJob, windows: Sequence[LoadingWindow]) -> Task:
        return Done(self._make(job))

    def close(self) -> bool:
        return True


class ThreadWorkers:
    """A pool of threads.

    Args:
        count: how many threads.
        make: makes the batches.
        timeout: seconds that a batch may take; 0 for any.
        init: is called once in each thread, with its number, before everything else.
    """

    def __init__(self, count: int, make: BatchMaker, timeout: float, init: Callable[[int], Any] | None) -> None:
        self._pool = ThreadPoolExecutor(count, "recordio-batch")
        self._make, self._timeout = make, timeout
        self._under_way: set[Future[Made]] = set()
        if init is not None:
            self._begin(count, init)

    def _begin(self, count: int, init: Callable[[int], Any]) -> None:
        all_there = threading.Barrier(count)

        def begin(number: int) -> None:
            all_there.wait()  # so each thread takes one call
            init(number)

        try:
            begun = [Pending(self._pool.submit(begin, number), self._timeout) for number in range(count)]
            for task in begun:
                task.result()
        except BaseException:
            all_there.abort()
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise

    def submit(self, job: Job | IndexJob, windows: Sequence[LoadingWindow]) -> Task:
        future = self._pool.submit(self._make, job)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return Pending(future, self._timeout)

    def close(self) -> bool:
        """A thread cannot be ended: one that takes longer than the timeout is left alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Ctrl-C may have come between `add` and `add_done_callback`: a future that was cancelled then stays in the set.
        running = [future for future in list(self._under_way) if not future.cancelled()]
        all_ended = not wait(running, self._timeout or None).not_done
        self._pool.shutdown(wait=all_ended)
        return all_ended
