"""Mixed epochs: the dataset of each position, and the samples that a rank delivers of each dataset. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.reader.order.ranks import RankShare, one_sample, windows_from
from recordio.reader.order.shuffle import Order, WindowPlan

_CHUNK = 1024


class Schedule(Protocol):
    """Says from which dataset each position of a mixed epoch draws its sample.

    Attributes:
        draws: the number of draws from each dataset in an epoch.
        total: their sum.
    """

    @property
    def draws(self) -> Sequence[int]: ...
    @property
    def total(self) -> int: ...

    def drawn(self, position: int) -> list[int]:
        """The number of draws from each dataset before a position, or before one a little earlier."""

    def positions(self, source: int, begin: int, end: int) -> Indices:
        """int64 (end - begin,): the positions of draws begin to end - 1 from a dataset."""

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        """int64 (n,) both: the dataset of each position below `total`, and the number of its draw."""

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        """Runs of positions, from `start` or a little earlier on: the first position, and the dataset of each."""


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

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        ends = np.cumsum(self.draws)
        source = np.searchsorted(ends, positions, side="right")
        before: Indices = ends - np.array(self.draws, np.int64)
        return source, positions - before[source]

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        ends = np.cumsum(self.draws)
        for begin in range(start, self.total, _CHUNK):
            positions = np.arange(begin, min(begin + _CHUNK, self.total))
            yield begin, np.searchsorted(ends, positions, side="right")


@dataclass(frozen=True)
class Arranged:
    """Any order: position p draws the next sample of dataset order[p].

    Attributes:
        order: int64 (total,).
    """

    order: Indices
    draws: Sequence[int]

    @property
    def total(self) -> int:
        return len(self.order)

    @cached_property
    def _by_source(self) -> list[Indices]:
        """The positions of each dataset, ascending."""
        return [np.flatnonzero(self.order == source) for source in range(len(self.draws))]

    def drawn(self, position: int) -> list[int]:
        return [int(np.searchsorted(positions, position)) for positions in self._by_source]

    def positions(self, source: int, begin: int, end: int) -> Indices:
        return self._by_source[source][begin:end]

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        source, draw = self.order[positions], np.empty(len(positions), np.int64)
        for number, own in enumerate(self._by_source):
            rows = source == number
            draw[rows] = np.searchsorted(own, positions[rows])
        return source, draw

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        for begin in range(start, self.total, _CHUNK):
            yield begin, self.order[begin : begin + _CHUNK]


@dataclass(frozen=True)
class Interleaved:
    """The draws from every dataset, spread evenly over the epoch.

    The epoch is cut into chunks of about 1,024 positions: n * j // chunks of the n draws from a dataset come before
    chunk j. Within a chunk they are permuted by permutation(positions of the chunk, key(j, after=epoch_key)).
    """

    draws: Sequence[int]
    epoch_key: int

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
        return labels[permutation(len(labels), key(chunk, after=self.epoch_key))]

    def _chunk_of(self, position: int) -> int:
        chunk = min(self._chunks - 1, position * self._chunks // max(1, self.total))
        while chunk + 1 < self._chunks and sum(self._before(chunk + 1)) <= position:
            chunk += 1  # rounding down can end a chunk a few positions early
        return chunk

    def drawn(self, position: int) -> list[int]:
        return self._before(self._chunk_of(position))

    def positions(self, source: int, begin: int, end: int) -> Indices:
        chunk = ((begin + 1) * self._chunks - 1) // self.draws[source]
        first = self._before(chunk)[source]
        runs = []
        while first < end:
            runs.append(sum(self._before(chunk)) + np.flatnonzero(self._chunk(chunk) == source))
            first += len(runs[-1])
            chunk += 1
        found = np.concatenate(runs)
        return found[len(found) - (first - begin) :][: end - begin]

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        source, draw = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        order = np.argsort(positions, kind="stable")
        ascending, done = positions[order], 0
        while done < len(order):
            chunk = self._chunk_of(int(ascending[done]))
            before, labels = self._before(chunk), self._chunk(chunk)
            start = sum(before)
            end = int(np.searchsorted(ascending, start + len(labels)))
            inside, rows = ascending[done:end] - start, order[done:end]
            ranks = np.empty(len(labels), np.int64)
            for number, count in enumerate(before):
                own = np.flatnonzero(labels == number)
                ranks[own] = count + np.arange(len(own))
            source[rows], draw[rows] = labels[inside], ranks[inside]
            done = end
        return source, draw

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        for chunk in range(self._chunk_of(start), self._chunks):
            yield sum(self._before(chunk)), self._chunk(chunk)


def draw_at(schedule: Schedule, position: int) -> tuple[int, int]:
    """The dataset of a position, and the number of its draw."""
    if not 0 <= position < schedule.total:
        raise IndexError(f"position {position} of {schedule.total}")
    source, draw = schedule.locate(np.array([position]))
    return int(source[0]), int(draw[0])


def sources(schedule: Schedule, share: RankShare) -> Iterator[Indices]:
    """The dataset of each sample that a rank delivers, in chunks."""
    for start, labels in schedule.sources(share.start):
        if start >= share.stop:
            break
        yield labels[share.mask(np.arange(start, start + len(labels)))]
    for position in share.padding(schedule.total):
        yield np.array([draw_at(schedule, position)[0]])


def drawn_plans(
    pass_of: Callable[[int], Order], samples: int, schedule: Schedule, source: int, share: RankShare
) -> Iterator[WindowPlan]:
    """The samples that a rank delivers of one dataset of a mixed epoch: pass after pass over the dataset."""
    begin, draws = schedule.drawn(share.start)[source], schedule.draws[source]
    while begin < draws:
        order, before = pass_of(begin // samples), begin - begin % samples
        for number in windows_from(order, begin - before):
            low, high = (before + order.starts[number : number + 2]).tolist()
            mine = share.mask(schedule.positions(source, low, min(high, draws)))
            if mine.any():
                yield order.window(number).only(np.pad(mine, (0, high - low - len(mine))))
            if high >= draws:
                break
        begin = before + samples
    for position in share.padding(schedule.total):
        at, draw = draw_at(schedule, position)
        if at == source:
            yield one_sample(pass_of(draw // samples), draw % samples)
