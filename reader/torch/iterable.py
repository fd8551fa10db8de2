"""An IterableDataset for torch's own loader and its worker processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from torch.utils import data

from recordio.arguments import integer
from recordio.errors import SchemaError
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.options import DEFAULTS, EpochArguments, spelled_out
from recordio.reader.order.ranks import RankShare
from recordio.reader.torch.epochs import Epochs
from recordio.reader.torch.samplers import check_shared_once
from recordio.reader.torch.seeding import default_seed
from recordio.reader.view import DatasetView


class IterableShards(data.IterableDataset[Any]):
    """Single samples for torch's own DataLoader, shared out over ranks and its worker processes, none of them twice.

    The samples are those of the dataset, in NumPy; torch's loader makes tensors of them. Every `iter()` of the loader
    is the next epoch, unless `set_epoch` says which. In torchdata's StatefulDataLoader it resumes exactly, with the
    same number of workers.

    No sample is repeated, so ranks may get unequally many, one batch more or less with a `batch_size`: with
    DistributedDataParallel use torch's Join, or recordio.torch.DataLoader, which pads.

    Args:
        dataset: a ShardDataset, a ConcatDataset or a Mixture.
        batch_size: that of torch's loader, so that each worker gets samples for whole batches. Only one batch of an
            epoch is smaller then, and `len` is known. Without it the last batch of every worker may be smaller.
        shuffle, on_error, rank, world_size, ranks: as of recordio.DataLoader.
        seed: as of recordio.torch.DataLoader, when it is made.
        window_bytes, window_samples, unit_bytes, pool_bytes, lanes, weights: as of recordio.DataLoader.
        lane_affinity: the same, but not with a `batch_size`.

    Raises:
        SchemaError: arguments that recordio.DataLoader refuses.
    """

    @spelled_out(EpochArguments)
    def __init__(
        self,
        dataset: DatasetView,
        shuffle: bool = DEFAULTS["shuffle"],
        batch_size: int | None = None,
        **options: Unpack[EpochArguments],
    ) -> None:
        self.dataset = dataset
        self.batch_size = integer("batch_size", batch_size, 1, optional=True)
        own = {name: options.pop(name, None) for name in ("rank", "world_size", "ranks")}  # type: ignore[misc]
        self._make = partial(_Share, dataset, self.batch_size or 1, shuffle=shuffle, **options)
        self._inner = self._make(0, **own)
        self.rank, self.world_size = self._inner.rank, self._inner.world_size
        self._seed = default_seed(None, self.world_size)  # unless one is given
        self._epochs = Epochs()
        self._loaded: tuple[int, int] | None = None  # the epoch and the position of a state, until it is continued
        self._running: int | None = None  # the epoch of the last iter()
        self._split: list[int] | None = None  # the ranks and workers of the state that was loaded

    def __iter__(self) -> Iterator[Any]:
        """The next epoch of this worker's share, or the rest of one whose state was loaded."""
        self._check_shared_once()
        split = self._take_share()
        epoch, position = self._epochs.begin(self._loaded)
        if position and self._split not in (None, split) and self._split[1] > 1:
            raise SchemaError(f"the state is of {self._split} ranks and workers, here are {split}")
        self._inner.load_state_dict(self._inner.state_dict() | {"epoch": epoch, "position": position})
        self._running, self._loaded = epoch, None
        return iter(self._inner)

    def __len__(self) -> int:
        """Samples of an epoch on this rank, of all its workers together. Raises TypeError without a `batch_size`."""
        if self.batch_size is None:
            raise TypeError(
                "how many batches there are depends on the workers, whose last ones may each be smaller: "
                "IterableShards(..., batch_size=) with that of the loader makes them known"
            )
        return len(self._make(0, rank=self.rank, world_size=self.world_size).share(0))

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`, in worker processes that live on as well.

        The rest of an epoch whose state was loaded stays the rest.
        """
        epoch = integer("epoch", epoch, 0)
        self._epochs.announce(epoch)
        if self._loaded is not None and self._loaded[0] != epoch:
            self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """Where this worker is, as small JSON. An epoch ends when the next one begins, not with its last sample."""
        split = self._take_share()
        state = self._inner.state_dict()
        if self._running is None:
            state["epoch"], state["position"] = self._epochs.upcoming(self._loaded)
        elif state["epoch"] != self._running:
            state |= {"epoch": self._running, "position": len(self.dataset)}
        return state | {"split": split}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken. Raises DatasetError, SchemaError."""
        self._inner.load_state_dict(state)
        self._seed = state["seed"]
        self._loaded = state["epoch"], state["position"]
        self._epochs.load()
        self._running = None
        self._split = state.get("split")

    def _take_share(self) -> list[int]:
        """Makes the inner loader that of this worker's share. Returns the number of ranks and of workers.

        Worker v of w on rank r of n has the runs v * n + r modulo w * n: those of a rank are r modulo n.
        """
        info = data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        share, shares = worker * self.world_size + self.rank, workers * self.world_size
        if (share, shares, self._seed) != (self._inner.rank, self._inner.world_size, self._inner.default):
            self._inner = self._make(self._seed, rank=share, world_size=shares)
        return [self.world_size, workers]

    def _check_shared_once(self) -> None:
        """Raises SchemaError if another dataset around this one shares its samples out to ranks once more."""
        info = data.get_worker_info()
        holder = sys._getframe(2).f_locals.get("self") if info is None else info.dataset
        if holder is not self:
            check_shared_once(self.world_size, holder)


class _Share(DataLoader):
    """The single samples of one worker, in runs of `length` samples; with a seed by default."""

    def __init__(self, dataset: DatasetView, length: int, default: int, **options: Any) -> None:
        super().__init__(dataset, batch_size=None, even_batches=False, **options)
        if length > 1 and self.order.shuffle and self.order.lane_affinity:
            raise SchemaError(
                "lane_affinity deals single samples to the ranks, and batch_size= deals whole batches: leave "
                "batch_size out here, or take recordio.torch.DataLoader"
            )
        self._length, self.default = length, default

    def _default_seed(self) -> int:
        return self.default

    def share(
        self, start: int, batch_size: int | None = None, *, drop_last: bool | None = None, epoch: int | None = None
    ) -> RankShare:
        return replace(super().share(start, batch_size, drop_last=drop_last, epoch=epoch), run=self._length)

    def _after(self, position: int) -> int:
        return super()._after(position) if self._length == 1 else self.share(position).first + 1
