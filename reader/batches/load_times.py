"""What loading windows has cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class LoadTimes:
    """Of some windows, times in nanoseconds.

    Attributes:
        windows, samples: how many, and how many samples they deliver.
        nbytes, stored_nbytes: of their pages: decoded, and as they are in the files.
        reads: reads of files.
        storage: spent in reads, of indexes too, summed over threads.
        unpack: spent in checking and decoding, summed over threads; of pages in a memory map reading is a part of it.
        loading: from the begin of a window's loading to its end.
    """

    windows: int = 0
    samples: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0
    reads: int = 0
    storage: int = 0
    unpack: int = 0
    loading: int = 0

    def note(self, reads: Sequence[tuple[int, int]], touching: Sequence[int], loading: int) -> None:
        """What the reads of a window and the checks of its pages in place took."""
        self.reads = len(reads)
        self.storage += sum(read for read, _ in reads)
        self.unpack = sum(rest for _, rest in reads) + sum(touching)
        self.loading = loading

    def add(self, other: LoadTimes) -> None:
        self.windows += other.windows
        self.samples += other.samples
        self.nbytes += other.nbytes
        self.stored_nbytes += other.stored_nbytes
        self.reads += other.reads
        self.storage += other.storage
        self.unpack += other.unpack
        self.loading += other.loading
