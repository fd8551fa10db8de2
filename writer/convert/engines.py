"""Where the units of a conversion are worked off: in this process, or in a pool of processes.

Both run `make_unit`. A pool's processes are started fresh ("spawn"), so threads of the caller cannot harm them.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.process_guard import begin_child, starting_children
from recordio.writer.convert.plan import Plan
from recordio.writer.convert.units import Unit, Workplace, make_unit

Progress = Callable[[int], None]
_REFRESH_SECONDS = 0.25
_EVERY = 64


def run_units(plan: Plan, units: Sequence[int], place: Workplace, progress: Progress | None) -> list[Unit]:
    """Does the units, and tells `progress` how many of their samples are behind it. The result is in no order.

    Raises what `make_unit` raises for the first unit that fails; by then all work has stopped.
    """
    workers = worker_count(plan.options.workers, len(units))
    run = _run_here if workers <= 1 else _run_pool
    return run(plan, units, place, progress, workers)


def worker_count(asked: int | None, units: int) -> int:
    """As many as asked for, else as there are processors; never more than units."""
    if asked is None:
        # A process of a pool may not have children of its own.
        daemon = multiprocessing.current_process().daemon
        asked = (
            1 if daemon else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
    return min(asked, units)


def _run_here(
    plan: Plan, units: Sequence[int], place: Workplace, progress: Progress | None, workers: int
) -> list[Unit]:
    done: list[Unit] = []
    before = 0
    for unit in units:
        report = _shifted(progress, before) if progress else _silent
        done.append(make_unit(plan, unit, place, report))
        before += len(plan.indices(unit))
        if progress:
            progress(before)
    return done


def _silent(samples: int) -> None:
    """Nobody asked for progress."""


def _shifted(progress: Progress, before: int) -> Progress:
    def report(samples: int) -> None:
        if samples % _EVERY == 0:
            progress(before + samples)

    return report


class _Stopped(Exception):
    """The conversion was stopped while this unit was at work."""


# What a process of the pool was given when it started. Only its own functions look here.
_given: tuple[Plan, Workplace, Any, Any] | None = None


def _start(plan: Plan, place: Workplace, stop: Any, counts: Any) -> None:
    """The first thing in a process of the pool."""
    global _given
    begin_child()  # the parent handles Ctrl-C, and says when to stop
    _given = plan, place, stop, counts


def _work(slot: int, unit: int) -> Unit:
    assert _given is not None
    plan, place, stop, counts = _given

    def report(samples: int) -> None:
        counts[slot] = samples
        if stop.value:
            raise _Stopped

    return make_unit(plan, unit, place, report)


def _run_pool(
    plan: Plan, units: Sequence[int], place: Workplace, progress: Progress | None, workers: int
) -> list[Unit]:
    context = multiprocessing.get_context("spawn")
    stop, counts = context.RawValue("b", 0), context.RawArray("q", len(units))
    pool = ProcessPoolExecutor(workers, context, _start, (plan, place, stop, counts))
    try:
        with starting_children("spawn"):
            futures = [pool.submit(_work, slot, unit) for slot, unit in enumerate(units)]
        return list(_results(futures, counts, progress))
    except BrokenProcessPool as error:
        raise RecordIOError(
            "a process of the conversion died (killed, or out of memory); finished shards are kept, run it again"
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(cancel_futures=True)


def _results(futures: list[Future[Unit]], counts: Any, progress: Progress | None) -> Iterator[Unit]:
    inbox: queue.SimpleQueue[Future[Unit]] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(inbox.put)
    left = len(futures)
    while left:
        try:
            future = inbox.get(timeout=_REFRESH_SECONDS if progress else None)
        except queue.Empty:
            pass
        else:
            left -= 1
            yield future.result()
        if progress:
            progress(int(np.frombuffer(counts, np.int64).sum()))
