"""What the kernels in C buy: each path with them and without, and Bagz, in turns in one process.

    python benchmarks/kernels.py [--workloads text] [--compressions plain zstd] [--rounds 15] [--json]

Figures are ns a value or sample, the least of the rounds. Batches of 256 at random places, so values come from memory
rather than from the processor's cache.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from contender import Contender, count
from contenders import ALL
from measuring import Row, machine, say, scratch, show
from workloads import Sample, add_arguments, available, kinds_of

import recordio
from recordio import kernels

COMPRESSIONS = {"plain": None, "zstd": "zstd", "auto": "auto"}
BATCH, BATCHES, SINGLES = 256, 20, 400

Runs = dict[str, tuple[Callable[[], object], int]]  # what is read: a run, and its values or samples


def taken(take: Callable[[Any], object], places: Sequence[Any]) -> None:
    """Takes batches or samples, and keeps none: new memory costs more than most of them."""
    deque(map(take, places), maxlen=0)


def ours(folder: Path) -> Runs:
    """The paths of a dataset; each begins with a first run, in which pages are checked."""
    ds = recordio.ShardDataset(folder)
    ragged, n, random = ds.ragged(), len(ds), np.random.default_rng(0)
    batches = [random.integers(0, n, BATCH) for _ in range(BATCHES)]
    ones = random.integers(0, n, SINGLES).tolist()
    loaders = [recordio.DataLoader(one, BATCH, shuffle=True) for one in (ds, ragged)]
    found: Runs = {}
    for name in ds.schema:
        one = recordio.ShardDataset(folder, fields=[name])
        found[f"batches of {name}"] = partial(taken, one.take, batches), BATCH * BATCHES
    found["batches"] = partial(taken, ds.take, batches), BATCH * BATCHES
    found["batches, ragged"] = partial(taken, ragged.take, batches), BATCH * BATCHES
    found["shuffled epoch"] = lambda: count(loaders[0]), n
    found["shuffled epoch, ragged"] = lambda: count(loaders[1]), n
    found["ds[i]"] = partial(taken, ds.__getitem__, ones), SINGLES
    return found


def of_peer(peer: Contender) -> Runs:
    random = np.random.default_rng(0)
    batches = [random.integers(0, peer.samples, BATCH) for _ in range(BATCHES)]
    ones = random.integers(0, peer.samples, SINGLES).tolist()
    return {
        "batches": (lambda: count(peer.batches(batches)), BATCH * BATCHES),
        "shuffled epoch": (lambda: count(peer.shuffled(BATCH)), peer.samples),
        "ds[i]": (partial(taken, peer.one, ones), SINGLES),
    }


def measured(sides: dict[str, Runs], rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Each path with the ns of every side."""
    for what in sides["kernels"]:
        there = {side: runs[what] for side, runs in sides.items() if what in runs}
        least = dict.fromkeys(there, float("inf"))
        for number in range(rounds + 1):
            turns = list(there.items())
            for side, (run, values) in (
                turns if number % 2 else reversed(turns)
            ):  # each finds the data in the cache at times
                with patch.object(kernels, "c", kernels.c if side == "kernels" else None):
                    began = time.perf_counter_ns()
                    run()
                    if number:
                        least[side] = min(least[side], (time.perf_counter_ns() - began) / values)
        yield what, least


def rows_of(name: str, samples: list[Sample], compression: str, folder: Path, rounds: int) -> Iterator[Row]:
    with recordio.DatasetWriter(folder / "ours", compression=COMPRESSIONS[compression]) as writer:
        for sample in samples:
            writer.write(sample)
    sides = {"kernels": ours(folder / "ours"), "Python": ours(folder / "ours")}
    peer = ALL["bagz" if compression != "zstd" else "bagz_zstd"]
    if peer.installed():
        contender = peer(folder / "peer", kinds_of(samples[0]))
        contender.write(contender.prepared(samples))
        contender.open()
        sides["Bagz"] = of_peer(contender)
    for what, found in measured(sides, rounds):
        row: Row = {"workload": name, "pages": compression, "what": what, "Python ns": found["Python"]}
        row |= {
            "kernels ns": found["kernels"],
            "gain": found["Python"] / found["kernels"],
            "Bagz ns": found.get("Bagz"),
        }
        yield row | {"of Bagz": found["Bagz"] / found["kernels"] if "Bagz" in found else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--compressions", nargs="+", choices=COMPRESSIONS, default=list(COMPRESSIONS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if kernels.c is None:
        parser.error(f"kernels in C: {kernels.state}")
    say(machine())
    rows: list[Row] = []
    for name, samples in available(options):
        for compression in options.compressions:
            with scratch(None) as folder:
                rows += rows_of(name, samples, compression, folder, options.rounds)
    show(rows, options.json)


if __name__ == "__main__":
    main()
