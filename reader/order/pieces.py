"""The blocks of lanes that keep to their own: an order of blocks, cut into one part for each lane.

A block at a cut is a piece in each part, so that lanes have equally many samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from recordio.determinism import key, permutation_within, tagged_hashes
from recordio.format.page import Indices
from recordio.reader.order.lanes import Lanes
from recordio.reader.order.selection import Bounds, Selection, overlapping, ranges


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of the blocks of a selection, lane after lane.

    Attributes:
        block_rank: int64 (p,), the block of each piece.
        begin: int64 (p,), its first sample, as Selection.bounds counts.
        first: int64 (p + 1,), how many samples are in the pieces before, then the total.
        part: int64 (p,), ascending: the part of each piece.
    """

    selection: Selection
    block_rank: Indices
    begin: Indices
    first: Indices
    part: Indices

    @classmethod
    def of(cls, selection: Selection, block_ranks: Indices, lanes: Lanes) -> tuple[Self, Indices]:
        """The pieces of these blocks, and int64 (p,) where each one's block is in `block_ranks`."""
        begins, ends = selection.bounds(block_ranks)
        first = np.concatenate([[0], np.cumsum(ends - begins)])
        cuts = lanes.starts(int(first[-1]))
        inside = np.unique(cuts[first[np.searchsorted(first, cuts)] != cuts])
        edges = np.insert(first, np.searchsorted(first, inside), inside)
        at = np.searchsorted(first, edges[:-1], side="right") - 1
        part = np.searchsorted(cuts, edges[:-1], side="right") - 1
        return cls(selection, block_ranks[at], begins[at] + edges[:-1] - first[at], edges, part), at

    def take(self, order: Indices) -> Pieces:
        """The same in another order, which leaves each piece in its part."""
        first = np.concatenate([[0], np.cumsum(np.diff(self.first)[order])])
        return Pieces(self.selection, self.block_rank[order], self.begin[order], first, self.part)

    def blocks_at(self, pieces: Indices) -> Indices:
        """int64 (n,): the blocks of these pieces."""
        return self.selection.blocks_at(self.block_rank[pieces])

    def bounds(self, pieces: Indices) -> Bounds:
        """The samples of these pieces, counted piece after piece."""
        return self.first[pieces], self.first[pieces + 1]

    def positions(self, lanes: Lanes) -> Indices:
        """int64 (p,): the position of each piece's first sample in the epoch."""
        own = self.first[:-1] - lanes.starts(int(self.first[-1]))[self.part]
        positions: Indices = own * lanes.number + lanes.of_part[self.part]
        return positions

    def between(self, start: int, end: int, lanes: Lanes) -> tuple[Indices, Bounds]:
        """The block_ranks of the samples at positions start to end - 1, lane after lane, and the bounds of these."""
        low = lanes.starts(int(self.first[-1]))[:-1] + lanes.counts(0, start)[1]
        high = low + lanes.counts(start, end - start)[1]
        begins, ends = overlapping(self.first, low, high)
        at = ranges(begins, ends)
        left = np.maximum(self.first[at], np.repeat(low, ends - begins))
        right = np.minimum(self.first[at + 1], np.repeat(high, ends - begins))
        first = self.begin[at] + left - self.first[at]
        return self.block_rank[at], (first, first + right - left)


def lasting_order(firsts: Indices, blocks: int) -> Indices:
    """int64 (n,): the order of units in every epoch of every seed, by the hashes of their first blocks of so many.

    Not by permutation(units, ...): in a view with a few blocks more or fewer the others keep their order.
    """
    return np.argsort(tagged_hashes(firsts.copy(), blocks, key(0)))


def units_within(parts: Indices, units: Indices) -> Indices:
    """int64 (u + 1,): the first piece of each unit, then the total. A unit at a cut is one in each part.

    `units`: int64 (p,), the unit of each piece; those of a unit follow one another.
    """
    begins = (np.diff(units) != 0) | (np.diff(parts) != 0)
    return np.concatenate([[0], np.flatnonzero(begins) + 1, [len(units)]])


def permuted_units(parts: Indices, units: Indices, lanes: Lanes, units_key: int) -> tuple[Indices, Indices]:
    """The order that permutes the units of each part, and the first piece of each unit in it, then the total."""
    order = permutation_within(parts[units[:-1]], lanes.number, units_key)
    sizes = np.diff(units)[order]
    return ranges(units[order], units[order + 1]), np.concatenate([[0], np.cumsum(sizes)])


def permuted_pools(
    parts: Indices, units: Indices, nbytes: Indices, pool_bytes: int, lanes: Lanes, pools_key: int
) -> Indices:
    """The order that permutes the pieces within pools, runs of the units of a part that share `pool_bytes` with others.

    The pools of the lanes end one after the other, so that not all of them begin new units at a time.

    Args:
        nbytes: int64 (p,), the weight of each piece.
    """
    share = max(1, pool_bytes // lanes.number)
    part = parts[units[:-1]]
    before = np.concatenate([[0], np.cumsum(nbytes)])[units[:-1]]
    before -= before[np.searchsorted(part, part)]
    number = (before + share * lanes.of_part[part] // lanes.number) // share
    begins = (np.diff(number) != 0) | (np.diff(part) != 0)
    pools = np.concatenate([[0], np.cumsum(begins)])
    return permutation_within(np.repeat(pools, np.diff(units)), int(pools[-1]) + 1, pools_key)
