"""The interface of a contender: a way to store and read back the samples of a workload.

`write` takes the samples; the four ways of reading produce NumPy batches, columns by name, and return the number of
samples, so that none can be skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from workloads import Kinds, Sample

Indices = Any  # int64 (n,)
EPOCH_SEED = 0


class CannotHoldError(Exception):
    """A contender cannot store a workload."""


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """A batch of samples that are dicts."""
    batch = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, np.ndarray):
            batch[name] = np.stack(values)
        else:
            batch[name] = np.asarray(values) if isinstance(first, int | np.integer) else values
    return batch


def count(batches: Iterable[dict[str, Any]]) -> int:
    return sum(len(next(iter(batch.values()))) for batch in batches)


def cut(indices: Indices, size: int) -> list[Indices]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


class Contender:
    """A way to store samples. `measures` lists the supported ones."""

    role: ClassVar[Literal["ours", "limit", "peer"]] = "peer"
    packages: ClassVar[tuple[str, ...]] = ()  # names on PyPI
    modules: ClassVar[tuple[str, ...]] = ()
    compressed: ClassVar[bool] = False  # by declaration; others count as compressed if their files are small
    measures: ClassVar[tuple[str, ...]] = ("write", "sequential", "shuffled", "random", "one")
    slow: ClassVar[bool] = False  # gets a quarter of the samples, and one round

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        self.folder, self.kinds = folder, kinds

    @classmethod
    def installed(cls) -> bool:
        return all(find_spec(name) for name in cls.modules)

    def write(self, samples: Sequence[Sample]) -> None:
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def sequential(self, size: int) -> int:
        """An epoch in order, in batches of `size`."""
        raise NotImplementedError

    def shuffled(self, size: int) -> int:
        """A shuffled epoch; by a permutation of indices for contenders without shuffling."""
        return self.batches(cut(np.random.default_rng(EPOCH_SEED).permutation(self.samples), size))

    def batches(self, indices: Iterable[Indices]) -> int:
        """A batch for each array of indices."""
        raise NotImplementedError

    def one(self, index: int) -> Sample:
        raise NotImplementedError

    samples: int
