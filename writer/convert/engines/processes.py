"""Makes units in a pool of processes.

The processes are started fresh ("spawn"), so the caller's threads cannot harm them.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from recordio.errors import RecordIOError
from recordio.pickling import DeferredPickle
from recordio.process_guard import begin_child, refusals, silence_libraries, starting_children
from recordio.writer.convert.engines.work import Made, Work
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Report

_REFRESH_SECONDS = 0.25
_AHEAD = 2  # units for each process, running or waiting, while each has to be taken away when it is made


class _Stopped(Exception):
    """Raised inside a unit when all work stops."""


class _Shared(NamedTuple):
    """What a worker process is given when it starts. `stop` and `counts` lie in shared memory."""

    work: DeferredPickle
    staging: Staging
    stop: Any
    counts: Any  # samples done, one for each unit


_shared: _Shared | None = None  # set in worker processes only
_work: Work[Any] | None = None  # as well, by the first unit: an error of opening it is raised there


def deferred(work: Work[Any]) -> DeferredPickle:
    """The work for worker processes. Pickling it raises WorkerError for a function that they cannot import."""
    return DeferredPickle(work, advice="or use workers=1")


def _begin(shared: _Shared) -> None:
    """Initializer of a worker process."""
    global _shared
    begin_child()  # the parent handles Ctrl-C, and says when to stop
    silence_libraries()
    _shared = shared


def _make(slot: int, unit: int) -> Any:
    global _work
    assert _shared is not None
    _, staging, stop, counts = _shared
    _work = _work or _shared.work.open()

    def report(samples: int) -> None:
        counts[slot] = samples
        if stop.value:
            raise _Stopped

    return _work.make(unit, staging, report, 1)


def run_processes(
    work: Work[Made],
    units: Sequence[int],
    staging: Staging,
    progress: Report | None,
    workers: int,
    finish: Callable[[Made], None] | None = None,
) -> list[Made]:
    """Makes the units in any order. Raises the error of the first that fails, RecordIOError for a process that died.

    StorageError if the system refuses to start them.
    """
    context = multiprocessing.get_context("spawn")
    with refusals("worker processes", "workers=1 needs none"):
        stop, counts = context.RawValue("b", 0), context.RawArray("q", len(units))
        shared = _Shared(deferred(work), staging, stop, counts)
        pool = ProcessPoolExecutor(workers, context, _begin, (shared,))
    try:
        tasks = (partial(pool.submit, _make, slot, unit) for slot, unit in enumerate(units))
        ahead = len(units) if finish is None else _AHEAD * workers
        return list(_results(tasks, ahead, shared.counts, progress, finish))
    except BrokenProcessPool as error:
        raise RecordIOError(
            "a worker process died (killed, or out of memory); finished shards are kept, run it again"
        ) from error
    finally:
        shared.stop.value = 1
        pool.shutdown(cancel_futures=True)


def _results(
    tasks: Iterator[Callable[[], Future[Made]]],
    ahead: int,
    counts: Any,
    progress: Report | None,
    finish: Callable[[Made], None] | None,
) -> Iterator[Made]:
    """The units as they are finished, so many being made or waiting at a time, reporting progress meanwhile."""
    done: queue.SimpleQueue[Future[Made]] = queue.SimpleQueue()

    def start(count: int) -> int:
        with refusals("worker processes", "workers=1 needs none"), starting_children("spawn"):
            started = [task() for task in islice(tasks, count)]
        for future in started:
            future.add_done_callback(done.put)
        return len(started)

    left = start(ahead)
    while left:
        try:
            made = done.get(timeout=_REFRESH_SECONDS if progress else None).result()
        except queue.Empty:
            pass
        else:
            if finish is not None:
                finish(made)
            left += start(1) - 1
            yield made
        if progress:
            progress(int(np.frombuffer(counts, np.int64).sum()))
