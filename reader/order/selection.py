"""Which samples of a dataset's blocks belong to a view. A block's place is that among the blocks with any."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recordio.format.page import Indices


class Selection(Protocol):
    """The samples of a view as the members of blocks, block after block.

    Attributes:
        blocks: the blocks with any, ascending: int64 (p,) or a slice, for an array of all blocks.
    """

    @property
    def blocks(self) -> Indices | slice: ...

    def __len__(self) -> int:
        """How many blocks have any."""

    def numbers(self, places: Indices) -> Indices:
        """The blocks at these places."""

    def bounds(self, places: Indices) -> tuple[Indices, Indices]:
        """Where the members of the blocks at these places begin and end, each block's in a run of whole numbers."""

    def find(self, places: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        """Some of the members of the blocks at these places, which are counted block after block.

        Of each: the slot, which says at which of the places its block is, the row in the block, the index in the view.
        """


def selection_of(first: Indices, numbers: range | Indices) -> Selection:
    """The samples of these numbers; int64 (blocks + 1,) `first` is the number of each block's first sample."""
    return _Range(first, numbers) if isinstance(numbers, range) else _List(first, numbers)


class _Range:
    """Consecutive samples. The bounds are their numbers in the dataset."""

    def __init__(self, first: Indices, numbers: range) -> None:
        self._low, self._high = (numbers.start, numbers.stop) if len(numbers) else (0, 0)
        begin = int(np.searchsorted(first, self._low, side="right")) - 1
        end = max(begin, int(np.searchsorted(first, self._high, side="left")))
        self.blocks = slice(begin, end)
        self._firsts, self._ends = first[begin:end], first[begin + 1 : end + 1]

    def __len__(self) -> int:
        return len(self._firsts)

    def numbers(self, places: Indices) -> Indices:
        return places + self.blocks.start

    def bounds(self, places: Indices) -> tuple[Indices, Indices]:
        begins, ends = self._firsts.take(places), self._ends.take(places)
        return np.maximum(begins, self._low, out=begins), np.minimum(ends, self._high, out=ends)

    def find(self, places: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, index = _among(*self.bounds(places), chosen)
        row = index - self._firsts.take(places).take(slot)
        index -= self._low
        return slot, row, index


class _List:
    """Any samples; one may stand several times. The bounds are places in the list of them by their blocks."""

    def __init__(self, first: Indices, numbers: Indices) -> None:
        block = np.searchsorted(first, numbers, side="right") - 1
        self._index = np.argsort(block, kind="stable")
        self._row = (numbers - first[block])[self._index]
        self.blocks, begins = np.unique(block[self._index], return_index=True)
        self._bounds = np.append(begins, len(numbers))

    def __len__(self) -> int:
        return len(self.blocks)

    def numbers(self, places: Indices) -> Indices:
        return self.blocks[places]

    def bounds(self, places: Indices) -> tuple[Indices, Indices]:
        return self._bounds.take(places), self._bounds.take(places + 1)

    def find(self, places: Indices, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        slot, at = _among(*self.bounds(places), chosen)
        return slot, self._row.take(at), self._index.take(at)


def _among(begins: Indices, ends: Indices, chosen: Indices) -> tuple[Indices, Indices]:
    """Of the numbers of `ranges`, some by their places: which range each is of, and the number."""
    counts = ends - begins
    slot = np.repeat(np.arange(len(counts)), counts).take(chosen)
    number = (begins - np.cumsum(counts) + counts).take(slot)
    number += chosen
    return slot, number


def ranges(begins: Indices, ends: Indices) -> Indices:
    """The numbers from begins[0] to ends[0] - 1, from begins[1] to ends[1] - 1, and so on."""
    counts = ends - begins
    out: Indices = np.repeat(begins - np.cumsum(counts) + counts, counts)
    out += np.arange(len(out))
    return out
