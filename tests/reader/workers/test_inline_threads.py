"""Batches made by the caller's thread and by threads: errors, time limits, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from recordio import WorkerError
from recordio.reader.workers.inline_threads import InlineWorkers, ThreadTask, ThreadWorkers


class Gate:
    """A maker whose batches wait until it opens, and are their requests."""

    def __init__(self) -> None:
        self.opens = threading.Event()

    def __call__(self, request: Any) -> Any:
        self.opens.wait()
        return request


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opens.set()


def threads(count: int, make: Any, timeout: float = 0, init: Any = None) -> ThreadWorkers:
    return ThreadWorkers(count, make, timeout, init)


def raising(error: Exception) -> Any:
    def make(request: Any) -> Any:
        raise error

    return make


class TestInline:
    def test_inline_batch_is_made_on_submit(self) -> None:
        task = InlineWorkers(lambda request: request + 1).submit(1)  # type: ignore[arg-type, operator]
        assert task.done()
        assert task.result() == 2

    def test_inline_error_is_raised_on_submit(self) -> None:
        with pytest.raises(LookupError, match="x"):
            InlineWorkers(raising(LookupError("x"))).submit(1)  # type: ignore[arg-type]


class TestThreadTask:
    def test_thread_task_is_done_when_its_batch_is_made(self, gate: Gate) -> None:
        workers = threads(1, gate)
        task: Any = workers.submit("batch")  # type: ignore[arg-type]
        assert not task.done()
        gate.opens.set()
        task.wait()
        assert task.done()
        assert task.result() == "batch"
        assert task.done()
        assert workers.close()

    def test_thread_task_waits_for_the_first_of_several(self) -> None:
        gates = [Gate(), Gate()]
        workers = threads(2, lambda number: gates[number](number))
        tasks: Any = [workers.submit(number) for number in range(2)]  # type: ignore[arg-type]
        gates[1].opens.set()
        tasks[0].wait(tasks)
        assert tasks[1].done()
        assert not tasks[0].done()
        gates[0].opens.set()
        assert workers.close()

    def test_thread_task_raises_the_error_of_its_batch(self) -> None:
        workers = threads(1, raising(LookupError("a map's")))
        with pytest.raises(LookupError, match="a map's"):
            workers.submit(1).result()  # type: ignore[arg-type]
        assert workers.close()

    @pytest.mark.parametrize("timeout", [0, 60])
    def test_timeout_error_of_a_batch_is_raised_unchanged(self, timeout: float) -> None:
        workers = threads(1, raising(TimeoutError("the map's own")), timeout)
        with pytest.raises(TimeoutError, match="the map's own"):
            workers.submit(1).result()  # type: ignore[arg-type]
        assert workers.close()

    @pytest.mark.parametrize("method", ["result", "wait"])
    def test_thread_task_raises_after_the_timeout(self, gate: Gate, method: str) -> None:
        workers = threads(1, gate, timeout=0.01)
        task = workers.submit(1)  # type: ignore[arg-type]
        with pytest.raises(WorkerError, match=r"no batch within timeout=0.01 seconds"):
            getattr(task, method)()
        gate.opens.set()

    def test_batch_made_just_after_the_timeout_is_late_too(self) -> None:
        """A bare TimeoutError would look like one of the batch itself."""

        class JustLate(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if timeout is not None:
                    self.set_result("batch")
                    raise TimeoutError
                return super().result()

        with pytest.raises(WorkerError, match="no batch within timeout"):
            ThreadTask(JustLate(), timeout=0.01).result()

    def test_thread_task_drops_a_batch_that_was_taken(self) -> None:
        workers = threads(1, lambda request: [request])
        task: Any = workers.submit(1)  # type: ignore[arg-type]
        assert task.result() == [1]
        assert task._future is None
        assert workers.close()


class TestInit:
    def test_init_is_called_once_in_each_thread(self) -> None:
        calls: dict[int, int] = {}
        workers = threads(4, lambda request: request, init=lambda number: calls.update({number: threading.get_ident()}))
        assert sorted(calls) == [0, 1, 2, 3]
        assert len(set(calls.values())) == 4
        assert workers.close()

    def test_error_of_init_is_raised_and_leaves_no_thread(self) -> None:
        before = set(threading.enumerate())

        def init(number: int) -> None:
            if number == 1:
                raise LookupError("no such worker")

        with pytest.raises(LookupError, match="no such worker"):
            threads(3, lambda request: request, init=init)
        for thread in set(threading.enumerate()) - before:
            thread.join()


class TestClose:
    def test_close_waits_for_running_batches_and_drops_the_others(self, gate: Gate) -> None:
        made: list[Any] = []
        started = threading.Event()

        def make(request: Any) -> Any:
            started.set()
            made.append(gate(request))

        workers = threads(1, make)
        for number in range(3):
            workers.submit(number)  # type: ignore[arg-type]
        started.wait()
        closed: list[bool] = []
        closing = threading.Thread(target=lambda: closed.append(workers.close()))
        closing.start()
        gate.opens.set()
        closing.join()
        assert closed == [True]
        assert made[0] == 0
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("recordio-batch")]

    def test_close_does_not_wait_past_the_timeout(self, gate: Gate) -> None:
        started = threading.Event()

        def make(request: Any) -> Any:
            started.set()
            return gate(request)

        workers = threads(1, make, timeout=0.01)
        task: Any = workers.submit(1)  # type: ignore[arg-type]
        started.wait()
        assert not workers.close()
        gate.opens.set()
        assert task._future.result() == 1
