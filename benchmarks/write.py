"""Writing: sample by sample against LitData, in columns against Bagz, with and without making the files durable.

    python benchmarks/write.py [--rounds 5] [--workloads tabular text] [--json]

The writers take turns in one process; the table shows medians over the rounds. Bagz has no way to write columns, so it
writes the same samples record by record, as msgpack encoded during or before the write. recordio makes its files
durable (fsync), unlike the others; rows without fsync, and Bagz with it, show the cost. The limit is a single call that
writes as many bytes as the data has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from contenders import ALL, Recordio, installed_versions, without_fsync
from measuring import Row, machine, say, scratch, show, timed
from record_files import Bagz, RowCoder
from workloads import Kinds, Sample, add_arguments, as_columns, available, kinds_of, raw_nbytes

import recordio

Writer = Callable[[Path], None]


def write_batch(columns: dict[str, Any], folder: Path) -> None:
    with recordio.DatasetWriter(folder, compression=None) as writer:
        writer.write_batch(columns)


def write_bytes(data: bytes, fsync: bool, folder: Path) -> None:
    folder.mkdir()
    with open(folder / "data", "wb", buffering=0) as file:
        file.write(data)
        if fsync:
            os.fsync(file.fileno())


def unsynced(write: Writer) -> Writer:
    def run(folder: Path) -> None:
        with without_fsync():
            write(folder)

    return run


class ReadyBagz(Bagz):
    """Bagz that is given its rows as bytes."""

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        super().__init__(folder, kinds)
        self.encode = lambda row: row


def writers(samples: list[Sample]) -> dict[str, Writer | None]:
    """The writers by name; each writes the samples into a new folder. None if not installed."""
    kinds = kinds_of(samples[0])
    rows = list(map(RowCoder(kinds).encode, samples))
    data = bytes(raw_nbytes(samples))

    def one_by_one(folder: Path) -> None:
        Recordio(folder, kinds).write(samples)

    columns = partial(write_batch, as_columns(samples))

    def peer(name: str) -> Writer | None:
        return (lambda folder: ALL[name](folder, kinds).write(samples)) if ALL[name].installed() else None

    return {
        "limit": partial(write_bytes, data, False),
        "limit + fsync": partial(write_bytes, data, True),
        "recordio write": one_by_one,
        "recordio write (no fsync)": unsynced(one_by_one),
        "recordio write_batch": columns,
        "recordio write_batch (no fsync)": unsynced(columns),
        "litdata": peer("litdata"),
        "bagz": peer("bagz"),
        "bagz + fsync": peer("bagz + fsync"),
        "bagz, rows ready-made": (lambda folder: ReadyBagz(folder, kinds).write(rows)) if Bagz.installed() else None,
    }


def rates(samples: list[Sample], folder: Path, rounds: int) -> dict[str, float | None]:
    """Median samples per second of each writer. The first round imports, and does not count."""
    running = writers(samples)
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds + 1):
        for name, write in running.items():
            if write is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.sync()
                found[name].append(len(samples) / timed(partial(write, folder)).wall)
    return {name: statistics.median(rates[1:]) if rates else None for name, rates in found.items()}


def row(workload: str, writer: str, medians: dict[str, float | None]) -> Row:
    rate = medians[writer]

    def ratio(other: str) -> float | None:
        compared = medians[other]
        return None if rate is None or compared is None else rate / compared

    figures = {"workload": workload, "writer": writer, "samples/s": rate}
    others = {f"of {name}": ratio(name) for name in ("litdata", "bagz", "bagz + fsync", "limit + fsync")}
    return figures | others | {"note": "not installed" if rate is None else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="the folder to write to; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    options = parser.parse_args()
    if not options.json:
        peers = ", ".join(installed_versions(ALL[name]) for name in ("litdata", "bagz") if ALL[name].installed())
        print(f"{machine()}, {peers or 'no peers'}; {options.rounds} rounds")
    with scratch(options.out) as out:
        for workload, samples in available(options):
            say(workload)
            medians = rates(samples, out / workload, options.rounds)
            show([row(workload, writer, medians) for writer in medians], options.json, workload)
            shutil.rmtree(out / workload)


if __name__ == "__main__":
    main()
