"""A user's sampler in place of the loader's order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from recordio.errors import DatasetError
from recordio.format.checksum import digest


class SampledBatches:
    """The batches of indices from a user's sampler, and its epoch.

    Nothing tells whether a sampler repeats itself. So a state holds a digest of the delivered indices, and an epoch is
    resumed only if the sampler yields the same indices again.

    Args:
        sampler: yields indices; None if `batches` is given.
        batches: yields lists of indices.
        size: indices a batch, for a `sampler`.
        drop_last: leave out a last batch that is not full, for a `sampler`.
    """

    def __init__(self, sampler: Any, batches: Any, size: int, drop_last: bool) -> None:
        self._sampler = sampler
        self._batches = batches
        self._size = size
        self._drop_last = drop_last
        inner = getattr(batches, "sampler", None)  # of torch's BatchSampler
        listeners = [one for one in (sampler, batches, inner) if callable(getattr(one, "set_epoch", None))]
        self._listener: Any = listeners[0] if listeners else None
        self._announced = 0
        self._ahead: deque[str] = deque()  # digests of batches that were drawn but not delivered yet

    def __len__(self) -> int:
        if self._batches is not None:
            return len(self._batches)
        n = len(self._sampler)
        return n // self._size if self._drop_last else -(-n // self._size)

    def set_epoch(self, epoch: int) -> None:
        """Calls the sampler's set_epoch, if it has one."""
        if self._listener is not None:
            self._announced = epoch
            self._listener.set_epoch(epoch)

    def begin(self, epoch: int) -> int:
        """The epoch that the sampler begins: one that somebody else has set since, else `epoch`."""
        found = getattr(self._listener, "epoch", None)
        if isinstance(found, int) and found != self._announced:
            epoch = found
        self.set_epoch(epoch)
        return epoch

    def batches(self, start: int, expected: str | None) -> Iterator[Any]:
        """The batches from number `start` on. Raises DatasetError unless the digest before it is `expected`."""
        self._ahead.clear()
        batches = iter(self._batches if self._batches is not None else self._cut())
        found = ""
        for batch in itertools.islice(batches, start):
            found = _digest_after(found, batch)
        _require_same(found, expected)
        for batch in batches:
            found = _digest_after(found, batch)
            self._ahead.append(found)
            yield batch

    def delivered(self) -> str:
        """The digest of all batches up to and including the one delivered now."""
        return self._ahead.popleft()

    def _cut(self) -> Iterator[list[int]]:
        indices = iter(self._sampler)
        while batch := list(itertools.islice(indices, self._size)):
            if len(batch) == self._size or not self._drop_last:
                yield batch


def _digest_after(before: str, batch: Any) -> str:
    try:
        return digest([before.encode(), np.asarray(batch, np.int64).data]).hex()
    except (TypeError, ValueError, OverflowError):  # no indices: making the batch raises the error
        return before


def _require_same(found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise DatasetError(
            "the sampler does not repeat the batches that were delivered before the state was taken, so the epoch "
            "cannot go on where it was: use a sampler with set_epoch, or shuffle=True or weights= without a sampler"
        )
