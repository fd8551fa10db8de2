"""Where units are made: in this process, in a pool of processes, by Ray. All call `Work.make`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from recordio.writer.convert.engines.inline import run_inline
from recordio.writer.convert.engines.processes import deferred, run_processes
from recordio.writer.convert.engines.work import Made, Work as Work
from recordio.writer.convert.plan import Plan
from recordio.writer.convert.publication import Publication
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import PlannedWork, Report, Unit

_NOT_KNOWN = (
    "whether the inputs and fn are as they were cannot be told, so a run that stops begins anew: "
    'identity="...", a text to change with them, lets it go on where it was'
)

_MOST_THREADS, _UNITS_EACH = 4, 4


def run_plan(
    plan: Plan, units: Sequence[int], staging: Staging, progress: Report | None, publication: Publication
) -> list[Unit]:
    """Makes units of a conversion where its options say. As `run_units`."""
    if plan.options.engine == "ray":
        from recordio.writer.convert.engines.ray import run_ray

        return run_ray(plan, units, staging, progress, publication.sender)
    alone = plan.source.fragile and units and worker_count(plan.options.workers, len(units)) <= 1
    if alone and not multiprocessing.current_process().daemon:
        return run_processes(PlannedWork(plan), units, staging, progress, 1, publication.finish)
    work = PlannedWork(plan)
    if _threads_do(plan, units):
        return run_inline(work, units, staging, progress, _default_workers(), publication.finish)
    return run_units(work, units, staging, progress, publication.finish)


def _threads_do(plan: Plan, units: Sequence[int]) -> bool:
    """Whether one process is done with pictures sooner than several, of which some would wait for the last units.

    They also have to start, and pictures that are not decoded are copied in a fraction of that time. Beyond a few
    threads that decode, Python's share of the work would hold the others up.
    """
    options, most = plan.options, _default_workers()
    if options.workers is not None or options.maker is not None or plan.source.fragile or most > _MOST_THREADS:
        return False
    return bool(plan.source.pictures) and len(units) < _UNITS_EACH * most


def run_units(
    work: Work[Made],
    units: Sequence[int],
    staging: Staging,
    progress: Report | None,
    finish: Callable[[Made], None] | None = None,
) -> list[Made]:
    """Makes the units, in any order. `progress` is told how many of their samples are done.

    `finish` is called in this process with each unit that was made. While it waits, few others are made.

    Raises the error of the first unit that fails; by then all work has stopped.
    """
    workers = worker_count(work.workers, len(units))
    if workers <= 1:
        threads = _default_workers() if work.workers is None else 1
        return run_inline(work, units, staging, progress, threads, finish)
    return run_processes(work, units, staging, progress, workers, finish)


def worker_count(asked: int | None, units: int) -> int:
    """As many as asked for, or one for each processor; never more than units."""
    return min(_default_workers() if asked is None else asked, units)


def for_workers(plan: Plan) -> tuple[Plan, tuple[str, ...]]:
    """The plan for workers that can be given it, and notes on what the caller's objects do not allow."""
    notes = [_NOT_KNOWN] if plan.digest is None else []
    options = plan.options
    if options.maker and options.engine == "local" and worker_count(options.workers, plan.units) > 1:
        refusal = deferred(PlannedWork(plan)).refusal()
        if refusal is not None and options.workers is not None:
            raise refusal
        if refusal is not None:
            plan = replace(plan, options=replace(options, workers=1))
            notes.append(f"one process does it all: {refusal.fault}")
    return plan, tuple(notes)


def _default_workers() -> int:
    if multiprocessing.current_process().daemon:
        return 1  # a daemonic process may not have children
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
