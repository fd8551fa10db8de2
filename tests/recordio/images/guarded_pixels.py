"""Pixels at the very ends of memory: python -m tests.recordio.images.guarded_pixels, which one byte too many kills.

Linux only. Before and behind the numbers are pages that may not be touched.
"""

from __future__ import annotations

import ctypes
import mmap
from random import Random
from typing import Any

import numpy as np

from recordio import kernels

_PAGE = mmap.PAGESIZE
_NBYTES = 512 * _PAGE
_ROUNDS = 3000


def guarded() -> Any:
    """uint8 (_NBYTES,) between two such pages."""
    pages = mmap.mmap(-1, _NBYTES + 2 * _PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(start, _PAGE, 0) == 0
    assert protect(start + _PAGE + _NBYTES, _PAGE, 0) == 0
    return np.frombuffer(pages, np.uint8, _NBYTES, _PAGE)


def box(memory: Any, random: Random, height: int, width: int, gap: int) -> Any:
    """(height, width, 3), `gap` bytes between its rows, at the beginning of the memory or at its end."""
    line = 3 * width + gap
    nbytes = line * (height - 1) + 3 * width
    at = memory[_NBYTES - nbytes :] if random.random() < 0.5 else memory[:nbytes]
    return np.lib.stride_tricks.as_strided(at, (height, width, 3), (line, 3, 1))


def main() -> None:
    random, read, written = Random(0), guarded(), guarded()
    read[:] = np.random.default_rng(0).integers(0, 256, _NBYTES, np.uint8)
    sides = [random.randint(1, most) for most in (20, 400) for _ in range(_ROUNDS)]
    done = 0
    for _ in range(_ROUNDS):
        pixels = box(read, random, random.choice(sides), random.choice(sides), random.choice([0, 0, 1, 5, 64]))
        out = box(written, random, random.choice(sides), random.choice(sides), 0)
        written[:] = 7
        done += kernels.c.resize_rgb(pixels, out)
        assert (written == 7).sum() >= _NBYTES - out.size
        channels, count = random.choice([1, 3, 4]), random.randint(0, 3000)
        part = read[_NBYTES - count :]
        sums = tuple(int(part[k::channels].sum(dtype=np.int64)) for k in range(channels))
        assert kernels.c.channel_sums(part, channels, True)[0] == sums
        assert kernels.c.channel_sums(part, channels, False)[0] == sums
    print(done)


if __name__ == "__main__":
    main()
