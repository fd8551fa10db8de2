"""A pool of worker processes that make batches.

A job goes to a worker in a slot of shared memory, and the batch comes back in the same slot. The pipes carry nothing
but the numbers of slots, a few of them at a time, so that nobody ever waits to write. There are no threads in the
parent: whoever waits for a batch reads the pipes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import selectors
import signal
import struct
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
from recordio.process_guard import begin_child, interrupt_held, starting_children
from recordio.reader.columns import Empty
from recordio.reader.workers.slots import Contents, Slot, load
from recordio.reader.workers.transport import DeferredPickle, Failure

_NUMBER = struct.Struct("<I")
_MAX_IN_HAND = 64  # jobs that a worker is given at a time: their numbers always fit in its pipe, both ways
_MIN_FREE = 2  # slots that batches in the hands of the consumer must leave
_QUIT_SECONDS, _TERMINATE_SECONDS = 0.2, 0.3  # what workers get to end by themselves, and to be ended

_HINTS: dict[int, str] = {
    signal.SIGBUS: ': was a file cut while it was mapped? With io="pread" that is an error which names the file',
    signal.SIGKILL: ": did the system run out of memory?",
}


class Task:
    """A batch on its way. Dropping it drops the batch."""

    def __init__(self, pool: WorkerPool, job: bytes) -> None:
        self._pool, self.job = pool, job
        self.worker: int | None = None
        self._contents: Contents | None = None
        self._loaded: list[Any] = []
        self.has_arrived = False

    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self.has_arrived or self._pool.looks_for(self)

    def wait(self, others: Iterable[Task] = ()) -> None:
        """Until it is done, or one of the others. Raises WorkerError when no more batches will come."""
        self._pool.wait_for([self, *others])

    def result(self) -> Any:
        """The batch; to be called once. Its large arrays lie in a slot, which is free again when they are dropped.

        Raises WorkerError when the worker has died or took too long. An error that it had is raised itself, with its
        traceback as a note, or as a WorkerError that tells all of it if it cannot be pickled.
        """
        self.wait()
        if self._contents is not None:
            self.unload(copy=not self._pool.can_spare_a_slot)
        outcome = self._loaded.pop()
        if isinstance(outcome, Failure):
            raise outcome.error()
        return outcome

    def arrive(self, contents: Contents) -> None:
        self._contents, self.has_arrived = contents, True

    def unload(self, copy: bool) -> None:
        """Takes the batch out of its slot, if it is there."""
        if self._contents is not None:
            contents, self._contents = self._contents, None
            self._loaded.append(load(contents, copy))


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker as the parent sees it: its jobs by slot, and the messages that it will get with the next one."""

    number: int
    process: process.BaseProcess
    connection: Connection
    in_hand: dict[int, weakref.ref[Task]] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    jobs: int = 0


class WorkerPool:
    """Worker processes, each with a copy of a callable object. For one thread of the process that made it.

    They end with this process, however it ends. Ctrl-C reaches this process only. A batch that is still held when
    this process forks is shared with the fork: copy it there before it is dropped here.

    Args:
        workers: how many processes.
        make: `make(job, empty)` is the batch of a job; what `empty(shape, dtype)` gives it need not be copied to get
            into the slot. By fork it is inherited, else pickled.
        context: a start method or a context of multiprocessing; its default if None.
        slots: how many batches there can be in shared memory: those being made, and those that the consumer holds. As
            many as jobs that are submitted ahead, and a few more; a batch beyond them is copied.
        timeout: seconds without any batch after which waiting for one is an error; 0 for never.
        init: is called once in each worker, with its number, before everything else.

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
    ) -> None:
        self._pid, self._timeout = os.getpid(), timeout
        self._context: Any = context if isinstance(context, BaseContext) else multiprocessing.get_context(context)
        self._fault = ""  # why no more batches will come
        self._queue: deque[weakref.ref[Task] | bytes] = deque()  # jobs, and messages between them
        self._arrived: dict[int, weakref.ref[Task]] = {}
        self._selector = selectors.PollSelector()
        self._workers: list[_Worker] = []
        self._slots = [Slot() for _ in range(slots)]
        self._free = list(range(slots))
        self._shut_down = weakref.finalize(self, _shut_down, self._pid, self._workers, self._slots)
        try:
            work = DeferredPickle((make, init))
            with starting_children(self._context.get_start_method()):
                for number in range(workers):
                    self._start(number, work)
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
        child = self._context.Process(target=_serve, args=arguments, name=f"recordio-worker-{number}", daemon=True)
        with theirs:
            child.start()
        # Else a fork of this process would end the workers when it exits, taking them for its own.
        process._children.discard(child)  # type: ignore[attr-defined]
        self._workers.append(_Worker(number, child, ours))
        for end in (ours, child.sentinel):
            self._selector.register(end, selectors.EVENT_READ, self._workers[-1])

    def submit(self, job: Any) -> Task:
        """Has a job done by the worker that has the fewest. Raises WorkerError when there are no workers any more."""
        self._check()
        task = Task(self, pickle.dumps(job, 5))
        self._queue.append(weakref.ref(task))
        self._collect(0)
        return task

    def broadcast(self, message: Any) -> None:
        """Calls `make.receive(message)` in every worker, after its jobs so far and before any other."""
        self._check()
        self._queue.append(pickle.dumps(message, 5))
        self._hand_out()

    def close(self) -> None:
        """Ends the workers and frees everything. Batches that were handed over stay valid."""
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
        """Until one of the tasks has arrived. Raises WorkerError."""
        while not any(task.has_arrived for task in tasks):
            self._check()
            if not self._collect(self._timeout or None):
                worker = tasks[0].worker
                who = "the workers" if worker is None else f"worker {worker}"
                raise WorkerError(f"no batch from {who} within timeout={self._timeout:g} seconds")

    def looks_for(self, task: Task) -> bool:
        """Whether a task is done, by now."""
        if not self._has_ended and os.getpid() == self._pid:
            self._collect(0)
        return task.has_arrived or self._has_ended

    @property
    def _has_ended(self) -> bool:
        """Whether no more batches will come. At the exit of this process nobody calls `close`."""
        return bool(self._fault) or not self._shut_down.alive

    def _check(self) -> None:
        if self._has_ended:
            raise WorkerError(self._fault or "the workers have been closed")
        if os.getpid() != self._pid:
            raise WorkerError(f"the workers belong to process {self._pid}, and this is a fork of it")

    def _collect(self, seconds: float | None) -> bool:
        """Takes in what has come or comes within that time. False if that is nothing."""
        events = self._selector.select(seconds)
        for key, _ in events:
            worker: _Worker = key.data
            if key.fileobj is not worker.connection or not self._receive(worker):
                self._bury(worker)
        self._hand_out()
        return bool(events)

    def _receive(self, worker: _Worker) -> bool:
        """Takes in one batch. False at the end of the pipe."""
        try:
            (slot,) = _NUMBER.unpack(worker.connection.recv_bytes())
        except (EOFError, OSError):
            return False
        contents = self._slots[slot].contents()
        weakref.finalize(contents, self._free.append, slot).atexit = False
        waiting = worker.in_hand.pop(slot)
        if (task := waiting()) is not None:
            task.arrive(contents)
            self._arrived[slot] = waiting
        return True

    def _bury(self, worker: _Worker) -> None:
        """Says why a worker is no more, after its last batches."""
        if self._fault:
            return
        with contextlib.suppress(OSError):
            while worker.connection.poll() and self._receive(worker):
                pass
        worker.process.join(1)
        self._fault = _obituary(worker)

    def _hand_out(self) -> None:
        """Gives the workers what is queued, as far as there are slots."""
        while self._queue:
            item = self._queue[0]
            if isinstance(item, bytes):
                for worker in self._workers:
                    worker.messages.append(item)
            elif (task := item()) is not None and not self._give(task):
                return
            self._queue.popleft()

    def _give(self, task: Task) -> bool:
        worker = min(self._workers, key=lambda worker: (len(worker.in_hand), worker.jobs))
        if len(worker.in_hand) == _MAX_IN_HAND or not self._has_free_slot():
            return False
        slot = self._free.pop()
        try:
            self._slots[slot].put((worker.messages, task.job))
        except BaseException:
            self._free.append(slot)
            raise
        task.worker, worker.messages, worker.jobs = worker.number, [], worker.jobs + 1
        worker.in_hand[slot] = weakref.ref(task)
        with contextlib.suppress(OSError):  # a dead worker is found by its sentinel
            worker.connection.send_bytes(_NUMBER.pack(slot))
        return True

    def _has_free_slot(self) -> bool:
        """Makes one if need be: a batch that waits for the consumer does so in memory of its own."""
        while not self._free and self._arrived:
            slot = next(iter(self._arrived))
            if (task := self._arrived.pop(slot)()) is not None:
                task.unload(copy=True)
        return bool(self._free)


def _serve(
    number: int, pipe: Connection, slots: Sequence[Slot], work: DeferredPickle, inherited: Sequence[Connection]
) -> None:
    """A worker's life."""
    for end in inherited:
        end.close()
    begin_child()
    server = _Server(number, work)
    while True:
        try:
            slot = pipe.recv_bytes()
        except (EOFError, OSError):  # the parent has closed the pool
            return
        server.answer(slots[_NUMBER.unpack(slot)[0]])
        with contextlib.suppress(OSError):
            pipe.send_bytes(slot)


class _Server:
    """A worker, seen from inside. One that could not be made, or missed a message, is no good for any job."""

    def __init__(self, number: int, work: DeferredPickle) -> None:
        self._number, self._work = number, work
        self._make: Any = None
        self._broken = self._failure(self._open)

    def answer(self, slot: Slot) -> None:
        """Puts the batch in the place of the job, or the failure."""
        messages, job = load(slot.contents(), copy=True)
        self._broken = self._broken or self._failure(self._hear, messages)
        failure = self._broken or self._failure(self._put_batch, slot, job)
        if failure is not None:
            slot.put(failure)

    def _failure(self, action: Callable[..., None], *arguments: Any) -> Failure | None:
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 the parent raises it
            return Failure.of(error, f"worker {self._number}")
        return None

    def _open(self) -> None:
        self._make, init = self._work.open()
        if init is not None:
            init(self._number)

    def _hear(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._make.receive(self._work.loads(message))

    def _put_batch(self, slot: Slot, job: bytes) -> None:
        slot.put(self._make(self._work.loads(job), slot.empty))


def _obituary(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"worker {worker.number} was killed by {name}{_HINTS.get(-code, '')}"
    end = "closed its pipe" if code is None else f"ended with exit code {code}"
    return f"worker {worker.number} {end}; what it printed may say why"


def _shut_down(pid: int, workers: Sequence[_Worker], slots: Sequence[Slot]) -> None:
    """Ends the workers, unless this is a fork of the process that they belong to."""
    if os.getpid() != pid:
        return
    with interrupt_held(in_finalizer=True):
        _end_workers(workers, slots)


def _end_workers(workers: Sequence[_Worker], slots: Sequence[Slot]) -> None:
    for worker in workers:
        worker.connection.close()  # an idle worker ends, a busy one when it has made its batch
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
