"""`recordio.tune`: profiles a loader, tries what may make it faster, and says what each change gains.

A gain is the median of the rounds of a sitting in which the loader and its changes take turns, so that a busy machine
slows down all of them.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from recordio.arguments import flag, integer
from recordio.display.text import error_text
from recordio.reader.loading.loader import DataLoader
from recordio.reader.loading.pace import Step, Stretch
from recordio.reader.loading.profile import STEP, Profile, counter_of, own_loader, profile_of
from recordio.tuning.changes import (
    FETCHING,
    OPTIONS,
    WORKERS,
    Change,
    Described,
    loader_changes,
    more_workers,
    other_workers,
    rebuilt,
    worker_counts,
)
from recordio.tuning.copies import Copies

WORTH = 1.05  # a gain below is noise
_WORKERS_GAIN = 1.2  # from which on the number of workers is what holds a loader back
_GROWTH = 1.15  # while twice the workers bring so much, twice as many are tried

Report = Callable[[int, int], Any]


@dataclass(frozen=True, slots=True)
class Trial(Described):
    """A change that was tried.

    Attributes:
        gain: times as many samples a second, with the training step if there is one; None if it failed.
        lowest, highest: the gain in the round where it was lowest, and highest.
        rate: samples a second with the change, base_rate without it.
        failed: why it could not be tried.
    """

    gain: float | None
    lowest: float = 0.0
    highest: float = 0.0
    rate: float = 0.0
    base_rate: float = 0.0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured, tried and found.

    Attributes:
        profile: of the loader as it is.
        bottleneck: what holds the rest back: a stage, "workers" if more of them help, "training step"; None if unknown.
        why: how that is known.
        trials: what was tried, the largest gain first.
        notes: what was not tried, and why.
    """

    profile: Profile
    bottleneck: str | None
    why: str
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]

    @property
    def advice(self) -> tuple[Trial, ...]:
        """The trials with a gain above noise, in every round, the largest first."""
        return tuple(one for one in self.trials if (one.gain or 0) >= WORTH and one.lowest > 1)

    def __str__(self) -> str:
        from recordio.tuning.report import tuning_lines

        return "\n".join(tuning_lines(self))


def tune(
    loader: Any,
    *,
    step: Step | None = None,
    seconds: float = 2.0,
    rounds: int = 3,
    batch_size_may_change: bool = False,
    trials: bool = True,
    folder: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
) -> Tuning:
    """Says what holds a loader back, and what to change: each change is tried, and its gain is measured.

        print(recordio.tune(loader, step=lambda batch: train(model, batch)))

    Nothing is changed: the loader delivers some epochs, and new loaders and copies of a part of the dataset, in a
    temporary folder, are what changes are tried on.

    Args:
        loader: a recordio.DataLoader or a loader of torch; of the latter for other datasets than recordio's the
            headspace and the rate are all that is measured.
        step: the training step, called with each batch. Without one, the loader is made as fast as it can be.
        seconds: how long each measurement takes.
        rounds: how often the loader and its changes take turns.
        batch_size_may_change: also try a larger batch.
        trials: whether to try changes.
        folder: where copies go; on the disk of the dataset if that is what is slow. The system's temporary folder if
            None.
        progress: called as progress(measurements done, measurements to do).

    Raises DatasetError for a loader without batches, SchemaError, and what the loader and the step raise.
    """
    integer("rounds", rounds, 1, 100)
    flag("batch_size_may_change", batch_size_may_change)
    profile = profile_of(loader, seconds, step)
    ours = own_loader(loader)
    if not trials or ours is None or profile.bottleneck == STEP:
        return Tuning(profile, profile.bottleneck, profile.why, (), ())
    return _Sitting(ours, profile, step, seconds, rounds, progress).tuning(batch_size_may_change, folder)


class _Sitting:
    """The trials of a loader."""

    def __init__(
        self,
        loader: DataLoader,
        profile: Profile,
        step: Step | None,
        seconds: float,
        rounds: int,
        progress: Report | None,
    ) -> None:
        self._loader, self._profile, self._step = loader, profile, step
        self._seconds, self._rounds, self._progress = seconds, rounds, progress
        self._done = 0
        self._total = len(list(worker_counts(loader)))
        self._notes: list[str] = []

    def tuning(self, batch_size_may_change: bool, folder: str | os.PathLike[str] | None) -> Tuning:
        with tempfile.TemporaryDirectory(prefix="recordio-tune-", dir=folder) as temporary:
            copies = Copies(self._loader, self._profile, Path(temporary))
            changes = [
                *self._worker_changes(),
                *loader_changes(self._loader, self._profile, batch_size_may_change),
                *copies.changes(),
            ]
            found = self._tried(changes)
            if (both := self._combined(changes, found)) is not None:
                found += self._tried([both])
        trials = tuple(sorted(found, key=lambda one: -(one.gain or 0)))
        bottleneck, why = self._bottleneck(trials)
        return Tuning(self._profile, bottleneck, why, trials, (*self._notes, *copies.notes))

    def _worker_changes(self) -> Iterator[Change]:
        """More workers, as many as bring something, and workers of another kind. None of them reads faster."""
        if self._profile.bottleneck in FETCHING:
            return
        best, before = None, self._profile.rate
        for count in worker_counts(self._loader):
            change = more_workers(self._loader, count)
            try:
                rate = self._rate(change.make())
            except Exception as error:  # noqa: BLE001 it says the same when it is tried
                self._notes.append(f"{count} workers: {error_text(error)}")
                break
            if best is not None and rate < _GROWTH * before:
                break
            best, before = change, rate
        yield from [one for one in (best, other_workers(self._loader)) if one is not None]

    def _tried(self, changes: Iterable[Change]) -> list[Trial]:
        """Each change, round after round, each time beside what it changes."""
        loaders: list[tuple[Change, DataLoader, DataLoader | None]] = []
        trials: list[Trial] = []
        changes = list(changes)
        self._total += (self._rounds * 2 + 1) * len(changes)
        for change in changes:
            try:
                loaders.append((change, change.make(), None if change.base is None else change.base()))
            except Exception as error:  # noqa: BLE001 what a change makes of a user's loader may be anything
                trials.append(_failed(change, error))
        own = rebuilt(self._loader)
        rates: list[list[tuple[float, float]]] = [[] for _ in loaders]
        errors: dict[int, Exception] = {}
        for _ in range(self._rounds):
            before: float | None = None
            for k, (_, changed, base) in enumerate(loaders):
                if k in errors:
                    continue
                try:
                    if base is not None:
                        rates[k].append((self._rate(base), self._rate(changed)))
                        continue
                    before = self._rate(own) if before is None else before
                    after = self._rate(changed)
                    rates[k].append((before, after))
                except Exception as error:  # noqa: BLE001
                    errors[k] = error
        for k, (change, *_) in enumerate(loaders):
            trials.append(_failed(change, errors[k]) if k in errors else _trial(change, rates[k]))
        return trials

    def _rate(self, loader: DataLoader) -> float:
        """Samples a second for some seconds."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of threads that are slower than one: that is measured
            ahead, count = loader.options.ahead, counter_of(loader)
            return Stretch(loader, self._seconds, self._step, warm_up=ahead + 1, samples_of=count).run().rate

    def _combined(self, changes: list[Change], trials: list[Trial]) -> Change | None:
        """All options together that gain alone, one number of workers among them."""
        gains = {one.name: one.gain or 0.0 for one in trials}
        useful = sorted(
            (one for one in changes if one.options and gains[one.name] >= WORTH), key=lambda one: -gains[one.name]
        )
        chosen = [one for one in useful if one.kind == OPTIONS] + [one for one in useful if one.kind == WORKERS][:1]
        if len(chosen) < 2:
            return None
        options: dict[str, Any] = {}
        for one in chosen:
            options |= one.options or {}
        said = ", ".join(f"{option}={value!r}" for option, value in options.items())
        make = partial(rebuilt, self._loader, **options)
        note = "; ".join(one.note for one in chosen if one.note)
        return Change("these together: " + said, f"DataLoader(..., {said})", OPTIONS, make, options=options, note=note)

    def _bottleneck(self, trials: Iterable[Trial]) -> tuple[str | None, str]:
        """Workers, if more of them help; else what the profile says."""
        best = max(
            (one for one in trials if one.kind == WORKERS and one.gain), key=lambda one: one.gain or 0, default=None
        )
        if best is None or (best.gain or 0) < _WORKERS_GAIN:
            return self._profile.bottleneck, self._profile.why
        slow = f"most of their work is {self._profile.bottleneck}"
        return WORKERS, f"{best.name} is {best.gain:.2f} times as fast as {self._profile.workers}; {slow}"


def _trial(change: Change, rates: list[tuple[float, float]]) -> Trial:
    gains = sorted(after / before for before, after in rates)
    before, after = (median(one) for one in zip(*rates, strict=True))
    figures = median(gains), gains[0], gains[-1], after, before
    return Trial(change.name, change.how, change.kind, *figures, note=change.note)


def _failed(change: Change, error: Exception) -> Trial:
    return Trial(change.name, change.how, change.kind, None, note=change.note, failed=error_text(error))
