"""Puts samples of unlike lengths into bins: batches of so many tokens or samples, rows that documents are packed into.

Pure arithmetic on lengths; docs/order.md describes it with test vectors.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from recordio.format.page import Indices

BUCKET_BINS = 200  # samples are sorted by length among those of about so many bins
_LEAST_BINS = 64  # of a part: its last bin is half empty on average, and all parts have as many bins as the largest
_BIN_BITS = 32

Kind = Literal["padded", "packed", "counted"]
Overlong = Literal["raise", "truncate", "split"]


@dataclass(frozen=True, slots=True)
class BinRule:
    """How samples are put into bins.

    Attributes:
        kind: "padded" bins are batches whose samples, each padded to the longest, have `size` tokens at most; "packed"
            ones are rows of up to `size` tokens; "counted" ones are batches of up to `size` samples.
        size: the limit.
        on_overlong: what is done with samples longer than a row: they are cut off, or into pieces of a row and a rest.
            With "raise" there are none.
        only_full: leave out "counted" bins of fewer than `size` samples.
        equal: "counted" bins hold samples of one length: their bucket.
    """

    kind: Kind
    size: int
    on_overlong: Overlong = "raise"
    only_full: bool = False
    equal: bool = False

    def buckets(self, cost: int) -> int:
        """How many buckets are made of items of this cost in all. One where each would have a rest of every length."""
        if self.equal:
            return 1
        bucket = self.size * BUCKET_BINS
        return max(1, (cost + bucket // 2) // bucket)


def parts_for(total: int, lanes: int, size: int) -> int:
    """Into how many parts a window is cut: one a lane, or fewer, so that each has 32 bins' worth.

    Args:
        total: the cost of all its samples.
        lanes: the number of lanes; it is divided by its prime factors, the least one first.
        size: the limit of a bin.
    """
    factor = 2
    while lanes > 1 and total < lanes * size * _LEAST_BINS:
        while lanes % factor:
            factor += 1
        lanes //= factor
    return lanes


def evenly_cut(costs: Indices, count: int) -> Indices:
    """int64 (n,): which of `count` runs each item is in, if runs cost about the same. Costs are at least 1."""
    before = np.cumsum(costs)
    total = int(before[-1])
    before -= costs
    return before * count // total


def bins_of(rule: BinRule, lengths: Indices) -> tuple[Indices, list[int]]:
    """The bins of a bucket: its items in the order of the bins, and where in this order each bin begins.

    Args:
        rule: the rule.
        lengths: int64 (n,), the lengths of the items, descending.
    """
    every = np.arange(len(lengths))
    if rule.kind != "packed":
        return every, _runs(rule, lengths)
    bins = np.array(best_fit(lengths.tolist(), rule.size), np.int64)
    order = np.argsort(bins, kind="stable")
    return order, np.flatnonzero(np.diff(bins[order], prepend=-1)).tolist()


def _runs(rule: BinRule, lengths: Indices) -> list[int]:
    if rule.equal:
        starts = np.flatnonzero(np.diff(lengths, prepend=0))  # lengths are 1 or more
        within = np.arange(len(lengths)) - np.repeat(starts, np.diff(starts, append=len(lengths)))
        return np.flatnonzero(within % rule.size == 0).tolist()
    if rule.kind == "counted":
        return list(range(0, len(lengths), rule.size))
    longest, begins, at = lengths.tolist(), [], 0
    while at < len(longest):
        begins.append(at)
        at += rule.size // longest[at]
    return begins


def best_fit(lengths: Sequence[int], size: int) -> list[int]:
    """The row of each document: the one with the least room that will do, the first of several, else a new one.

    With lengths that descend this is best-fit decreasing (Johnson, 1973), which needs at most 11/9 of the rows of an
    optimal packing, and one more.
    """
    rooms: list[int] = []  # ascending: room << bits | row
    out, rows = [], 0
    for length in lengths:
        at = bisect_left(rooms, length << _BIN_BITS)
        if at < len(rooms):
            word = rooms.pop(at)
            row, room = word & ((1 << _BIN_BITS) - 1), word >> _BIN_BITS
        else:
            row, room = rows, size
            rows += 1
        out.append(row)
        if room > length:
            insort(rooms, (room - length) << _BIN_BITS | row)
    return out


def split_until(begins: Sequence[int], end: int, count: int) -> list[int]:
    """`count` bins, or one an item if there are not as many items: the bin with most items, the first of several, is
    halved again and again, its first half the larger.

    Args:
        begins: the first item of each bin, ascending from 0.
        end: the number of items.
    """
    bins = [(low - high, low, high) for low, high in pairwise([*begins, end])]
    heapq.heapify(bins)
    while len(bins) < min(count, end):
        items, low, high = heapq.heappop(bins)
        middle = low + (1 - items) // 2
        heapq.heappush(bins, (low - middle, low, middle))
        heapq.heappush(bins, (middle - high, middle, high))
    return sorted(low for _, low, _ in bins)


def pieces_of(lengths: Indices, size: int) -> tuple[Indices, Indices, Indices]:
    """Documents cut into pieces of `size` tokens, the last one shorter: (document, piece, length) of each piece.

    Pieces are numbered 0, 1, ... in each document; the last one is ~number, so that it is known to be the last.
    """
    counts = -(-lengths // size)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    left = lengths[document] - number * size
    return document, np.where(left <= size, ~number, number), np.minimum(size, left)


def piece_numbers(pieces: Indices) -> Indices:
    """int64 (n,): the number of each piece, the last ones too."""
    return pieces ^ (pieces >> 63)
