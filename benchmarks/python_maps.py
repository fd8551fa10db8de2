"""Maps in plain Python and NumPy, for process_workers.py and bench.py. Imports little: worker processes import it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

Sample = dict[str, Any]


def shifted(sample: Sample) -> Sample:
    """A trivial map: 32 numbers shifted, the length of the id."""
    return {"x": sample["x"] * 2 - 1, "y": sample["y"], "length": len(sample["id"])}


def scaled(sample: Sample) -> Sample:
    """Several calls of NumPy: 32 numbers scaled to mean 0 and deviation 1, a hash of the id."""
    x = sample["x"]
    return {"x": (x - x.mean()) / (x.std() + 1e-6), "y": sample["y"], "bucket": hash(sample["id"]) % 1000}


def ordered(sample: Sample) -> Sample:
    """One call of NumPy that lets go of the interpreter's lock: 1,025 numbers sorted."""
    return {"tokens": np.sort(sample["tokens"])}


def flipped(sample: Sample) -> Sample:
    """Half of the pictures flipped; contiguous, since torch's loader refuses negative strides."""
    pixels = sample["pixels"]
    return {**sample, "pixels": np.ascontiguousarray(pixels[:, ::-1]) if random.random() < 0.5 else pixels}


def flipped_slowly(sample: Sample) -> Sample:
    """Like `flipped`, plus a loop in Python."""
    noise = 0
    for k in range(20_000):
        noise = (noise * 31 + k) & 0xFFFF
    return flipped(sample) | {"noise": noise}
