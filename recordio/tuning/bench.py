"""What `recordio bench` measures: how fast a dataset is read on every path, beside what the machine could give.

The paths take turns, round after round, so that a busy machine slows down all of them. `recordio.tune` asks what holds
one loader back, and tries changes to it; this asks how fast each way to read is, and changes nothing.
"""

from __future__ import annotations

import gc
import itertools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from recordio.edit.reshard import stored_nbytes
from recordio.errors import DatasetError
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.pace import Stretch
from recordio.reader.loading.profile import counter_of
from recordio.reader.loading.stages_alone import stages_alone
from recordio.tuning.device import drop, read_rate, shard_paths
from recordio.tuning.held import watched
from recordio.tuning.speeds import CACHE, DEVICE, IN_ORDER, NO_WORKERS, ONE, RANDOM, SHUFFLED, Bench, Limit, Speed

_KEPT = 0.05  # the share of a file in the cache from which on it is not cold
_MOST_TIMES = 1 << 17  # of a round, the last ones
_SIZED = 1 << 20  # samples whose size is looked up

Report = Callable[[int, int], Any]
Open = Callable[[], ShardDataset]


@dataclass(slots=True)
class _Once:
    """A path in one round."""

    rate: float
    times: Sequence[float] = ()
    first: float | None = None
    held: int | None = None


@dataclass(slots=True)
class _Path:
    """A path to measure, with its rounds."""

    path: str
    workers: str
    measure: Callable[[ShardDataset], _Once]
    cold: bool = False
    rounds: list[_Once] = field(default_factory=list)

    def speed(self, limits: Sequence[Limit]) -> Speed:
        rates = [one.rate for one in self.rounds]
        gaps = np.concatenate([np.diff(one.times) for one in self.rounds])
        batch, slow = np.percentile(gaps, (50, 99)).tolist() if len(gaps) else (None, None)
        firsts = [one.first for one in self.rounds if one.first is not None]
        held = [one.held for one in self.rounds if one.held is not None]
        limit = self._limit(limits)
        return Speed(
            self.path,
            self.workers,
            self.cold,
            rate := median(rates),
            min(rates),
            max(rates),
            batch,
            slow,
            first_batch_seconds=median(firsts) if firsts else None,
            held_nbytes=max(held) if held else None,
            of_limit=rate / limit.rate if limit else None,
            limit=limit.name if limit else "",
        )

    def _limit(self, limits: Sequence[Limit]) -> Limit | None:
        """Of a cold epoch the device, of another one the slowest stage."""
        if self.path not in (IN_ORDER, SHUFFLED):
            return None
        fitting = [one for one in limits if (one.name == DEVICE) == self.cold and one.name != CACHE]
        return min(fitting, key=lambda one: one.rate, default=None)


def bench(
    open_dataset: Open,
    *,
    batch_size: int = 256,
    workers: Sequence[int] = (1, 2, 4),
    seconds: float = 1.0,
    rounds: int = 3,
    cold: bool = True,
    progress: Report | None = None,
) -> Bench:
    """Measures every path of a dataset.

    Args:
        open_dataset: opens it anew.
        batch_size: of every batch.
        workers: numbers of workers, threads and processes each.
        seconds: how long each measurement takes.
        rounds: how often the paths take turns.
        cold: whether to measure epochs with files out of the system's cache as well.
        progress: called as progress(measurements done, measurements to do).

    Raises DatasetError for an empty dataset, and what reading it raises.
    """
    return _Sitting(open_dataset, batch_size, seconds, rounds, progress).bench(workers, cold)


class _Sitting:
    """The measurements of one dataset."""

    def __init__(
        self, open_dataset: Open, batch_size: int, seconds: float, rounds: int, progress: Report | None
    ) -> None:
        self._open = open_dataset
        self._batch_size = batch_size
        self._seconds = seconds
        self._rounds = rounds
        self._progress = progress
        self._random = np.random.default_rng(0)
        self._notes: dict[str, None] = {}
        self._files: list[Path] = []
        self._done_rounds = 0

    def bench(self, workers: Sequence[int], cold: bool) -> Bench:
        dataset = self._open()
        if not len(dataset):
            raise DatasetError("the dataset is empty: there is nothing to measure")
        store = dataset.store
        if not store.storage.is_remote:
            self._files = shard_paths(dataset)
        if not store.io.fits:
            self._notes["the files do not fit into memory: rows called cached are read from the device as well"] = None
        cold = cold and self._can_be_cold(dataset)
        paths = [*self._warm_paths(workers), *(self._cold_paths() if cold else ())]
        rates = self._in_turns(paths, store.io.fits)
        nbytes = float(stored_nbytes(dataset[:_SIZED]).mean())
        limits = (*self._file_limits(rates, nbytes), *self._stage_limits(dataset))
        return Bench(
            samples=len(dataset),
            nbytes=store.nbytes,
            shards=len(store.manifest.shards),
            sample_nbytes=nbytes,
            io=str(store.io),
            batch_size=self._batch_size,
            seconds=self._seconds,
            rounds=self._rounds,
            open_seconds=self._opening(),
            speeds=tuple(one.speed(limits) for one in paths if one.rounds),
            limits=limits,
            notes=tuple(self._notes),
        )

    def _can_be_cold(self, dataset: ShardDataset) -> bool:
        if dataset.store.storage.is_remote:
            self._notes[
                "not measured cold: the dataset is in an object store; cached is what its cache on this machine has"
            ] = None
        elif not hasattr(os, "posix_fadvise"):
            self._notes["not measured cold: this system cannot be asked to forget files"] = None
        else:
            return True
        return False

    def _warm_paths(self, workers: Sequence[int]) -> Iterator[_Path]:
        for name, shuffle in ((IN_ORDER, False), (SHUFFLED, True)):
            yield _Path(name, NO_WORKERS, partial(self._epochs, shuffle=shuffle))
        for kind, count in itertools.product(("thread", "process"), workers):
            ending = "" if count == 1 else "es" if kind == "process" else "s"
            options: dict[str, Any] = {"num_workers": count, "worker_type": kind, "persistent_workers": True}
            yield _Path(SHUFFLED, f"{count} {kind}{ending}", partial(self._epochs, shuffle=True, **options))
        yield _Path(RANDOM, NO_WORKERS, self._random_batches)
        yield _Path(ONE, NO_WORKERS, self._single_samples)

    def _cold_paths(self) -> Iterator[_Path]:
        for name, shuffle in ((IN_ORDER, False), (SHUFFLED, True)):
            yield _Path(name, NO_WORKERS, partial(self._cold_epoch, shuffle=shuffle), cold=True)

    def _in_turns(self, paths: Sequence[_Path], fits: bool) -> dict[str, list[float]]:
        """Measures all paths, and gives the rates of the files alone, cold and from the cache."""
        rates: dict[str, list[float]] = {DEVICE: [], CACHE: []}
        total, done = self._rounds * len(paths), 0
        for _ in range(self._rounds):
            if fits and self._files:
                read_rate(self._files, float("inf"))
                rates[CACHE].append(read_rate(self._files, self._seconds))
            for one in paths:
                if one.cold and not self._is_cold():
                    continue
                if one.cold and one.path == IN_ORDER:
                    rates[DEVICE].append(read_rate(self._files, self._seconds))
                    self._is_cold()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # of threads slower than one: that is measured
                    one.rounds.append(one.measure(self._open()))
                done += 1
                if self._progress is not None:
                    self._progress(done, total)
            self._done_rounds += 1
        return rates

    def _is_cold(self) -> bool:
        """Drops the files from the cache, and says if that did not work."""
        gc.collect()  # maps of a dataset keep pages
        kept = drop(self._files)
        if kept is None:
            self._notes["the system does not say what is in its cache: cold rows may not be cold"] = None
        elif kept > _KEPT:
            self._notes[f"not measured cold: the system keeps {kept:.0%} of the files in its cache"] = None
            return False
        return True

    def _loader(self, dataset: ShardDataset, shuffle: bool, **options: Any) -> DataLoader:
        return DataLoader(dataset, self._batch_size, shuffle=shuffle, rank=0, world_size=1, **options)

    def _epochs(self, dataset: ShardDataset, shuffle: bool, **options: Any) -> _Once:
        """Epoch after epoch, for some seconds; the first time also with an eye on memory, which takes time itself."""
        nbytes = None
        if not self._done_rounds:
            with watched() as held:
                self._stretch(self._loader(dataset, shuffle, **options))
            nbytes = held.nbytes
        once = self._stretch(self._loader(dataset, shuffle, **options))
        once.held = nbytes
        return once

    def _stretch(self, loader: DataLoader) -> _Once:
        times = deque[float](maxlen=_MOST_TIMES)
        pace = Stretch(
            loader,
            self._seconds,
            lambda _: times.append(perf_counter()),
            warm_up=loader.options.ahead + 1,
            samples_of=counter_of(loader),
            began=times.clear,
        ).run()
        return _Once(pace.rate, times, pace.first_batch_seconds)

    def _cold_epoch(self, dataset: ShardDataset, shuffle: bool) -> _Once:
        """One epoch, or as much of it as there is time for."""
        begun = perf_counter()
        times, loader = [begun], self._loader(dataset, shuffle)
        for _ in loader:
            times.append(perf_counter())
            if times[-1] > begun + self._seconds:
                break
        return _Once(loader.stats.samples / (times[-1] - begun), times[1:], times[1] - begun)

    def _random_batches(self, dataset: ShardDataset) -> _Once:
        size = min(self._batch_size, len(dataset))
        once = self._repeated(lambda: dataset.take(self._random.integers(0, len(dataset), size)))
        return _Once(once.rate * size, once.times)

    def _single_samples(self, dataset: ShardDataset) -> _Once:
        numbers = itertools.cycle(self._random.integers(0, len(dataset), 10_000).tolist())
        return self._repeated(lambda: dataset[next(numbers)])

    def _repeated(self, read: Callable[[], Any]) -> _Once:
        """Calls a second, after half as long again: what is touched for the first time is checked, and kept."""
        begun = perf_counter()
        while perf_counter() < begun + self._seconds / 2:
            read()
        begun = now = perf_counter()
        times = deque([begun], _MOST_TIMES)
        count = 0
        while now < begun + self._seconds:
            read()
            now = perf_counter()
            times.append(now)
            count += 1
        return _Once(count / (now - begun), times)

    def _file_limits(self, rates: dict[str, list[float]], nbytes: float) -> Iterator[Limit]:
        for name, found in rates.items():
            if found and nbytes:  # fields may be empty arrays
                yield Limit(name, median(found) / nbytes, median(found))

    def _stage_limits(self, dataset: ShardDataset) -> Iterator[Limit]:
        options = self._loader(dataset, True).options
        found = [stages_alone(dataset, options, False) for _ in range(min(3, self._rounds))]
        for name in found[0]:
            if seconds := min(one[name] for one in found if name in one):
                yield Limit(name, 1 / seconds)

    def _opening(self) -> float:
        took = []
        for _ in range(3):
            begun = perf_counter()
            self._open()
            took.append(perf_counter() - begun)
        return median(took)
