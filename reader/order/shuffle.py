"""The order of an epoch: a pure function of the manifest, the view, the options, the seed and the epoch.

Nothing here opens a file or keeps a state. docs/order.md describes it with test vectors. Blocks are permuted, not
samples; neighbours in the permuted order form windows up to a budget; within a window every sample is permuted. A
window is divided among lanes, each a run of its blocks, and the lanes take turns: so each of several ranks needs only
its share of the blocks. A dataset that fits into one window is shuffled uniformly. With `pool_bytes` or `lane_affinity`
the epoch is divided among the lanes before it is cut into windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recordio.arguments import flag, integer
from recordio.determinism import key, permutation
from recordio.format.page import Indices
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.cuts import window_cuts
from recordio.reader.order.lanes import Lanes
from recordio.reader.order.numbers import Numbers, is_ascending, numbers_at
from recordio.reader.order.pieces import Pieces, lasting_order, permuted_pools, permuted_units, units_within
from recordio.reader.order.selection import Bounds, Selection, block_runs, overlapping, ranges, selection_of
from recordio.reader.order.units import units_of

PLAN_NBYTES = 48  # size of a sample's entry in the plan of its window
SHUFFLE_WINDOW_BYTES = 256 << 20
SEQUENTIAL_WINDOW_BYTES = 8 << 20
LATER_WINDOW_BYTES = 32 << 20  # each window costs a plan, and threads that wait at its end
LANES = 64
MAX_LANES = 1 << 16  # their bits are taken from a sample's hash
_CHUNK = 1 << 14  # blocks: intermediate arrays stay in L2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """The options that decide the order of an epoch, with the dataset, the seed and the epoch; see DataLoader."""

    shuffle: bool = False
    window_bytes: int | None = None
    window_samples: int | None = None
    unit_bytes: int = 1
    pool_bytes: int = 0
    lanes: int = LANES
    lane_affinity: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", integer("lanes", self.lanes, 1, MAX_LANES))
        object.__setattr__(self, "pool_bytes", integer("pool_bytes", self.pool_bytes, 0, (1 << 63) - 1))
        object.__setattr__(self, "lane_affinity", flag("lane_affinity", self.lane_affinity))
        for name in ("window_bytes", "window_samples", "unit_bytes"):
            value = integer(name, getattr(self, name), 1, (1 << 63) - 1, optional=name != "unit_bytes")
            object.__setattr__(self, name, value)

    @property
    def window(self) -> int:
        """The budget, in samples if `window_samples` is given, else in bytes."""
        default = SHUFFLE_WINDOW_BYTES if self.shuffle else SEQUENTIAL_WINDOW_BYTES
        return self.window_samples or self.window_bytes or default

    def shared(self, samples: int, total: int) -> OrderOptions:
        """The options of one dataset that gives `samples` of `total`: its share of window and pool, in one lane."""
        share = max(1, self.window * samples // total)
        pool = self.pool_bytes and max(1, self.pool_bytes * samples // total)
        if self.window_samples:
            return replace(self, lanes=1, window_samples=share, pool_bytes=pool)
        return replace(self, lanes=1, window_bytes=share, pool_bytes=pool)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """The samples of a window in the order of delivery, and the blocks to load for them.

    Attributes:
        blocks: int64 (b,), the block of each slot.
        position: int64 (n,), the position of each sample in the epoch, ascending.
        slot: int64 (n,), the slot of each sample's block.
        row: int64 (n,), the row of each sample in its block.
        index: int64 (n,), the index of each sample in the view.
        epoch_key: the key of the epoch.
        piece: int64 (n,), which piece of the sample it is, where documents are packed, as bins.pieces_of numbers them;
            else None.
    """

    blocks: Indices
    position: Indices
    slot: Indices
    row: Indices
    index: Indices
    epoch_key: int
    piece: Indices | None = None

    def __len__(self) -> int:
        return len(self.position)

    def only(self, mask: Mask) -> WindowPlan:
        """The samples where the mask is true."""
        if mask.all():
            return self
        return self.cut(np.flatnonzero(mask)).with_needed_blocks()

    def cut(self, rows: Indices | slice) -> WindowPlan:
        """Some of the samples, with all the blocks."""
        return WindowPlan(
            blocks=self.blocks,
            position=self.position[rows],
            slot=self.slot[rows],
            row=self.row[rows],
            index=self.index[rows],
            epoch_key=self.epoch_key,
            piece=None if self.piece is None else self.piece[rows],
        )

    def with_needed_blocks(self) -> WindowPlan:
        """The same samples, without the blocks that none of them needs."""
        used = np.zeros(len(self.blocks), bool)
        used[self.slot] = True
        slots = np.cumsum(used) - 1
        return replace(self, blocks=self.blocks[used], slot=slots[self.slot])

    def with_distinct_blocks(self) -> WindowPlan:
        """The same samples, with one slot for each block."""
        blocks, slots = np.unique(self.blocks, return_inverse=True)
        return replace(self, blocks=blocks, slot=slots[self.slot]) if len(blocks) < len(self.blocks) else self


class Order(Protocol):
    """The samples of a view in the order of an epoch, cut into windows.

    Attributes:
        starts: int64 (windows + 1,), the position of each window's first sample, then the total.
        lanes: position p belongs to lane p % lanes; the samples of a lane in a window lie in a run of its blocks.
    """

    starts: Indices
    lanes: int

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        """The plan of a window: of the lanes range(rank, self.lanes, a divisor of self.lanes), or of all lanes."""

    def blocks(self, number: int, lanes: range | None = None) -> Indices:
        """int64 (b,): the blocks of that plan, ascending, without the effort of planning samples."""


def order_of(blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int, *, grows: bool = False) -> Order:
    """The order of the samples of these numbers in the epoch of this key, key(seed, epoch).

    `grows`: if it is not shuffled, and no window was asked for, all windows but the first are larger.
    """
    if options.shuffle:
        selection = selection_of(blocks.first, numbers)
        total = len(numbers) if options.window_samples else int(blocks.nbytes[selection.blocks].sum())
        fits = total <= options.window
        by_lane = (options.pool_bytes or options.lane_affinity) and not fits
        # Half of the budget is delivered while the other half is loaded, unless the whole view fits.
        budget = options.window if fits or options.window_samples else max(1, options.window >> 1)
        return (_ByLane if by_lane else _Shuffled)(blocks, selection, options, budget, epoch_key)
    later = LATER_WINDOW_BYTES if grows and not (options.window_bytes or options.window_samples) else options.window
    return (_InOrder if is_ascending(numbers) else _Listed)(blocks, numbers, options, epoch_key, later)


class _InOrder:
    """Ascending samples, not shuffled."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int, later: int) -> None:
        self._epoch_key = epoch_key
        self._selection = selection_of(blocks.first, numbers)
        weighed = _weighed(blocks, self._selection, np.arange(len(self._selection)), options)
        self._cuts, self.starts = window_cuts(weighed, options.window, later)

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        block_ranks = np.arange(self._cuts[number], self._cuts[number + 1])
        every = np.arange(self.starts[number + 1] - self.starts[number])
        slot, row, index = self._selection.find(block_ranks, self._selection.bounds(block_ranks), every)
        return WindowPlan(self._selection.blocks_at(block_ranks), index, slot, row, index, self._epoch_key)

    def blocks(self, number: int, lanes: range | None = None) -> Indices:
        return self._selection.blocks_at(np.arange(self._cuts[number], self._cuts[number + 1]))


class _Listed:
    """A list of any samples, not shuffled."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int, later: int) -> None:
        self._first = blocks.first
        self._numbers = numbers
        self._epoch_key = epoch_key
        _, self.starts = window_cuts(self._weighed(blocks, options), options.window, later)

    def _weighed(self, blocks: Blocks, options: OrderOptions) -> Iterator[tuple[Indices, Indices]]:
        """(weights, ones) of the samples, in runs. The first of neighbours in a block weighs the block."""
        last = -1
        for _, block in block_runs(self._first, self._numbers):
            one = np.ones(len(block), np.int64)
            enters = np.diff(block, prepend=last) != 0
            yield one if options.window_samples else blocks.nbytes[block] * enters, one
            last = int(block[-1])

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        index = np.arange(self.starts[number], self.starts[number + 1])
        numbers = numbers_at(self._numbers, index)
        blocks, slot = np.unique(np.searchsorted(self._first, numbers, side="right") - 1, return_inverse=True)
        return WindowPlan(blocks, index, slot, numbers - self._first[blocks[slot]], index, self._epoch_key)

    def blocks(self, number: int, lanes: range | None = None) -> Indices:
        return self.window(number).blocks


class _Mixed:
    """Windows of blocks from anywhere, whose samples are permuted within the part of each lane."""

    def __init__(self, selection: Selection, starts: Indices, lanes: Lanes, epoch_key: int) -> None:
        self.starts = starts
        self.lanes = lanes.number
        self._selection = selection
        self._dealt = lanes
        self._epoch_key = epoch_key

    def _content(self, number: int) -> tuple[Indices, Bounds]:
        """The block_ranks of a window, lane after lane, and the bounds of its samples in each."""
        raise NotImplementedError

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        block_ranks, bounds = self._content(number)
        start, end = self.starts[number : number + 2].tolist()
        window_key = key(number + 1, after=self._epoch_key)
        position, chosen = self._dealt.share(start, end - start, window_key, lanes or range(self.lanes))
        slot, row, index = self._selection.find(block_ranks, bounds, chosen)
        plan = WindowPlan(self._selection.blocks_at(block_ranks), position, slot, row, index, self._epoch_key)
        return plan if lanes is None else plan.with_needed_blocks()

    def blocks(self, number: int, lanes: range | None = None) -> Indices:
        block_ranks, (begins, ends) = self._content(number)
        start, end = self.starts[number : number + 2].tolist()
        counts = self._dealt.counts(start, end - start)[1]
        cuts, parts = np.cumsum(counts), self._dealt.parts_of(lanes or range(self.lanes))
        first = np.concatenate([[0], np.cumsum(ends - begins)])
        needed = ranges(*overlapping(first, (cuts - counts)[parts], cuts[parts]))
        return np.unique(self._selection.blocks_at(block_ranks[needed]))


class _Shuffled(_Mixed):
    """Blocks permuted over the whole dataset and cut into windows, each of which is dealt to the lanes."""

    def __init__(
        self, blocks: Blocks, selection: Selection, options: OrderOptions, budget: int, epoch_key: int
    ) -> None:
        self._block_ranks = _permuted(blocks, selection, options.unit_bytes, epoch_key)
        self._cuts, starts = window_cuts(_weighed(blocks, selection, self._block_ranks, options), budget)
        super().__init__(selection, starts, Lanes(options.lanes if len(starts) > 2 else 1), epoch_key)

    def _content(self, number: int) -> tuple[Indices, Bounds]:
        block_ranks = self._block_ranks[self._cuts[number] : self._cuts[number + 1]]
        return block_ranks, self._selection.bounds(block_ranks)


class _ByLane(_Mixed):
    """Blocks dealt to the lanes, permuted within each, and cut into windows over all lanes."""

    def __init__(
        self, blocks: Blocks, selection: Selection, options: OrderOptions, budget: int, epoch_key: int
    ) -> None:
        lanes = Lanes(options.lanes)
        pieces = _pieces(blocks, selection, options, lanes, epoch_key)
        positions = pieces.positions(lanes)
        order = np.argsort(positions)
        cuts, _ = window_cuts(_weighed(blocks, pieces, order, options), budget)
        starts = np.append(positions[order[cuts[:-1]]], pieces.first[-1])
        super().__init__(selection, starts, lanes, epoch_key)
        self._pieces = pieces

    def _content(self, number: int) -> tuple[Indices, Bounds]:
        start, end = self.starts[number : number + 2].tolist()
        return self._pieces.between(start, end, self._dealt)

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        return super().window(number, lanes).with_distinct_blocks()


def _permuted(blocks: Blocks, selection: Selection, unit_bytes: int, epoch_key: int) -> Indices:
    """The block_ranks of the selection in the order of the epoch."""
    if unit_bytes <= 1:
        return permutation(len(selection), key(0, after=epoch_key))
    cuts = units_of(blocks, selection, unit_bytes)
    return _unit_blocks(cuts, permutation(len(cuts) - 1, key(0, after=epoch_key)))


def _unit_blocks(cuts: Indices, order: Indices) -> Indices:
    """The block_ranks of units in this order."""
    return order if len(order) == cuts[-1] else ranges(cuts[order], cuts[order + 1])


def _pieces(blocks: Blocks, selection: Selection, options: OrderOptions, lanes: Lanes, epoch_key: int) -> Pieces:
    """The blocks of the selection, dealt to the lanes, in the order of the epoch."""
    cuts = units_of(blocks, selection, options.unit_bytes)
    if options.lane_affinity:
        order = lasting_order(selection.blocks_at(cuts[:-1]), len(blocks.nbytes))
    else:
        order = permutation(len(cuts) - 1, key(0, after=epoch_key))
    pieces, at = Pieces.of(selection, _unit_blocks(cuts, order), lanes)
    units = units_within(pieces.part, np.repeat(order, np.diff(cuts)[order])[at])
    del cuts, order, at
    if options.lane_affinity:
        taken, units = permuted_units(pieces.part, units, lanes, key(0, after=epoch_key))
        pieces = pieces.take(taken)
    if options.pool_bytes:
        nbytes = blocks.nbytes[pieces.blocks_at(np.arange(len(pieces.part)))]
        pools_key = key(0, 0, after=epoch_key)
        pieces = pieces.take(permuted_pools(pieces.part, units, nbytes, options.pool_bytes, lanes, pools_key))
    return pieces


def _weighed(
    blocks: Blocks, whole: Selection | Pieces, chosen: Indices, options: OrderOptions
) -> Iterator[tuple[Indices, Indices]]:
    """(weights, samples) of these blocks or pieces, in chunks. The weight counts against the window's budget."""
    for at in range(0, len(chosen), _CHUNK):
        chunk = chosen[at : at + _CHUNK]
        begins, ends = whole.bounds(chunk)
        counts = ends - begins
        yield counts if options.window_samples else blocks.nbytes.take(whole.blocks_at(chunk)), counts
