"""The plan of an epoch: which samples one rank delivers, from a position on. Pure, as the order is.

The samples of an epoch stand in a sequence, at positions 0, 1, 2, ... Rank r of w delivers those at p % w == r; a
global batch is a run of positions. So its samples do not depend on the number of ranks, and a position is all that a
later run needs to go on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.reader.order.shuffle import Mask, Order, Step

_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Deal:
    """The positions of one rank: those from `start` to `stop` - 1 that are `rank` modulo `world`.

    Positions from the end of the epoch on are padding: they stand for the first samples again.
    """

    rank: int
    world: int
    start: int
    stop: int

    @classmethod
    def of(cls, rank: int, world: int, start: int, total: int, batch_size: int, *, drop_last: bool, even: bool) -> Deal:
        """What is left of an epoch of `total` samples: whole batches, the same number on every rank, or all of it."""
        left = total - start
        if drop_last:
            left -= left % (batch_size * world)
        elif even:
            left += -left % world
        return cls(rank, world, start, start + left)

    @property
    def first(self) -> int:
        """The first position."""
        return self.start + (self.rank - self.start) % self.world

    def __len__(self) -> int:
        return len(range(self.first, self.stop, self.world))

    def mask(self, position: Indices) -> Mask:
        """bool (n,): which of these positions are dealt."""
        inside = (position >= self.start) & (position < self.stop)
        return inside & (position % self.world == self.rank) if self.world > 1 else inside

    def lanes(self, lanes: int) -> range | None:
        """The lanes in which the positions lie; None for all of them."""
        common = math.gcd(lanes, self.world)
        return None if common == 1 else range(self.rank % common, lanes, common)

    def padding(self, total: int) -> Iterator[int]:
        """The positions that stand for samples again, as positions within the epoch."""
        for position in range(self.first, self.stop, self.world)[max(0, -(-(total - self.first) // self.world)) :]:
            yield position % total


def steps(order: Order, deal: Deal) -> Iterator[Step]:
    """What a rank delivers of the order, window by window."""
    lanes, total = deal.lanes(order.lanes), int(order.starts[-1])
    for number in _windows(order, deal.start):
        if order.starts[number] >= deal.stop:
            break
        step = order.window(number, lanes)
        step = step.only(deal.mask(step.position))
        if len(step):
            yield step
    for position in deal.padding(total):
        yield _one(order, position)


def _windows(order: Order, start: int) -> range:
    """The windows from the one that holds a position on."""
    return range(max(0, int(np.searchsorted(order.starts, start, side="right")) - 1), len(order.starts) - 1)


def _one(order: Order, position: int) -> Step:
    step = order.window(_windows(order, position)[0])
    return step.only(step.position == position)


class Schedule(Protocol):
    """From which dataset each position of a mixed epoch draws its sample.

    Attributes:
        draws: how many samples an epoch draws from each dataset.
        total: how many from all of them.
    """

    @property
    def draws(self) -> Sequence[int]: ...
    @property
    def total(self) -> int: ...

    def drawn(self, position: int) -> list[int]:
        """How many are drawn from each dataset before a position, or a little less."""

    def positions(self, source: int, begin: int, end: int) -> Indices:
        """int64 (end - begin,): where the draws number begin to end - 1 from a dataset stand."""

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        """Runs of positions, from `start` or a little before it: the first position, and the dataset at each."""


@dataclass(frozen=True, slots=True)
class Consecutive:
    """One dataset after the other."""

    draws: Sequence[int]

    @property
    def total(self) -> int:
        return sum(self.draws)

    def drawn(self, position: int) -> list[int]:
        before = np.cumsum(self.draws) - self.draws
        return np.clip(position - before, 0, self.draws).tolist()  # type: ignore[no-any-return]

    def positions(self, source: int, begin: int, end: int) -> Indices:
        return np.arange(begin, end) + sum(self.draws[:source])

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        ends = np.cumsum(self.draws)
        for begin in range(start, self.total, _CHUNK):
            positions = np.arange(begin, min(begin + _CHUNK, self.total))
            yield begin, np.searchsorted(ends, positions, side="right")


@dataclass(frozen=True)
class Interleaved:
    """The draws from every dataset spread evenly over the epoch.

    The epoch is cut into chunks of about 1,024 positions: of n draws from a dataset, n * j // chunks stand before chunk
    j. Within a chunk they are permuted by permutation(positions of the chunk, key(j, after=word)).
    """

    draws: Sequence[int]
    word: int

    @property
    def total(self) -> int:
        return sum(self.draws)

    @property
    def _chunks(self) -> int:
        return max(1, self.total // _CHUNK)

    def _before(self, chunk: int) -> list[int]:
        return [n * chunk // self._chunks for n in self.draws]

    def _chunk(self, chunk: int) -> Indices:
        counts = np.subtract(self._before(chunk + 1), self._before(chunk))
        labels = np.repeat(np.arange(len(counts)), counts)
        return labels[permutation(len(labels), key(chunk, after=self.word))]

    def _chunk_of(self, position: int) -> int:
        chunk = min(self._chunks - 1, position * self._chunks // max(1, self.total))
        while chunk > 0 and sum(self._before(chunk)) > position:
            chunk -= 1
        return chunk

    def drawn(self, position: int) -> list[int]:
        return self._before(self._chunk_of(position))

    def positions(self, source: int, begin: int, end: int) -> Indices:
        chunk = ((begin + 1) * self._chunks - 1) // self.draws[source]
        first = self._before(chunk)[source]
        parts = []
        while first < end:
            parts.append(sum(self._before(chunk)) + np.flatnonzero(self._chunk(chunk) == source))
            first, chunk = first + len(parts[-1]), chunk + 1
        found = np.concatenate(parts)
        return found[len(found) - (first - begin) :][: end - begin]

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        for chunk in range(self._chunk_of(start), self._chunks):
            yield sum(self._before(chunk)), self._chunk(chunk)


def draw_at(schedule: Schedule, position: int) -> tuple[int, int]:
    """The dataset of a position, and the number of its draw."""
    drawn = np.array(schedule.drawn(position))
    for start, labels in schedule.sources(position):
        if position < start + len(labels):
            source = int(labels[position - start])
            return source, int(drawn[source] + (labels[: position - start] == source).sum())
        drawn += np.bincount(labels, minlength=len(drawn))
    raise IndexError(f"position {position} of {schedule.total}")


def sources(schedule: Schedule, deal: Deal) -> Iterator[Indices]:
    """The dataset of each sample that a rank delivers, some at a time."""
    for start, labels in schedule.sources(deal.start):
        if start >= deal.stop:
            break
        yield labels[deal.mask(np.arange(start, start + len(labels)))]
    for position in deal.padding(schedule.total):
        yield np.array([draw_at(schedule, position)[0]])


def drawn_steps(
    pass_of: Callable[[int], Order], samples: int, schedule: Schedule, source: int, deal: Deal
) -> Iterator[Step]:
    """What a rank delivers of one dataset of a mixed epoch: pass after pass over its samples."""
    begin, draws = schedule.drawn(deal.start)[source], schedule.draws[source]
    while begin < draws:
        order, before = pass_of(begin // samples), begin - begin % samples
        for number in _windows(order, begin - before):
            low, high = (before + order.starts[number : number + 2]).tolist()
            mine = deal.mask(schedule.positions(source, low, min(high, draws)))
            if mine.any():
                yield order.window(number).only(np.pad(mine, (0, high - low - len(mine))))
            if high >= draws:
                break
        begin = before + samples
    for position in deal.padding(schedule.total):
        at, draw = draw_at(schedule, position)
        if at == source:
            yield _one(pass_of(draw // samples), draw % samples)


def drawn_by_weight(weights: npt.NDArray[np.float64], word: int) -> Indices:
    """int64 (n,), ascending: n of n samples, each as often as its weight asks, but for what whole numbers allow.

    Systematic sampling: the samples, permuted, take room on a line by their weights; n marks at equal distances, the
    first at random, draw what they fall on. With equal weights each sample is drawn once. All of it in whole numbers:
    a sum of many floats is not what it should be.
    """
    n = len(weights)
    order = permutation(n, key(0, after=word))
    shares = weights / weights.max()
    room = np.rint(shares * (2.0**61 / np.cumsum(shares)[-1])).astype(np.int64)
    distance, rest = divmod(int(room.sum()), n)
    room[room.argmax()] -= rest
    marks = (np.cumsum(room[order]) + (distance * key(1, after=word) >> 64)) // distance
    counts = np.empty(n, np.int64)
    counts[order] = np.diff(marks, prepend=0)
    return np.repeat(np.arange(n), counts)
