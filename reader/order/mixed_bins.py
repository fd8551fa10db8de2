"""The bins of an epoch of several datasets: each of samples of one of them, and the datasets take turns, bin by bin.

Pure: the order of the bins is a schedule as that of samples is, and each dataset goes through its own bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from recordio.format.page import Indices
from recordio.lazy import lazy
from recordio.reader.order.binned import BinCounts, Binned
from recordio.reader.order.mixing import Consecutive, Interleaved, Schedule, draw_at, sources
from recordio.reader.order.ranks import RankShare, one_sample, windows_from
from recordio.reader.order.shuffle import WindowPlan

Pass = tuple[int, Binned, int]  # the first of its bins among those of the dataset, the bins, and how many of them


class MixedBins:
    """The bins of an epoch.

    Args:
        pass_of: gives the bins of a pass over a dataset, by the numbers of both.
        draws: how many samples of each dataset make up an epoch.
        samples: how many each has. Of a pass that is not whole as large a share of its bins is taken, at least one.
        shuffle: whether the datasets take turns, or follow one another.
        epoch_key: the key of the epoch.

    Attributes:
        counts: how full the bins are.
    """

    def __init__(
        self,
        pass_of: Callable[[int, int], Binned],
        draws: Sequence[int],
        samples: Sequence[int],
        shuffle: bool,
        epoch_key: int,
    ) -> None:
        self._passes = [
            list(_passes(lambda number, source=source: pass_of(source, number), drawn, own))  # type: ignore[misc]
            for source, (drawn, own) in enumerate(zip(draws, samples, strict=True))
        ]
        self._shuffle, self._epoch_key = shuffle, epoch_key
        every = [astuple(one.counts_of(count)) for passes in self._passes for _, one, count in passes]
        self.counts = BinCounts(*(sum(column) for column in zip(*every, strict=True)))

    @lazy
    def _schedule(self) -> Schedule:
        """The dataset of each bin."""
        bins = [sum(count for _, _, count in passes) for passes in self._passes]
        return Interleaved(bins, self._epoch_key) if self._shuffle else Consecutive(bins)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_schedule"}

    def __len__(self) -> int:
        """The number of bins."""
        return self._schedule.total

    def plans(self, share: RankShare) -> tuple[list[Iterator[WindowPlan]], Iterator[Indices]]:
        """The windows of each dataset that a rank delivers, and the dataset of each of its bins."""
        return [self._plans(source, share) for source in range(len(self._passes))], sources(self._schedule, share)

    def _plans(self, source: int, share: RankShare) -> Iterator[WindowPlan]:
        total = self._schedule.total
        begin, end = (int(self._schedule.drawn(min(at, total))[source]) for at in (share.start, share.stop))
        for first, bins, count in self._passes[source]:
            low, high = max(begin, first), min(end, first + count)
            if low < high:
                yield from self._of_pass(source, share, first, bins, range(low, high))
        for position in share.padding(total):
            at, draw = draw_at(self._schedule, position)
            if at == source:
                first, bins, _ = next(one for one in reversed(self._passes[source]) if one[0] <= draw)
                yield one_sample(bins, draw - first)

    def _of_pass(self, source: int, share: RankShare, first: int, bins: Binned, draws: range) -> Iterator[WindowPlan]:
        """The bins `draws` of the dataset, as far as they are the rank's."""
        positions = self._schedule.positions(source, draws.start, draws.stop)
        mine = np.zeros(len(bins), bool)
        mine[draws.start - first : draws.stop - first] = share.mask(positions)
        for number in windows_from(bins, draws.start - first):
            low, high = bins.starts[number : number + 2].tolist()
            if low >= draws.stop - first:
                break
            if mine[low:high].any():
                plan = bins.window(number)
                yield plan.only(mine[plan.position])


def _passes(pass_of: Callable[[int], Binned], drawn: int, samples: int) -> Iterator[Pass]:
    """The passes over a dataset of so many samples."""
    first = 0
    for number in range(-(-drawn // samples) if samples else 0):
        bins = pass_of(number)
        rest = drawn - number * samples
        count = len(bins) if rest >= samples else min(len(bins), max(1, round(len(bins) * rest / samples)))
        if count:
            yield first, bins, count
        first += count
