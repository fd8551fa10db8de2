"""How long it takes until the first batch is there: the import, opening a dataset, the first batch; and the memory.

    python benchmarks/startup.py [--rounds 20] [--json]

Every figure is the median over fresh processes, on a warm page cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, answer, in_process, machine, show

DATASETS: dict[str, dict[str, Any]] = {
    "40,000 samples, 1 shard": {},
    "40,000 samples, 200 shards": {"shard_samples": 200},
    "40,000 samples, 1 shard, zstd": {"compression": "zstd"},
}


def start(request: dict[str, Any]) -> Row:
    """The steps of a program that trains, by the clock."""
    begin = time.perf_counter()
    import recordio

    imported = time.perf_counter()
    ds = recordio.ShardDataset(request["folder"])
    opened = time.perf_counter()
    next(iter(recordio.DataLoader(ds, 256, shuffle=request["shuffle"])))
    first = time.perf_counter()
    return {
        "import ms": (imported - begin) * 1e3,
        "open ms": (opened - imported) * 1e3,
        "first batch ms": (first - opened) * 1e3,
        "open again + first batch ms": again(request) * 1e3,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def again(request: dict[str, Any]) -> float:
    """Opening and a first batch when the modules are there already."""
    import recordio

    begin = time.perf_counter()
    next(iter(recordio.DataLoader(recordio.ShardDataset(request["folder"]), 256, shuffle=request["shuffle"])))
    return time.perf_counter() - begin


def write(folder: Path, options: dict[str, Any]) -> None:
    import recordio

    numbers = np.random.default_rng(1).standard_normal((40_000, 32)).astype(np.float32)
    with recordio.DatasetWriter(folder, **options) as writer:
        writer.write_batch({"x": numbers, "y": np.arange(40_000), "id": [f"user-{n:011d}" for n in range(40_000)]})


def process_ms(code: str, rounds: int) -> float:
    """A whole process that runs this code."""

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - begin) * 1e3

    return statistics.median(once() for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer(start(options.one))
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    codes = ("pass", "import recordio", "import numpy", "import recordio; recordio.DataLoader")
    show([{"process": code, "ms": process_ms(code, options.rounds)} for code in codes], options.json, "whole processes")
    rows = []
    with tempfile.TemporaryDirectory(prefix="recordio-benchmark-") as name:
        for number, (label, made) in enumerate(DATASETS.items()):
            folder = Path(name, str(number))
            write(folder, made)
            for shuffle in (False, True):
                request = {"folder": str(folder), "shuffle": shuffle}
                found = [in_process(__file__, request) for _ in range(options.rounds)]
                medians = {key: statistics.median(row[key] for row in found) for key in found[0]}
                rows.append({"dataset": label, "shuffle": "yes" if shuffle else "no"} | medians)
    show(rows, options.json, "the first batch")


if __name__ == "__main__":
    main()
