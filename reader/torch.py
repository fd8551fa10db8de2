"""For PyTorch: a DataLoader that is torch's own but for our datasets, and an IterableDataset for torch's workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy import ma
from torch.utils import data

from recordio.errors import SchemaError
from recordio.reader import loader
from recordio.reader.dataset import ShardDataset
from recordio.reader.mixture import Combined
from recordio.reader.ranks import checked_ranks, found_ranks

_TENSOR_KINDS = "biufc"


def to_tensors(value: Any, pin: bool = False) -> Any:
    """Arrays as tensors that share their memory, within dicts, lists and tuples; pinned when asked.

    What torch has no dtype for, masked arrays, strings, bytes and anything else stay as they are.
    """
    if isinstance(value, np.ndarray):
        if isinstance(value, ma.MaskedArray) or value.dtype.kind not in _TENSOR_KINDS or not value.flags.writeable:
            return value
        tensor = torch.from_numpy(value)
        return tensor.pin_memory() if pin else tensor
    if isinstance(value, np.generic) and value.dtype.kind in _TENSOR_KINDS:
        return torch.as_tensor(value)
    if isinstance(value, Mapping):
        return {name: to_tensors(one, pin) for name, one in value.items()}
    if type(value) in (list, tuple) and value and not isinstance(value[0], (str, bytes)):
        return type(value)(to_tensors(one, pin) for one in value)
    return value


class DataLoader(data.DataLoader[Any]):
    """torch.utils.data.DataLoader, with its arguments. For any dataset that is not ours it is exactly that.

    For a ShardDataset, a ConcatDataset or a Mixture the batches are those of recordio.DataLoader, whose arguments it
    takes as well, as dicts of tensors: numbers and arrays without a copy, pinned if `pin_memory` is set and there is a
    GPU; text, bytes and masked arrays stay as they are. What a `collate_fn` makes is handed on unchanged. Workers are
    threads; `generator` is not used: `seed` says how an epoch is shuffled.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        **ours: Any,
    ) -> None:
        self._ours: loader.DataLoader | None = None
        super().__init__(
            dataset, batch_size, shuffle, sampler, batch_sampler, num_workers, collate_fn, pin_memory, drop_last,
            timeout, worker_init_fn, multiprocessing_context, generator, prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers, pin_memory_device=pin_memory_device, in_order=in_order
        )  # fmt: skip
        if isinstance(dataset, (ShardDataset, Combined)):
            self._ours = loader.DataLoader(
                dataset, batch_size, bool(shuffle), sampler=sampler, batch_sampler=batch_sampler,
                num_workers=num_workers, collate_fn=collate_fn, drop_last=drop_last, timeout=timeout,
                worker_init_fn=worker_init_fn, prefetch_factor=prefetch_factor or 2, in_order=in_order, **ours
            )  # fmt: skip
        elif ours:
            raise SchemaError(f"{', '.join(ours)}: only for the datasets of recordio, not {type(dataset).__name__}")
        self._converts = collate_fn is None
        self._pins = pin_memory and torch.cuda.is_available()

    def __iter__(self) -> Any:
        return super().__iter__() if self._ours is None else self._tensors(iter(self._ours))

    def _tensors(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield to_tensors(batch, self._pins) if self._converts else batch

    def __len__(self) -> int:
        return super().__len__() if self._ours is None else len(self._ours)

    def _inner(self) -> loader.DataLoader:
        if self._ours is None:
            raise SchemaError(
                f"a loader of {type(self.dataset).__name__} has no epochs and no state: it is torch's own"
            )
        return self._ours

    @property
    def stats(self) -> loader.LoaderStats:
        """What has been delivered and skipped so far."""
        return self._inner().stats

    def set_epoch(self, epoch: int) -> None:
        """As of recordio.DataLoader."""
        self._inner().set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As of recordio.DataLoader."""
        return self._inner().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As of recordio.DataLoader."""
        self._inner().load_state_dict(state)


class IterableShards(data.IterableDataset[Any]):
    """Single samples for torch's own DataLoader, shared out over ranks and its worker processes, none of them twice.

    Every `iter()` is the next epoch, unless `set_epoch` says which; in worker processes that takes
    `persistent_workers`, or `set_epoch` before each epoch. With `state_dict` and `load_state_dict` it resumes in
    torchdata's StatefulDataLoader, with the same number of ranks and workers.

    Args:
        dataset: a ShardDataset, a ConcatDataset or a Mixture.
        shuffle, seed, rank, world_size, ranks: as of recordio.DataLoader.
        options: other arguments of recordio.DataLoader: windows, lanes, on_error.
    """

    def __init__(
        self,
        dataset: ShardDataset | Combined,
        shuffle: bool = False,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        ranks: str | None = None,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        self._options = {"shuffle": shuffle, "seed": seed, **options}
        self._rank, self._world = (
            found_ranks() if ranks == "auto" else checked_ranks(rank or 0, 1 if world_size is None else world_size)
        )
        self._loader: loader.DataLoader | None = None
        self._epoch: int | None = None
        self._state: dict[str, Any] | None = None
        self._made_loader(0, 1)  # the options are wrong here and now, not in a worker

    def _made_loader(self, worker: int, workers: int) -> loader.DataLoader:
        return loader.DataLoader(
            self.dataset, None, rank=self._rank * workers + worker, world_size=self._world * workers,
            even_batches=False, **self._options
        )  # fmt: skip

    def __iter__(self) -> Iterator[Any]:
        info = data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        if self._loader is None or self._loader.world_size != self._world * workers:
            self._loader = self._made_loader(worker, workers)
        if self._state is not None:
            self._loader.load_state_dict(self._state)
        elif self._epoch is not None:
            self._loader.set_epoch(self._epoch)
        self._state = self._epoch = None
        return (to_tensors(sample) for sample in self._loader)

    def __len__(self) -> int:
        """Samples of an epoch, on this rank."""
        return len(range(self._rank, len(self.dataset), self._world))

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`."""
        self._epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Where this worker is."""
        return (self._loader or self._made_loader(0, 1)).state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken."""
        self._state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loader": None}
