"""How far a loader is in its epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from recordio.errors import DatasetError
from recordio.reader.batches.requests import BatchResult


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


def unequal_ranks(result: BatchResult, rank: int) -> DatasetError:
    """Ranks with unequal batch counts deadlock silently."""
    return DatasetError(
        f"rank {rank} has nothing left of a batch, and would be a batch ahead of the other ranks: {result.errors[0]}; "
        "shuffle or use larger batches to leave something, or even_batches=False to let ranks differ"
    )


def check_process(process: int) -> None:
    """Raises DatasetError in a fork of the process that made an iterator."""
    if os.getpid() != process:
        raise DatasetError("this iterator belongs to the process that this one was forked from; call iter() anew")
