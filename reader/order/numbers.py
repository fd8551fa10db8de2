"""The sample numbers of a view: a range, or an array no wider than its numbers need.

A pickle says an array in pieces, each by a bit for every sample from its first to its last or by the steps from one
number to the next, compressed. So consecutive samples take next to nothing, and a random half of a dataset a bit for
each sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from recordio.format.page import Indices

Integers = npt.NDArray[np.integer[Any]]
Numbers = range | Integers

_CHUNK = 1 << 16
_PIECE = 1 << 18  # numbers of a piece of a pickle
_LEVEL = 1  # of zstd: higher ones are slower and save nothing
_BITS = "bits"

Piece = tuple[int, int, str, bytes]
Packed = range | tuple[str, list[Piece]]


def numbers_at(numbers: Numbers, indices: Integers) -> Indices:
    """int64 (n,): the numbers at these non-negative indices, which may be `indices` itself."""
    if not isinstance(numbers, range):
        return numbers[indices].astype(np.int64, copy=False)
    found = indices.astype(np.int64, copy=False)
    if numbers.step != 1:
        found = found * numbers.step
    return found + numbers.start if numbers.start else found


def chosen(numbers: Numbers, indices: Integers) -> Integers:
    """(n,), a new array: the numbers at these non-negative indices."""
    dtype = _narrow(max(numbers[0], numbers[-1]) if numbers else 0) if isinstance(numbers, range) else numbers.dtype
    out = np.empty(len(indices), dtype)
    for at in range(0, len(indices), _CHUNK):
        out[at : at + _CHUNK] = numbers_at(numbers, indices[at : at + _CHUNK])
    return out


def without(n: int, gaps: Iterable[tuple[int, int]]) -> Numbers:
    """All numbers below n but those of these gaps (begin, end), ascending and apart."""
    kept, at = [], 0
    for begin, end in gaps:
        kept.append((at, begin))
        at = end
    kept.append((at, n))
    count = sum(end - begin for begin, end in kept)
    if count == n:
        return range(n)
    out = np.empty(count, _narrow(n))
    done = 0
    for begin, end in kept:
        out[done : done + end - begin] = np.arange(begin, end)
        done += end - begin
    return out


def is_same(a: Numbers, b: Numbers) -> bool:
    """Whether two views have the same numbers in the same order, and hold them alike."""
    if isinstance(a, range) or isinstance(b, range):
        return isinstance(a, range) and a == b
    return np.array_equal(a, b)


def true_indices(masks: Iterable[npt.NDArray[Any]], count: int, n: int) -> Integers:
    """(count,), ascending: where these masks of n elements in all, one after the other, are true: `count` times."""
    out = np.empty(count, _narrow(n))
    start = done = 0
    for mask in masks:
        found = np.flatnonzero(mask)
        out[done : done + len(found)] = found + start
        start, done = start + len(mask), done + len(found)
    return out


def _narrow(most: int) -> np.dtype[Any]:
    """The dtype for numbers from 0 to `most`."""
    return np.dtype(np.int64) if most >> 32 else np.min_scalar_type(most)


def is_ascending(numbers: Numbers) -> bool:
    """Whether no number is less than the one before."""
    if isinstance(numbers, range):
        return numbers.step > 0
    return all(bool((a[1:] >= a[:-1]).all()) for a in (numbers[at : at + _CHUNK + 1] for at in _starts(numbers)))


def count_below(numbers: Numbers, limits: Indices) -> Indices:
    """int64 (n,): how many of the numbers, ascending, are below each limit, ascending."""
    if isinstance(numbers, range):
        return np.clip(-((numbers.start - limits) // numbers.step), 0, len(numbers))
    below = np.full(len(limits), len(numbers))
    if len(numbers):
        inside = int(np.searchsorted(limits, numbers[-1], side="right"))  # these limits have room in the dtype
        below[:inside] = np.searchsorted(numbers, limits[:inside].astype(numbers.dtype))
    return below


def wide(numbers: Integers) -> Iterator[Indices]:
    """The numbers as int64, in runs."""
    return (numbers[at : at + _CHUNK].astype(np.int64, order="C") for at in _starts(numbers))


def _starts(numbers: Integers) -> range:
    return range(0, len(numbers), _CHUNK)


def packed(numbers: Numbers) -> Packed:
    """The numbers as a pickle holds them."""
    if isinstance(numbers, range):
        return numbers
    pieces = (numbers[at : at + _PIECE].astype(np.int64) for at in range(0, len(numbers), _PIECE))
    return numbers.dtype.str, [_pack(piece) for piece in pieces]


def unpacked(said: Packed) -> Numbers:
    """The numbers of `packed`."""
    if isinstance(said, range):
        return said
    dtype, pieces = said
    out = np.empty(sum(count for count, *_ in pieces), dtype)
    done = 0
    for count, first, kind, content in pieces:
        out[done : done + count] = _unpack(first, kind, content)
        done += count
    return out


def _pack(numbers: Indices) -> Piece:
    """(count, first number, what the content is, content): bits take a byte a number at most, or steps are said."""
    first, steps = int(numbers[0]), np.diff(numbers)
    least, most = int(steps.min(initial=1)), int(steps.max(initial=1))
    span = int(numbers[-1]) - first + 1
    if least > 0 and span <= 8 * len(numbers):
        flags = np.zeros(span, bool)
        flags[numbers - first] = True
        kind, content = _BITS, np.packbits(flags)
    else:
        content = steps.astype(np.min_scalar_type(min(least, -1 - most)))
        kind = content.dtype.str
    return len(numbers), first, kind, zstandard.compress(content.data, _LEVEL)


def _unpack(first: int, kind: str, content: bytes) -> Indices:
    said = zstandard.decompress(content)
    if kind == _BITS:
        return first + np.flatnonzero(np.unpackbits(np.frombuffer(said, np.uint8)))
    return first + np.cumsum(np.concatenate([np.zeros(1, np.int64), np.frombuffer(said, kind)]))
