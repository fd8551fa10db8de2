"""Maps a view to the blocks it selects from.

Blocks with no selected sample are skipped; a `block_rank` counts the rest.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recordio.format.page import Indices


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

    def bounds(self, block_ranks: Indices) -> tuple[Indices, Indices]:
        """(begins, ends) of the selected samples of each block, in a numbering in which they are consecutive."""

    def find(self, block_ranks: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        """(slot, row, index) of some of the selected samples of these blocks.

        `chosen` counts these samples block after block. A slot is a position in `block_ranks`.
        """


def selection_of(first: Indices, numbers: range | Indices) -> Selection:
    """The selection of these numbers. `first`: int64 (blocks + 1,), the number of each block's first sample."""
    return _Range(first, numbers) if isinstance(numbers, range) else _List(first, numbers)


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

    def bounds(self, block_ranks: Indices) -> tuple[Indices, Indices]:
        begins, ends = self._firsts.take(block_ranks), self._ends.take(block_ranks)
        return np.maximum(begins, self._low, out=begins), np.minimum(ends, self._high, out=ends)

    def find(self, block_ranks: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, number = _among(*self.bounds(block_ranks), chosen)
        row = number - self._firsts.take(block_ranks).take(slot)
        index = number
        index -= self._low
        return slot, row, index


class _List:
    """Any samples, possibly repeated. The bounds count the samples sorted by block."""

    def __init__(self, first: Indices, numbers: Indices) -> None:
        block = np.searchsorted(first, numbers, side="right") - 1
        self._index = np.argsort(block, kind="stable")
        self._row = (numbers - first[block])[self._index]
        self.blocks, begins = np.unique(block[self._index], return_index=True)
        self._bounds = np.append(begins, len(numbers))

    def __len__(self) -> int:
        return len(self.blocks)

    def blocks_at(self, block_ranks: Indices) -> Indices:
        return self.blocks[block_ranks]

    def bounds(self, block_ranks: Indices) -> tuple[Indices, Indices]:
        return self._bounds.take(block_ranks), self._bounds.take(block_ranks + 1)

    def find(self, block_ranks: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, at = _among(*self.bounds(block_ranks), chosen)
        return slot, self._row.take(at), self._index.take(at)


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
