"""Maps a view to the blocks it selects from.

Blocks with no selected sample are skipped; a `block_rank` counts the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recordio.format.page import Indices
from recordio.reader.order.numbers import Numbers, count_below, is_ascending, numbers_at

_CHUNK = 1 << 16  # samples

Bounds = tuple[Indices, Indices]


class Selection(Protocol):
    """The samples of a view, block after block.

    Attributes:
        blocks: the block of each block_rank, ascending: int64 (len(self),), or a slice of all blocks.
    """

    @property
    def blocks(self) -> Indices | slice: ...

    def __len__(self) -> int:
        """The number of blocks with selected samples."""

    def blocks_at(self, block_ranks: Indices) -> Indices:
        """The blocks of these ranks."""

    def bounds(self, block_ranks: Indices) -> Bounds:
        """(begins, ends) of the selected samples of each block, in a numbering in which they are consecutive."""

    def find(self, block_ranks: Indices, bounds: Bounds, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        """(slot, row, index) of some of the selected samples of these blocks.

        `chosen` counts the samples within the bounds, block after block. A slot is a position in `block_ranks`.
        """


def selection_of(first: Indices, numbers: Numbers) -> Selection:
    """The selection of these numbers. `first`: int64 (blocks + 1,), the number of each block's first sample."""
    if isinstance(numbers, range) and numbers.step == 1:
        return _Range(first, numbers)
    return _List(first, numbers)


class _Range:
    """Consecutive samples. The bounds are sample numbers."""

    def __init__(self, first: Indices, numbers: range) -> None:
        self._low, self._high = (numbers.start, numbers.stop) if len(numbers) else (0, 0)
        begin = int(np.searchsorted(first, self._low, side="right")) - 1
        end = max(begin, int(np.searchsorted(first, self._high, side="left")))
        self.blocks = slice(begin, end)
        self._firsts, self._ends = first[begin:end], first[begin + 1 : end + 1]

    def __len__(self) -> int:
        return len(self._firsts)

    def blocks_at(self, block_ranks: Indices) -> Indices:
        return block_ranks + self.blocks.start

    def bounds(self, block_ranks: Indices) -> Bounds:
        begins, ends = self._firsts.take(block_ranks), self._ends.take(block_ranks)
        return np.maximum(begins, self._low, out=begins), np.minimum(ends, self._high, out=ends)

    def find(self, block_ranks: Indices, bounds: Bounds, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, number = _among(*bounds, chosen)
        row = number - self._firsts.take(block_ranks).take(slot)
        index = number
        index -= self._low
        return slot, row, index


class _List:
    """Any samples, possibly repeated. The bounds count the samples sorted by block.

    Ascending numbers are sorted: a search for the first sample of each block finds its bounds. Others are sorted in
    64-bit words, the block of each sample and in the low bits its index. Both have room: 2^30 blocks of 256 KiB are
    281 TB, and 2^34 indices are 128 GiB.
    """

    def __init__(self, first: Indices, numbers: Numbers) -> None:
        self._first, self._numbers = first, numbers
        self._sorted: npt.NDArray[np.uint64] | None = None
        if is_ascending(numbers):
            below = count_below(numbers, first)
        else:
            self._shift = np.uint64(len(numbers).bit_length())
            self._sorted = _sorted_by_block(first, numbers, self._shift)
            below = np.searchsorted(self._sorted, np.arange(len(first), dtype=np.uint64) << self._shift)
        self.blocks = np.flatnonzero(below[1:] > below[:-1])
        self._bounds = np.append(below[self.blocks], len(numbers))

    def __len__(self) -> int:
        return len(self.blocks)

    def blocks_at(self, block_ranks: Indices) -> Indices:
        return self.blocks[block_ranks]

    def bounds(self, block_ranks: Indices) -> Bounds:
        return self._bounds.take(block_ranks), self._bounds.take(block_ranks + 1)

    def find(self, block_ranks: Indices, bounds: Bounds, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, index = _among(*bounds, chosen)
        if self._sorted is not None:
            words = self._sorted.take(index)
            words &= (np.uint64(1) << self._shift) - np.uint64(1)
            index = words.view(np.int64)
        row = numbers_at(self._numbers, index) - self._first.take(self.blocks_at(block_ranks)).take(slot)
        return slot, row, index


def _sorted_by_block(first: Indices, numbers: Numbers, shift: np.uint64) -> npt.NDArray[np.uint64]:
    """uint64 (n,), ascending: block << shift | index of each number."""
    words = np.empty(len(numbers), np.uint64)
    for at, block in block_runs(first, numbers):
        run = words[at : at + len(block)]
        run[:] = block
        run <<= shift
        run |= np.arange(at, at + len(block), dtype=np.uint64)
    words.sort()
    return words


def block_runs(first: Indices, numbers: Numbers) -> Iterator[tuple[int, Indices]]:
    """The block of each number, in runs: (index of the run's first number, its blocks)."""
    for at in range(0, len(numbers), _CHUNK):
        run = numbers_at(numbers, np.arange(at, min(at + _CHUNK, len(numbers))))
        order = np.argsort(run)  # a search that jumps about would miss the cache each time
        block = np.empty(len(run), np.int64)
        block[order] = np.searchsorted(first, run[order], side="right") - 1
        yield at, block


def _among(begins: Indices, ends: Indices, chosen: Indices) -> tuple[Indices, Indices]:
    """(range, value) of the items `chosen` of ranges(begins, ends)."""
    counts = ends - begins
    which = np.repeat(np.arange(len(counts)), counts).take(chosen)
    value = (begins - np.cumsum(counts) + counts).take(which)
    value += chosen
    return which, value


def ranges(begins: Indices, ends: Indices) -> Indices:
    """begins[0], ..., ends[0] - 1, begins[1], ..., ends[1] - 1, and so on."""
    counts = ends - begins
    out: Indices = np.repeat(begins - np.cumsum(counts) + counts, counts)
    out += np.arange(len(out))
    return out


def overlapping(first: Indices, low: Indices, high: Indices) -> tuple[Indices, Indices]:
    """(begins, ends) of the runs of items that hold some of the samples low to high - 1; none if these are none.

    `first`: int64 (items + 1,), the first sample of each item, then the total.
    """
    begins = np.searchsorted(first, low, side="right") - 1
    return begins, np.where(high > low, np.searchsorted(first, high), begins)
