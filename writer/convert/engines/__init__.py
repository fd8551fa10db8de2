"""Where units are made: in this process, or in a pool of processes. Both call `Work.make`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence

from recordio.writer.convert.engines.inline import run_inline
from recordio.writer.convert.engines.processes import run_processes
from recordio.writer.convert.engines.work import Work as Work
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Report, Unit


def run_units(work: Work, units: Sequence[int], staging: Staging, progress: Report | None) -> list[Unit]:
    """Makes the units, in any order. `progress` is told how many of their samples are done.

    Raises the error of the first unit that fails; by then all work has stopped.
    """
    workers = worker_count(work.workers, len(units))
    if workers <= 1:
        threads = _default_workers() if work.workers is None else 1
        return run_inline(work, units, staging, progress, threads)
    return run_processes(work, units, staging, progress, workers)


def worker_count(asked: int | None, units: int) -> int:
    """As many as asked for, or one for each processor; never more than units."""
    return min(_default_workers() if asked is None else asked, units)


def _default_workers() -> int:
    if multiprocessing.current_process().daemon:
        return 1  # a daemonic process may not have children
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
