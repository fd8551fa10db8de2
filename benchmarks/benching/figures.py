"""What is measured, and figures with their noise: medians over rounds, written and read back as `1,234 ± 5 %`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from measuring import cell

LEAST_NOISE = 0.05  # what is between sittings on a quiet machine, however alike the rounds of one are
TIMES = " \N{MULTIPLICATION SIGN}"
_CELL = re.compile(rf"^([\d,]+(?:\.\d+)?)(?:{TIMES})? ± (\d+) %")


@dataclass(frozen=True, slots=True)
class Measure:
    """What a path is measured by.

    `power`: 1 where a machine of twice the speed has twice the figure, -1 for times. `step`: the least difference that
    means anything.
    """

    key: str
    title: str
    unit: str
    power: int
    step: float = 0.0

    @property
    def more_is_better(self) -> bool:
        return self.power > 0


MEASURES = tuple(
    Measure(*each)
    for each in (
        ("shuffled", "Shuffled epoch", "samples/s", 1),
        ("sequential", "Epoch in order", "samples/s", 1),
        ("random", "Random batches", "samples/s", 1),
        ("one", "One sample by index", "µs", -1),
        ("p50", "Latency of a batch, median", "µs", -1),
        ("p99", "Latency of a batch, 99th percentile", "µs", -1),
        ("first", "Open and first batch", "ms", -1),
        ("write", "Writing", "samples/s", 1),
        ("memory", "Memory of a shuffled epoch", "MB", 0, 1.0),
        ("stored", "Size on disk", "MB", 0),
    )
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, and its noise as a share of it; no noise where there was one round."""

    value: float
    noise: float | None = None

    @classmethod
    def of(cls, rounds: Sequence[float], step: float = 0.0) -> Figure:
        """The median of the rounds; its distance from the one that is farthest, or `step` if that is more."""
        middle = median(rounds)
        if len(rounds) < 2:
            return cls(middle)
        farthest = max(step, *(abs(one - middle) for one in rounds))
        return cls(middle, max(LEAST_NOISE, farthest / middle) if middle else LEAST_NOISE)

    @classmethod
    def parsed(cls, text: str) -> Figure | None:
        """The figure in a cell of a table, if there is one with its noise."""
        found = _CELL.match(text)
        return None if found is None else cls(float(found[1].replace(",", "")), int(found[2]) / 100)

    def text(self, unit: str = "") -> str:
        said = cell(self.value) + unit
        return said if self.noise is None else f"{said} ± {math.ceil(self.noise * 100 - 1e-9)} %"

    def is_beside(self, other: Figure, factor: float = 1.0) -> bool:
        """Whether two figures may be the same, within the noise of both. `factor`: of the other's machine by ours."""
        mine = self.value / factor
        return abs(mine - other.value) <= mine * (self.noise or 0) + other.value * (other.noise or 0)


def ratio(ours: Sequence[float], theirs: Sequence[float], more_is_better: bool) -> Figure:
    """How many times as good: of the medians, with the noise of the ratios of the rounds, which were taken in turn."""
    pairs = [(a, b) if more_is_better else (b, a) for a, b in zip(ours, theirs, strict=False)]
    middle = median(ours) / median(theirs)
    return Figure(middle if more_is_better else 1 / middle, Figure.of([a / b for a, b in pairs]).noise)


def geometric_median(ratios: Iterable[float]) -> float:
    found = [math.log(one) for one in ratios if one > 0]
    return math.exp(median(found)) if found else 1.0
