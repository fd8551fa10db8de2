"""Time to the first batch (import, opening a dataset, first batch), and memory.

    python benchmarks/startup.py [--rounds 20] [--json]

Every figure is the median over fresh processes, on a warm page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import BYTECODE, Row, answer, in_process, machine, memory_nbytes, show, succeeded

DATASETS: dict[str, dict[str, Any]] = {
    "40,000 samples, 1 shard": {},
    "40,000 samples, 200 shards": {"shard_samples": 200},
    "40,000 samples, 1 shard, zstd": {"compression": "zstd"},
}


def start(request: dict[str, Any]) -> Row:
    """Times the steps of a training program. This file does not import NumPy, so that importing recordio does."""
    begin = time.perf_counter()
    import recordio

    recordio.ShardDataset, recordio.DataLoader  # noqa: B018 - these names import what is behind them
    imported, imported_mb = time.perf_counter(), peak_mb()
    ds = recordio.ShardDataset(request["folder"])
    opened = time.perf_counter()
    next(iter(recordio.DataLoader(ds, 256, shuffle=request["shuffle"])))
    first = time.perf_counter()
    used = peak_mb()
    return {
        "import ms": (imported - begin) * 1e3,
        "open ms": (opened - imported) * 1e3,
        "first batch ms": (first - opened) * 1e3,
        "open again + first batch ms": again(request) * 1e3,
        "MB after import": imported_mb,
        "after first batch": used,
        "after an epoch": epoch_mb(request),
    }


def peak_mb() -> float:
    """Peak memory of this process."""
    return memory_nbytes("VmHWM") / 1e6 if Path("/proc/self/status").exists() else float("nan")


def epoch_mb(request: dict[str, Any]) -> float:
    import recordio

    for _ in recordio.DataLoader(recordio.ShardDataset(request["folder"]), 256, shuffle=request["shuffle"]):
        pass
    return peak_mb()


def again(request: dict[str, Any]) -> float:
    """Seconds to open a dataset and read a first batch, with modules loaded."""
    import recordio

    begin = time.perf_counter()
    next(iter(recordio.DataLoader(recordio.ShardDataset(request["folder"]), 256, shuffle=request["shuffle"])))
    return time.perf_counter() - begin


def write(folder: Path, options: dict[str, Any]) -> None:
    import numpy as np

    import recordio

    numbers = np.random.default_rng(1).standard_normal((40_000, 32)).astype(np.float32)
    with recordio.DatasetWriter(folder, **options) as writer:
        writer.write_batch({"x": numbers, "y": np.arange(40_000), "id": [f"user-{n:011d}" for n in range(40_000)]})


def processes_ms(codes: Sequence[str], rounds: int) -> dict[str, float]:
    """Median time of whole processes, one per code, taking turns."""
    found: dict[str, list[float]] = {code: [] for code in codes}
    for _ in range(rounds):
        for code, times in found.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **BYTECODE})
            times.append((time.perf_counter() - begin) * 1e3)
    return {code: statistics.median(times) for code, times in found.items()}


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
    took = processes_ms(codes, options.rounds)
    processes = [{"process": code, "ms": ms, "above pass": ms - took["pass"]} for code, ms in took.items()]
    show(processes, options.json, "whole processes")
    rows = []
    with tempfile.TemporaryDirectory(prefix="recordio-benchmark-") as name:
        for number, (label, made) in enumerate(DATASETS.items()):
            folder = Path(name, str(number))
            write(folder, made)
            for shuffle in (False, True):
                request = {"folder": str(folder), "shuffle": shuffle}
                found = [succeeded(in_process(__file__, request)) for _ in range(options.rounds)]
                medians = {key: statistics.median(row[key] for row in found) for key in found[0]}
                rows.append({"dataset": label, "shuffle": "yes" if shuffle else "no"} | medians)
    show(rows, options.json, "the first batch")


if __name__ == "__main__":
    main()
