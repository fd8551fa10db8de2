"""Where the time of a loader goes: `loader.profile()` runs it for some seconds and says which stage holds it back.

Training can be no faster than its step with an ideal loader, one that takes no time: how far it is from that is its
headspace, and comes first. Without any, no loader can make it faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recordio.arguments import describe
from recordio.errors import DatasetError, SchemaError
from recordio.reader.loading.pace import Pace, Step, Stretch, ideal_pace, samples_in
from recordio.reader.loading.stages_alone import (
    CHECKSUM,
    COLLATION,
    DECOMPRESSION,
    GATHERING,
    HANDOVER,
    STORAGE,
    functions_together,
    split,
    stages_alone,
)
from recordio.reader.loading.stats import Counts

if TYPE_CHECKING:
    from recordio.reader.loading.loader import DataLoader

STEP, LOADER = "training step", "loader"
ENOUGH = 1.1  # a headspace below this is no reason to change a loader
_FETCHING = (STORAGE, CHECKSUM, DECOMPRESSION)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a loader.

    Attributes:
        name: what it does.
        alone: samples a second that one thread or process would do if there were nothing else to do; None if unknown.
        seconds: of work on a sample while the loader ran, summed over the threads or processes that share it.
        share: of the work on a sample, from 0 to 1.
    """

    name: str
    alone: float | None
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured of a loader.

    Attributes:
        rate: samples a second, with the training step if there is one.
        batches_per_second: the same in batches.
        first_batch_seconds: from `iter()` to the first batch.
        ideal_rate: samples a second of the training step with an ideal loader; None without a step.
        step_seconds: of the training step, a batch; None without one.
        starved: the share of the time that the consumer waited for batches.
        blocked: the share of the time that no batch was made because none was asked for; None of a loader not ours.
        stalled: the share of the starved time in which windows were waited for.
        batches_ready: how many batches lay ready on average.
        workers: "2 threads", "1 process", "the consumer's thread"; what the loader is, if it is not ours.
        epochs: that ended while it was measured.
        stages: in the order in which samples pass through them; empty if the loader is not ours.
        bottleneck: what holds the rest back: a stage, or "training step"; None if that is not known.
        why: how that is known.
        notes: what was not measured, and why.
    """

    rate: float
    batches_per_second: float
    first_batch_seconds: float
    ideal_rate: float | None
    step_seconds: float | None
    starved: float
    blocked: float | None = None
    stalled: float = 0.0
    batches_ready: float | None = None
    workers: str = ""
    epochs: int = 0
    stages: tuple[Stage, ...] = ()
    bottleneck: str | None = None
    why: str = ""
    notes: tuple[str, ...] = ()

    @property
    def headspace(self) -> float | None:
        """How many times as fast training would be with an ideal loader; None without a training step."""
        return None if self.ideal_rate is None or not self.rate else max(1.0, self.ideal_rate / self.rate)

    def __str__(self) -> str:
        from recordio.reader.loading.profile_text import profile_lines

        return "\n".join(profile_lines(self))


@dataclass(slots=True)
class _Run:
    """A loader that is measured. `snapshot` is called when the stretch begins."""

    loader: Any
    ours: DataLoader | None
    before: Counts | None = None
    start: Counts | None = None

    def snapshot(self) -> None:
        if self.ours is not None:
            self.start = self.ours.stats.counts()


class Profiled:
    """What a loader has of it."""

    def profile(self, seconds: float = 5.0, step: Step | None = None) -> Profile:
        """Runs the loader for some seconds and says where its time goes.

            print(loader.profile(step=lambda batch: train(model, batch)))

        The epochs that it runs are those that come next; the loader's state and stats are not those of before. The
        functions of the dataset are called for some samples more, one function at a time.

        Args:
            seconds: how long the loader runs; the training step alone and the stages alone take about as long again.
            step: the training step, called with each batch; None runs the loader as fast as it can be.

        Raises DatasetError for a loader without batches, SchemaError, and what the loader and the step raise.
        """
        return profile_of(self, seconds, step)


def own_loader(loader: Any) -> DataLoader | None:
    """The recordio.DataLoader of a loader: itself, or the one behind recordio.torch's; None for any other."""
    inner = loader if isinstance(loader, Profiled) else getattr(loader, "_inner", None)
    return inner if isinstance(inner, Profiled) else None  # type: ignore[return-value]


def counter_of(loader: Any) -> Callable[[Any], int]:
    """Counts the samples of each batch of a loader when it has been delivered: ours does by itself."""
    ours = own_loader(loader)
    if ours is None:
        return samples_in
    if ours.options.batch_size is None and ours._sampler is None:
        return lambda batch: 1
    seen = ours.stats.samples

    def count(batch: Any) -> int:
        nonlocal seen
        before, seen = seen, ours.stats.samples
        return seen - before

    return count


def profile_of(loader: Any, seconds: float, step: Step | None) -> Profile:
    """The profile of any loader: of one that is not ours the rates and the headspace alone."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
        raise SchemaError(f"a profile takes more than 0 and up to 3,600 seconds, not {describe(seconds)}")
    ours = own_loader(loader)
    if ours is not None and not len(ours.dataset):
        raise DatasetError("the dataset is empty: there is nothing to measure")
    run = _Run(loader, ours)
    warm_up = 1
    if ours is not None:
        run.before = ours.stats.counts()
        warm_up = ours.options.ahead + 1
    stretch = Stretch(loader, seconds, step, warm_up=warm_up, samples_of=counter_of(loader), began=run.snapshot)
    pace = stretch.run()
    ideal = None if step is None else ideal_pace(stretch.cached, step, min(seconds, 2.0))
    return _profile(run, pace, ideal)


def _profile(run: _Run, pace: Pace, ideal: Pace | None) -> Profile:
    waited = max(0.0, pace.seconds - pace.step_seconds) / pace.seconds
    found: dict[str, Any] = {
        "rate": pace.rate,
        "batches_per_second": pace.batches / pace.seconds,
        "first_batch_seconds": pace.first_batch_seconds,
        "ideal_rate": None if ideal is None else ideal.rate,
        "step_seconds": None if ideal is None else ideal.seconds / ideal.batches,
        "starved": waited,
        "epochs": pace.epochs,
    }
    if run.ours is None:
        found["workers"] = f"{getattr(run.loader, 'num_workers', 'unknown')}, of another loader than recordio's"
        found["notes"] = ("the stages of a loader that is not recordio's cannot be told apart",)
        not_step = (None, "") if ideal is None else (LOADER, f"training waits for it {waited:.0%} of the time")
        found["bottleneck"], found["why"] = of_step(pace, ideal) or not_step
        return Profile(**found)
    assert run.before is not None
    assert run.start is not None
    now = run.ours.stats.counts()
    whole, stretch = now.since(run.before), now.since(run.start)
    lanes, kind = _workers(run.ours)
    found["blocked"] = min(1.0, stretch.blocked / (stretch.seconds or 1e-9))
    found["stalled"] = min(1.0, stretch.stalled / (lanes if kind == "thread" else 1) / (stretch.starved or 1e-9))
    found["batches_ready"] = stretch.ready / (stretch.seconds or 1e-9)
    found["workers"] = _workers_text(lanes if run.ours.options.num_workers else 0, kind)
    found["stages"] = stages = _stages(run.ours, whole, lanes, kind)
    parts = run.ours.dataset.parts
    found["notes"] = ("stages alone are those of the largest of several datasets",) if len(parts) > 1 else ()
    found["bottleneck"], found["why"] = of_step(pace, ideal) or _slowest(stages, found["stalled"], lanes, kind)
    return Profile(**found)


def _workers(loader: DataLoader) -> tuple[int, str]:
    """How many workers there are, the consumer's thread if there are none, and their kind."""
    choice = loader.runs.choice
    kind = choice.workers if choice is not None else "thread"
    return max(1, loader.options.num_workers), kind if loader.options.num_workers else "inline"


def _workers_text(count: int, kind: str) -> str:
    if not count:
        return "no workers"
    noun = "process" if kind == "process" else "thread"
    return f"{count} {noun}{'' if count == 1 else 'es' if noun == 'process' else 's'}"


def of_step(pace: Pace, ideal: Pace | None) -> tuple[str, str] | None:
    """The training step, and why, if that is what takes the time."""
    if ideal is None:
        return None
    waited, gain = 1 - pace.step_seconds / pace.seconds, max(1.0, ideal.rate / pace.rate)
    if gain > ENOUGH and waited > 1 - 1 / ENOUGH:
        return None
    why = f"an ideal loader would make it {gain:.2f} times as fast"
    busy = f"; it waits for batches {waited:.0%} of the time, so by leaving it the processors" if gain > ENOUGH else ""
    return STEP, why + busy


def _stages(loader: DataLoader, counts: Counts, lanes: int, kind: str) -> tuple[Stage, ...]:
    """Each stage, with the work of a sample in it while the loader ran."""
    part, processes = max(loader.dataset.parts, key=len), kind == "process"
    alone = stages_alone(part, loader.options, processes)
    loaded, made = max(1, counts.loaded_samples), max(1, counts.samples)
    pages = {name: alone[name] for name in (CHECKSUM, DECOMPRESSION) if name in alone}
    storage, unpack = counts.storage / loaded, counts.unpack / loaded
    if part.store.access.mapped and unpack > 2 * sum(pages.values()):  # reading from the map is in there
        storage, unpack = storage + unpack - sum(pages.values()), sum(pages.values())
    together = functions_together(part, lanes if kind == "thread" else 1)
    found = {STORAGE: storage, **split(unpack, pages), GATHERING: counts.gather / made}
    found |= split(counts.transform / made, together)
    if COLLATION in alone:
        found[COLLATION] = counts.collate / made
    if processes:
        found[HANDOVER] = counts.handover / made
    every = sum(found.values()) or 1e-9
    return tuple(Stage(name, _rate(alone.get(name)), seconds, seconds / every) for name, seconds in found.items())


def _rate(seconds: float | None) -> float | None:
    return 1 / seconds if seconds else None


def _slowest(stages: tuple[Stage, ...], stalled: float, lanes: int, kind: str) -> tuple[str, str]:
    """Loading windows if batches waited for them most of the time, else making batches: the longest stage of it."""
    fetching = [one for one in stages if one.name in _FETCHING]
    making = [one for one in stages if one.name not in _FETCHING]
    if stalled > 0.5:
        slow = max(fetching, key=lambda one: one.seconds)
        return slow.name, f"{stalled:.0%} of the waiting was for data that had not been read and decoded yet"
    slow = max(making, key=lambda one: one.seconds)
    every = sum(one.seconds for one in making) or 1e-9
    workers = "the thread that asks for batches" if kind == "inline" else _workers_text(lanes, kind)
    return slow.name, f"it is {slow.seconds / every:.0%} of the work of {workers}"
