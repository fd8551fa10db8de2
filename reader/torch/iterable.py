"""An IterableDataset for torch's own loader and its worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Unpack

import torch
from torch.utils import data

from recordio.arguments import integer
from recordio.errors import SchemaError
from recordio.reader.loading import loader
from recordio.reader.loading.options import DEFAULTS, EpochArguments, spelled_out
from recordio.reader.view import DatasetView


class IterableShards(data.IterableDataset[Any]):
    """Single samples for torch's own DataLoader, shared out over ranks and its worker processes, none of them twice.

    The samples are those of the dataset, in NumPy; torch's loader makes tensors of them. Every `iter()` is the next
    epoch, unless `set_epoch` says which. Worker processes that end with an epoch know nothing of it: without
    `persistent_workers` each epoch takes a `set_epoch`, or it is the first one again. In torchdata's
    StatefulDataLoader it resumes exactly, with the same number of workers.

    Args:
        dataset: a ShardDataset, a ConcatDataset or a Mixture.
        shuffle, on_error, seed, rank, world_size, ranks: as of recordio.DataLoader.
        window_bytes, window_samples, unit_bytes, lanes, weights: as of recordio.DataLoader.

    Raises:
        SchemaError: arguments that recordio.DataLoader refuses.
    """

    @spelled_out(EpochArguments)
    def __init__(
        self,
        dataset: DatasetView,
        shuffle: bool = DEFAULTS["shuffle"],
        **options: Unpack[EpochArguments],
    ) -> None:
        self.dataset = dataset
        own = {name: options.pop(name, None) for name in ("rank", "world_size", "ranks")}  # type: ignore[misc]
        self._make = partial(
            loader.DataLoader, dataset, batch_size=None, shuffle=shuffle, even_batches=False, **options
        )
        self._inner = self._make(**own)
        self.rank, self.world_size = self._inner.rank, self._inner.world_size
        self._next = 0, 0  # the epoch and the position where the next iter() begins
        self._running: int | None = None  # the epoch of the last one
        self._split: list[int] | None = None  # the ranks and workers of the state that was loaded
        self._announced = torch.zeros(2, dtype=torch.int64)  # number of calls of set_epoch, and the last epoch
        self._seen = 0  # number of these calls that this process has followed
        self._share()

    def __iter__(self) -> Iterator[Any]:
        """The next epoch of this worker's share, or the rest of one whose state was loaded."""
        split = self._take_share()
        epoch, position = self._next = self._upcoming()
        self._seen = int(self._announced[0])
        if position and self._split not in (None, split) and self._split[1] > 1:
            raise SchemaError(f"the state is of {self._split} ranks and workers, here are {split}")
        self._inner.load_state_dict(self._inner.state_dict() | {"epoch": epoch, "position": position})
        self._running, self._next = epoch, (epoch + 1, 0)
        return iter(self._inner)

    def __len__(self) -> int:
        """Samples of an epoch on this rank, of all its workers together."""
        return len(range(self.rank, len(self.dataset), self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`, in worker processes that live on as well.

        The rest of an epoch whose state was loaded stays the rest.
        """
        self._announced[1] = integer("epoch", epoch, 0)
        self._announced[0] += 1

    def _upcoming(self) -> tuple[int, int]:
        """The epoch and the position where the next iter() begins, after any call of `set_epoch`."""
        calls, epoch = self._announced.tolist()
        return self._next if calls == self._seen or epoch == self._next[0] else (epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where this worker is, as small JSON. An epoch ends when the next one begins, not with its last sample."""
        split = self._take_share()
        state = self._inner.state_dict()
        if self._running is None:
            state["epoch"], state["position"] = self._upcoming()
        elif state["epoch"] != self._running:
            state |= {"epoch": self._running, "position": len(self.dataset)}
        return state | {"split": split}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken. Raises DatasetError, SchemaError."""
        self._inner.load_state_dict(state)
        self._next = state["epoch"], state["position"]
        self._running = None
        self._split = state.get("split")
        self._seen = int(self._announced[0])

    def _take_share(self) -> list[int]:
        """Makes the inner loader that of this worker's share. Returns the number of ranks and of workers.

        Worker v of w on rank r of n has the positions v * n + r modulo w * n: those of a rank are r modulo n.
        """
        info = data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        share, shares = worker * self.world_size + self.rank, workers * self.world_size
        if (share, shares) != (self._inner.rank, self._inner.world_size):
            self._inner = self._make(rank=share, world_size=shares)
        return [self.world_size, workers]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        """Lets running worker processes see later calls of `set_epoch`."""
        self._announced.share_memory_()  # type: ignore[no-untyped-call]
