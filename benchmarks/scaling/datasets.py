"""Datasets: concatenating and mixing many of 2,000 samples; the first shuffled batch, and the rest of the epoch."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contenders import without_fsync
from measuring import Row, say

import recordio
from scaling import section
from scaling.section import Tables, medians, scaled
from scaling.usage import memory_of

SAMPLES, BATCH = 2_000, 256
KINDS = ("concatenated", "mixed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datasets", nargs="+", type=int, default=[1, 10, 50, 100, 200], help="of 2,000 samples")
    parser.add_argument("--patience", type=float, default=60, help="seconds for a process of the datasets section")


def write(folder: Path, datasets: int) -> None:
    random = np.random.default_rng(1)
    for number in range(datasets):
        x = random.standard_normal((SAMPLES, 16)).astype(np.float32)
        with (
            without_fsync(),
            recordio.DatasetWriter(folder / f"{number:04d}", compression=None, mode="overwrite") as writer,
        ):
            writer.write_batch({"x": x, "y": np.arange(SAMPLES)})


def measure(request: Row) -> Row:
    """Seconds to open and join, to the first batch, and for a sample of the rest."""
    folder, n = Path(request["folder"]), request["datasets"]
    if request["run"] == "write":
        write(folder, n)
        return {}
    recordio.DataLoader, recordio.ConcatDataset, recordio.Mixture  # noqa: B018 - imports what is behind them
    before = memory_of(os.getpid())[0]
    began = time.perf_counter()
    parts = [recordio.ShardDataset(folder / f"{number:04d}") for number in range(n)]
    joined: Any
    if request["run"] == "mixed":
        joined = recordio.Mixture([(part, 1 + number % 3) for number, part in enumerate(parts)], "all_exhausted")
    else:
        joined = recordio.ConcatDataset(parts)
    loader = recordio.DataLoader(joined, BATCH, shuffle=True)
    start, cpu = time.perf_counter(), time.process_time()
    epoch = iter(loader)
    next(epoch)
    first, first_cpu = time.perf_counter(), time.process_time()
    rest = max(1, sum(len(batch["y"]) for batch in epoch))
    return {
        "open": start - began,
        "first": first - start,
        "first CPU": first_cpu - cpu,
        "sample": (time.process_time() - first_cpu) / rest,
        "anonymous": (memory_of(os.getpid())[0] - before) / 1e6,
    }


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    folder = out / "datasets"
    say(f"datasets: {max(options.datasets)}")
    request = {"section": "datasets", "folder": str(folder)}
    section.write(script, request | {"datasets": max(options.datasets)})
    requests = {(kind, n): request | {"run": kind, "datasets": n} for kind in KINDS for n in options.datasets}
    return {"datasets": list(_rows(medians(script, requests, options.rounds, options.patience)))}


def _rows(took: dict[tuple[str, int], Row]) -> Iterator[Row]:
    for (kind, n), found in took.items():
        row: Row = {"kind": kind, "datasets": n}
        row |= scaled(found, 1e3, {"open ms": "open", "first batch ms": "first", "first batch CPU ms": "first CPU"})
        row |= scaled(found, 1e6, {"CPU µs a sample": "sample"})
        yield row | scaled(found, 1, {"anonymous MB": "anonymous"}) | {"note": found["note"]}
