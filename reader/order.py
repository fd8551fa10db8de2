"""The order of an epoch: a pure function of the manifest, the view, the options, the seed and the epoch.

Nothing here opens a file or keeps a state. docs/order.md describes it with test vectors. Blocks are permuted, not
samples; neighbours in the permuted order form windows up to a budget; within a window every sample is permuted. So that
each of several ranks needs only its share of the blocks, a window is dealt to lanes, each a run of its blocks, and the
lanes take turns. A dataset that fits into one window is shuffled uniformly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.page import Indices

PLAN_NBYTES = 48  # what the plan of a window takes for each sample, beside the sample itself
SHUFFLE_WINDOW_BYTES = 128 << 20
SEQUENTIAL_WINDOW_BYTES = 8 << 20
LANES = 64
MAX_LANES = 1 << 16  # their bits are taken from a sample's hash
_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

Mask = npt.NDArray[np.bool_]


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection on 64 bits."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix_in_place(x: npt.NDArray[np.uint64]) -> None:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)


def key(*numbers: int, after: int = 0) -> int:
    """A 64-bit key from whole numbers, in order: k = mix(k + GAMMA + number). key(a, b) is key(b, after=key(a))."""
    out = after
    for number in numbers:
        out = mix((out + _GAMMA + number) & _MASK)
    return out


def permutation(n: int, key: int) -> Indices:
    """int64 (n,): the numbers 0 to n-1 in the order of their hashes mix(key + GAMMA * (i + 1)).

    The lowest bits of a hash, as many as n - 1 has, give way to the number itself: one sort of 64-bit words does it,
    and ties cannot be.
    """
    return _mixed(np.arange(n), n, key)


def _mixed(numbers: Indices, n: int, key: int, part: Indices | None = None, parts: int = 1) -> Indices:
    """These of the numbers 0 to n-1 in the order of their parts, and within a part in the order of their hashes."""
    low = np.uint64((1 << max(1, (n - 1).bit_length())) - 1)
    own = numbers.view(np.uint64)
    words = own + np.uint64(1)
    words *= np.uint64(_GAMMA)
    words += np.uint64(key)
    _mix_in_place(words)
    if part is not None and parts > 1:
        bits = (parts - 1).bit_length()
        words >>= np.uint64(bits)
        words |= part.view(np.uint64) << np.uint64(64 - bits)
    words &= ~low
    words |= own
    words.sort()
    words &= low
    return words.view(np.int64)


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
        if not 1 <= self.lanes <= MAX_LANES:
            raise SchemaError(f"lanes is {self.lanes}: expected a whole number from 1 to {MAX_LANES}")

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
class Step:
    """Samples to deliver, in order, and the blocks that they lie in.

    Attributes:
        blocks: int64 (b,), the blocks to load.
        position: int64 (n,), ascending, the place of each sample in the sequence.
        slot: int64 (n,), the place in `blocks` of each sample's block.
        row: int64 (n,), the place of each sample in its block.
        index: int64 (n,), the place of each sample in the view.
        word: the key of the epoch.
    """

    blocks: Indices
    position: Indices
    slot: Indices
    row: Indices
    index: Indices
    word: int

    def __len__(self) -> int:
        return len(self.position)

    def only(self, mask: Mask) -> Step:
        """The samples where the mask is true."""
        if mask.all():
            return self
        return self.cut(np.flatnonzero(mask)).tidied()

    def cut(self, rows: Indices | slice) -> Step:
        """Some of the samples, of the same blocks."""
        position, slot, row, index = (column[rows] for column in (self.position, self.slot, self.row, self.index))
        return Step(self.blocks, position, slot, row, index, self.word)

    def tidied(self) -> Step:
        """Without the blocks that no sample needs."""
        used = np.zeros(len(self.blocks), bool)
        used[self.slot] = True
        slots = np.cumsum(used) - 1
        return Step(self.blocks[used], self.position, slots[self.slot], self.row, self.index, self.word)


class Order(Protocol):
    """The sequence in which the samples of a view stand in an epoch, cut into windows.

    Attributes:
        starts: int64 (windows + 1,), the position of each window's first sample; the last is the number of samples.
        lanes: position p belongs to lane p % lanes, and each lane of a window lies in a run of its blocks.
    """

    starts: Indices
    lanes: int

    def window(self, number: int, lanes: range | None = None) -> Step:
        """A window's samples: those of the lanes range(rank, self.lanes, a divisor of self.lanes), or all of them."""


def order_of(blocks: Blocks, numbers: range | Indices, options: OrderOptions, word: int) -> Order:
    """The order of these samples of a dataset in the epoch of this key, which is key(seed, epoch)."""
    if isinstance(numbers, range) and numbers.step != 1:
        numbers = np.asarray(numbers, np.int64)
    if options.shuffle:
        return _Shuffled(blocks, numbers, options, word)
    return (_InOrder if isinstance(numbers, range) else _Listed)(blocks, numbers, options, word)  # type: ignore[arg-type]


class _InOrder:
    """Consecutive samples as they stand."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: range, options: OrderOptions, word: int) -> None:
        self._word = word
        self._members = _Range(blocks.first, numbers)
        weights = self._members.counts if options.window_samples else blocks.nbytes[self._members.present]
        self._cuts = _cuts(weights, options.window)
        self.starts = _starts(self._members.counts, self._cuts)

    def window(self, number: int, lanes: range | None = None) -> Step:
        places = np.arange(self._cuts[number], self._cuts[number + 1])
        slot, row, index = self._members.of(places)
        return Step(self._members.present[places], index, slot, row, index, self._word)


class _Listed:
    """Any samples, in the order in which they are given."""

    lanes = 1

    def __init__(self, blocks: Blocks, numbers: Indices, options: OrderOptions, word: int) -> None:
        self._first, self._numbers, self._word = blocks.first, numbers, word
        block = np.searchsorted(blocks.first, numbers, side="right") - 1
        enters = np.diff(block, prepend=-1) != 0
        weights = np.ones(len(block), np.int64) if options.window_samples else blocks.nbytes[block] * enters
        self.starts = _cuts(weights, options.window)

    def window(self, number: int, lanes: range | None = None) -> Step:
        index = np.arange(self.starts[number], self.starts[number + 1])
        numbers = self._numbers[index]
        blocks, slot = np.unique(np.searchsorted(self._first, numbers, side="right") - 1, return_inverse=True)
        return Step(blocks, index, slot, numbers - self._first[blocks[slot]], index, self._word)


class _Shuffled:
    """Blocks permuted over the whole dataset, samples permuted within windows of them."""

    def __init__(self, blocks: Blocks, numbers: range | Indices, options: OrderOptions, word: int) -> None:
        self._members = (_Range if isinstance(numbers, range) else _List)(blocks.first, numbers)  # type: ignore[arg-type]
        self._word = word
        self._places = self._permuted(blocks, options.unit_bytes)
        weights = self._members.counts if options.window_samples else blocks.nbytes[self._members.present]
        # Of two windows in memory one is delivered while the other is loaded, unless everything fits into one.
        halves = not options.window_samples and int(weights.sum()) > options.window
        self._cuts = _cuts(weights[self._places], max(1, options.window >> halves))
        self.starts = _starts(self._members.counts[self._places], self._cuts)
        self.lanes = options.lanes if len(self.starts) > 2 else 1
        self._parts = np.array(_dealt(self.lanes))

    def _permuted(self, blocks: Blocks, unit_bytes: int) -> Indices:
        """The blocks that take part, by their places among those, in the order of the epoch."""
        present = self._members.present
        if unit_bytes <= 1:
            return permutation(len(present), key(0, after=self._word))
        cuts = _units(np.searchsorted(blocks.shard, present, side="right"), blocks.nbytes[present], unit_bytes)
        order = permutation(len(cuts) - 1, key(0, after=self._word))
        return _ranges(cuts[order], cuts[order + 1])

    def window(self, number: int, lanes: range | None = None) -> Step:
        places = self._places[self._cuts[number] : self._cuts[number + 1]]
        slot, row, index = self._members.of(places)
        position, chosen = self._deal(number, len(slot), lanes or range(self.lanes))
        slot = slot[chosen]  # one after the other, so that the memory of each is free for the next
        row = row[chosen]
        index = index[chosen]
        step = Step(self._members.present[places], position, slot, row, index, self._word)
        return step if lanes is None else step.tidied()

    def _deal(self, number: int, n: int, lanes: range) -> tuple[Indices, Indices]:
        """The positions of these lanes, ascending, and which of the window's n samples stands at each.

        The window's samples, block after block, are cut into one part a lane; a part is permuted by itself, and its
        samples take the positions of their lane.
        """
        start, word = int(self.starts[number]), key(number + 1, after=self._word)
        if self.lanes == 1:
            return np.arange(start, start + n), permutation(n, word)
        offset = (self._parts - start) % self.lanes  # of each part's first position in the window
        counts = (n - offset + self.lanes - 1) // self.lanes
        begins = np.cumsum(counts) - counts
        parts = np.flatnonzero(self._parts % lanes.step == lanes.start)
        own = counts[parts]
        mixed = _mixed(_ranges(begins[parts], begins[parts] + own), n, word, np.repeat(parts, own), self.lanes)
        first = (lanes.start - start) % lanes.step
        chosen = np.empty(len(mixed), np.int64)
        ends = np.cumsum(own)
        for part, begin, end in zip(parts.tolist(), (ends - own).tolist(), ends.tolist(), strict=True):
            chosen[(int(offset[part]) - first) // lanes.step :: self.lanes // lanes.step] = mixed[begin:end]
        return np.arange(start + first, start + n, lanes.step), chosen


class _Range:
    """Consecutive samples, as the members of blocks.

    Attributes:
        present: int64 (p,), the blocks in which there are any, ascending.
        counts: int64 (p,), how many there are in each.
    """

    def __init__(self, first: Indices, numbers: range) -> None:
        low, high = (numbers.start, numbers.stop) if len(numbers) else (0, 0)
        begin = int(np.searchsorted(first, low, side="right")) - 1
        end = int(np.searchsorted(first, high, side="left"))
        self.present = np.arange(begin, max(begin, end))
        self._first, self._low, self._high = first, low, high
        self.counts = np.minimum(first[begin + 1 : end + 1], high) - np.maximum(first[begin:end], low)

    def of(self, places: Indices) -> tuple[Indices, Indices, Indices]:
        """Of the blocks at these places, one after the other, each sample's place among them, its row, its index."""
        firsts = self._first[self.present[places]]
        begins = np.maximum(firsts, self._low)
        counts = self.counts[places]
        slot = np.repeat(np.arange(len(places)), counts)
        index = _ranges(begins, begins + counts)
        row = firsts[slot]
        np.subtract(index, row, out=row)
        index -= self._low
        return slot, row, index


class _List:
    """Any samples, as the members of blocks; a sample may stand several times. Attributes as of _Range."""

    def __init__(self, first: Indices, numbers: Indices) -> None:
        block = np.searchsorted(first, numbers, side="right") - 1
        self._index = np.argsort(block, kind="stable")
        self._row = (numbers - first[block])[self._index]
        self.present, begins = np.unique(block[self._index], return_index=True)
        self._bounds = np.append(begins, len(numbers))
        self.counts = np.diff(self._bounds)

    def of(self, places: Indices) -> tuple[Indices, Indices, Indices]:
        counts = self.counts[places]
        at = _ranges(self._bounds[places], self._bounds[places + 1])
        return np.repeat(np.arange(len(places)), counts), self._row[at], self._index[at]


def _ranges(begins: Indices, ends: Indices) -> Indices:
    """The numbers from begins[0] to ends[0] - 1, from begins[1] to ends[1] - 1, and so on."""
    counts = ends - begins
    before = np.cumsum(counts) - counts
    out: Indices = np.repeat(begins - before, counts)
    out += np.arange(len(out))
    return out


def _cuts(weights: Indices, budget: int) -> Indices:
    """Where windows begin, and the end: what stands before a window weighs another multiple of the budget."""
    window = np.cumsum(weights)
    window -= weights
    window //= budget
    inner = np.flatnonzero(window[1:] != window[:-1]) + 1
    return np.concatenate([[0], inner, [len(weights)] if len(weights) else []]).astype(np.int64)


def _starts(counts: Indices, cuts: Indices) -> Indices:
    """The position of each window's first sample, and the end."""
    return np.concatenate([[0], np.cumsum(np.add.reduceat(counts, cuts[:-1]))]) if len(counts) else cuts


def _units(shard: Indices, nbytes: Indices, unit_bytes: int) -> Indices:
    """Where units begin, and the end: runs of blocks of one shard, read together."""
    before = np.cumsum(nbytes) - nbytes
    number = (before - before[np.searchsorted(shard, shard)]) // unit_bytes
    changes = (np.diff(shard, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0)
    return np.append(np.flatnonzero(changes), len(shard))


def _dealt(lanes: int) -> list[int]:
    """The lane of each part. Digits are reversed, so that lanes which are equal modulo a world size are neighbours."""
    order, factor = [0], 2
    while lanes > 1:
        while lanes % factor:
            factor += 1
        order = [digit * len(order) + lane for lane in order for digit in range(factor)]
        lanes //= factor
    return order
