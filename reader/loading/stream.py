"""Cuts the windows of an epoch into requests for batches, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from recordio.format.page import Indices
from recordio.reader.batches.requests import BatchRequest, IndexRequest, WindowSlice, first_of_bins
from recordio.reader.loading.prefetch import PendingWindow, WindowLease, WindowPrefetcher
from recordio.reader.order.shuffle import WindowPlan

Leased = tuple[WindowSlice, WindowLease | None]  # a slice that has been read already needs no lease
Work = tuple[BatchRequest | IndexRequest, list[WindowLease]]


class Stream:
    """The samples of one dataset, in order, as slices of windows.

    Args:
        prefetcher: gives the windows.
        read_early: reads a slice before its batch is made, to free its window.
        has_bins: whether positions count bins, of several samples each.
    """

    def __init__(
        self,
        prefetcher: WindowPrefetcher,
        read_early: Callable[[WindowSlice], list[WindowSlice]],
        has_bins: bool = False,
    ) -> None:
        self._prefetcher = prefetcher
        self._read_early = read_early
        self.has_bins = has_bins
        self._window: PendingWindow | None = None
        self._lease: WindowLease | None = None
        self._at = 0
        self._ends = np.zeros(0, np.int64)  # of the bins of the window

    def take(self, n: int, ahead: bool = True) -> list[Leased]:
        """The samples of the next n positions, each slice with a lease of its window.

        `ahead`: begins to load the window after them.
        """
        taken: list[Leased] = []
        while n:
            window = self._window
            if window is None or self._at == len(window.plan):
                taken, window = self._advance(taken, ahead)
            end, positions = self._next(window.plan, n)
            taken.append((WindowSlice(window.source, window, window.plan, self._at, end), window.lease()))
            n -= positions
            self._at = end
            if end == len(window.plan):
                self._leave()
        if ahead:
            self._prefetcher.start()
        return taken

    def _next(self, plan: WindowPlan, n: int) -> tuple[int, int]:
        """Where the next n positions of the plan end, and how many of them it has."""
        if not self.has_bins:
            end = min(len(plan), self._at + n)
            return end, end - self._at
        ends = self._ends[np.searchsorted(self._ends, self._at, side="right") :][:n]
        return int(ends[-1]), len(ends)

    def _leave(self) -> None:
        assert self._lease is not None
        self._lease.release()
        self._window = self._lease = None

    def _advance(self, taken: list[Leased], ahead: bool) -> tuple[list[Leased], PendingWindow]:
        """Moves on to the next window. Before waiting for its memory, reads the slices of this batch so far.

        Raises RuntimeError for a lease that was lost.
        """
        self._prefetcher.check_leases([lease for _, lease in taken])
        if not self._prefetcher.start(now=True):
            taken = [piece for one in taken for piece in self._read_now(*one)]
            self._prefetcher.wait_for_memory()
            if not self._prefetcher.start(now=True):
                raise RuntimeError("no memory for the next window, though the others have no readers left")
        window = self._prefetcher.next()
        assert window is not None, "the plan has fewer samples than it says"
        self._window = window
        self._lease = window.lease()
        self._at = 0
        if self.has_bins:
            self._ends = np.append(np.flatnonzero(np.diff(window.plan.position)) + 1, len(window.plan))
        if ahead:
            self._prefetcher.start()
        return taken, window

    def _read_now(self, one: WindowSlice, lease: WindowLease | None) -> list[Leased]:
        if lease is None:
            return [(one, None)]
        pieces: list[Leased] = [(piece, None) for piece in self._read_early(one)]
        lease.release()
        return pieces


def requests(
    streams: Sequence[Stream], sources: Iterator[Indices] | None, samples: int, batch_size: int, together: int = 1
) -> Iterator[Work]:
    """The batches of an epoch.

    Args:
        streams: the streams of the datasets.
        sources: the dataset of each sample, in chunks; None for a single dataset.
        samples: the number of samples left, or of bins.
        batch_size: samples a batch, or bins.
        together: so many batches a request, but one at first, which waits neither for the others nor, of several
            datasets, for windows that it takes nothing of.
    """
    waiting = np.zeros(0, np.int64)
    left, step = samples, 1
    while left:
        n, is_first = min(step * batch_size, left), left == samples
        left, step = left - n, together
        turns = None
        if sources is None:
            taken = streams[0].take(n)
        else:
            while len(waiting) < n:
                waiting = np.concatenate([waiting, next(sources)])
            turns, waiting = waiting[:n], waiting[n:]
            counts = np.bincount(turns, minlength=len(streams)).tolist()
            chosen = [(stream, count) for stream, count in zip(streams, counts, strict=True) if count]
            taken = [one for stream, count in chosen for one in stream.take(count, ahead=not is_first)]
            if streams[0].has_bins:
                turns = _of_samples(turns, [one for one, _ in taken])
        leases = [lease for _, lease in taken if lease is not None]
        yield BatchRequest([one for one, _ in taken], turns, several=together > 1), leases


def _of_samples(turns: Indices, slices: Sequence[WindowSlice]) -> Indices:
    """int64 (samples,): the dataset of each sample, by that of each bin."""
    first = first_of_bins(slices)
    sizes = np.diff(np.flatnonzero(first), append=len(first))  # of the bins of one dataset after the other
    by_bin = np.empty(len(turns), np.int64)
    by_bin[np.argsort(turns, kind="stable")] = sizes
    return np.repeat(turns, by_bin)
