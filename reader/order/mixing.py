"""Mixed epochs: the dataset of each position, and the samples that a rank delivers of each dataset. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.lazy import lazy
from recordio.reader.order.ranks import RankShare, one_sample, windows_from
from recordio.reader.order.shuffle import Order, WindowPlan

_CHUNK = 1024
_KEPT_CHUNKS = 64
_RUN = 512  # chunks whose positions are sorted by dataset together: 2 MB
_KEPT_RUNS = 64  # of 33 million positions: as many as the plans of windows of 1.5 GB hold


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

    def drawn(self, position: int) -> Indices:
        """int64 (datasets,): the number of draws from each dataset before a position."""

    def positions(self, source: int, begin: int, end: int) -> Indices:
        """int64 (end - begin,): the positions of draws begin to end - 1 from a dataset."""

    def positions_of(self, source: int, draws: Indices) -> Indices:
        """int64 (n,): the positions of these draws from a dataset."""

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        """int64 (n,) both: the dataset of each position below `total`, and the number of its draw."""

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        """Runs of positions, from `start` or a little earlier on: the first position, and the dataset of each."""


@dataclass(frozen=True)
class Consecutive:
    """One dataset after the other."""

    draws: Sequence[int]

    @lazy
    def _starts(self) -> Indices:
        """int64 (datasets + 1,): the first position of each dataset, then the total."""
        return np.cumsum([0, *self.draws])

    @property
    def total(self) -> int:
        return int(self._starts[-1])

    def drawn(self, position: int) -> Indices:
        drawn: Indices = np.clip(position - self._starts[:-1], 0, self.draws)
        return drawn

    def positions(self, source: int, begin: int, end: int) -> Indices:
        return np.arange(begin, end) + int(self._starts[source])

    def positions_of(self, source: int, draws: Indices) -> Indices:
        positions: Indices = draws + self._starts[source]
        return positions

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        source = np.searchsorted(self._starts, positions, side="right") - 1
        return source, positions - self._starts[source]

    def sources(self, start: int) -> Iterator[tuple[int, Indices]]:
        for begin in range(start, self.total, _CHUNK):
            positions = np.arange(begin, min(begin + _CHUNK, self.total))
            yield begin, np.searchsorted(self._starts, positions, side="right") - 1


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

    @lazy
    def _by_source(self) -> _BySource:
        return _BySource.of(self.order, len(self.draws))

    def drawn(self, position: int) -> Indices:
        drawn: Indices = np.bincount(self.order[:position], minlength=len(self.draws))
        return drawn

    def positions(self, source: int, begin: int, end: int) -> Indices:
        return self._by_source.rows(source)[begin:end]

    def positions_of(self, source: int, draws: Indices) -> Indices:
        return self._by_source.stored_rows(source)[draws].astype(np.int64, copy=False)

    def locate(self, positions: Indices) -> tuple[Indices, Indices]:
        source, draw = self.order[positions], np.empty(len(positions), np.int64)
        for number in np.unique(source).tolist():
            rows, own = np.flatnonzero(source == number), self._by_source.stored_rows(number)
            draw[rows] = np.searchsorted(own, positions[rows].astype(own.dtype))  # another type would copy `own`
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

    @lazy
    def total(self) -> int:
        return sum(self.draws)

    @lazy
    def _chunks(self) -> int:
        return max(1, self.total // _CHUNK)

    @lazy
    def _counts(self) -> tuple[Indices, Indices]:
        """The draws from each dataset, divided by the number of chunks: quotients and remainders."""
        return np.divmod(np.array(self.draws, np.int64), self._chunks)

    def _before(self, number: int) -> Indices:
        """int64 (datasets,): n * number // chunks of n draws. No product is larger than the square of `chunks`."""
        quotients, remainders = self._counts
        return quotients * number + remainders * number // self._chunks

    @lazy
    def _run(self) -> Callable[[int], _BySource]:
        """The positions of a run of chunks by dataset. All datasets ask for the same ones, so the last few are kept."""
        return lru_cache(_KEPT_RUNS)(self._new_run)

    def _new_run(self, number: int) -> _BySource:
        chunks = range(number * _RUN, min(number * _RUN + _RUN, self._chunks))
        return _BySource.of(np.concatenate([self._chunk(chunk).labels for chunk in chunks]), len(self.draws))

    @lazy
    def _chunk(self) -> Callable[[int], _Chunk]:
        """Gives a chunk by its number. The last few are kept for lookups one by one."""
        return lru_cache(_KEPT_CHUNKS)(self._new_chunk)

    def _new_chunk(self, number: int) -> _Chunk:
        before = self._before(number)
        labels = np.repeat(np.arange(len(before)), self._before(number + 1) - before)
        order = permutation(len(labels), key(number, after=self.epoch_key))
        return _Chunk(int(before.sum()), before, labels.take(order))

    def _chunk_at(self, position: int) -> int:
        """The number of the chunk that holds a position."""
        number = min(self._chunks - 1, position * self._chunks // max(1, self.total))
        while number + 1 < self._chunks and int(self._before(number + 1).sum()) <= position:
            number += 1  # rounding down can end a chunk a few positions early
        return number

    def drawn(self, position: int) -> Indices:
        chunk = self._chunk(self._chunk_at(position))
        return chunk.before + np.bincount(chunk.labels[: position - chunk.start], minlength=len(self.draws))

    def positions(self, source: int, begin: int, end: int) -> Indices:
        number = ((begin + 1) * self._chunks - 1) // self.draws[source] // _RUN  # of the run that holds draw `begin`
        found = []
        while begin < end:
            before = self._before(number * _RUN)
            rows = self._run(number).rows(source)[begin - int(before[source]) :][: end - begin]
            found.append(int(before.sum()) + rows)
            begin += len(rows)
            number += 1
        return np.concatenate(found)

    @lazy
    def _all_positions(self) -> Callable[[int], Indices]:
        return lru_cache(None)(lambda source: self.positions(source, 0, self.draws[source]))

    def positions_of(self, source: int, draws: Indices) -> Indices:
        return self._all_positions(source)[draws]

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
        before: int64 (datasets,), the draws from each dataset before it.
        labels: int64 (n,), the dataset of each position.
    """

    start: int
    before: Indices
    labels: Indices

    @lazy
    def draws(self) -> Indices:
        """int64 (n,): the number of each position's draw from its dataset."""
        return self.before[self.labels] + _BySource.of(self.labels, len(self.before)).ranks


@dataclass(frozen=True, slots=True)
class _BySource:
    """The rows of labels, sorted by dataset.

    Attributes:
        order: (n,), the rows of each dataset, ascending, dataset after dataset.
        starts: int64 (datasets + 1,), where each dataset begins in `order`, then the total.
    """

    order: npt.NDArray[np.int32 | np.int64]
    starts: Indices

    @classmethod
    def of(cls, labels: Indices, datasets: int) -> Self:
        # Small integers are sorted by their digits, five times as fast.
        small = labels.astype(np.uint16) if datasets <= 1 << 16 else labels
        order = np.argsort(small, kind="stable")
        starts = np.cumsum([0, *np.bincount(labels, minlength=datasets)])
        return cls(order.astype(np.int32) if len(labels) < 1 << 31 else order, starts)

    def stored_rows(self, source: int) -> npt.NDArray[np.int32 | np.int64]:
        """(n,): the rows with the label of a dataset, ascending, as they are stored."""
        return self.order[self.starts[source] : self.starts[source + 1]]

    def rows(self, source: int) -> Indices:
        """int64 (n,): the same."""
        return self.stored_rows(source).astype(np.int64)

    @property
    def ranks(self) -> Indices:
        """int64 (n,): how many rows before each one have the same label."""
        counts = np.diff(self.starts)
        out = np.empty(len(self.order), np.int64)
        out[self.order] = np.arange(len(out)) - np.repeat(self.starts[:-1], counts)
        return out


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
    pass_of: Callable[[int], Order], samples: int, schedule: Schedule, source: int, share: RankShare, draws: range
) -> Iterator[WindowPlan]:
    """The samples that a rank delivers of one dataset of a mixed epoch: pass after pass over the dataset.

    `draws`: the draws from the dataset that lie between the start and the stop of the share.
    """
    at = draws.start
    while at < draws.stop:
        order, before = pass_of(at // samples), at - at % samples
        for number in windows_from(order, at - before):
            low, high = (before + order.starts[number : number + 2]).tolist()
            begin, end = max(low, draws.start), min(high, draws.stop)
            mine = np.zeros(high - low, bool)
            # Without other ranks all draws of the share are its own, wherever they are.
            mine[begin - low : end - low] = share.world == 1 or share.mask(schedule.positions(source, begin, end))
            if mine.any():
                yield order.window(number).only(mine)
            if high >= draws.stop:
                break
        at = before + samples
    for position in share.padding(schedule.total):
        at, draw = draw_at(schedule, position)
        if at == source:
            yield one_sample(pass_of(draw // samples), draw % samples)
