"""A DataLoader that is torch's own, except for our datasets."""

from __future__ import annotations

import inspect
import operator
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar as PlainTypeVar, Unpack

import torch
from torch.utils import data
from torch.utils.data._utils.pin_memory import pin_memory as pinned
from typing_extensions import TypeVar  # torch brings it

from recordio.errors import SchemaError
from recordio.reader.columns import collate_as_torch
from recordio.reader.loading.options import DEFAULTS, OWN_NAMES, OwnArguments, WorkerType, spelled_out
from recordio.reader.loading.profile import Profile, profile_of
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.torch.datasets import Dataset, collate_for, view_of
from recordio.reader.torch.held_batch import HeldBatch, held_by_caller
from recordio.reader.torch.pinning import to_pinned
from recordio.reader.torch.samplers import LoaderBatchSampler, LoaderSampler, innermost, sampler_of
from recordio.reader.torch.seeding import SeededLoader
from recordio.reader.torch.tensors import collate_tensors, to_tensors
from recordio.reader.view import DatasetView

Function = PlainTypeVar("Function", bound=Callable[..., Any])
Batch = TypeVar("Batch", covariant=True, default=Any)
_TORCHS = frozenset(inspect.signature(data.DataLoader).parameters)  # of the torch that is installed
_OF_INNER = ("seed", "rank", "world_size", "stats", "bins")
_TOLD = frozenset(["seed", "on_error", "worker_type", "weights"])  # to tools that rebuild a loader from its attributes
# What accelerate.prepare is told of the workers: it would start torch's processes, each of which fetches its batches by
# indices. Without them the workers of this loader make the batches ahead, in order, as they do without accelerate.
_WITHOUT_WORKERS: dict[str, Any] = {
    "num_workers": 0,
    "prefetch_factor": None,
    "persistent_workers": False,
    "timeout": 0,
    "multiprocessing_context": None,
}
_FIXED = ("num_workers", "collate_fn", "timeout", "prefetch_factor", "in_order", "multiprocessing_context")


class _OnlyOurs(Generic[Function]):
    """A method that is there only if the dataset is ours: tools look whether a loader has it."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, loader: DataLoader[Any] | None, owner: type) -> Function:
        if loader is not None and loader._inner is None:
            raise AttributeError(f"a loader of {type(loader.dataset).__name__} has no {self._function.__name__}")
        return self._function.__get__(loader, owner)  # type: ignore[no-any-return]


def _only_ours(function: Function) -> Function:
    return _OnlyOurs(function)  # type: ignore[return-value]


class DataLoader(data.DataLoader[Batch]):
    """torch.utils.data.DataLoader, with its arguments. For any dataset that is not ours it is exactly that.

    For a ShardDataset, a ConcatDataset or a Mixture the batches are those of recordio.DataLoader, whose arguments,
    methods and attributes `seed`, `rank`, `world_size` and `stats` it has as well. They come as dicts of tensors:
    numbers and arrays without a copy, pinned if `pin_memory` is set and there is a GPU; text, bytes, `Ragged` columns
    and what torch has no dtype for stay as they are, unpinned. An optional field NAME of numbers has NaN where a value
    is missing, or what `to_tensors` says for other dtypes, and beside it NAME_mask, bool (n,), true there. What maps
    make is nested as by `default_collate`. With batch_size=None they are single samples. What a `collate_fn` makes of a
    list of samples is handed on unchanged, also torch's own.

    `sampler` and `batch_sampler` describe this loader's order, so trainers that take a loader apart and build another
    one of it (accelerate, Lightning, Ignite, Ray Train) deliver the same batches; each `iter()` of them is an epoch.
    A sampler of ranks is a torch.utils.data.DistributedSampler, which trainers leave alone.

    What differs from torch: workers are threads, unless something asks for processes (`worker_type`); threads have no
    `get_worker_info`; and of the arguments only `worker_init_fn` and `pin_memory` can be set once the loader is made.
    If no `seed` says how epochs are shuffled and what random transforms draw, it is the seed that `generator` was given
    or, without one, the last torch.manual_seed: the order changes with them, and no number is drawn. Among several
    processes of torch.distributed or a launcher it is 0, as with torch's DistributedSampler, unless a `generator` or a
    `seed`, the same on each, says otherwise. A spawned worker does without torch unless what it is sent needs it: in
    one, a function that imports torch by itself finds torch's generator unseeded.

    Raises:
        ValueError: arguments that torch refuses.
        SchemaError: arguments that recordio.DataLoader refuses, or that only it has, with another dataset.
    """

    worker_type: WorkerType
    weights: Any
    rank: int
    world_size: int
    ranks: Any
    stats: LoaderStats

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
        self._inner: SeededLoader | None = None
        self._held: HeldBatch | None = None
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
        if (view := view_of(dataset)) is not None:
            self._take_over(view, torchs, dict(options))
        elif refused := [name for name, value in options.items() if value is not DEFAULTS[name]]:
            raise SchemaError(f"{', '.join(refused)}: only for the datasets of recordio, not {type(dataset).__name__}")

    def _take_over(self, dataset: DatasetView, torchs: dict[str, Any], own: dict[str, Any]) -> None:
        """Puts the loader of our datasets behind this one."""
        given = {name: value for name, value in (torchs | own).items() if name in DEFAULTS}
        given["shuffle"] = bool(given["shuffle"])
        given["multiprocessing_context"] = self.multiprocessing_context
        if given["prefetch_factor"] is None:
            given["prefetch_factor"] = DEFAULTS["prefetch_factor"]
        single = given["batch_size"] is None
        self._converts = any(given["collate_fn"] is one for one in (None, collate_tensors, to_tensors))
        if self._converts:
            given["collate_fn"] = None if single or not dataset.has_maps else collate_as_torch
        else:
            given["collate_fn"] = collate_for(self.dataset, given["collate_fn"], single)
        if single and given["sampler"] is not None:
            only = operator.itemgetter(0) if self._converts else partial(_only, given["collate_fn"])
            given |= {"batch_size": 1, "collate_fn": only}
        inner = self._inner = SeededLoader(dataset, self.generator, **_without_order(given))
        told: dict[str, Any] = {name: own[name] for name in _TOLD & own.keys()}
        if self._converts:
            told["collate_fn"] = to_tensors if single else collate_tensors
        elif not isinstance(self.dataset, DatasetView | Dataset):  # torch's Subset, which hands on mere indices
            told["collate_fn"] = given["collate_fn"]
        if not isinstance(self.dataset, Dataset):
            told["dataset"] = dataset
        if torchs["sampler"] is None and torchs["batch_sampler"] is None:
            sampler = told["sampler"] = sampler_of(self, inner)
            batches = LoaderBatchSampler(sampler, self.batch_size or 1, self.drop_last)
            told["batch_sampler"] = None if single else batches
        self.__dict__.update(told)  # torch would not let them be set

    def __getattribute__(self, name: str) -> Any:
        if name in _WITHOUT_WORKERS and _accelerate_asks() and self._inner is not None:
            return _WITHOUT_WORKERS[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_inner")
        if inner is not None and name in _OF_INNER:
            return getattr(inner, name)
        if inner is not None and name in OWN_NAMES:
            return getattr(inner.options, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("_inner")
        if inner is not None and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)
        if inner is not None and name == "worker_init_fn":  # trainers set it
            inner.options = replace(inner.options, worker_init_fn=value)
            inner.runs.choice = None  # the workers are chosen anew

    @_only_ours
    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`. The rest of an epoch whose state was loaded stays the rest."""
        self._ours.set_epoch(epoch)

    @_only_ours
    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as small JSON; see recordio.DataLoader."""
        before = self._held.before if self._held is not None else None
        return self._ours.state_dict() if before is None else before

    @_only_ours
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken; see recordio.DataLoader."""
        self._held = None
        self._ours.load_state_dict(state)

    @property
    def _ours(self) -> SeededLoader:
        assert self._inner is not None
        return self._inner

    def __iter__(self) -> Any:
        """The next epoch; for our datasets as of recordio.DataLoader."""
        if self._inner is None:
            return super().__iter__()
        self._held = held_by_caller()
        if isinstance(self.dataset, Dataset):
            self._inner.dataset = self.dataset.view  # its transforms may have been set since
        # The epoch begins with the first batch, as with torch's samplers: Lightning calls set_epoch between the two.
        batches: Iterator[Any] = chain.from_iterable(map(iter, (self._inner,)))
        if self._held is not None:
            batches = self._held.watch(batches, self._ours.state_dict)
        pins = self.pin_memory and torch.cuda.is_available()
        workers_pin = self._ours.pins = pins and self.num_workers > 0
        if workers_pin and self._converts:  # what processes have made
            batches = map(to_pinned, batches)
        if self._converts:
            batches = map(to_tensors, batches)
        return map(pinned, batches) if pins else batches

    def profile(self, seconds: float = 5.0, step: Callable[[Any], Any] | None = None) -> Profile:
        """Where the time goes; see recordio.DataLoader. For a dataset that is not ours only how fast it could be."""
        return profile_of(self, seconds, step)

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        return super().__len__() if self._inner is None else len(self._inner)


def _without_order(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a loader that a tool has rebuilt from another one's. Raises SchemaError if its order is lost."""
    sampler = innermost(given["batch_sampler"] if given["batch_sampler"] is not None else given["sampler"])
    if isinstance(sampler, LoaderSampler):  # the order, its weights and ranks are those of the loader that it is from
        return given | {name: DEFAULTS[name] for name in ("weights", "rank", "world_size", "ranks")}
    if given.get("weights") is None or sampler is None:
        return given
    kind = type(sampler).__name__
    if isinstance(sampler, data.SequentialSampler):  # Lightning's overfit_batches
        warnings.warn(f"samples are not drawn by their weights: the order is that of a {kind}", stacklevel=4)
        return given | {"weights": None}
    raise SchemaError(
        f"a {kind} decides on the order by itself, and weights would be lost: leave out one of them; where a trainer "
        "has put it in to share out the samples, give ranks='auto', and it leaves this loader alone"
    )


def _accelerate_asks() -> bool:
    return str(sys._getframe(2).f_globals.get("__name__")).startswith("accelerate.")


def _only(collate_fn: Callable[[Any], Any], samples: list[Any]) -> Any:
    """The result for the only sample of a batch."""
    return collate_fn(samples[0])
