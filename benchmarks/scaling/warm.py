"""Warm: the epochs of the five workloads, alone or beside another checkout that takes turns (`--against PATH`)."""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

from contender import count
from measuring import Row, best, in_process, say
from workloads import add_arguments as add_workload_arguments, available

import recordio
from scaling.section import Tables

BATCH = 256
PAGES = {"plain": None, "zstd": "zstd"}
ORDERS = ("sequential", "shuffled")
HERE = Path(__file__).parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workload_arguments(parser)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="of this project; read the same data with it")


def measure(request: Row) -> Row:
    """Samples a second of the best of some epochs of each order, by the clock and by CPU time."""
    checkout = Path(request["checkout"])
    if not Path(recordio.__file__).resolve().is_relative_to(checkout.resolve()):
        raise RuntimeError(f"recordio comes from {recordio.__file__}, not from {checkout}")
    dataset = recordio.ShardDataset(request["folder"])
    row: Row = {}
    for order in ORDERS:
        loader = recordio.DataLoader(dataset, BATCH, shuffle=order == "shuffled")
        timing = best(lambda loader=loader: count(loader), 1.0, 50)  # type: ignore[misc]
        row |= {f"{order} wall": len(dataset) / timing.wall, f"{order} cpu": len(dataset) / timing.cpu}
    return row


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    rows = []
    for name, samples in available(options):
        for pages, compression in PAGES.items():
            folder = out / f"warm-{name}-{pages}"
            with recordio.DatasetWriter(folder, compression=compression, mode="overwrite") as writer:
                for sample in samples:
                    writer.write(sample)
            say(f"warm: {name}, {pages}")
            rows += list(_rows(_rounds(script, folder, options), {"workload": name, "pages": pages}))
    return {"warm": rows}


def _rounds(script: str, folder: Path, options: argparse.Namespace) -> list[tuple[Row, Row | None]]:
    """The figures of this checkout and of the other, who begin in turns."""
    checkouts = [HERE, *([options.against] if options.against else [])]
    rounds = []
    for number in range(options.rounds):
        found: dict[Path, Row] = {}
        for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
            request = {"section": "warm", "folder": str(folder), "checkout": str(checkout)}
            row = in_process(script, request, variables={"PYTHONPATH": str(checkout.resolve())})
            if "failed" in row:
                raise RuntimeError(f"{checkout}: {row['failed']}")
            found[checkout] = row
        rounds.append((found[HERE], found[options.against] if options.against else None))
    return rounds


def _rows(rounds: list[tuple[Row, Row | None]], named: Row) -> Iterator[Row]:
    for order, clock in itertools.product(ORDERS, ("wall", "cpu")):
        name = f"{order} {clock}"
        ours = [here[name] for here, _ in rounds]
        row: Row = named | {"order": order, "by": clock, "samples/s": statistics.median(ours)}
        theirs = [there[name] for _, there in rounds if there]
        row["against, samples/s"] = statistics.median(theirs) if theirs else None
        ratios = [a / b for a, b in zip(ours, theirs, strict=bool(theirs))]
        row["ratio"] = statistics.median(ratios) if ratios else None
        row["least"], row["most"] = (min(ratios), max(ratios)) if ratios else (None, None)
        yield row
