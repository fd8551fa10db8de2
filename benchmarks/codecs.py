"""What each compression costs and saves, on our own paths: size, decoding, epochs, random batches, single samples.

    python benchmarks/codecs.py [--rounds 9] [--workloads tokens tabular] [--data FOLDER] [--json]

All compressions of a workload are written first, then take turns in one process; figures are the best of the rounds,
which other work on the machine disturbs least. "content MB/s" reads, checks and decodes every page on one thread; an
epoch makes every batch of 256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, folder_nbytes, machine, say, scratch, show
from workloads import Sample, add_arguments, available

import recordio

COMPRESSIONS = (None, "narrow", "auto", "zstd")
BATCH, BATCHES, SINGLES = 256, 20, 500


def content_nbytes(ds: recordio.ShardDataset) -> int:
    """Reads every page; the bytes of their content."""
    nbytes = 0
    for number in range(len(ds.store.manifest.shards)):
        shard = ds.store.shard(number)
        blocks, fields = shard.index.pages.shape
        nbytes += sum(len(shard.content(block, column)) for block in range(blocks) for column in range(fields))
    return nbytes


def epoch(ds: recordio.ShardDataset, seed: int) -> int:
    for _ in recordio.DataLoader(ds, BATCH, shuffle=True, seed=seed):
        pass
    return len(ds)


def batches(ds: recordio.ShardDataset, seed: int) -> int:
    random = np.random.default_rng(seed)
    for _ in range(BATCHES):
        ds.take(random.integers(0, len(ds), BATCH))
    return BATCH * BATCHES


def singles(ds: recordio.ShardDataset, seed: int) -> int:
    for number in np.random.default_rng(seed).integers(0, len(ds), SINGLES).tolist():
        ds[number]
    return SINGLES


def rate(run: Callable[[], int]) -> float:
    start = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - start)


def rows_of(name: str, samples: list[Sample], folder: Path, rounds: int) -> list[Row]:
    datasets: dict[str, recordio.ShardDataset] = {}
    for compression in COMPRESSIONS:
        place = folder / name / str(compression)
        with recordio.DatasetWriter(place, compression=compression) as writer:
            for sample in samples:
                writer.write(sample)
        datasets[str(compression)] = recordio.ShardDataset(place)
    found: dict[str, list[tuple[float, ...]]] = {compression: [] for compression in datasets}
    for number in range(rounds):
        for compression, ds in datasets.items():
            rates = [rate(lambda: content_nbytes(ds)) / 1e6]  # noqa: B023
            rates += [rate(lambda: run(ds, number)) for run in (epoch, batches, singles)]  # noqa: B023
            found[compression].append(tuple(rates))
    out: list[Row] = []
    for compression in datasets:
        decoded, shuffled, random, single = (max(each) for each in zip(*found[compression], strict=True))
        row: dict[str, Any] = {"workload": name, "compression": compression}
        row |= {"MB on disk": folder_nbytes(folder / name / compression) / 1e6, "content MB/s": decoded}
        out.append(row | {"shuffled/s": shuffled, "random batches/s": random, "one sample µs": 1e6 / single})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    say(machine())
    rows: list[Row] = []
    with scratch(None) as folder:
        for name, samples in available(options):
            rows += rows_of(name, samples, folder, options.rounds)
    show(rows, options.json)


if __name__ == "__main__":
    main()
