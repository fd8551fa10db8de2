"""Weights: how often an epoch draws each sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.determinism import Indices, key, permutation
from recordio.errors import SchemaError


def class_weights(labels: npt.ArrayLike, counts: Mapping[int, int] | None = None) -> npt.NDArray[np.float64]:
    """float64 (n,): weights for drawing every class equally often.

        DataLoader(ds, 256, shuffle=True, weights=class_weights(ds.column("label")))
        class_weights(ds.column("label"), ds.statistics["label"].values)  # of integers, without counting them again

    Args:
        labels: (n,), the class of each sample.
        counts: how many samples each class has, as the statistics of a dataset say; None counts the labels.

    Raises SchemaError when a label is missing, or is none of the classes that were counted.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or ma.is_masked(labels) or (found.dtype == object and any(label is None for label in found)):
        raise SchemaError("labels are one class a sample, none missing: filter those out, or give weights of your own")
    if counts is None:
        _, which, often = np.unique(found, return_inverse=True, return_counts=True)
        return 1.0 / often[which]
    return _weights_by(found, counts)


def _weights_by(labels: npt.NDArray[Any], counts: Mapping[int, int]) -> npt.NDArray[np.float64]:
    classes = np.array(sorted(value for value, count in counts.items() if count), np.int64)
    if labels.dtype.kind not in "biu" or not len(classes):
        raise SchemaError(f"counts are of integers, and the labels are {labels.dtype}: leave the counts out")
    which = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    if (classes[which] != labels).any():
        raise SchemaError("a label is none of the classes that were counted: the counts are those of other samples")
    return 1.0 / np.array([counts[value] for value in classes.tolist()], np.float64)[which]


def checked_weights(weights: npt.ArrayLike, n: int) -> npt.NDArray[np.float64]:
    """float64 (n,). Raises SchemaError."""
    found = np.array(weights, np.float64, order="C")  # a copy: whoever gave them may change them
    if found.shape != (n,) or not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise SchemaError(f"weights are not {n} finite numbers from 0, some above")
    return found


def drawn_by_weight(weights: npt.NDArray[np.float64], epoch_key: int) -> Indices:
    """int64 (n,), ascending: n draws from n samples, each drawn in proportion to its weight, rounded up or down.

    Systematic sampling: the samples, permuted, are segments of a line, as long as their weights; n marks at equal
    distances, the first at random, draw the samples that they fall on. With equal weights each sample is drawn once.
    All of it in integers: sums of many floats are inexact.
    """
    n = len(weights)
    order = permutation(n, key(0, after=epoch_key))
    shares = weights / weights.max()
    lengths = np.rint(shares * (2.0**61 / np.cumsum(shares)[-1])).astype(np.int64)
    distance, rest = divmod(int(lengths.sum()), n)
    lengths[lengths.argmax()] -= rest
    marks = (np.cumsum(lengths[order]) + (distance * key(1, after=epoch_key) >> 64)) // distance
    counts = np.empty(n, np.int64)
    counts[order] = np.diff(marks, prepend=0)
    return np.repeat(np.arange(n), counts)
