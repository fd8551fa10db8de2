"""The rounds of bench.py: every contender on every workload, taking turns, a process of its own each time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contenders import ALL
from measuring import Row, in_process, say
from workloads import Sample, kinds_of, raw_nbytes, store

TRIAL = str(Path(__file__).parents[1] / "trial.py")
SLOW_SHARE = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload whose samples lie in a file. `kinds`: of the fields, for a request."""

    name: str
    samples: int
    nbytes: int
    folder: Path
    kinds: Row

    @classmethod
    def stored(cls, name: str, samples: list[Sample], out: Path) -> Workload:
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        store(samples, folder / "samples")
        kinds = {field: list(asdict(kind).values()) for field, kind in kinds_of(samples[0]).items()}
        return cls(name, len(samples), raw_nbytes(samples), folder, kinds)


@dataclass
class Standing:
    """A contender on a workload: a figure a round of every measure."""

    workload: Workload
    name: str
    measures: tuple[str, ...] = ()
    found: dict[str, list[float]] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        self.measures = tuple(name for name in ALL[self.name].measures if not self.measures or name in self.measures)

    @property
    def samples(self) -> int:
        return -(-self.workload.samples // (SLOW_SHARE if ALL[self.name].slow else 1))

    def wanted(self, number: int, patience: float) -> list[str]:
        """The measures for a round: those that take long, and all of a slow contender, in the first one only."""
        if self.note or (number and ALL[self.name].slow):
            return []
        names = [*self.measures, *(["first"] if "shuffled" in self.measures else [])]
        return [name for name in names if self.took.get(name, 0) <= patience]

    def request(self, run: str, **more: object) -> Row:
        kept = self.workload.folder / self.name.replace(" ", "-")
        about = {"run": run, "contender": self.name, "folder": str(kept), "kinds": self.workload.kinds}
        return {**about, "n": self.samples, **more}

    def take(self, row: Row) -> None:
        if "failed" in row or "cannot" in row:
            self.note = f"failed: {row['failed']}" if "failed" in row else f"cannot hold it: {row['cannot']}"
            return
        self.took |= row.pop("took", {})
        for name, value in row.items():
            self.found.setdefault(name, []).append(value)

    def measure(self, number: int, patience: float) -> None:
        """A round."""
        wanted = self.wanted(number, patience)
        if not wanted:
            return
        writes = {"samples": str(self.workload.folder / "samples")} if not number or "write" in wanted else {}
        epochs = "first" in wanted
        before = ["memory"] if epochs and number else []  # of files that are there, by a process that has done nothing
        self.take(in_process(TRIAL, self.request("rates", measures=[*before, *wanted], **writes)))
        if epochs and not number and not self.note:
            self.take(in_process(TRIAL, self.request("rates", measures=["memory"])))


def in_turns(standings: Sequence[Standing], rounds: int, patience: float) -> None:
    """Round after round through all of them, each begun with another, so that a slow hour affects all alike."""
    for number in range(rounds):
        shift = number * max(1, len(standings) // rounds)
        for standing in [*standings[shift:], *standings[:shift]]:
            say(f"  round {number + 1}: {standing.workload.name}, {standing.name}")
            standing.measure(number, patience)


def rows_of(standings: Sequence[Standing]) -> Iterator[Row]:
    """What was measured: a row for each contender, workload and measure."""
    for standing in standings:
        about = {"workload": standing.workload.name, "samples": standing.samples, "contender": standing.name}
        for name, rounds in standing.found.items():
            yield {**about, "measure": name, "rounds": rounds}
        if standing.note:
            yield {**about, "note": standing.note}


def with_workers(standings: Sequence[Standing], maps: dict[str, str], counts: Sequence[int], rounds: int) -> list[Row]:
    """Epochs by workers, over the files that are there."""
    found: dict[tuple[str, str, str], list[float]] = {}
    notes: list[Row] = []
    there = [one for one in standings if not one.note and ALL[one.name].worker_kinds and one.workload.name in maps]
    for number in range(rounds):
        for standing in there:
            say(f"  round {number + 1}: workers, {standing.workload.name}, {standing.name}")
            more = {"workers": list(counts), "map": maps[standing.workload.name]}
            row = in_process(TRIAL, standing.request("workers", **more))
            if "failed" in row:
                notes.append({"workload": standing.workload.name, "contender": standing.name, "note": row["failed"]})
                continue
            for workers, rate in row.items():
                found.setdefault((standing.workload.name, standing.name, workers), []).append(rate)
    keys = ("workload", "contender", "workers")
    return [dict(zip(keys, key, strict=True)) | {"rounds": rates} for key, rates in found.items()] + notes
