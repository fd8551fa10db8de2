"""Batches made by the caller's thread and by threads: how many at a time, errors, time limits, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import pytest

from recordio import WorkerError
from recordio.reader.workers.inline_threads import InlineWorkers, ThreadTask, ThreadWorkers
from recordio.reader.workers.thread_trial import ThreadTrial


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


def threads(count: int, make: Any, timeout: float = 0, trial: ThreadTrial | None = None) -> ThreadWorkers:
    return ThreadWorkers(count, make, timeout, trial or ThreadTrial(count, ended=True))


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


@pytest.fixture(params=[True, False])
def ended(request: pytest.FixtureRequest) -> bool:
    """Whether there is nothing to try, so that the threads take their batches without asking."""
    return bool(request.param)


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

    def test_thread_task_raises_the_error_of_its_batch(self, ended: bool) -> None:
        workers = threads(2, raising(LookupError("a map's")), trial=ThreadTrial(2, ended))
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


class Making:
    """Counts the batches that are made at the same time. The test ends them one by one."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.changed = threading.Condition()
        self.ended: set[Any] = set()

    def __call__(self, request: Any) -> Any:
        with self.changed:
            self.begun.append(request)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: request in self.ended, 30)
        return request

    def end(self, *requests: Any) -> None:
        with self.changed:
            self.ended.update(requests)
            self.changed.notify_all()

    def wait_for(self, begun: list[Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= len(begun), 30)
            assert sorted(self.begun) == begun


class TestLimit:
    def test_threads_take_the_oldest_batch(self) -> None:
        making = Making()
        workers = threads(2, making, trial=ThreadTrial(2))
        tasks: list[Any] = [workers.submit(number) for number in range(4)]  # type: ignore[arg-type]
        making.wait_for([0, 1])
        making.end(1)
        making.wait_for([0, 1, 2])
        making.end(0, 2, 3)
        assert [task.result() for task in tasks] == [0, 1, 2, 3]
        assert workers.close()

    def test_no_more_threads_work_than_the_trial_allows(self) -> None:
        making, trial = Making(), ThreadTrial(3)
        workers = threads(3, making, trial=trial)
        trial.limit = 1
        tasks: list[Any] = [workers.submit(number) for number in range(5)]  # type: ignore[arg-type]
        for number in range(3):
            making.wait_for(list(range(number + 1)))
            making.end(number)
            assert tasks[number].result() == number
        making.wait_for([0, 1, 2, 3])
        trial.limit = 3
        tasks += [workers.submit(number) for number in (5, 6)]  # type: ignore[arg-type]
        making.wait_for([0, 1, 2, 3, 4, 5])
        making.end(3, 4, 5, 6)
        assert [task.result() for task in tasks[3:]] == [3, 4, 5, 6]
        assert workers.close()

    def test_threads_stop_when_the_limit_falls(self) -> None:
        making, trial = Making(), ThreadTrial(2)
        workers = threads(2, making, trial=trial)
        tasks: list[Any] = [workers.submit(number) for number in range(4)]  # type: ignore[arg-type]
        making.wait_for([0, 1])
        trial.limit = 1
        making.end(0)
        wait(list(workers._under_way), 30, FIRST_COMPLETED)  # a thread has left, though batches are waiting
        assert tasks[0].result() == 0
        assert making.begun == [0, 1]
        making.end(1, 2, 3)
        assert [task.result() for task in tasks[1:]] == [1, 2, 3]
        assert workers.close()

    def test_the_trial_hears_of_every_batch(self) -> None:
        heard: list[tuple[int, int]] = []

        class Listening(ThreadTrial):
            def add(self, began: int, finished: int, seconds: float, cpu: float) -> None:
                assert 0 <= cpu < 30
                assert 0 <= seconds < 30
                heard.append((began, finished))

        making = Making()
        workers = threads(2, making, trial=Listening(2))
        tasks: list[Any] = [workers.submit(number) for number in range(3)]  # type: ignore[arg-type]
        making.wait_for([0, 1])
        making.end(0)
        making.wait_for([0, 1, 2])
        making.end(1)
        assert tasks[1].result() == 1
        making.end(2)
        assert workers.close()
        assert heard[0] == (1, 2)
        assert [began for began, _ in heard] == [1, 2, 2]


class TestClose:
    def test_close_waits_for_running_batches_and_drops_the_others(self, gate: Gate, ended: bool) -> None:
        made: list[Any] = []
        started = threading.Event()

        def make(request: Any) -> Any:
            started.set()
            made.append(gate(request))

        workers = threads(2, make, trial=ThreadTrial(2, ended))
        for number in range(5):
            workers.submit(number)  # type: ignore[arg-type]
        started.wait()
        closed: list[bool] = []
        closing = threading.Thread(target=lambda: closed.append(workers.close()))
        closing.start()
        gate.opens.set()
        closing.join()
        assert closed == [True]
        assert 0 in made
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("recordio-batch")]

    def test_close_does_not_wait_past_the_timeout(self, gate: Gate, ended: bool) -> None:
        made: list[Any] = []
        started = threading.Event()

        def make(request: Any) -> Any:
            started.set()
            made.append(request)
            return gate(request)

        before = set(threading.enumerate())
        workers = threads(2, make, timeout=0.01, trial=ThreadTrial(2, ended))
        tasks: list[Any] = [workers.submit(number) for number in range(5)]  # type: ignore[arg-type]
        started.wait()
        assert not workers.close()
        gate.opens.set()
        assert tasks[0]._future.result() == 0
        for thread in set(threading.enumerate()) - before:
            thread.join()
        assert len(made) <= 2  # the others were dropped
