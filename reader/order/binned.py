"""The order of an epoch in bins: batches by length, or rows that documents are packed into.

An order like any other, whose positions count bins instead of samples, so that ranks share bins and a state counts
them. The bins of a window are made of the samples of that window alone, and those of a lane of a run of its blocks: so
a rank needs few blocks of others, and neither ranks nor workers change the contents of a bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.reader.order.bins import BinRule, bins_of, evenly_cut, parts_for, piece_numbers, pieces_of, split_until
from recordio.reader.order.lanes import Lanes
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import Order, WindowPlan

Bins = tuple[Indices, Indices]  # items, bin after bin, and where each bin begins


@dataclass(slots=True)
class BinCounts:
    """How full the bins of an epoch are, on all ranks together.

    Attributes:
        samples: samples in the bins, each once.
        bins: batches by length, or packed rows.
        tokens: tokens of the samples in them, by the field that says the length.
        capacity: what the bins hold once they are padded: rows of their length, batches of their longest sample.
        overlong: samples that were longer than a row, and were truncated or split.
        left_out: tokens that were cut off.
        dropped: samples in no bin, because theirs would not have been full.
    """

    samples: int = 0
    bins: int = 0
    tokens: int = 0
    capacity: int = 0
    overlong: int = 0
    left_out: int = 0
    dropped: int = 0

    @property
    def padding(self) -> float:
        """The share of padding."""
        return 1 - self.tokens / self.capacity if self.capacity else 0.0


class Binned:
    """The bins of an epoch, as an Order. Making one plans the whole epoch once, to count the bins.

    Args:
        order: the samples of the epoch.
        lengths: (samples of the view,): the length of each.
        rule: how samples are put into bins.
        shuffle: whether the bins of a part are permuted.
        epoch_key: the key of the epoch.

    Attributes:
        counts: how full the bins are.
    """

    def __init__(self, order: Order, lengths: npt.NDArray[Any], rule: BinRule, shuffle: bool, epoch_key: int) -> None:
        self.lanes = order.lanes
        self.counts = BinCounts()
        self._order, self._lengths, self._rule = order, lengths, rule
        self._shuffle, self._epoch_key = shuffle, epoch_key
        starts = [0]
        for number in range(len(order.starts) - 1):
            plan = self._binned(number, starts[-1])
            starts.append(plan.position.item(-1) + 1 if len(plan) else starts[-1])
            self._count(plan, self.counts)
        self.counts.dropped = int(order.starts[-1]) - self.counts.samples
        self.starts = np.array(starts)

    def __len__(self) -> int:
        """The number of bins."""
        return int(self.starts[-1])

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        """The plan of a window, of all lanes: `position` is the number of each sample's bin."""
        return self._binned(number, int(self.starts[number]))

    def blocks(self, number: int, lanes: range | None = None) -> Indices:
        plan = self.window(number)
        if lanes is not None:
            plan = plan.only(plan.position % lanes.step == lanes.start)
        return np.unique(plan.blocks)

    def counts_of(self, bins: int) -> BinCounts:
        """How full the first bins are; the rest is not dropped, but of no epoch."""
        if bins == len(self):
            return self.counts
        counts = BinCounts()
        for number in range(int(np.searchsorted(self.starts, bins))):
            plan = self.window(number)
            self._count(plan.only(plan.position < bins), counts)
        return counts

    def plans(self, share: RankShare) -> tuple[list[Iterator[WindowPlan]], None]:
        """The windows that a rank delivers, of the one dataset."""
        return [window_plans(self, share)], None

    def _count(self, plan: WindowPlan, counts: BinCounts) -> None:
        """Adds the bins of a window."""
        if not len(plan):
            return
        size = self._rule.size
        stored = self._lengths[plan.index].astype(np.int64)
        piece = None if plan.piece is None else piece_numbers(plan.piece)
        first = np.ones(len(plan), bool) if piece is None else piece == 0
        lengths = stored if piece is None else np.clip(stored - piece * size, 0, size)
        bins = np.flatnonzero(np.diff(plan.position, prepend=-1))
        held = np.diff(bins, append=len(plan)) * np.maximum.reduceat(lengths, bins)
        packed = self._rule.kind == "packed"
        counts.samples += int(np.count_nonzero(first))
        counts.bins += len(bins)
        counts.tokens += int(lengths.sum())
        counts.capacity += size * len(bins) if packed else int(held.sum())
        if packed:
            counts.overlong += int(np.count_nonzero(first & (stored > size)))
            counts.left_out += int(stored[first].sum() - lengths.sum())

    def _binned(self, number: int, first: int) -> WindowPlan:
        """The plan of a window whose first bin has this number."""
        plan = self._order.window(number)
        sample, piece, lengths = self._items(plan)
        costs = np.ones(len(sample), np.int64) if self._rule.kind == "counted" else lengths
        part, parts = self._parts(plan.slot[sample], costs)
        each = self._bins(part, parts, lengths, costs, key(number + 1, after=self._epoch_key))
        items, positions = _dealt(each, Lanes(parts).of_part, first)
        found = replace(plan.cut(sample[items]), position=positions, piece=None if piece is None else piece[items])
        return found.with_needed_blocks() if self._rule.only_full else found

    def _items(self, plan: WindowPlan) -> tuple[Indices, Indices | None, Indices]:
        """What is put into bins, samples or pieces of them: (sample of the plan, piece, length) of each."""
        lengths = np.maximum(self._lengths[plan.index].astype(np.int64), 1)
        if self._rule.on_overlong == "split":
            return pieces_of(lengths, self._rule.size)
        every = np.arange(len(plan))
        if self._rule.kind == "packed":
            return every, np.full(len(plan), ~0), np.minimum(lengths, self._rule.size)
        return every, None, lengths

    def _parts(self, slot: Indices, costs: Indices) -> tuple[Indices, int]:
        """The part of each item, a run of blocks, and how many parts there are."""
        parts = parts_for(int(costs.sum()), self.lanes, self._rule.size)
        by_block = np.argsort(slot, kind="stable")
        part = np.empty(len(slot), np.int64)
        part[by_block] = evenly_cut(costs[by_block], parts)
        return part, parts

    def _bins(self, part: Indices, parts: int, lengths: Indices, costs: Indices, window_key: int) -> list[Bins]:
        """The bins of each part: about equally many, or all that are full."""
        by_part = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[by_part], np.arange(parts + 1))
        each = []
        for begin, end in pairwise(cuts.tolist()):
            items = by_part[begin:end]
            each.append(self._part_bins(items, lengths[items], costs[items]))
        most = max(len(begins) for _, begins in each)
        found = []
        for number, (items, begins) in enumerate(each):
            if self._rule.only_full:
                items, even = _full(items, np.array(begins, np.int64), self._rule.size)
            else:
                even = np.array(split_until(begins, len(items), most), np.int64)
            if self._shuffle:
                items, even = _reordered(items, even, permutation(len(even), key(number, after=window_key)))
            found.append((items, even))
        return found

    def _part_bins(self, items: Indices, lengths: Indices, costs: Indices) -> tuple[Indices, list[int]]:
        """The bins of a part, bucket after bucket."""
        if not len(items):
            return items, []
        bucket = evenly_cut(costs, self._rule.buckets(int(costs.sum())))
        order = np.lexsort((-lengths, bucket))
        cuts = [*np.flatnonzero(np.diff(bucket[order], prepend=-1)).tolist(), len(items)]
        out, begins = [], []
        for begin, end in pairwise(cuts):
            found, starts = bins_of(self._rule, lengths[order[begin:end]])
            out.append(items[order[begin:end][found]])
            begins += [begin + at for at in starts]
        return np.concatenate(out), begins


def _full(items: Indices, begins: Indices, size: int) -> Bins:
    """The bins of `size` items alone."""
    full = begins[np.diff(begins, append=len(items)) == size]
    return items[(full[:, None] + np.arange(size)).ravel()], np.arange(len(full)) * size


def _reordered(items: Indices, begins: Indices, order: Indices) -> Bins:
    """The same bins in another order."""
    counts = np.diff(begins, append=len(items))[order]
    ends = np.cumsum(counts)
    within = np.arange(len(items)) - np.repeat(ends - counts, counts)
    return items[np.repeat(begins[order], counts) + within], ends - counts


def _dealt(parts: list[Bins], lane: Indices, first: int) -> tuple[Indices, Indices]:
    """The items of a window in the order of its bins, and the number of each one's bin: the lanes take turns."""
    sizes = [np.diff(begins, append=len(items)) for items, begins in parts]
    turn = np.concatenate([np.arange(len(one)) for one in sizes])
    lanes = np.repeat((lane - first) % len(parts), [len(one) for one in sizes])
    numbers = np.empty(len(turn), np.int64)
    numbers[np.lexsort((lanes, turn))] = np.arange(first, first + len(turn))
    positions = np.repeat(numbers, np.concatenate(sizes))
    order = np.argsort(positions, kind="stable")
    return np.concatenate([items for items, _ in parts])[order], positions[order]
