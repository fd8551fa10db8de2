"""The order of a loader in torch's words: a sampler and a batch sampler, for tools that take loaders apart."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch.utils import data

from recordio.errors import SchemaError

if TYPE_CHECKING:
    from recordio.reader.torch.loader import DataLoader
    from recordio.reader.torch.seeding import SeededLoader


def _nobody() -> None:
    """In place of a loader that is not there any more."""


class LoaderSampler(data.Sampler[int]):
    """The indices of the samples that a loader delivers. Each `iter()` is its next epoch."""

    def __init__(self, loader: DataLoader, inner: SeededLoader) -> None:
        self.inner = inner
        self._loader: Callable[[], DataLoader | None] = weakref.ref(loader)  # a cycle would keep its workers
        self._ahead = 0  # epochs of the loader before the first of the tool

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loader": _nobody}

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.inner.indices(drop_last=False))

    def __len__(self) -> int:
        """Samples of an epoch, on this rank."""
        return len(self.inner.share(0, drop_last=False))

    def set_epoch(self, epoch: int) -> None:
        """For tools. One that counts from 0 again after the loader's state was loaded goes on where that was taken."""
        if (loaded := self.inner.loaded_epoch) is not None:
            self._ahead = max(0, loaded - epoch)
        (self._loader() or self.inner).set_epoch(epoch + self._ahead)  # that of a subclass, if there is one

    @property
    def epoch(self) -> Any:
        """The epoch of the next `iter()`, an int."""
        return self.inner.upcoming_epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)


class LoaderSequentialSampler(LoaderSampler, data.SequentialSampler):
    """That of a loader that does not shuffle."""

    def __init__(self, loader: DataLoader, inner: SeededLoader) -> None:
        super().__init__(loader, inner)
        self.data_source: Any = loader.dataset


class LoaderRankSampler(LoaderSampler, data.DistributedSampler[int]):
    """That of a loader whose samples are shared out to ranks: tools leave it as it is."""

    drop_last = False

    @property
    def dataset(self) -> Any:  # type: ignore[override]
        return self.inner.dataset

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        return self.inner.world_size

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self.inner.rank

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        return len(self) * self.num_replicas

    @property
    def shuffle(self) -> bool:  # type: ignore[override]
        return self.inner.options.shuffle

    @property
    def seed(self) -> int:  # type: ignore[override]
        return self.inner.seed


class LoaderBatchSampler(data.BatchSampler):
    """The indices of the batches that a loader delivers, if the sampler is its own; else torch's."""

    sampler: Any

    def __iter__(self) -> Iterator[list[int]]:
        if not isinstance(self.sampler, LoaderSampler):
            return super().__iter__()
        if self.sampler.inner.world_size > 1:
            check_shared_once(self.sampler.inner.world_size, *_accelerates_callers())
        return self.sampler.inner.indices(self.batch_size, drop_last=self.drop_last)

    def __len__(self) -> int:
        if not isinstance(self.sampler, LoaderSampler):
            return super().__len__()
        share = self.sampler.inner.share(0, self.batch_size, drop_last=self.drop_last)
        return -(-len(share) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        if callable(set_epoch := getattr(self.sampler, "set_epoch", None)):
            set_epoch(epoch)

    @property
    def epoch(self) -> int | None:
        """The epoch of the next `iter()`; None if the sampler does not say."""
        return getattr(self.sampler, "epoch", None)


def sampler_of(loader: DataLoader, inner: SeededLoader) -> LoaderSampler:
    """The sampler of a loader of ours."""
    if inner.options.ranks == "auto" or inner.world_size > 1:
        return LoaderRankSampler(loader, inner)
    return (LoaderSampler if inner.options.shuffle else LoaderSequentialSampler)(loader, inner)


def check_shared_once(world_size: int, *holders: Any) -> None:
    """Raises SchemaError if what holds the samples, as accelerate does, shares them out to ranks once more."""
    for holder in holders:
        sharing: Any = getattr(holder, "num_processes", None) or getattr(
            getattr(holder, "state", None), "num_processes", 1
        )
        if world_size > 1 and sharing > 1:
            raise SchemaError(
                f"the samples are shared out twice: to {world_size} ranks here, and by {type(holder).__name__} "
                "around it: leave out ranks, rank and world_size, or do not prepare() the loader"
            )


def _accelerates_callers() -> Iterator[Any]:
    """What calls from accelerate: it shares out the batches of any sampler, that of ranks too, without a word."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "accelerate.data_loader":
            yield frame.f_locals.get("self")


def innermost(sampler: Any) -> Any:
    """The sampler that decides on the order, however many tools have wrapped it to cut it up or to skip."""
    inner = sampler
    while inner is not None and not isinstance(inner, LoaderSampler):
        sampler = inner
        held = (getattr(inner, name, None) for name in ("batch_sampler", "_batch_sampler", "sampler", "_sampler"))
        inner = next((one for one in held if isinstance(one, data.Sampler)), None)
    return sampler if inner is None else inner
