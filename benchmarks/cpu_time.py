"""Contenders in turns in one process, by CPU time: `bench.py` for a machine that has other work to do.

    python benchmarks/cpu_time.py [--contenders recordio_auto bagz] [--rounds 7] [--workloads text] [--json]

Batches of 256. Figures are the best of the rounds, by the CPU time of all threads of this process, so a contender with
processes of its own has no place here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contender import Contender, count
from contenders import ALL
from measuring import Row, folder_nbytes, machine, say, scratch, show
from workloads import Sample, add_arguments, available, kinds_of

CONTENDERS = ("recordio_plain", "recordio_auto", "recordio_zstd", "bagz", "bagz_zstd")
BATCH, BATCHES, SINGLES = 256, 20, 300


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measured(contender: Contender, samples: int, seed: int) -> tuple[float, float, float]:
    """Seconds a sample of a shuffled epoch, of random batches, and one by one."""
    random = np.random.default_rng(seed)
    batches = [random.integers(0, samples, BATCH) for _ in range(BATCHES)]
    ones = random.integers(0, samples, SINGLES).tolist()
    return (
        seconds(lambda: count(contender.shuffled(BATCH))) / samples,
        seconds(lambda: count(contender.batches(batches))) / (BATCH * BATCHES),
        seconds(lambda: [contender.one(index) for index in ones]) / SINGLES,
    )


def rows_of(name: str, samples: list[Sample], names: list[str], folder: Path, rounds: int) -> list[Row]:
    found: dict[str, list[tuple[float, float, float]]] = {one: [] for one in names}
    contenders = {one: ALL[one](folder / name / one, kinds_of(samples[0])) for one in names}
    for contender in contenders.values():
        contender.write(contender.prepared(samples))
        contender.open()
    for number in range(rounds):
        for one, contender in contenders.items():
            found[one].append(measured(contender, len(samples), number))
    rows: list[Row] = []
    for one in names:
        epoch, batch, single = (min(each) for each in zip(*found[one], strict=True))
        row: Row = {"workload": name, "contender": one, "MB on disk": folder_nbytes(folder / name / one) / 1e6}
        rows.append(row | {"shuffled/s": 1 / epoch, "random batches/s": 1 / batch, "one sample µs": single * 1e6})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", choices=ALL, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [one for one in options.contenders if ALL[one].installed()]
    for one in set(options.contenders) - set(names):
        say(f"{one} is left out: not installed")
    say(machine())
    rows: list[Row] = []
    with scratch(None) as folder:
        for name, samples in available(options):
            rows += rows_of(name, samples, names, folder, options.rounds)
    show(rows, options.json)


if __name__ == "__main__":
    main()
