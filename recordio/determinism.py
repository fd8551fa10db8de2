"""The only hashing behind an order: keys from integers, and permutations from keys.

docs/order.md specifies both, with test vectors. No library generator is involved, so orders never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_CHUNK = 1 << 14  # hashed at a time: intermediate arrays stay in L2

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection on 64 bits."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _mix_in_place(x: Hashes) -> None:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)


def key(*numbers: int, after: int = 0) -> int:
    """A 64-bit key from integers, in order: k = mix(k + GAMMA + number). key(a, b) is key(b, after=key(a))."""
    out = after
    for number in numbers:
        out = mix((out + _GAMMA + number) & MASK)
    return out


def hashes(numbers: Indices, key: int) -> Hashes:
    """uint64 (n,): the hashes mix(key + GAMMA * (number + 1))."""
    out = numbers.astype(np.uint64)
    out *= np.uint64(_GAMMA)
    out += np.uint64((key + _GAMMA) & MASK)
    _mix_in_place(out)
    return out


def permutation(n: int, key: int) -> Indices:
    """int64 (n,): the numbers 0 to n-1, sorted by hash.

    The number replaces the low bits of its hash, as many as n - 1 has: one sort of 64-bit words, and no ties.
    """
    tagged = tagged_hashes(np.arange(n), n, key)
    tagged.sort()
    tagged &= low_bits(n)
    return tagged.view(np.int64)


def permutation_within(groups: Indices, count: int, key: int) -> Indices:
    """int64 (n,): the numbers 0 to n-1, those of each group sorted by hash, the groups one after the other as they are.

    Args:
        groups: int64 (n,), ascending: the group of each number, below `count`.
    """
    bits = (count - 1).bit_length()
    tagged = tagged_hashes(np.arange(len(groups)), len(groups), key, bits)
    if bits:
        tagged |= groups.astype(np.uint64) << np.uint64(64 - bits)
    tagged.sort()
    tagged &= low_bits(len(groups))
    return tagged.view(np.int64)


def parts_of_permutation(n: int, key: int, ends: Sequence[int]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(n,): the part of each number, when permutation(n, key) is cut before its places ends[0], ends[1], ...

    What is beyond the last cut is a part too. The words of a part are below the word at its end, which takes no sort to
    find. `ends` ascend; those from n on cut nothing.
    """
    words = tagged_hashes(np.arange(n), n, key)
    limits = np.zeros(sum(end < n for end in ends), np.uint64)
    for k in range(len(limits)):
        words.partition(ends[k])
        limits[k] = words[ends[k]]
    del words
    out = np.empty(n, np.min_scalar_type(len(ends)))
    for at in range(0, n, _CHUNK):
        words = tagged_hashes(np.arange(at, min(at + _CHUNK, n)), n, key)
        out[at : at + _CHUNK] = np.searchsorted(limits, words, side="right")
    return out


def low_bits(n: int) -> np.uint64:
    """Mask of the low bits, as many as n - 1 has."""
    return np.uint64((1 << max(1, (n - 1).bit_length())) - 1)


def tagged_hashes(numbers: Indices, n: int, key: int, shift: int = 0) -> Hashes:
    """Hashes of `numbers`, each in 0 to n-1, shifted right, with the number itself in the low bits.

    Computed in place: the result overwrites `numbers`.
    """
    words = numbers.view(np.uint64)
    high_bits = ~low_bits(n)
    for at in range(0, len(words), _CHUNK):
        chunk = words[at : at + _CHUNK]
        found = hashes(chunk.view(np.int64), key)
        found >>= np.uint64(shift)
        found &= high_bits
        chunk |= found
    return words
