"""Whether threads make batches faster together than one of them does alone: found out while they make them.

Pure: this file knows neither threads nor a clock.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

# The least that each thread at work is measured: seconds, batches.
_TOGETHER = 0.5, 20
_ALONE = 0.025, 2  # five switch intervals of the interpreter
_LESS = 0.8  # of CPU time, or of batches a second; differences below that are noise
_ROUNDS = 3
_LONGER = 4  # times as much is measured alone after another round, or together after another trial


@dataclass(slots=True)
class _Pace:
    """Batches, with the seconds and the CPU seconds that they took their threads, and the threads at work, summed."""

    batches: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    threads: float = 0.0

    @property
    def rate(self) -> float:
        """Batches a second of all threads at work."""
        return self.threads / self.seconds

    def is_enough(self, least: tuple[float, int], times: int) -> bool:
        return self.seconds >= least[0] * times and self.batches >= least[1] * times


@dataclass(slots=True)
class ThreadTrial:
    """How many threads of a loader make batches at a time: all, or one if that makes more.

    Functions in Python hold the interpreter's lock, and threads that run them wait for each other: at best they make as
    much as one, and often half, because handing over the lock costs. So now and then all threads but one pause. What
    gives such threads away is that a batch costs less CPU time when one works alone: that hardly depends on what else
    the machine does, and is not so for functions that let go of the lock. If that is found in three rounds, each
    longer, and one thread made more batches a second, it goes on alone. Otherwise everything begins again, after four
    times as long, so that trials cost nothing in the end.

    Only batches begun while most threads were at work count: threads that wait for the consumer harm nobody.

    Attributes:
        count: the number of threads.
        ended: whether `limit` is final.
        limit: how many may work now.
    """

    count: int
    ended: bool = False
    limit: int = field(init=False)
    _rounds: int = 0
    _trials: int = 0
    _together: _Pace = field(default_factory=_Pace)
    _alone: _Pace = field(default_factory=_Pace)
    _untold: str = ""

    def __post_init__(self) -> None:
        self.limit = self.count
        self.ended = self.ended or self.count < 2

    def add(self, began: int, finished: int, seconds: float, cpu: float) -> None:
        """A thread made a batch, one of so many at work when it began and when it finished."""
        alone = self.limit == 1
        if self.ended or (max(began, finished) > 1 if alone else 2 * began <= self.count):
            return
        pace = self._alone if alone else self._together
        pace.batches += 1
        pace.seconds += seconds
        pace.cpu += cpu
        pace.threads += (began + finished) / 2
        if alone:
            if pace.is_enough(_ALONE, _LONGER**self._rounds):
                self._compare()
        elif pace.is_enough(_TOGETHER, self.count * (_LONGER**self._trials + self._rounds)):
            self.limit = 1

    def _compare(self) -> None:
        """After each round: all that was measured together, and alone."""
        together, alone = self._together, self._alone
        self._rounds += 1
        self.limit = self.count
        if alone.cpu / alone.batches < _LESS * together.cpu / together.batches:
            if self._rounds < _ROUNDS:
                return
            if together.rate < _LESS * alone.rate:
                self._end(together.rate / alone.rate)
                return
        self._rounds, self._together, self._alone = 0, _Pace(), _Pace()
        self._trials += 1

    def _end(self, gain: float) -> None:
        self.limit, self.ended = 1, True
        self._untold = (
            f"{self.count} threads make {gain:.2f} times as many batches as one, since functions in Python hold the "
            "interpreter's lock: one thread goes on alone; worker_type='process' can use more cores"
        )

    def tell(self, stacklevel: int) -> None:
        """Warns, once, that one thread goes on alone. `stacklevel` is that of the caller."""
        if self._untold:
            told, self._untold = self._untold, ""
            warnings.warn(told, RuntimeWarning, stacklevel + 1)
