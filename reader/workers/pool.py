"""A pool of worker processes that make batches.

A request goes to a worker in a slot of shared memory, and the batch comes back in the same slot. The pipes carry only
the numbers of slots, few enough at a time that no write ever blocks. The parent has no threads: the pipes are read
while somebody waits for a batch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import selectors
import signal
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

from recordio.errors import WorkerError
from recordio.pickling import DeferredPickle
from recordio.process_guard import interrupt_held, starting_children
from recordio.reader.columns import Empty
from recordio.reader.workers.serve import SLOT_NUMBER, serve
from recordio.reader.workers.slots import Contents, Slot, load
from recordio.reader.workers.transport import Failure

_MAX_IN_HAND = 64  # requests that a worker has at a time: their numbers always fit in its pipe, both ways
_MIN_FREE = 2  # slots that are never left to batches of the consumer
_QUIT_SECONDS = 0.2  # for workers to end by themselves
_TERMINATE_SECONDS = 0.3  # after SIGTERM
_NO_PICKLES = 'or use worker_type="thread" or multiprocessing_context="fork"'

_HINTS: dict[int, str] = {
    signal.SIGBUS: ': was a file cut while it was mapped? With io="pread" that is an error which names the file',
    signal.SIGKILL: ": did the system run out of memory?",
}


class Task:
    """A batch that is being made. Dropping the task drops the batch."""

    def __init__(self, pool: WorkerPool, request: bytes) -> None:
        self._pool = pool
        self.request = request
        self.worker: int | None = None
        self._contents: Contents | None = None
        self._loaded: list[Any] = []
        self.has_arrived = False

    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self.has_arrived or self._pool.check_for(self)

    def wait(self, others: Iterable[Task] = ()) -> None:
        """Until this task or one of the others is done. Raises WorkerError when no more batches will come."""
        self._pool.wait_for([self, *others])

    def result(self) -> Any:
        """The batch; to be called once. Its large arrays lie in a slot, which is freed when they are dropped.

        Raises WorkerError when the worker has died or took too long. An error of the worker is raised with its
        traceback as a note, or as a WorkerError with the same text if it cannot be pickled.
        """
        self.wait()
        if self._contents is not None:
            self.unload(copy=not self._pool.can_spare_a_slot)
        outcome = self._loaded.pop()
        if isinstance(outcome, Failure):
            raise outcome.error()
        batch, packing = outcome
        self._pool.count_handover(packing)
        return batch

    def arrive(self, contents: Contents) -> None:
        self._contents, self.has_arrived = contents, True

    def unload(self, copy: bool) -> None:
        """Takes the batch out of its slot, if it is still there."""
        if self._contents is not None:
            contents, self._contents = self._contents, None
            began = time.perf_counter_ns()
            self._loaded.append(load(contents, copy))
            self._pool.count_handover(time.perf_counter_ns() - began)


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker as the parent sees it: its requests by slot, and the messages to send with the next request."""

    number: int
    process: process.BaseProcess
    connection: Connection
    in_hand: dict[int, weakref.ref[Task]] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    requests: int = 0


class WorkerPool:
    """Worker processes, each with a copy of a callable object. Used by one thread of the process that made it.

    The workers end with this process, however it ends, and Ctrl-C does not reach them. A batch that is still held when
    this process forks is shared with the fork: copy it there before it is dropped here.

    Args:
        workers: the number of processes.
        make: `make(request, empty)` is the batch of a request. An array from `empty(shape, dtype)` lies in the slot
            already, and is not copied. Forked workers inherit `make`, others get it pickled.
        context: a start method or a context of multiprocessing; its default if None.
        slots: the number of batches in shared memory, being made or held by the consumer. As many as requests
            submitted ahead, and a few more; batches beyond them are copied.
        timeout: raise when no batch arrives for so many seconds; 0 for never.
        init: called once in each worker, with its number, before everything else.
        count_handover: called with the nanoseconds that it took to put a batch into its slot, or to take it out.

    Raises WorkerError when the processes cannot be started.
    """

    def __init__(
        self,
        workers: int,
        make: Callable[[Any, Empty], Any],
        *,
        context: str | BaseContext | None = None,
        slots: int,
        timeout: float = 0,
        init: Callable[[int], Any] | None = None,
        count_handover: Callable[[int], Any] = lambda nanoseconds: None,
    ) -> None:
        self._pid, self._timeout = os.getpid(), timeout
        self._context: Any = context if isinstance(context, BaseContext) else multiprocessing.get_context(context)
        self.count_handover = count_handover
        self._fault = ""  # why no more batches will come
        self._queue: deque[weakref.ref[Task] | bytes] = deque()  # tasks, and messages between them
        self._arrived: dict[int, weakref.ref[Task]] = {}
        self._selector = selectors.PollSelector()
        self._workers: list[_Worker] = []
        self._slots = [Slot() for _ in range(slots)]
        self._free = list(range(slots))
        self._shut_down = weakref.finalize(self, _shut_down, self._pid, self._workers, self._slots)
        try:
            work = DeferredPickle((make, init), advice=_NO_PICKLES)
            with starting_children(self._context.get_start_method()):
                for number in range(workers):
                    self._start(number, work)
        except WorkerError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise WorkerError(f"cannot start worker {number}: {type(error).__name__}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _start(self, number: int, work: DeferredPickle) -> None:
        ours, theirs = self._context.Pipe()
        forks = self._context.get_start_method() == "fork"
        inherited = [ours, *(worker.connection for worker in self._workers)] if forks else []
        arguments = number, theirs, self._slots, work, inherited
        child = self._context.Process(target=serve, args=arguments, name=f"recordio-worker-{number}", daemon=True)
        with theirs:
            child.start()
        # Otherwise a fork of this process would take the workers for its own and end them at its exit.
        process._children.discard(child)  # type: ignore[attr-defined]
        self._workers.append(_Worker(number, child, ours))
        for end in (ours, child.sentinel):
            self._selector.register(end, selectors.EVENT_READ, self._workers[-1])

    def submit(self, request: Any) -> Task:
        """Gives a request to the worker that has the fewest. Raises WorkerError when the workers have ended."""
        self._check()
        task = Task(self, pickle.dumps(request, 5))
        self._queue.append(weakref.ref(task))
        self._collect(0)
        return task

    def broadcast(self, message: Any) -> None:
        """Calls `make.receive(message)` in every worker, after all earlier requests and before all later ones."""
        self._check()
        self._queue.append(pickle.dumps(message, 5))
        self._hand_out()

    def close(self) -> None:
        """Ends the workers and frees everything. Batches that were delivered stay valid."""
        self._queue.clear()
        self._shut_down()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def can_spare_a_slot(self) -> bool:
        return len(self._free) >= _MIN_FREE

    def wait_for(self, tasks: Sequence[Task]) -> None:
        """Waits until one of the tasks has arrived. Raises WorkerError."""
        while not any(task.has_arrived for task in tasks):
            self._check()
            if not self._collect(self._timeout or None):
                worker = tasks[0].worker
                who = "the workers" if worker is None else f"worker {worker}"
                raise WorkerError(f"no batch from {who} within timeout={self._timeout:g} seconds")

    def check_for(self, task: Task) -> bool:
        """Reads the pipes without waiting. Whether the task is done."""
        if not self._has_ended and os.getpid() == self._pid:
            self._collect(0)
        return task.has_arrived or self._has_ended

    @property
    def _has_ended(self) -> bool:
        """Whether no more batches will come. At the exit of this process the finalizer runs without `close`."""
        return bool(self._fault) or not self._shut_down.alive

    def _check(self) -> None:
        if self._has_ended:
            raise WorkerError(self._fault or "the workers have been closed")
        if os.getpid() != self._pid:
            raise WorkerError(f"the workers belong to process {self._pid}, and this is a fork of it")

    def _collect(self, seconds: float | None) -> bool:
        """Receives what arrives within that time. False if nothing does."""
        events = self._selector.select(seconds)
        for key, _ in events:
            worker: _Worker = key.data
            if key.fileobj is not worker.connection or not self._receive(worker):
                self._note_end(worker)
        self._hand_out()
        return bool(events)

    def _receive(self, worker: _Worker) -> bool:
        """Receives one batch. False at the end of the pipe."""
        try:
            (slot,) = SLOT_NUMBER.unpack(worker.connection.recv_bytes())
        except (EOFError, OSError):
            return False
        contents = self._slots[slot].contents()
        weakref.finalize(contents, self._free.append, slot).atexit = False
        waiting = worker.in_hand.pop(slot)
        if (task := waiting()) is not None:
            task.arrive(contents)
            self._arrived[slot] = waiting
        return True

    def _note_end(self, worker: _Worker) -> None:
        """Receives the last batches of a worker, and notes why it has ended."""
        if self._fault:
            return
        with contextlib.suppress(OSError):
            while worker.connection.poll() and self._receive(worker):
                pass
        worker.process.join(1)
        self._fault = _reason_of_end(worker)

    def _hand_out(self) -> None:
        """Gives queued requests and messages to the workers while there are free slots."""
        while self._queue:
            item = self._queue[0]
            if isinstance(item, bytes):
                for worker in self._workers:
                    worker.messages.append(item)
            elif (task := item()) is not None and not self._give(task):
                return
            self._queue.popleft()

    def _give(self, task: Task) -> bool:
        worker = min(self._workers, key=lambda worker: (len(worker.in_hand), worker.requests))
        if len(worker.in_hand) == _MAX_IN_HAND or not self._has_free_slot():
            return False
        slot = self._free.pop()
        try:
            self._slots[slot].put((worker.messages, task.request))
        except BaseException:
            self._free.append(slot)
            raise
        task.worker = worker.number
        worker.messages = []
        worker.requests += 1
        worker.in_hand[slot] = weakref.ref(task)
        with contextlib.suppress(OSError):  # a dead worker is found by its sentinel
            worker.connection.send_bytes(SLOT_NUMBER.pack(slot))
        return True

    def _has_free_slot(self) -> bool:
        """Frees one if need be: batches that nobody has asked for yet are copied out of their slots."""
        while not self._free and self._arrived:
            slot = next(iter(self._arrived))
            if (task := self._arrived.pop(slot)()) is not None:
                task.unload(copy=True)
        return bool(self._free)


def _reason_of_end(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"worker {worker.number} was killed by {name}{_HINTS.get(-code, '')}"
    end = "closed its pipe" if code is None else f"ended with exit code {code}"
    return f"worker {worker.number} {end}; what it printed may say why"


def _shut_down(pid: int, workers: Sequence[_Worker], slots: Sequence[Slot]) -> None:
    """Ends the workers, unless this is a fork of their parent."""
    if os.getpid() != pid:
        return
    with interrupt_held(in_finalizer=True):
        _end_workers(workers, slots)


def _end_workers(workers: Sequence[_Worker], slots: Sequence[Slot]) -> None:
    for worker in workers:
        worker.connection.close()  # ends an idle worker now, a busy one after its batch
    children = [worker.process for worker in workers]
    try:
        _join(children, _QUIT_SECONDS)
        for child in children:
            child.terminate()
        _join(children, _TERMINATE_SECONDS)
    finally:
        for child in children:
            child.kill()
        _join(children, 1)
        for child in children:
            with contextlib.suppress(ValueError):  # the system does not let it go
                child.close()
        for slot in slots:
            slot.close()


def _join(children: Sequence[process.BaseProcess], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for child in children:
        child.join(max(0, deadline - time.monotonic()))
