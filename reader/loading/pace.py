"""How fast a loader delivers, and how fast a training step would be with an ideal one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from recordio.errors import DatasetError

Step = Callable[[Any], Any]
CACHED = 2  # batches that an ideal loader gives in turn


@dataclass(frozen=True, slots=True)
class Pace:
    """A measured stretch of iteration, from the end of one batch's step to the end of another's.

    Attributes:
        samples, batches: that were delivered in it.
        seconds: it took.
        step_seconds: of these in the training step.
        first_batch_seconds: from the begin of the iteration to the first batch, before the stretch.
        epochs: that ended in it.
    """

    samples: int
    batches: int
    seconds: float
    step_seconds: float = 0.0
    first_batch_seconds: float = 0.0
    epochs: int = 0

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds else 0.0


class Stretch:
    """Runs a loader, epoch after epoch, for some seconds after a warm-up.

    Args:
        loader: any iterable of batches.
        seconds: how long; the batch that is then under way is finished.
        step: the training step, called with each batch.
        warm_up: batches to deliver first, so that as many as are made ahead do not count. It takes no longer than the
            stretch.
        samples_of: the samples in the batch that has just been delivered.
        began: called when the stretch begins.

    Attributes:
        cached: the first batches, with the samples in each, for an ideal loader.
    """

    def __init__(
        self,
        loader: Any,
        seconds: float,
        step: Step | None = None,
        *,
        warm_up: int = 1,
        samples_of: Callable[[Any], int] | None = None,
        began: Callable[[], Any] = lambda: None,
    ) -> None:
        self._loader = loader
        self._seconds = seconds
        self._step = step
        self._warm_up = warm_up
        self._samples_of = samples_of or samples_in
        self._began = began
        self.cached: list[tuple[Any, int]] = []
        self._epochs = 0

    def run(self) -> Pace:
        """Raises DatasetError for a loader without batches, and what the loader and the step raise."""
        begun = perf_counter()
        first = stepping = start = 0.0
        seen = samples = 0
        for batch in self._batches():
            got = perf_counter()
            first = first or got - begun
            count = self._samples_of(batch)
            if len(self.cached) < CACHED:
                self.cached.append((batch, count))
            if self._step is not None:
                self._step(batch)
            del batch
            now = perf_counter()
            seen += 1
            if start:
                samples, stepping = samples + count, stepping + now - got
                if now - start >= self._seconds:
                    return Pace(samples, seen, now - start, stepping, first, self._epochs)
            elif seen >= self._warm_up or now - begun >= self._seconds:
                start, seen, self._epochs = now, 0, 0
                self._began()
        raise DatasetError("the loader has no batches: there is nothing to measure")

    def _batches(self) -> Iterator[Any]:
        """Epoch after epoch, until one has no batches."""
        empty = False
        while not empty:
            empty, batches = True, iter(self._loader)
            try:
                for batch in batches:
                    empty = False
                    yield batch
                    del batch
            finally:
                if hasattr(batches, "close"):
                    batches.close()
            self._epochs += 1


def ideal_pace(batches: Sequence[tuple[Any, int]], step: Step, seconds: float) -> Pace:
    """The pace of a step that is given the same batches again, as by a loader that takes no time.

    `batches`: with the samples in each.
    """
    samples = count = 0
    step(batches[0][0])  # it may compile or allocate something first
    start = perf_counter()
    while (now := perf_counter()) - start < seconds or not count:
        batch, own = batches[count % len(batches)]
        step(batch)
        samples, count = samples + own, count + 1
    now = perf_counter()
    return Pace(samples, count, now - start, now - start)


def samples_in(batch: Any) -> int:
    """The samples in a batch of any loader: the length of its first column, or its own; 1 for anything else."""
    if isinstance(batch, dict) and batch:
        return samples_in(next(iter(batch.values())))
    if isinstance(batch, tuple | list) and batch:
        first = batch[0]
        return samples_in(first) if _is_column(first) else len(batch)
    if _is_column(batch):
        return len(batch)
    return 1


def _is_column(value: Any) -> bool:
    if hasattr(value, "shape"):
        return len(value.shape) > 0
    return isinstance(value, Sized) and not isinstance(value, str | bytes | dict)
