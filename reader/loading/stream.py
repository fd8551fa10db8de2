"""The samples of an epoch, in order, as requests for batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from recordio.format.page import Indices
from recordio.reader.batches.requests import BatchRequest, IndexRequest, WindowSlice
from recordio.reader.loading.prefetch import PendingWindow, WindowLease, WindowPrefetcher

Leased = tuple[WindowSlice, WindowLease | None]  # no lease of a slice that has been read already
Work = tuple[BatchRequest | IndexRequest, list[WindowLease]]


class Stream:
    """The samples of one dataset, in order, as slices of windows.

    Args:
        prefetcher: gives the windows.
        read_early: reads a slice now, for a batch that has to wait for memory.
    """

    def __init__(self, prefetcher: WindowPrefetcher, read_early: Callable[[WindowSlice], list[WindowSlice]]) -> None:
        self._prefetcher, self._read_early = prefetcher, read_early
        self._window: PendingWindow | None = None
        self._lease: WindowLease | None = None
        self._at = 0

    def take(self, n: int) -> list[Leased]:
        """The next n samples, each slice with a lease of its window."""
        taken: list[Leased] = []
        while n:
            if self._window is None:
                taken, self._window = self._advance(taken)
            window = self._window
            end = min(len(window.plan), self._at + n)
            taken.append((WindowSlice(window.source, window, window.plan, self._at, end), window.lease()))
            n, self._at = n - (end - self._at), end
            if end == len(window.plan):
                self._leave()
        self._prefetcher.start()
        return taken

    def _leave(self) -> None:
        assert self._lease is not None
        self._lease.release()
        self._window = self._lease = None

    def _advance(self, taken: list[Leased]) -> tuple[list[Leased], PendingWindow]:
        """On to the next window. If that has to wait for memory, the slices of this batch so far are read at once."""
        if not self._prefetcher.start(now=True):
            taken = [piece for one in taken for piece in self._read_now(*one)]
            self._prefetcher.wait_for_memory()
            if not self._prefetcher.start(now=True):
                raise RuntimeError("no memory for the next window, though nobody reads from the others")
        window = self._prefetcher.next()
        assert window is not None, "the plan has fewer samples than it says"
        self._lease, self._at = window.lease(), 0
        self._prefetcher.start()
        return taken, window

    def _read_now(self, one: WindowSlice, lease: WindowLease | None) -> list[Leased]:
        if lease is None:
            return [(one, None)]
        pieces: list[Leased] = [(piece, None) for piece in self._read_early(one)]
        lease.release()
        return pieces


def requests(
    streams: Sequence[Stream], sources: Iterator[Indices] | None, samples: int, batch_size: int
) -> Iterator[Work]:
    """The batches of an epoch.

    Args:
        streams: the streams of the datasets.
        sources: the dataset of each sample, some at a time; None for a single one.
        samples: how many samples are left.
        batch_size: samples a batch.
    """
    waiting = np.zeros(0, np.int64)
    for begin in range(0, samples, batch_size):
        n = min(batch_size, samples - begin)
        turns = None
        if sources is None:
            taken = streams[0].take(n)
        else:
            while len(waiting) < n:
                waiting = np.concatenate([waiting, next(sources)])
            turns, waiting = waiting[:n], waiting[n:]
            counts = np.bincount(turns, minlength=len(streams)).tolist()
            taken = [one for stream, count in zip(streams, counts, strict=True) for one in stream.take(count)]
        leases = [lease for _, lease in taken if lease is not None]
        yield BatchRequest([one for one, _ in taken], turns), leases
