"""Lanes: the shares of an epoch that take turns. Position p belongs to lane p % lanes."""

from __future__ import annotations

import numpy as np

from recordio.determinism import low_bits, permutation, tagged_hashes
from recordio.format.page import Indices
from recordio.reader.order.selection import ranges


class Lanes:
    """How samples are cut into one part for each lane.

    Attributes:
        number: how many lanes there are.
        of_part: int64 (number,), the lane of each part.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.of_part = np.array(_lanes_by_part(number))

    def parts_of(self, lanes: range) -> Indices:
        """int64 (n,): the parts of the lanes range(rank, number, a divisor of number)."""
        return np.flatnonzero(self.of_part % lanes.step == lanes.start)

    def counts(self, start: int, n: int) -> tuple[Indices, Indices]:
        """int64 (number,) each: the first of n positions from `start` on, and how many there are, of each part."""
        offset = (self.of_part - start) % self.number
        return offset, (n - offset + self.number - 1) // self.number

    def starts(self, n: int) -> Indices:
        """int64 (number + 1,): how many of the first n positions the parts before each one have, then n."""
        return np.concatenate([[0], np.cumsum(self.counts(0, n)[1])])

    def share(self, start: int, n: int, key: int, lanes: range) -> tuple[Indices, Indices]:
        """The positions of these lanes among n from `start` on, ascending, and which of n samples is at each.

        The samples are cut into parts, one after the other. Each part is permuted by itself, and its samples take the
        positions of its lane.
        """
        if self.number == 1:
            return np.arange(start, start + n), permutation(n, key)
        offset, counts = self.counts(start, n)
        begins = np.cumsum(counts) - counts
        parts = self.parts_of(lanes)
        parts = parts[counts[parts] > 0]
        own = counts[parts]
        hashes = tagged_hashes(ranges(begins[parts], begins[parts] + own), n, key, (self.number - 1).bit_length())
        first = (lanes.start - start) % lanes.step
        chosen = np.empty(len(hashes), np.int64)
        firsts = (offset[parts] - first) // lanes.step
        ends = np.cumsum(own)
        for at, begin, end in zip(firsts.tolist(), (ends - own).tolist(), ends.tolist(), strict=True):
            hashes[begin:end].sort()
            chosen[at :: self.number // lanes.step] = hashes[begin:end]
        chosen &= low_bits(n).view(np.int64)
        return np.arange(start + first, start + n, lanes.step), chosen


def _lanes_by_part(lanes: int) -> list[int]:
    """The lane of each part. Digits are reversed: lanes that are equal modulo a world size are neighbours."""
    order, factor = [0], 2
    while lanes > 1:
        while lanes % factor:
            factor += 1
        order = [digit * len(order) + lane for lane in order for digit in range(factor)]
        lanes //= factor
    return order
