"""All the contenders on all the workloads, taking turns in one sitting.

    python benchmarks/compare.py [--rounds 5] [--workloads tabular text] [--contenders recordio_plain bagz] [--json]

Each contender runs in a process of its own in every round, and each round starts with another contender, so that a slow
moment of the machine affects all. Batches of 256 as NumPy columns, no worker processes, a warm page cache.
Within a process a measure is the best of several passes; the tables show the median over the rounds.

Measures that take a contender more than --patience seconds run in the first round only, and the slowest contenders
(grain, webdataset, mds) get one round with a quarter of the samples; all figures are rates, so they still compare.
Writing is sample by sample, with the contender's defaults: recordio makes its files durable, the others do not. The
rows "recordio_plain (no fsync)" and "bagz + fsync" show the cost of that.

The second table of a workload compares ours with the best peer of each measure; above 1, ours is ahead. Plain and auto
compete with every peer, zstd with compressing peers: by declaration, or with files below 95 % of the data.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contenders import ALL
from measuring import Row, in_process, machine, median, say, scratch, show
from workloads import add_arguments, available, raw_nbytes, store

TRIAL = str(Path(__file__).with_name("trial.py"))
COMPRESSES = 0.95
# The label of each measure in the tables, and whether more is better.
MEASURES = {
    "write": ("write/s", True),
    "sequential": ("sequential/s", True),
    "shuffled": ("shuffled/s", True),
    "random": ("random batches/s", True),
    "one": ("one sample µs", False),
    "MB": ("MB on disk", False),
}


@dataclass
class Standing:
    """The results of a contender on a workload, over the rounds."""

    name: str
    rounds: list[Row] = field(default_factory=list)
    note: str = ""

    def wanted(self, patience: float) -> list[str]:
        """The measures for the next round."""
        kind = ALL[self.name]
        if self.note or (self.rounds and kind.slow):
            return []
        took = self.rounds[0]["took"] if self.rounds else {}
        return [name for name in kind.measures if took.get(name, 0) <= patience]

    def take(self, row: Row) -> None:
        if "failed" in row or "cannot" in row:
            self.note = f"failed: {row['failed']}" if "failed" in row else f"cannot hold it: {row['cannot']}"
        else:
            self.rounds.append(row)

    def value(self, name: str) -> float | None:
        return median(row.get(name) for row in self.rounds)

    @property
    def stored(self) -> float | None:
        """Bytes on disk per byte of data."""
        return self.value("stored")

    @property
    def compresses(self) -> bool:
        return ALL[self.name].compressed or (self.stored is not None and self.stored < COMPRESSES)


def measured(names: list[str], request: Row, out: Path, options: argparse.Namespace) -> Iterator[Standing]:
    """Runs all rounds of all contenders. Files stay until the end, since every round reads them."""
    standings = [Standing(name, note="" if ALL[name].installed() else "not installed") for name in names]
    for number in range(options.rounds):
        shift = number * max(1, len(standings) // options.rounds)
        for standing in standings[shift:] + standings[:shift]:
            wanted = standing.wanted(options.patience)
            if not wanted:
                continue
            say(f"  round {number + 1}: {standing.name}")
            folder = out / standing.name.replace(" ", "-")
            whole = request | {"contender": standing.name, "folder": str(folder), "measures": wanted}
            standing.take(in_process(TRIAL, whole | {"write": "write" in wanted or not standing.rounds}))
    yield from standings


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    samples: int
    nbytes: int


def figures(workload: Workload, standing: Standing) -> Row:
    """A contender's row: rates, microseconds, and the time of a whole epoch."""

    def scaled(name: str, factor: float) -> float | None:
        value = standing.value(name)
        return None if value is None else value * factor

    stored, n = standing.stored, workload.samples
    row: Row = {"workload": workload.name, "contender": standing.name}
    row["MB on disk"] = None if stored is None else stored * workload.nbytes / 1e6
    row |= {label: standing.value(name) for name, (label, _) in MEASURES.items() if name != "MB"}
    for name in ("sequential", "shuffled"):
        row |= {f"{name} wall ms": scaled(f"{name} wall", n * 1e3), f"{name} CPU ms": scaled(f"{name} cpu", n * 1e3)}
    per_round = {name: [row[name] for row in standing.rounds if name in row] for name in MEASURES if name != "MB"}
    return row | {"note": standing.note, "rounds": per_round}


def ratios(workload: Workload, standings: list[Standing]) -> Iterator[Row]:
    """Ours against the best peer of its class, for each measure of both."""
    table = {standing.name: figures(workload, standing) for standing in standings}
    peers = [standing for standing in standings if ALL[standing.name].role == "peer"]
    limit = next((name for name in table if ALL[name].role == "limit"), None)
    for ours in (name for name in table if ALL[name].role == "ours"):
        rivals = [peer.name for peer in peers if peer.compresses or not ALL[ours].compressed]
        for label, more in MEASURES.values():
            value = table[ours][label]
            there = [name for name in rivals if table[name][label] is not None]
            if value is None or not there or (label == "MB on disk" and ALL[ours].measures == ("write",)):
                continue
            best = (max if more else min)(there, key=lambda name: table[name][label])
            ahead = value / table[best][label] if more else table[best][label] / value
            bound: Any = table[limit][label] if limit else None
            share = None
            if bound is not None:
                share = value / bound if more else bound / value
            yield {
                "workload": workload.name,
                "ours": ours,
                "measure": label,
                "value": value,
                "best peer": best,
                "its value": table[best][label],
                "ratio": ahead,
                "of np.memmap": share,
            }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=2.0, help="seconds; see above")
    parser.add_argument("--out", type=Path, help="the folder to write to; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    with scratch(options.out) as out:
        for name, samples in available(options):
            workload = Workload(name, len(samples), raw_nbytes(samples))
            say(f"{name}: {workload.samples:,} samples")
            folder = out / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            store(samples, folder / "samples")
            del samples
            standings = list(measured(options.contenders, {"samples": str(folder / "samples")}, folder, options))
            title = f"{name}, {workload.samples:,} samples"
            show([figures(workload, standing) for standing in standings], options.json, title)
            show(list(ratios(workload, standings)), options.json, f"{name}, ours against the best peer")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
