"""Units: runs of neighbouring blocks of a view that are read together."""

from __future__ import annotations

import numpy as np

from recordio.format.page import Indices
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.cuts import unit_cuts
from recordio.reader.order.numbers import Numbers
from recordio.reader.order.selection import Selection, ranges, selection_of


def units_of(blocks: Blocks, selection: Selection, unit_bytes: int) -> Indices:
    """The first block_rank of each unit, then the total."""
    if unit_bytes <= 1:
        return np.arange(len(selection) + 1)
    shards = np.unique(np.searchsorted(selection.blocks_at(np.arange(len(selection))), blocks.shard))
    return unit_cuts(shards, blocks.nbytes[selection.blocks], unit_bytes)


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
