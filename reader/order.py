"""The order of an epoch: a pure function of the manifest, the options, the seed and the epoch.

Nothing here opens a file or keeps a state. docs/order.md describes it with test vectors. Blocks are permuted, not
samples; neighbours in the permuted order form windows up to a budget of bytes; within a window every sample is
permuted. A window as large as the dataset is a uniform shuffle of all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recordio.page import Indices

PLAN_NBYTES = 48  # what the plan of a window takes for each sample, beside the sample itself
_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection on 64 bits."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix_array(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*numbers: int) -> int:
    """A 64-bit key from whole numbers, in order: k = mix(k + GAMMA + number), from 0."""
    out = 0
    for number in numbers:
        out = mix((out + _GAMMA + number) & _MASK)
    return out


def permutation(n: int, key: int) -> Indices:
    """int64 (n,): the numbers 0 to n-1 in the order of their hashes mix(key + GAMMA * (i + 1)).

    The lowest bits of a hash, as many as n - 1 has, give way to the number itself: one sort of 64-bit words does it,
    and ties cannot be.
    """
    bits = max(1, (n - 1).bit_length())
    low = np.uint64((1 << bits) - 1)
    numbers = np.arange(n, dtype=np.uint64)
    hashes = _mix_array((numbers + np.uint64(1)) * np.uint64(_GAMMA) + np.uint64(key))
    words = (hashes & ~low) | numbers
    words.sort()
    return (words & low).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Step:
    """A window of the epoch: blocks to load, and samples to deliver from them, in order.

    `slot` is the place in `blocks` of each sample's block, `row` its place in the block; int64 (n,) both.
    """

    blocks: Indices
    slot: Indices
    row: Indices


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of an epoch, block by block.

    Attributes:
        block_first: int64 (blocks + 1,), the first sample of each block of the dataset.
        block_nbytes: int64 (blocks,), what each block takes in memory, more or less.
        numbers: int64 (n,), the samples of a view, in its order; None for all the samples of the dataset.
    """

    block_first: Indices
    block_nbytes: Indices
    numbers: Indices | None = None

    def in_order(self, window_nbytes: int) -> Iterator[Step]:
        """The samples as they stand, in windows of that many bytes."""
        if self.numbers is None:
            blocks = np.arange(len(self.block_nbytes))
            for window in _windows(blocks, self.block_nbytes, window_nbytes):
                yield self._whole(window)
            return
        block = np.searchsorted(self.block_first, self.numbers, side="right") - 1
        jumps = np.concatenate([[0], self.block_nbytes[block[1:]] * (block[1:] != block[:-1])])
        cuts = np.flatnonzero(np.diff(np.cumsum(jumps) // window_nbytes)) + 1
        for part in np.split(np.arange(len(block)), cuts):
            if len(part):
                blocks, slot = np.unique(block[part], return_inverse=True)
                yield Step(blocks, slot, self.numbers[part] - self.block_first[block[part]])

    def shuffled(self, window_nbytes: int, seed: int, epoch: int) -> Iterator[Step]:
        """The samples in the order of (seed, epoch), in windows of that many bytes."""
        members = None if self.numbers is None else self._members(self.numbers)
        present = np.arange(len(self.block_nbytes)) if members is None else np.unique(members[0])
        order = present[permutation(len(present), key(seed, epoch, 0))]
        for number, window in enumerate(_windows(order, self.block_nbytes, window_nbytes)):
            step = self._whole(window) if members is None else _chosen(window, *members)
            mixed = permutation(len(step.slot), key(seed, epoch, number + 1))
            yield Step(window, step.slot[mixed], step.row[mixed])

    def _members(self, numbers: Indices) -> tuple[Indices, Indices]:
        """The block and row of each sample of the view, sorted by block."""
        block = np.searchsorted(self.block_first, numbers, side="right") - 1
        order = np.argsort(block, kind="stable")
        return block[order], (numbers - self.block_first[block])[order]

    def _whole(self, blocks: Indices) -> Step:
        counts = self.block_first[blocks + 1] - self.block_first[blocks]
        starts = np.cumsum(counts) - counts
        slot = np.repeat(np.arange(len(blocks)), counts)
        return Step(blocks, slot, np.arange(len(slot)) - starts[slot])


def _chosen(blocks: Indices, block: Indices, row: Indices) -> Step:
    """The members of these blocks, by (block, row) sorted by block."""
    begins, ends = np.searchsorted(block, blocks, side="left"), np.searchsorted(block, blocks, side="right")
    slot = np.repeat(np.arange(len(blocks)), ends - begins)
    at = np.concatenate([np.arange(a, b) for a, b in zip(begins.tolist(), ends.tolist(), strict=True)])
    return Step(blocks, slot, row[at])


def _windows(blocks: Indices, nbytes: Indices, budget: int) -> Iterator[Indices]:
    """Runs of blocks, each run ending with the block that reaches another multiple of the budget."""
    ends = np.cumsum(nbytes[blocks])
    starts = ends - nbytes[blocks]
    cuts = np.flatnonzero(np.diff(starts // budget)) + 1
    return iter(part for part in np.split(blocks, cuts) if len(part))
