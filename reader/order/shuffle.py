"""The order of an epoch: a pure function of the manifest, the view, the options, the seed and the epoch.

Nothing here opens a file or keeps a state. docs/order.md describes it with test vectors. Blocks are permuted, not
samples; neighbours in the permuted order form windows up to a budget; within a window every sample is permuted. A
window is divided among lanes, each a run of its blocks, and the lanes take turns: so each of several ranks needs only
its share of the blocks. A dataset that fits into one window is shuffled uniformly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recordio.arguments import integer
from recordio.determinism import key, low_bits, permutation, tagged_hashes
from recordio.format.page import Indices
from recordio.reader.order.numbers import Numbers, is_ascending, numbers_at
from recordio.reader.order.selection import Selection, block_runs, ranges, selection_of

PLAN_NBYTES = 48  # size of a sample's entry in the plan of its window
SHUFFLE_WINDOW_BYTES = 256 << 20
SEQUENTIAL_WINDOW_BYTES = 8 << 20
LANES = 64
MAX_LANES = 1 << 16  # their bits are taken from a sample's hash
_CHUNK = 1 << 14  # blocks: intermediate arrays stay in L2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a dataset, numbered through its shards.

    Attributes:
        first: int64 (blocks + 1,), the number of each block's first sample, then the total.
        nbytes: int64 (blocks,), the approximate size of each block in memory.
        shard: int64 (shards + 1,), the first block of each shard, then the total.
    """

    first: Indices
    nbytes: Indices
    shard: Indices


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """The options that decide the order of an epoch, with the dataset, the seed and the epoch; see DataLoader."""

    shuffle: bool = False
    window_bytes: int | None = None
    window_samples: int | None = None
    unit_bytes: int = 1
    lanes: int = LANES

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", integer("lanes", self.lanes, 1, MAX_LANES))
        for name in ("window_bytes", "window_samples", "unit_bytes"):
            value = integer(name, getattr(self, name), 1, (1 << 63) - 1, optional=name != "unit_bytes")
            object.__setattr__(self, name, value)

    @property
    def window(self) -> int:
        """The budget, in samples if `window_samples` is given, else in bytes."""
        default = SHUFFLE_WINDOW_BYTES if self.shuffle else SEQUENTIAL_WINDOW_BYTES
        return self.window_samples or self.window_bytes or default

    def with_default_window(self, nbytes: int) -> OrderOptions:
        """The same with this window, unless there is one already."""
        return self if self.window_samples or self.window_bytes else replace(self, window_bytes=nbytes)

    def shared(self, samples: int, total: int) -> OrderOptions:
        """The options of one dataset that gives `samples` of `total`: its share of the window, in one lane."""
        share = max(1, self.window * samples // total)
        if self.window_samples:
            return replace(self, lanes=1, window_samples=share)
        return replace(self, lanes=1, window_bytes=share)


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
    """

    blocks: Indices
    position: Indices
    slot: Indices
    row: Indices
    index: Indices
    epoch_key: int

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
        )

    def with_needed_blocks(self) -> WindowPlan:
        """The same samples, without the blocks that none of them needs."""
        used = np.zeros(len(self.blocks), bool)
        used[self.slot] = True
        slots = np.cumsum(used) - 1
        return replace(self, blocks=self.blocks[used], slot=slots[self.slot])


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


def order_of(blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int) -> Order:
    """The order of the samples of these numbers in the epoch of this key, key(seed, epoch)."""
    if options.shuffle:
        return _Shuffled(blocks, numbers, options, epoch_key)
    if is_ascending(numbers):
        return _InOrder(blocks, numbers, options, epoch_key)
    return _Listed(blocks, numbers, options, epoch_key)


class _InOrder:
    """Ascending samples, not shuffled."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int) -> None:
        self._epoch_key = epoch_key
        self._selection = selection_of(blocks.first, numbers)
        weighed = _weighed(blocks, self._selection, np.arange(len(self._selection)), options)
        self._cuts, self.starts = _windows(weighed, options.window)

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        block_ranks = np.arange(self._cuts[number], self._cuts[number + 1])
        slot, row, index = self._selection.find(block_ranks, np.arange(self.starts[number + 1] - self.starts[number]))
        return WindowPlan(self._selection.blocks_at(block_ranks), index, slot, row, index, self._epoch_key)


class _Listed:
    """A list of any samples, not shuffled."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int) -> None:
        self._first = blocks.first
        self._numbers = numbers
        self._epoch_key = epoch_key
        _, self.starts = _windows(self._weighed(blocks, options), options.window)

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


class _Shuffled:
    """Blocks permuted over the whole dataset, samples permuted within windows of them."""

    def __init__(self, blocks: Blocks, numbers: Numbers, options: OrderOptions, epoch_key: int) -> None:
        self._selection = selection_of(blocks.first, numbers)
        self._epoch_key = epoch_key
        self._block_ranks = self._permuted(blocks, options.unit_bytes)
        # Half of the budget is delivered while the other half is loaded, unless the whole view fits.
        halves = not options.window_samples and int(blocks.nbytes[self._selection.blocks].sum()) > options.window
        weighed = _weighed(blocks, self._selection, self._block_ranks, options)
        self._cuts, self.starts = _windows(weighed, max(1, options.window >> halves))
        self.lanes = options.lanes if len(self.starts) > 2 else 1
        self._lane_of_run = np.array(_lanes_by_run(self.lanes))

    def _permuted(self, blocks: Blocks, unit_bytes: int) -> Indices:
        """The block_ranks of the selection in the order of the epoch."""
        n = len(self._selection)
        if unit_bytes <= 1:
            return permutation(n, key(0, after=self._epoch_key))
        shards = np.unique(np.searchsorted(self._selection.blocks_at(np.arange(n)), blocks.shard))
        cuts = _units(shards, blocks.nbytes[self._selection.blocks], unit_bytes)
        order = permutation(len(cuts) - 1, key(0, after=self._epoch_key))
        return ranges(cuts[order], cuts[order + 1])

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        block_ranks = self._block_ranks[self._cuts[number] : self._cuts[number + 1]]
        n = int(self.starts[number + 1] - self.starts[number])
        position, chosen = self._share_of_lanes(number, n, lanes or range(self.lanes))
        slot, row, index = self._selection.find(block_ranks, chosen)
        plan = WindowPlan(self._selection.blocks_at(block_ranks), position, slot, row, index, self._epoch_key)
        return plan if lanes is None else plan.with_needed_blocks()

    def _share_of_lanes(self, number: int, n: int, lanes: range) -> tuple[Indices, Indices]:
        """The positions of these lanes, ascending, and which of the window's n samples is at each.

        The window's samples, block after block, are cut into one run for each lane. Each run is permuted by itself, and
        its samples take the positions of the lane.
        """
        start, epoch_key = int(self.starts[number]), key(number + 1, after=self._epoch_key)
        if self.lanes == 1:
            return np.arange(start, start + n), permutation(n, epoch_key)
        offset = (self._lane_of_run - start) % self.lanes  # of each run's first position in the window
        counts = (n - offset + self.lanes - 1) // self.lanes
        begins = np.cumsum(counts) - counts
        runs = np.flatnonzero(self._lane_of_run % lanes.step == lanes.start)
        own = counts[runs]
        hashes = tagged_hashes(ranges(begins[runs], begins[runs] + own), n, epoch_key, (self.lanes - 1).bit_length())
        first = (lanes.start - start) % lanes.step
        chosen = np.empty(len(hashes), np.int64)
        firsts = (offset[runs] - first) // lanes.step
        ends = np.cumsum(own)
        for at, begin, end in zip(firsts.tolist(), (ends - own).tolist(), ends.tolist(), strict=True):
            hashes[begin:end].sort()
            chosen[at :: self.lanes // lanes.step] = hashes[begin:end]
        chosen &= low_bits(n).view(np.int64)
        return np.arange(start + first, start + n, lanes.step), chosen


def _weighed(
    blocks: Blocks, selection: Selection, block_ranks: Indices, options: OrderOptions
) -> Iterator[tuple[Indices, Indices]]:
    """(weights, samples) of these blocks, in chunks. The weight counts against the window's budget."""
    for at in range(0, len(block_ranks), _CHUNK):
        chunk = block_ranks[at : at + _CHUNK]
        begins, ends = selection.bounds(chunk)
        counts = ends - begins
        yield counts if options.window_samples else blocks.nbytes.take(selection.blocks_at(chunk)), counts


def _windows(weighed: Iterable[tuple[Indices, Indices]], budget: int) -> tuple[Indices, Indices]:
    """(first block, first sample) of each window, then the totals, from the weight and the samples of each block.

    A new window begins wherever the weight of all blocks before it passes a multiple of the budget.
    """
    cuts: list[Indices] = []
    starts: list[Indices] = []
    last, block, weight, sample = -1, 0, 0, 0
    for weights, counts in weighed:
        weighs, samples = weight + np.cumsum(weights), sample + np.cumsum(counts)
        number = (weighs - weights) // budget
        first = np.flatnonzero(number != np.concatenate([[last], number[:-1]]))
        cuts.append(block + first)
        starts.append((samples - counts)[first])
        last, block, weight, sample = int(number[-1]), block + len(weights), int(weighs[-1]), int(samples[-1])
    return np.concatenate([*cuts, [block]]), np.concatenate([*starts, [sample]])


def _units(shards: Indices, weights: Indices, unit_bytes: int) -> Indices:
    """The first block of each unit, then the total. A unit is a run of blocks of one shard that are read together.

    `shards`: index of the first block of each shard.
    """
    number = np.cumsum(weights)
    number -= weights
    number -= np.repeat(number[shards[:-1]], np.diff(shards))
    number //= unit_bytes
    return np.union1d(shards, np.flatnonzero(np.diff(number)) + 1)


def _lanes_by_run(lanes: int) -> list[int]:
    """The lane of each run of blocks. Digits are reversed: lanes that are equal modulo a world size are neighbours."""
    order, factor = [0], 2
    while lanes > 1:
        while lanes % factor:
            factor += 1
        order = [digit * len(order) + lane for lane in order for digit in range(factor)]
        lanes //= factor
    return order
