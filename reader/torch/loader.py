"""A DataLoader that is torch's own, except for our datasets."""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import torch
from torch.utils import data
from torch.utils.data._utils.pin_memory import pin_memory as pinned
from typing_extensions import TypeVar  # torch brings it

from recordio.errors import SchemaError
from recordio.reader.columns import collate_as_torch
from recordio.reader.loading import loader
from recordio.reader.loading.options import DEFAULTS, OWN_NAMES, OwnArguments, WorkerType, spelled_out
from recordio.reader.loading.progress import LoaderStats
from recordio.reader.torch.tensors import to_tensors
from recordio.reader.view import DatasetView

Batch = TypeVar("Batch", covariant=True, default=Any)
_TORCHS = frozenset(inspect.signature(data.DataLoader).parameters)  # of the torch that is installed
_FIXED = ("num_workers", "collate_fn", "timeout", "prefetch_factor", "in_order", "multiprocessing_context")


class DataLoader(data.DataLoader[Batch]):
    """torch.utils.data.DataLoader, with its arguments. For any dataset that is not ours it is exactly that.

    For a ShardDataset, a ConcatDataset or a Mixture the batches are those of recordio.DataLoader, whose arguments,
    methods and attributes `seed`, `rank`, `world_size` and `stats` it has as well. They come as dicts of tensors:
    numbers and arrays without a copy, pinned if `pin_memory` is set and there is a GPU; text, bytes, masked arrays and
    what torch has no dtype for stay as they are. With batch_size=None they are single samples. What a `collate_fn`
    makes of a list of samples is handed on unchanged; torch's own, `default_collate`, counts as none.

    What differs from torch: workers are threads, unless `worker_type` or `multiprocessing_context` asks for processes;
    they have no `get_worker_info`; `seed` says how epochs are shuffled, not `generator`; and of the arguments only
    `worker_init_fn` and `pin_memory` can be set once the loader is made. A spawned worker does without torch unless
    what it is sent needs it: in one, a function that imports torch by itself finds torch's generator unseeded.

    Raises:
        ValueError: arguments that torch refuses.
        SchemaError: arguments that recordio.DataLoader refuses, or that only it has, with another dataset.
    """

    worker_type: WorkerType
    seed: int
    rank: int
    world_size: int
    stats: LoaderStats
    set_epoch: Callable[[int], None]
    state_dict: Callable[[], dict[str, Any]]
    load_state_dict: Callable[[dict[str, Any]], None]

    @spelled_out(OwnArguments)
    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
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
        **options: Unpack[OwnArguments],
    ) -> None:
        if unknown := options.keys() - OWN_NAMES:
            raise TypeError(f"DataLoader() got an unexpected keyword argument {min(unknown)!r}")
        self._inner: loader.DataLoader | None = None
        torchs = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "sampler": sampler,
            "batch_sampler": batch_sampler,
            "num_workers": num_workers,
            "collate_fn": collate_fn,
            "pin_memory": pin_memory,
            "drop_last": drop_last,
            "timeout": timeout,
            "worker_init_fn": worker_init_fn,
            "multiprocessing_context": multiprocessing_context,
            "generator": generator,
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
            "pin_memory_device": pin_memory_device,
            "in_order": in_order,
        }
        super().__init__(dataset, **{name: value for name, value in torchs.items() if name in _TORCHS})
        if isinstance(dataset, DatasetView):
            self._take_over(dataset, torchs, dict(options))
        elif refused := [name for name, value in options.items() if value is not DEFAULTS[name]]:
            raise SchemaError(f"{', '.join(refused)}: only for the datasets of recordio, not {type(dataset).__name__}")

    def _take_over(self, dataset: DatasetView, torchs: dict[str, Any], own: dict[str, Any]) -> None:
        """Puts the loader of our datasets behind this one."""
        given = {name: value for name, value in (torchs | own).items() if name in DEFAULTS}
        given["shuffle"] = bool(given["shuffle"])
        given["multiprocessing_context"] = self.multiprocessing_context
        if given["prefetch_factor"] is None:
            given["prefetch_factor"] = DEFAULTS["prefetch_factor"]
        if self.multiprocessing_context is not None:
            given.setdefault("worker_type", "process")
        single = given["batch_size"] is None
        self._converts = given["collate_fn"] in (None, data.default_convert if single else data.default_collate)
        if self._converts:
            given["collate_fn"] = None if single or not _has_maps(dataset) else collate_as_torch
        if single and given["sampler"] is not None:
            only = operator.itemgetter(0) if self._converts else partial(_only, given["collate_fn"])
            given |= {"batch_size": 1, "collate_fn": only}
        inner = loader.DataLoader(dataset, **given)
        self.__dict__.update({name: getattr(inner.options, name) for name in OWN_NAMES})
        self._inner = inner
        for name in ("rank", "world_size", "stats", "set_epoch", "state_dict", "load_state_dict"):
            setattr(self, name, getattr(inner, name))  # of the instance: a loader of other datasets has none of them
        if torchs["sampler"] is None and torchs["batch_sampler"] is None:  # torch would not let them be set
            self.__dict__["sampler"] = LoaderOrder(inner, batched=False)
            self.__dict__["batch_sampler"] = None if single else LoaderOrder(inner, batched=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "stats" in self.__dict__:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)
        if name == "worker_init_fn" and "stats" in self.__dict__ and self._inner is not None:  # trainers set it
            self._inner.options = replace(self._inner.options, worker_init_fn=value)

    def __iter__(self) -> Any:
        """The next epoch; for our datasets as of recordio.DataLoader."""
        if self._inner is None:
            return super().__iter__()
        batches: Iterator[Any] = iter(self._inner)
        if self._converts:
            batches = map(to_tensors, batches)
        return map(pinned, batches) if self.pin_memory and torch.cuda.is_available() else batches

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        return super().__len__() if self._inner is None else len(self._inner)


class LoaderOrder(data.Sampler[Any]):
    """The order of a loader as a sampler, for tools that build a loader of their own from torch's attributes.

    Each `iter()` is the next epoch of the loader. Raises SchemaError when indices cannot say what the loader delivers.
    """

    def __init__(self, inner: loader.DataLoader, batched: bool) -> None:
        self._inner, self._batched = inner, batched
        self.batch_size, self.drop_last = inner.options.batch_size, inner.options.drop_last
        self.set_epoch = inner.set_epoch

    def __iter__(self) -> Iterator[Any]:
        batches = self._inner.indices()
        return batches if self._batched else itertools.chain.from_iterable(batches)

    def __len__(self) -> int:
        return len(self._inner) if self._batched else len(self._inner.dataset)


def _has_maps(dataset: DatasetView) -> bool:
    return any(part.processing.maps for part in dataset.parts)


def _only(collate_fn: Callable[[Any], Any], samples: list[Any]) -> Any:
    """The result for the only sample of a batch."""
    return collate_fn(samples[0])
