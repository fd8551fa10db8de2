"""The interface of a contender: a way to store and read back the samples of a workload.

`write` takes the samples; the four ways of reading produce NumPy batches, columns by name, whose samples the caller
counts, so that none can be skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from workloads import Kinds, Sample

Indices = Any  # int64 (n,)
Batches = Iterable[dict[str, Any]]
Map = Callable[[Sample], Sample]
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


def mapped_collate(function: Map, samples: Sequence[Sample]) -> dict[str, Any]:
    return collate([function(sample) for sample in samples])


def count(batches: Batches) -> int:
    return sum(map(samples_in, batches))


def samples_in(batch: dict[str, Any]) -> int:
    return len(next(iter(batch.values())))


def cut(indices: Indices, size: int) -> list[Indices]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


class Contender:
    """A way to store samples. `measures` lists the supported ones."""

    role: ClassVar[Literal["ours", "limit", "peer"]] = "peer"
    packages: ClassVar[tuple[str, ...]] = ()  # names on PyPI
    modules: ClassVar[tuple[str, ...]] = ()
    compressed: ClassVar[bool] = False  # by declaration; others count as compressed if their files are small
    measures: ClassVar[tuple[str, ...]] = ("write", "sequential", "shuffled", "random", "one")
    durable: ClassVar[bool] = False  # what it writes is on the disk when `write` returns
    worker_kinds: ClassVar[tuple[str, ...]] = ()  # of `with_workers`
    samples: int  # once it is open
    slow: ClassVar[bool] = False  # gets a quarter of the samples, and one round

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        self.folder, self.kinds = folder, kinds

    @classmethod
    def installed(cls) -> bool:
        return all(find_spec(name) for name in cls.modules)

    def prepared(self, samples: Sequence[Sample]) -> Any:
        """The samples as `write` takes them."""
        return samples

    def write(self, samples: Any) -> None:
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def sequential(self, size: int) -> Batches:
        """An epoch in order, in batches of `size`."""
        raise NotImplementedError

    def shuffled(self, size: int) -> Batches:
        """A shuffled epoch; by a permutation of indices for contenders without shuffling."""
        return self.batches(cut(np.random.default_rng(EPOCH_SEED).permutation(self.samples), size))

    def batches(self, indices: Iterable[Indices]) -> Batches:
        """A batch for each array of indices."""
        raise NotImplementedError

    def one(self, index: int) -> Sample:
        raise NotImplementedError

    def with_workers(self, size: int, workers: int, kind: str, function: Map) -> Batches:
        """A loader of shuffled epochs, which may be iterated again, with a function for each sample.

        For contenders that leave workers to the caller: torch's DataLoader.
        """
        from torch.utils.data import DataLoader

        more = {"persistent_workers": True} if workers else {}
        return DataLoader(
            _Rows(self), size, shuffle=True, num_workers=workers, collate_fn=partial(mapped_collate, function), **more
        )


class _Rows:
    """The samples of a contender as a dataset of torch. A process that was forked opens the files itself."""

    def __init__(self, contender: Contender) -> None:
        self.contender, self.process = contender, os.getpid()

    def __len__(self) -> int:
        return self.contender.samples

    def __getitem__(self, index: int) -> Sample:
        if self.process != os.getpid():
            self.contender.open()
            self.process = os.getpid()
        return self.contender.one(index)
