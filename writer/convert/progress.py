"""Counts the samples of several conversions for the caller's progress function."""

from __future__ import annotations

from collections.abc import Callable

ProgressSink = Callable[[int, int], None]
_REPORT_INPUTS = 64


class TotalProgress:
    """Calls `sink(done, total)` with the samples of this run.

    Samples that an earlier run had finished count in neither number, so that a rate or the time left can be computed
    from them.
    """

    def __init__(self, sink: ProgressSink | None, samples: int) -> None:
        self.asked = sink is not None
        self._sink = sink
        self._total = samples
        self._before = 0

    def __call__(self, done: int) -> None:
        """`done` samples of the current conversion were made by this run."""
        if self._sink is not None and self._total:
            self._sink(self._before + done, self._total)

    def counted(self, done: int) -> None:
        """So many inputs of a stream are done: nobody knows how many there are, and the total is 0."""
        if self._sink is not None and done % _REPORT_INPUTS == 0:
            self._sink(done, 0)

    def reused(self, samples: int) -> None:
        """So many samples of the current conversion need not be made. To be called before its first progress."""
        self._total -= samples

    def finish(self, made: int) -> None:
        """The current conversion is done, and `made` samples of it were tried by this run."""
        self._before += made
        self(0)
