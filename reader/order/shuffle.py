"""The order of an epoch: a pure function of the manifest, the view, the options, the seed and the epoch.

Nothing here opens a file or keeps a state. docs/order.md describes it with test vectors. Blocks are permuted, not
samples; neighbours in the permuted order form windows up to a budget; within a window every sample is permuted. So that
each of several ranks needs only its share of the blocks, a window is dealt to lanes, each a run of its blocks, and the
lanes take turns. A dataset that fits into one window is shuffled uniformly.
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
from recordio.reader.order.selection import Selection, ranges, selection_of

PLAN_NBYTES = 48  # what the plan of a window takes for each sample, beside the sample itself
SHUFFLE_WINDOW_BYTES = 256 << 20
SEQUENTIAL_WINDOW_BYTES = 8 << 20
LANES = 64
MAX_LANES = 1 << 16  # their bits are taken from a sample's hash
_CHUNK = 1 << 14  # blocks at a time: intermediate arrays stay in L2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a dataset, numbered through its shards.

    Attributes:
        first: int64 (blocks + 1,), the number of each block's first sample; the last is the number of samples.
        nbytes: int64 (blocks,), what each block takes in memory, more or less.
        shard: int64 (shards + 1,), the number of each shard's first block.
    """

    first: Indices
    nbytes: Indices
    shard: Indices


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """What the order of an epoch depends on, beside the dataset, the seed and the epoch; see DataLoader."""

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

    def shared(self, part: int, whole: int) -> OrderOptions:
        """For one dataset of several, which gives `part` of `whole` samples: its share of the window, in one lane."""
        share = max(1, self.window * part // whole)
        if self.window_samples:
            return replace(self, lanes=1, window_samples=share)
        return replace(self, lanes=1, window_bytes=share)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Samples to deliver, in order, and the blocks that they lie in.

    Attributes:
        blocks: int64 (b,), the blocks to load.
        position: int64 (n,), ascending, the place of each sample in the sequence.
        slot: int64 (n,), the place in `blocks` of each sample's block.
        row: int64 (n,), the place of each sample in its block.
        index: int64 (n,), the place of each sample in the view.
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
        return self.cut(np.flatnonzero(mask)).tidied()

    def cut(self, rows: Indices | slice) -> WindowPlan:
        """Some of the samples, of the same blocks."""
        position, slot, row, index = (column[rows] for column in (self.position, self.slot, self.row, self.index))
        return WindowPlan(self.blocks, position, slot, row, index, self.epoch_key)

    def tidied(self) -> WindowPlan:
        """Without the blocks that no sample needs."""
        used = np.zeros(len(self.blocks), bool)
        used[self.slot] = True
        slots = np.cumsum(used) - 1
        return WindowPlan(self.blocks[used], self.position, slots[self.slot], self.row, self.index, self.epoch_key)


class Order(Protocol):
    """The sequence in which the samples of a view stand in an epoch, cut into windows.

    Attributes:
        starts: int64 (windows + 1,), the position of each window's first sample; the last is the number of samples.
        lanes: position p belongs to lane p % lanes, and each lane of a window lies in a run of its blocks.
    """

    starts: Indices
    lanes: int

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        """A window's samples: those of the lanes range(rank, self.lanes, a divisor of self.lanes), or all of them."""


def order_of(blocks: Blocks, numbers: range | Indices, options: OrderOptions, epoch_key: int) -> Order:
    """The order of these samples of a dataset in the epoch of this key, which is key(seed, epoch)."""
    if isinstance(numbers, range) and numbers.step != 1:
        numbers = np.asarray(numbers, np.int64)
    if options.shuffle:
        return _Shuffled(blocks, numbers, options, epoch_key)
    return (_InOrder if isinstance(numbers, range) else _Listed)(blocks, numbers, options, epoch_key)  # type: ignore[arg-type]


class _InOrder:
    """Consecutive samples as they stand."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: range, options: OrderOptions, epoch_key: int) -> None:
        self._epoch_key = epoch_key
        self._selection = selection_of(blocks.first, numbers)
        weighed = _weighed(blocks, self._selection, np.arange(len(self._selection)), options)
        self._cuts, self.starts = _windows(weighed, options.window)

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        places = np.arange(self._cuts[number], self._cuts[number + 1])
        slot, row, index = self._selection.find(places, np.arange(self.starts[number + 1] - self.starts[number]))
        return WindowPlan(self._selection.numbers(places), index, slot, row, index, self._epoch_key)


class _Listed:
    """Any samples, in the order in which they are given."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Indices, options: OrderOptions, epoch_key: int) -> None:
        self._first, self._numbers, self._epoch_key = blocks.first, numbers, epoch_key
        block = np.searchsorted(blocks.first, numbers, side="right") - 1
        enters = np.diff(block, prepend=-1) != 0
        one = np.ones(len(block), np.int64)
        weights = one if options.window_samples else blocks.nbytes[block] * enters
        _, self.starts = _windows([(weights, one)] if len(block) else [], options.window)

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        index = np.arange(self.starts[number], self.starts[number + 1])
        numbers = self._numbers[index]
        blocks, slot = np.unique(np.searchsorted(self._first, numbers, side="right") - 1, return_inverse=True)
        return WindowPlan(blocks, index, slot, numbers - self._first[blocks[slot]], index, self._epoch_key)


class _Shuffled:
    """Blocks permuted over the whole dataset, samples permuted within windows of them."""

    def __init__(self, blocks: Blocks, numbers: range | Indices, options: OrderOptions, epoch_key: int) -> None:
        self._selection = selection_of(blocks.first, numbers)
        self._epoch_key = epoch_key
        self._places = self._permuted(blocks, options.unit_bytes)
        # Of two windows in memory one is delivered while the other is loaded, unless everything fits into one.
        halves = not options.window_samples and int(blocks.nbytes[self._selection.blocks].sum()) > options.window
        weighed = _weighed(blocks, self._selection, self._places, options)
        self._cuts, self.starts = _windows(weighed, max(1, options.window >> halves))
        self.lanes = options.lanes if len(self.starts) > 2 else 1
        self._parts = np.array(_dealt(self.lanes))

    def _permuted(self, blocks: Blocks, unit_bytes: int) -> Indices:
        """The blocks that take part, by their places among those, in the order of the epoch."""
        n = len(self._selection)
        if unit_bytes <= 1:
            return permutation(n, key(0, after=self._epoch_key))
        shards = np.unique(np.searchsorted(self._selection.numbers(np.arange(n)), blocks.shard))
        cuts = _units(shards, blocks.nbytes[self._selection.blocks], unit_bytes)
        order = permutation(len(cuts) - 1, key(0, after=self._epoch_key))
        return ranges(cuts[order], cuts[order + 1])

    def window(self, number: int, lanes: range | None = None) -> WindowPlan:
        places = self._places[self._cuts[number] : self._cuts[number + 1]]
        n = int(self.starts[number + 1] - self.starts[number])
        position, chosen = self._share(number, n, lanes or range(self.lanes))
        slot, row, index = self._selection.find(places, chosen)
        step = WindowPlan(self._selection.numbers(places), position, slot, row, index, self._epoch_key)
        return step if lanes is None else step.tidied()

    def _share(self, number: int, n: int, lanes: range) -> tuple[Indices, Indices]:
        """The positions of these lanes, ascending, and which of the window's n samples stands at each.

        The window's samples, block after block, are cut into one part a lane; a part is permuted by itself, and its
        samples take the positions of their lane.
        """
        start, epoch_key = int(self.starts[number]), key(number + 1, after=self._epoch_key)
        if self.lanes == 1:
            return np.arange(start, start + n), permutation(n, epoch_key)
        offset = (self._parts - start) % self.lanes  # of each part's first position in the window
        counts = (n - offset + self.lanes - 1) // self.lanes
        begins = np.cumsum(counts) - counts
        parts = np.flatnonzero(self._parts % lanes.step == lanes.start)
        own = counts[parts]
        words = tagged_hashes(ranges(begins[parts], begins[parts] + own), n, epoch_key, (self.lanes - 1).bit_length())
        first = (lanes.start - start) % lanes.step
        chosen = np.empty(len(words), np.int64)
        places = (offset[parts] - first) // lanes.step
        ends = np.cumsum(own)
        for place, begin, end in zip(places.tolist(), (ends - own).tolist(), ends.tolist(), strict=True):
            words[begin:end].sort()
            chosen[place :: self.lanes // lanes.step] = words[begin:end]
        chosen &= low_bits(n).view(np.int64)
        return np.arange(start + first, start + n, lanes.step), chosen


def _weighed(
    blocks: Blocks, members: Selection, places: Indices, options: OrderOptions
) -> Iterator[tuple[Indices, Indices]]:
    """What the blocks at these places weigh, and how many samples each has; some blocks at a time."""
    for at in range(0, len(places), _CHUNK):
        own = places[at : at + _CHUNK]
        begins, ends = members.bounds(own)
        counts = ends - begins
        yield counts if options.window_samples else blocks.nbytes.take(members.numbers(own)), counts


def _windows(weighed: Iterable[tuple[Indices, Indices]], budget: int) -> tuple[Indices, Indices]:
    """Where windows begin, in blocks and in samples, and the ends, from the weight and the samples of each block.

    What stands before a window weighs another multiple of the budget.
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
    """Where units begin, and the end: runs of blocks of one shard, read together. `shards` is the same for shards."""
    number = np.cumsum(weights)
    number -= weights
    number -= np.repeat(number[shards[:-1]], np.diff(shards))
    number //= unit_bytes
    return np.union1d(shards, np.flatnonzero(np.diff(number)) + 1)


def _dealt(lanes: int) -> list[int]:
    """The lane of each part. Digits are reversed, so that lanes which are equal modulo a world size are neighbours."""
    order, factor = [0], 2
    while lanes > 1:
        while lanes % factor:
            factor += 1
        order = [digit * len(order) + lane for lane in order for digit in range(factor)]
        lanes //= factor
    return order
