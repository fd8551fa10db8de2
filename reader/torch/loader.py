"""For PyTorch: a DataLoader that is torch's own but for our datasets, and an IterableDataset for torch's workers."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from numpy import ma
from torch.utils import data
from torch.utils.data._utils.pin_memory import pin_memory as pinned
from typing_extensions import TypeVar  # torch brings it

from recordio.errors import SchemaError
from recordio.reader.columns import collate_as_torch
from recordio.reader.combined import Combined
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading import loader
from recordio.reader.loading.loader import LoaderStats
from recordio.reader.order.shuffle import LANES

Batch = TypeVar("Batch", covariant=True, default=Any)
_DTYPES = frozenset(map(np.dtype, "? b h i l q B H I L Q e f d F D".split()))
_PLAIN = frozenset([str, bytes, int, float, bool, type(None)])
_FIXED = ("num_workers", "collate_fn", "timeout", "prefetch_factor", "in_order", "multiprocessing_context")


def to_tensors(value: Any) -> Any:
    """Arrays as tensors that share their memory, NumPy's numbers as tensors too, within dicts, lists and tuples.

    What torch has no dtype for, masked arrays, text, bytes and anything else stay as they are. An array that cannot be
    written to, runs backwards, or is a field of records is copied: torch knows no such tensors.
    """
    if isinstance(value, np.ndarray):
        return value if isinstance(value, ma.MaskedArray) else _tensor(value)
    if isinstance(value, np.generic):
        return _tensor(np.asarray(value)) if value.dtype in _DTYPES else value
    if isinstance(value, dict):
        return {name: to_tensors(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_tensors, value))
    if type(value) in (list, tuple) and not _PLAIN.issuperset(map(type, value)):
        return type(value)(map(to_tensors, value))
    return value


def _tensor(array: npt.NDArray[Any]) -> Any:
    if array.dtype not in _DTYPES:
        return array
    if array.flags.writeable:
        with contextlib.suppress(ValueError):  # strides that torch does not have
            return torch.from_numpy(array)
    return torch.from_numpy(array.copy())


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

    worker_type: Literal["thread", "process"]
    seed: int
    rank: int
    world_size: int
    stats: LoaderStats
    set_epoch: Callable[[int], None]
    state_dict: Callable[[], dict[str, Any]]
    load_state_dict: Callable[[dict[str, Any]], None]

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
        worker_type: Literal["thread", "process"] | None = None,
        even_batches: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        ranks: Literal["auto"] | None = None,
        window_bytes: int | None = None,
        window_samples: int | None = None,
        unit_bytes: int = 1,
        lanes: int = LANES,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        given = locals()
        self._inner: loader.DataLoader | None = None
        super().__init__(**{name: given[name] for name in _TORCHS})
        if isinstance(dataset, (ShardDataset, Combined)):
            self._take_over(dataset, given)
        elif refused := [name for name, default in _OURS.items() if given[name] is not default]:
            raise SchemaError(f"{', '.join(refused)}: only for the datasets of recordio, not {type(dataset).__name__}")

    def _take_over(self, dataset: ShardDataset | Combined, given: dict[str, Any]) -> None:
        """Puts the loader of our datasets behind this one."""
        given["shuffle"] = bool(given["shuffle"])
        given["multiprocessing_context"] = self.multiprocessing_context
        if given["prefetch_factor"] is None:
            given["prefetch_factor"] = 2
        if given["worker_type"] is None:
            given["worker_type"] = "thread" if self.multiprocessing_context is None else "process"
        self.__dict__.update({name: given[name] for name in _OURS})
        single = given["batch_size"] is None
        self._converts = given["collate_fn"] in (None, data.default_convert if single else data.default_collate)
        if self._converts:
            given["collate_fn"] = None if single or not _has_maps(dataset) else collate_as_torch
        if single and given["sampler"] is not None:
            only = operator.itemgetter(0) if self._converts else partial(_only, given["collate_fn"])
            given |= {"batch_size": 1, "collate_fn": only}
        self._inner = inner = loader.DataLoader(**{name: given[name] for name in _INNERS})
        for name in ("rank", "world_size", "stats", "set_epoch", "state_dict", "load_state_dict"):
            setattr(self, name, getattr(inner, name))  # of the instance: a loader of other datasets has none of them
        if given["sampler"] is None and given["batch_sampler"] is None:  # torch would not let them be set
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


_INNERS = list(inspect.signature(loader.DataLoader).parameters)
_ALL = inspect.signature(DataLoader).parameters
_TORCHS = [name for name in inspect.signature(data.DataLoader).parameters if name in _ALL]  # of the torch that is there
_OURS = {name: parameter.default for name, parameter in _ALL.items() if name not in _TORCHS}


def _has_maps(dataset: ShardDataset | Combined) -> bool:
    return any(one.finish.maps for one in (dataset.datasets if isinstance(dataset, Combined) else [dataset]))


def _only(collate_fn: Callable[[Any], Any], samples: list[Any]) -> Any:
    """What is made of the sample of a batch of one."""
    return collate_fn(samples[0])


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

    def __init__(
        self,
        dataset: ShardDataset | Combined,
        shuffle: bool = False,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        ranks: Literal["auto"] | None = None,
        window_bytes: int | None = None,
        window_samples: int | None = None,
        unit_bytes: int = 1,
        lanes: int = LANES,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        self.dataset = dataset
        self._make = partial(
            loader.DataLoader, dataset, None, shuffle, even_batches=False, on_error=on_error, seed=seed,
            window_bytes=window_bytes, window_samples=window_samples, unit_bytes=unit_bytes, lanes=lanes,
            weights=weights,
        )  # fmt: skip
        self._inner = self._make(rank=rank, world_size=world_size, ranks=ranks)
        self.rank, self.world_size = self._inner.rank, self._inner.world_size
        self._next = 0, 0  # the epoch and the position where the next iter() begins
        self._running: int | None = None  # the epoch of the last one
        self._split: list[int] | None = None  # the ranks and workers of the state that was loaded
        self._told = torch.zeros(2, dtype=torch.int64)  # how often set_epoch was called here, and the last epoch
        self._heard = 0  # how many of these calls this process has followed
        self._share()

    def __iter__(self) -> Iterator[Any]:
        """The next epoch of this worker's share, or the rest of one whose state was loaded."""
        split = self._deal()
        epoch, position = self._next = self._upcoming()
        self._heard = int(self._told[0])
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
        if operator.index(epoch) < 0:
            raise SchemaError(f"epoch is {epoch}: expected a whole number from 0")
        self._told[1] = epoch
        self._told[0] += 1

    def _upcoming(self) -> tuple[int, int]:
        """The epoch and the position where the next iter() begins, with what `set_epoch` said."""
        calls, told = self._told.tolist()
        return self._next if calls == self._heard or told == self._next[0] else (told, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where this worker is, as small JSON. An epoch ends when the next one begins, not with its last sample."""
        split = self._deal()
        state = self._inner.state_dict()
        if self._running is None:
            state["epoch"], state["position"] = self._upcoming()
        elif state["epoch"] != self._running:
            state |= {"epoch": self._running, "position": len(self.dataset)}
        return state | {"split": split}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken. Raises DatasetError, SchemaError."""
        self._inner.load_state_dict(state)
        self._next, self._running, self._split = (state["epoch"], state["position"]), None, state.get("split")
        self._heard = int(self._told[0])

    def _deal(self) -> list[int]:
        """Sees to it that the inner loader is that of this worker's share. Gives the number of ranks and of workers.

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
        """Worker processes see what `set_epoch` is told after they were started."""
        self._told.share_memory_()  # type: ignore[no-untyped-call]
