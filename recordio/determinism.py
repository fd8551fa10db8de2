"""The only hashing behind an order: keys from integers, and permutations from keys.

docs/order.md describes both with test vectors. Nothing here relies on a library's generator staying as it is.
"""

from __future__ import annotations

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
    """int64 (n,): the numbers 0 to n-1 in the order of their hashes.

    The lowest bits of a hash, as many as n - 1 has, give way to the number itself: one sort of 64-bit words does it,
    and ties cannot be.
    """
    tagged = tagged_hashes(np.arange(n), n, key)
    tagged.sort()
    tagged &= low_bits(n)
    return tagged.view(np.int64)


def low_bits(n: int) -> np.uint64:
    """The lowest bits of a word, as many as n - 1 has."""
    return np.uint64((1 << max(1, (n - 1).bit_length())) - 1)


def tagged_hashes(numbers: Indices, n: int, key: int, shift: int = 0) -> Hashes:
    """The hashes of these of the numbers 0 to n-1, shifted right, with the number itself in the lowest bits.

    They take the place of the numbers in memory.
    """
    words, others = numbers.view(np.uint64), ~low_bits(n)
    for at in range(0, len(words), _CHUNK):
        chunk = words[at : at + _CHUNK]
        found = hashes(chunk.view(np.int64), key)
        found >>= np.uint64(shift)
        found &= others
        chunk |= found
    return words
