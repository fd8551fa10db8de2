"""Batches on their way to the consumer: how long they take, and who waits for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import Any

from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchResult, BatchTimes

NEVER = 1 << 63
QUICK_NS = 100_000  # to make a batch: timing each that takes less would cost more than a hundredth of that
AHEAD_NS = 10 * QUICK_NS  # from its request to its delivery, while others are made and taken
TIMED, EVERY = 3, 48  # of so many quick batches, the first ones are timed
WEIGHT = EVERY // TIMED  # how many batches each of these stands for
IDLE_WEIGHT = EVERY // (TIMED - 1)  # of the first one it is not known when the one before had been made


@dataclass(slots=True)
class Sampling:
    """Which batches threads are to time: all, or some of those that are made and taken quickly.

    Attributes:
        is_quick: whether they are.
    """

    is_quick: bool = False
    _run: int = 0
    _at: int = -1

    def choose(self, make: BatchMaker) -> Callable[[Any], BatchResult]:
        """What makes the next batch, timed or not."""
        if not self.is_quick:
            return make.timed
        self._at = at = (self._at + 1) % EVERY
        if at >= TIMED:
            return make.finished
        self._run += not at
        return partial(make.timed, run=self._run)


@dataclass(slots=True)
class Flow:
    """Batches on their way to the consumer, in nanoseconds, by one thread: that of the consumer.

    Attributes:
        waited: the consumer for batches.
        held: the consumer kept a batch before it asked for the next one.
        idle: nothing was being made, for all that may be made ahead was there.
        making: batches, summed over the workers; 0 without workers.
        ready: batches lay ready before they were asked for, summed over them.
        transform, collate, handover: of making and of what follows it; see LoaderStats.
        submitted, handed: when the work on the last batch could begin, and when it was handed over.
        ended: when the last timed one of the batches handed over was made.
        next_line: when to report.
        sampling: which batches threads time.
    """

    waited: int = 0
    held: int = 0
    idle: int = 0
    making: int = 0
    ready: int = 0
    transform: int = 0
    collate: int = 0
    handover: int = 0
    submitted: int = 0
    handed: int = 0
    ended: int = 0
    next_line: int = NEVER
    sampling: Sampling = field(default_factory=Sampling)
    _run: int = 0  # of the batch that `ended` is of

    def add(self, times: BatchTimes) -> None:
        """What a batch that has just been handed over has taken."""
        if times.transform:
            self.transform += times.transform
            self.collate += times.collate
        if not (ended := times.ended):  # made by the consumer's own thread, or not timed
            return
        took = ended - times.began
        self.sampling.is_quick = took < QUICK_NS and self.handed - self.submitted < AHEAD_NS
        weight = WEIGHT if times.run else 1
        self.making += took * weight
        if (ready := self.handed - ended) > 0:
            self.ready += ready * weight
        before = self.ended if times.run == self._run else 0
        if before and (idle := self.submitted - before) > 0:
            self.idle += idle * (IDLE_WEIGHT if times.run else 1)
        self.ended, self._run = max(before, ended), times.run

    def add_handover(self, nanoseconds: int) -> None:
        self.handover += nanoseconds

    def begin(self) -> int:
        """The time now. Nothing is asked of a loader between two epochs, so it is not idle there."""
        self.ended = 0
        return perf_counter_ns()
