"""Makes units in this process, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recordio.writer.convert.engines.work import Made, Work
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Report

_REPORT_SAMPLES = 64


def run_inline(
    work: Work[Made],
    units: Sequence[int],
    staging: Staging,
    progress: Report | None,
    threads: int = 1,
    finish: Callable[[Made], None] | None = None,
) -> list[Made]:
    """Makes the units in order, with so many threads that decode pictures. Raises the error of the first that fails."""
    made: list[Made] = []
    before = 0
    for unit in units:
        made.append(work.make(unit, staging, _offset(progress, before) if progress else _ignore, threads))
        if finish is not None:
            finish(made[-1])
        before += work.samples(unit)
        if progress:
            progress(before)
    return made


def _ignore(samples: int) -> None:
    """Nobody asked for progress."""


def _offset(progress: Report, before: int) -> Report:
    """Reports once 64 more samples of a unit are done, counted from the first unit on."""
    told = 0

    def report(samples: int) -> None:
        nonlocal told
        if samples - told >= _REPORT_SAMPLES:
            told = samples
            progress(before + samples)

    return report
