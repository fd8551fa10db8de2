"""Mixed epochs: the dataset of each position, and the samples that a rank delivers of each dataset. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.reader.order.ranks import RankShare, one_sample, windows_from
from recordio.reader.order.shuffle import Order, WindowPlan

_CHUNK = 1024
_KEPT_CHUNKS = 8  # for each dataset, 16 KB each
_SMALL_TOTAL = 1 << 19  # samples of an epoch of which all positions are kept: 4 MB


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

    @cached_property
    def total(self) -> int:
        return sum(self.draws)

    @cached_property
    def _chunks(self) -> int:
        return max(1, self.total // _CHUNK)

    @cached_property
    def _chunk(self) -> Callable[[int], _Chunk]:
        """Gives a chunk by its number. All datasets ask for the same ones, so the last few are kept."""
        return lru_cache(_KEPT_CHUNKS * len(self.draws))(self._new_chunk)

    def _new_chunk(self, number: int) -> _Chunk:
        before, after = ([n * j // self._chunks for n in self.draws] for j in (number, number + 1))
        labels = np.repeat(np.arange(len(before)), np.subtract(after, before))
        return _Chunk(sum(before), before, labels[permutation(len(labels), key(number, after=self.epoch_key))])

    def _chunk_at(self, position: int) -> int:
        """The number of the chunk that holds a position."""
        number = min(self._chunks - 1, position * self._chunks // max(1, self.total))
        while number + 1 < self._chunks and self._chunk(number + 1).start <= position:
            number += 1  # rounding down can end a chunk a few positions early
        return number

    def drawn(self, position: int) -> list[int]:
        return self._chunk(self._chunk_at(position)).before

    def positions(self, source: int, begin: int, end: int) -> Indices:
        if self.total <= _SMALL_TOTAL:
            ends, positions = self._by_source
            first = int(ends[source]) - self.draws[source]
            return positions[first + begin : first + end]
        number = ((begin + 1) * self._chunks - 1) // self.draws[source]
        done = self._chunk(number).before[source]
        runs = []
        while done < end:
            runs.append(self._chunk(number).positions(source))
            done += len(runs[-1])
            number += 1
        found = np.concatenate(runs)
        return found[len(found) - (done - begin) :][: end - begin]

    @cached_property
    def _by_source(self) -> tuple[Indices, Indices]:
        """All positions, dataset after dataset, and where each dataset ends among them."""
        labels = np.concatenate([self._chunk(number).labels for number in range(self._chunks)])
        return np.cumsum(self.draws), np.argsort(labels, kind="stable")

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        source, draw = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        order = np.argsort(positions, kind="stable")
        ascending = positions[order]
        done = 0
        while done < len(order):
            chunk = self._chunk(self._chunk_at(int(ascending[done])))
            end = int(np.searchsorted(ascending, chunk.start + len(chunk.labels)))
            inside, rows = ascending[done:end] - chunk.start, order[done:end]
            source[rows], draw[rows] = chunk.labels[inside], chunk.draws[inside]
            done = end
        return source, draw

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        for number in range(self._chunk_at(start), self._chunks):
            chunk = self._chunk(number)
            yield chunk.start, chunk.labels


@dataclass(frozen=True)
class _Chunk:
    """A run of positions of an interleaved epoch.

    Attributes:
        start: the first position.
        before: the draws from each dataset before it.
        labels: int64 (n,), the dataset of each position.
    """

    start: int
    before: list[int]
    labels: Indices

    @cached_property
    def _order(self) -> Indices:
        return np.argsort(self.labels, kind="stable")

    @cached_property
    def _ends(self) -> Indices:
        return np.cumsum(np.bincount(self.labels, minlength=len(self.before)))

    @cached_property
    def draws(self) -> Indices:
        """int64 (n,): the number of each position's draw from its dataset."""
        counts = np.diff(self._ends, prepend=0)
        first = np.repeat(np.array(self.before) - self._ends + counts, counts)
        out = np.empty(len(self.labels), np.int64)
        out[self._order] = first + np.arange(len(self.labels))
        return out

    def positions(self, source: int) -> Indices:
        """The positions that draw from a dataset, ascending."""
        end = int(self._ends[source])
        begin = int(self._ends[source - 1]) if source else 0
        return self.start + self._order[begin:end]


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
