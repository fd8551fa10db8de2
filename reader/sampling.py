"""Who chooses the samples of an epoch other than the order: a sampler that the user brings, or weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.errors import SchemaError


def class_weights(labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """float64 (n,): weights with which a loader draws every class equally often.

        DataLoader(ds, 256, shuffle=True, weights=class_weights(ds.column("label")))

    Args:
        labels: (n,), the class of each sample.

    Raises SchemaError when one is missing.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or ma.is_masked(labels) or (found.dtype == object and any(label is None for label in found)):
        raise SchemaError("labels are one class a sample, none missing: filter those out, or give weights of your own")
    _, which, counts = np.unique(found, return_inverse=True, return_counts=True)
    return 1.0 / counts[which]


def checked_weights(weights: npt.ArrayLike, n: int) -> npt.NDArray[np.float64]:
    """float64 (n,). Raises SchemaError."""
    found = np.array(weights, np.float64, order="C")  # a copy: whoever gave them may change them
    if found.shape != (n,) or not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise SchemaError(f"weights are not {n} finite numbers from 0, some above")
    return found


class BatchesOf:
    """The indices of a sampler, so many at a time."""

    def __init__(self, sampler: Any, size: int, drop_last: bool) -> None:
        self._sampler, self._size, self._drop_last = sampler, size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self._sampler)
        while batch := list(itertools.islice(indices, self._size)):
            if len(batch) == self._size or not self._drop_last:
                yield batch

    def __len__(self) -> int:
        n = len(self._sampler)
        return n // self._size if self._drop_last else -(-n // self._size)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(epoch)
