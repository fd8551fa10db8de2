"""Units: runs of neighbouring blocks of a view that are read together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recordio.format.page import Indices
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.cuts import unit_cuts
from recordio.reader.order.numbers import Numbers
from recordio.reader.order.selection import Selection, ranges, selection_of

Mask = npt.NDArray[np.bool_]


def units_of(blocks: Blocks, selection: Selection, unit_bytes: int) -> Indices:
    """The first block_rank of each unit, then the total."""
    if unit_bytes <= 1:
        return np.arange(len(selection) + 1)
    shards = np.unique(np.searchsorted(selection.blocks_at(np.arange(len(selection))), blocks.shard))
    return unit_cuts(shards, blocks.nbytes[selection.blocks], unit_bytes)


def neighbours(some: Indices, others: Indices, blocks: Blocks, nbytes: int) -> Indices:
    """int64 (n,): those of the other blocks that come between and beside some blocks.

    All are ascending. Neighbours within a shard form runs, which are cut into pieces of this size: with a block come
    those of its piece.
    """
    every = np.concatenate([some, others])
    order = np.argsort(every, kind="stable")
    every = every[order]
    shard = np.searchsorted(blocks.shard, every, side="right")
    begins = (np.diff(every, prepend=-2) != 1) | (np.diff(shard, prepend=-1) != 0)
    behind = np.cumsum(blocks.nbytes[every])
    start = behind - blocks.nbytes[every]
    offset = start - start[begins][np.cumsum(begins) - 1]
    piece = np.cumsum(begins | (np.diff(offset // nbytes, prepend=-1) != 0)) - 1
    is_other = order >= len(some)
    comes = np.bincount(piece[~is_other], minlength=len(every)) > 0
    found: Indices = every[is_other & comes[piece]]
    return found


def ascending(blocks: Indices) -> Indices:
    """The distinct blocks among some: np.unique, of which the hashing would take longer than a sort."""
    every = np.sort(blocks)
    found: Indices = every[np.diff(every, prepend=-1) != 0]
    return found


def are_among(some: Indices, others: Indices) -> Mask:
    """bool (n,): which of these blocks are among others, which are ascending."""
    at = np.searchsorted(others, some)
    at[at == len(others)] = 0
    found: Mask = others[at] == some if len(others) else np.zeros(len(some), bool)
    return found


class WholeUnits:
    """The units that blocks begin, each of them once: a pool on disk fills in large requests.

    Args:
        blocks: those of the dataset.
        numbers: the samples of the view.
        unit_bytes: as of DataLoader.
    """

    def __init__(self, blocks: Blocks, numbers: Numbers, unit_bytes: int) -> None:
        selection = selection_of(blocks.first, numbers)
        self._blocks = selection.blocks_at(np.arange(len(selection)))
        self._cuts = units_of(blocks, selection, unit_bytes)
        self._begun = np.zeros(len(self._cuts) - 1, bool)

    def begun_by(self, blocks: Indices) -> Indices:
        """int64 (n,), ascending: all blocks of the units of these blocks, but for units that were begun before."""
        units = np.unique(self._units(blocks))
        new = units[~self._begun[units]]
        found: Indices = self._blocks[ranges(self._cuts[new], self._cuts[new + 1])]
        return found

    def begin(self, blocks: Indices) -> None:
        """Notes that the units of these blocks are begun."""
        self._begun[self._units(blocks)] = True

    def _units(self, blocks: Indices) -> Indices:
        found: Indices = np.searchsorted(self._cuts, np.searchsorted(self._blocks, blocks), side="right") - 1
        return found
