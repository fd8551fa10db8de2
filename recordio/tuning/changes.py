"""Changes to a loader that may make it faster: which are worth trying follows from its profile."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from recordio.images.transform import function_name
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.making import maker_of
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.profile import Profile
from recordio.reader.loading.stages_alone import CHECKSUM, DECOMPRESSION, STORAGE
from recordio.reader.order.shuffle import SHUFFLE_WINDOW_BYTES
from recordio.reader.view import DatasetView

FETCHING = (STORAGE, CHECKSUM, DECOMPRESSION)
WORKERS, FUNCTIONS, OPTIONS, FILES = "workers", "functions", "options", "files"
_WORTH = 0.2  # the share of the work from which on a function is left out for a trial
_MOST_FUNCTIONS = 2
_MOST_WORKERS = 32
_UNIT_NBYTES = 8 << 20

Make = Callable[[], DataLoader]


@dataclass(frozen=True, slots=True)
class Described:
    """A change, as a reader sees it.

    Attributes:
        name: what is changed.
        how: what to write to have it.
        kind: "workers", "functions", "options" or "files".
        note: what it changes besides the speed.
    """

    name: str
    how: str
    kind: str
    note: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Change(Described):
    """A change to try.

    Attributes:
        make: gives the loader with it.
        base: gives the loader without it, if that is not the user's; for copies of a part of the dataset.
        options: the options of the loader that it sets.
    """

    make: Make
    base: Make | None = None
    options: dict[str, Any] | None = None


def rebuilt(loader: DataLoader, dataset: DatasetView | None = None, **changes: Any) -> DataLoader:
    """A new loader with the options of another one but for these, for another dataset if one is given."""
    options = loader.options
    given = {one.name: getattr(options, one.name) for one in fields(LoaderOptions) if one.init}
    given |= {"seed": loader.seed, "rank": loader.rank, "world_size": loader.world_size, "ranks": None}
    if loader._sampler is not None:
        given |= {"rank": None, "world_size": None}
    if changes.get("worker_type") == "thread":
        given["multiprocessing_context"] = None
    return DataLoader(loader.dataset if dataset is None else dataset, **{**given, **changes})


def with_options(loader: DataLoader, kind: str, how: str, note: str = "", **options: Any) -> Change:
    name = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return Change(name, how, kind, partial(rebuilt, loader, **options), options=options, note=note)


def worker_counts(loader: DataLoader) -> Iterator[int]:
    """Numbers of workers to try one after the other, while each makes it faster."""
    most = min(_MOST_WORKERS, 4 * (os.cpu_count() or 1))
    count = max(1, 2 * loader.options.num_workers)
    while count <= max(most, 2 * loader.options.num_workers) and count <= _MOST_WORKERS:
        yield count
        count *= 2


def more_workers(loader: DataLoader, count: int, kind: str | None = None) -> Change:
    options: dict[str, Any] = {"num_workers": count} | ({} if kind is None else {"worker_type": kind})
    said = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return with_options(loader, WORKERS, f"DataLoader(..., {said})", **options)


def other_workers(loader: DataLoader) -> Change | None:
    """Threads in place of processes; processes in place of threads, if there are functions that they could run."""
    options, choice = loader.options, loader.runs.choice
    if options.num_workers and choice is not None and choice.workers == "process":
        return None if options.worker_init_fn is not None else more_workers(loader, options.num_workers, "thread")
    if not maker_of(loader.options, loader.dataset, None).calls_functions or multiprocessing.current_process().daemon:
        return None
    return more_workers(loader, max(options.num_workers, os.cpu_count() or 1), "process")


def loader_changes(loader: DataLoader, profile: Profile, batch_size_may_change: bool) -> Iterator[Change]:
    """Other options of the loader, and functions left out."""
    options = loader.options
    if profile.bottleneck in FETCHING:
        yield from _fetching_changes(loader)
    elif options.num_workers:
        more = 2 * options.prefetch_factor
        yield with_options(loader, OPTIONS, f"DataLoader(..., prefetch_factor={more})", prefetch_factor=more)
    if profile.epochs and not options.persistent_workers:
        how = "DataLoader(..., persistent_workers=True)"
        yield with_options(loader, OPTIONS, how, persistent_workers=True)
    sized = options.batch_size is not None and options.batch_sampler is None and options.batch_tokens is None
    if batch_size_may_change and options.batch_size is not None and sized:
        size = 2 * options.batch_size
        note = "another batch size changes the training"
        yield with_options(loader, OPTIONS, f"DataLoader(..., batch_size={size})", note, batch_size=size)
    if profile.bottleneck not in FETCHING:
        yield from _without_functions(loader, profile)


def _fetching_changes(loader: DataLoader) -> Iterator[Change]:
    """Larger reads, larger windows, other ways to read."""
    options, part = loader.options, loader.dataset.parts[0]
    if loader._sampler is None and options.shuffle:
        window = 2 * (options.window_bytes or SHUFFLE_WINDOW_BYTES)
        note = "changes the order; takes more memory"
        if options.window_samples is None:
            how = f"DataLoader(..., window_bytes={window >> 20} << 20)"
            yield with_options(loader, OPTIONS, how, note, window_bytes=window)
        if options.unit_bytes < _UNIT_NBYTES:
            note = "changes the order: neighbouring blocks stay together"
            how = f"DataLoader(..., unit_bytes={_UNIT_NBYTES >> 20} << 20)"
            yield with_options(loader, OPTIONS, how, note, unit_bytes=_UNIT_NBYTES)
    if any(one.store.storage.is_remote for one in loader.dataset.parts):
        more = 2 * options.prefetch_bytes
        how = f"DataLoader(..., prefetch_bytes={more >> 20} << 20)"
        yield with_options(loader, OPTIONS, how, prefetch_bytes=more)
    elif len(loader.dataset.parts) == 1 and isinstance(loader.dataset, ShardDataset):
        for io in ("pread", "direct"):
            if part.store.io.kind != io:
                make = partial(_with_io, loader, io)
                yield Change(f"io={io!r}", f"ShardDataset(..., io={io!r})", OPTIONS, make)


def _with_io(loader: DataLoader, io: str) -> DataLoader:
    return rebuilt(loader, read_otherwise(loader.dataset.parts[0], io))


def read_otherwise(part: ShardDataset, io: str) -> ShardDataset:
    """The same view, with its files read in another way."""
    state = part.__getstate__()
    state["_options"] = replace(state["_options"], io=io)
    other = object.__new__(ShardDataset)
    other.__setstate__(state)
    return other


def _without_functions(loader: DataLoader, profile: Profile) -> Iterator[Change]:
    """Each of the costly functions left out: what it would bring to do without, or to do it once, before training."""
    part = loader.dataset
    if not isinstance(part, ShardDataset):
        return
    found = sorted((one for one in profile.stages if one.share >= _WORTH), key=lambda one: -one.share)
    for stage in found[:_MOST_FUNCTIONS]:
        kind, _, name = stage.name.partition(" ")
        if kind == "transform":
            kept = tuple(one for one in part._transforms if short_name(one[1]) != name)
            view = part._with(_transforms=kept)
        elif kind == "map":
            view = part._with(_maps=tuple(one for one in part._maps if short_name(one) != name))
        else:
            continue
        how = f"leave {name} out, make it quicker, or apply it once, before training"
        yield Change(f"without {stage.name}", how, FUNCTIONS, partial(rebuilt, loader, view))


def short_name(function: Any) -> str:
    """The name of a function as the profile shows it."""
    return function_name(function).rpartition(".<locals>.")[2]
