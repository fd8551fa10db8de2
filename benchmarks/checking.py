"""The cost of checking every page at its first touch, and the speed of candidate checksums.

    python benchmarks/checking.py [--rounds 5] [--workloads tabular text] [--json]

Compares verify="first" with verify="never", each in the first epoch of a fresh process on a warm page cache, taking
turns; the table shows medians. Files are plain: coded pages take longer to decode, and the same time to check.

Of the checksums, sha256 certainly releases the GIL: its gain from two threads is the most that the machine can give.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import statistics
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from measuring import Row, answer, in_process, machine, say, scratch, show, succeeded, timed
from workloads import MissingDataError, add_arguments, make

import recordio

SIZES = {"4 KiB": 1 << 12, "64 KiB": 1 << 16, "256 KiB": 1 << 18, "1 MiB": 1 << 20}


def epoch(request: dict[str, Any]) -> Row:
    """The first epoch of a process, with warm page cache and code."""
    list(recordio.DataLoader(recordio.ShardDataset(request["warm"]), 256, shuffle=request["shuffle"]))
    data = Path(request["folder"], "shard-00000.rio").read_bytes()
    del data
    loader = recordio.DataLoader(
        recordio.ShardDataset(request["folder"], verify=request["verify"]), 256, shuffle=request["shuffle"]
    )
    timing = timed(lambda: [None for _ in loader])
    return {"wall": timing.wall, "cpu": timing.cpu}


def cost(workload: str, options: argparse.Namespace) -> list[Row]:
    samples, rows = make(workload, options), []
    with scratch(None) as name:
        for part, folder in ((samples, f"{name}/all"), (samples[:100], f"{name}/warm")):
            with recordio.DatasetWriter(folder, compression=None) as writer:
                for sample in part:
                    writer.write(sample)
        for shuffle in (False, True):
            request = {"folder": f"{name}/all", "warm": f"{name}/warm", "shuffle": shuffle}
            took: dict[str, list[Row]] = {"first": [], "never": []}
            for number in range(options.rounds):
                for verify in ("first", "never") if number % 2 else ("never", "first"):
                    took[verify].append(succeeded(in_process(__file__, request | {"verify": verify})))
            walls = {verify: statistics.median(row["wall"] for row in found) for verify, found in took.items()}
            row = {
                "workload": workload,
                "order": "shuffled" if shuffle else "sequential",
                "first ms": walls["first"] * 1e3,
                "never ms": walls["never"] * 1e3,
                "cost %": (walls["first"] / walls["never"] - 1) * 100,
                "rounds": {verify: [row["wall"] for row in found] for verify, found in took.items()},
            }
            rows.append(row)
    return rows


def candidates() -> dict[str, Callable[[bytes], Any] | None]:
    """The functions by name; None if not installed."""
    found: dict[str, Callable[[bytes], Any] | None] = {
        "xxh3_64": xxhash.xxh3_64_intdigest,
        "xxh3_128": xxhash.xxh3_128_intdigest,
        "zlib.crc32": zlib.crc32,
        "blake2b": lambda data: hashlib.blake2b(data).digest(),
        "sha256": lambda data: hashlib.sha256(data).digest(),
    }
    for name, call in (("google_crc32c", "value"), ("blake3", "blake3")):
        try:
            found[name] = getattr(importlib.import_module(name), call)
        except ImportError:
            found[name] = None
    return found


def speed(function: Callable[[bytes], Any] | None, nbytes: int) -> Row:
    """GB/s of one thread over 64 MiB, and the gain from two: 1 if a function keeps the GIL."""
    if function is None:
        return {"GB/s": None, "gain of 2 threads": None, "note": "not installed"}
    data = np.random.default_rng(0).bytes(64 << 20)
    parts = [data[at : at + nbytes] for at in range(0, len(data), nbytes)]  # google_crc32c takes only bytes

    def work(which: list[bytes]) -> None:
        for part in which:
            function(part)

    one, two = [], []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            start = time.perf_counter()
            work(parts)
            middle = time.perf_counter()
            list(pool.map(work, (parts[::2], parts[1::2])))
            one.append(middle - start)
            two.append(time.perf_counter() - middle)
    return {"GB/s": len(data) / min(one) / 1e9, "gain of 2 threads": min(one) / min(two), "note": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer(epoch(options.one))
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    rows = [
        {"checksum": name, "at": size} | speed(function, nbytes)
        for name, function in candidates().items()
        for size, nbytes in SIZES.items()
    ]
    show(rows, options.json, "checksums")
    costs = []
    for workload in options.workloads:
        say(workload)
        try:
            costs += cost(workload, options)
        except MissingDataError as error:
            say(f"{workload} is left out: {error}")
    show(costs, options.json, "checking on first touch")


if __name__ == "__main__":
    main()
