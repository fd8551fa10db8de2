"""How far a loader is in its epoch, and what it has delivered."""

from __future__ import annotations

from dataclasses import dataclass, field

from recordio.errors import DatasetError
from recordio.reader.batches.requests import BatchResult
from recordio.remote.remote_stats import RemoteStats, remote_stats


@dataclass(slots=True)
class Cursor:
    """Where a loader is: `position` samples of the epoch have been delivered, on all ranks together.

    With a sampler `position` counts batches, and `indices` is the digest of their indices, None if unknown. `by_index`:
    somebody else makes the batches of the epoch, and `position` does not follow. `loaded`: it is that of a state.
    """

    epoch: int = 0
    position: int = 0
    begun: bool = False
    indices: str | None = None
    by_index: bool = False
    loaded: bool = False

    def move_to(self, epoch: int) -> None:
        """To the beginning of an epoch."""
        self.epoch = epoch
        self.position = 0
        self.begun = False
        self.indices = None
        self.by_index = self.loaded = False


@dataclass
class Stalls:
    """How long the making of batches has waited for windows: what was not yet read when it was needed.

    Attributes:
        seconds: in all.
        longest: the longest wait, in seconds.
    """

    seconds: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.longest = max(self.longest, seconds)


@dataclass
class LoaderStats:
    """Counts of a loader since it was made.

    Attributes:
        batches, samples, skipped: how many were delivered, and how many samples left out.
        errors: the first reasons for leaving out samples.
        io: how the files of the datasets are read, and why.
        stalls: how long batches have waited for data.
    """

    batches: int = 0
    samples: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)
    io: str = ""
    stalls: Stalls = field(default_factory=Stalls)

    @property
    def remote(self) -> RemoteStats | None:
        """What this process has read of object stores: requests, bytes, hit rate, retries, latency. None if nothing."""
        return remote_stats()

    def add(self, result: BatchResult) -> None:
        self.batches += result.batch is not None
        self.samples += result.samples
        self.skipped += result.skipped
        if result.errors:
            self.errors += result.errors[: 10 - len(self.errors)]


def unequal_ranks(result: BatchResult, rank: int) -> DatasetError:
    """Ranks with unequal batch counts deadlock silently."""
    return DatasetError(
        f"rank {rank} has nothing left of a batch, and would be a batch ahead of the other ranks: {result.errors[0]}; "
        "shuffle or use larger batches to leave something, or even_batches=False to let ranks differ"
    )
