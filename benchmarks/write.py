"""Writing: sample by sample against LitData, in columns against Bagz, with and without making the files durable.

    python benchmarks/write.py [--rounds 5] [--workloads tabular text] [--json]

The writers take turns in one process; the table shows medians over the rounds. Bagz has no way to write columns, so it
writes the same samples record by record. recordio makes its files durable (fsync), which the others do not do; the rows
without it, and Bagz with it, show what that costs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders import ALL
from measuring import Row, machine, show, timed
from workloads import add_arguments, as_columns, kinds_of, make

import recordio


@contextmanager
def durable(wanted: bool) -> Iterator[None]:
    """With or without what recordio does to survive a loss of power."""
    original = os.fsync
    if not wanted:
        os.fsync = lambda fd: None
    try:
        yield
    finally:
        os.fsync = original


def writers(samples: list[Any], folder: Path) -> dict[str, Callable[[], None]]:
    """What is measured, by name; each writes the samples into a new folder."""
    columns = as_columns(samples)

    def ours(batch: bool, fsync: bool) -> None:
        with durable(fsync), recordio.DatasetWriter(folder, compression=None) as writer:
            if batch:
                writer.write_batch(columns)
            else:
                for sample in samples:
                    writer.write(sample)

    def peer(name: str) -> Callable[[], None]:
        return lambda: ALL[name](folder, kinds_of(samples[0])).write(samples)

    found: dict[str, Callable[[], None]] = {
        "recordio write": lambda: ours(False, True),
        "recordio write, no fsync": lambda: ours(False, False),
        "recordio write_batch": lambda: ours(True, True),
        "recordio write_batch, no fsync": lambda: ours(True, False),
    }
    return found | {name: peer(name) for name in ("litdata", "bagz", "bagz + fsync") if ALL[name].installed()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    options = parser.parse_args()
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    for workload in options.workloads:
        samples = make(workload, options)
        with tempfile.TemporaryDirectory(prefix="recordio-benchmark-") as name:
            folder = Path(name) / "it"
            rates: dict[str, list[float]] = {}
            for _ in range(options.rounds + 1):  # the first round imports, and does not count
                for writer, write in writers(samples, folder).items():
                    shutil.rmtree(folder, ignore_errors=True)
                    rates.setdefault(writer, []).append(len(samples) / timed(write).wall)
        medians = {writer: statistics.median(found[1:]) for writer, found in rates.items()}
        show([row(writer, rate, medians) for writer, rate in medians.items()], options.json, workload)


def row(writer: str, rate: float, medians: dict[str, float]) -> Row:
    def ratio(peer: str) -> float | None:
        return rate / medians[peer] if peer in medians else None

    return {"writer": writer, "samples/s": rate, "of litdata": ratio("litdata"), "of bagz": ratio("bagz")}


if __name__ == "__main__":
    main()
