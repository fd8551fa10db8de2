"""Shards: what it costs that a dataset lies in many, 100 samples each, on a warm cache."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from contenders import without_fsync
from measuring import Row, say

import recordio
from scaling import section
from scaling.section import Tables, medians, scaled
from scaling.usage import memory_of

SAMPLES, BATCH, READS = 100, 256, 5_000
RUNS = ("open", "first in order", "first shuffled", "epochs", "memory", "one", "column")
SMALL_WINDOW = 8 << 20  # so that the memory is that of the shards, not that of the windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    counts = [1, 10, 100, 1_000, 10_000]
    parser.add_argument("--shards", nargs="+", type=int, default=counts, help="of 100 samples; of the shards section")


def write(folder: Path, shards: int) -> None:
    random = np.random.default_rng(1)
    with (
        without_fsync(),
        recordio.DatasetWriter(folder, compression=None, shard_samples=SAMPLES, mode="overwrite") as writer,
    ):
        for shard in range(shards):
            numbers = np.arange(shard * SAMPLES, (shard + 1) * SAMPLES)
            x = random.standard_normal((SAMPLES, 16)).astype(np.float32)
            writer.write_batch({"x": x, "y": numbers, "id": [f"user-{n:011d}" for n in numbers.tolist()]})


def measure(request: Row) -> Row:
    folder = Path(request["folder"])
    if request["run"] == "write":
        write(folder, request["shards"])
        return {}
    recordio.DataLoader, recordio.ShardDataset  # noqa: B018 - imports what is behind them
    before = memory_of(os.getpid())
    began = time.perf_counter()
    dataset = recordio.ShardDataset(folder)
    row: Row = {"open": time.perf_counter() - began}
    if request["run"] == "open":
        return row | opening_again(dataset, folder)
    if request["run"] == "one":
        return row | single_reads(dataset)
    if request["run"] == "column":
        return row | column(dataset)
    if request["run"] != "memory":
        return row | epochs(dataset, request["run"])
    row |= epochs(dataset, "epochs", window_bytes=SMALL_WINDOW)
    single_reads(dataset)
    column(dataset)
    anonymous, mapped = (now - then for then, now in zip(before, memory_of(os.getpid()), strict=True))
    return row | {"anonymous": anonymous / 1e6, "mapped": mapped / 1e6}


def opening_again(dataset: recordio.ShardDataset, folder: Path) -> Row:
    began = time.perf_counter()
    recordio.ShardDataset(folder)
    again = time.perf_counter()
    pickled = pickle.dumps(dataset)
    start = time.perf_counter()
    pickle.loads(pickled)
    return {"again": again - began, "unpickle": time.perf_counter() - start}


def column(dataset: recordio.ShardDataset) -> Row:
    began = time.perf_counter()
    dataset.column("y")
    return {"column": time.perf_counter() - began}


def single_reads(dataset: recordio.ShardDataset) -> Row:
    """Seconds for a sample by its number, the first time and again."""
    numbers = random.Random(1).choices(range(len(dataset)), k=READS)
    took = []
    for _ in range(2):
        began = time.perf_counter()
        for number in numbers:
            dataset[number]
        took.append((time.perf_counter() - began) / READS)
    return {"one, first": took[0], "one": took[1]}


def epochs(dataset: recordio.ShardDataset, run: str, **options: int) -> Row:
    """Seconds to the first batch; for "epochs" CPU seconds of two, and the most files that were open."""
    loader = recordio.DataLoader(dataset, BATCH, shuffle=run != "first in order", **options)
    began, cpu = time.perf_counter(), time.process_time()
    epoch = iter(loader)
    next(epoch)
    row: Row = {"first": time.perf_counter() - began}
    if run != "epochs":
        return row
    # Counting thousands of files after every batch would take longer than the epoch.
    files = max([open_files(), *(open_files() for k, _ in enumerate(epoch) if k % 256 == 0)])
    first_cpu = time.process_time() - cpu
    cpu = time.process_time()
    for _ in loader:
        pass
    return row | {"epoch 1": first_cpu, "epoch 2": time.process_time() - cpu, "files": files}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    return {"shards": list(_rows(script, out, options))}


def _rows(script: str, out: Path, options: argparse.Namespace) -> Iterator[Row]:
    for shards in options.shards:
        folder = out / f"shards-{shards}"
        say(f"shards: {shards:,}")
        request = {"section": "shards", "folder": str(folder), "shards": shards}
        section.write(script, request)
        took = medians(script, {name: request | {"run": name} for name in RUNS}, options.rounds, 300)
        row: Row = {"shards": shards}
        row |= scaled(took["open"], 1e3, {"open ms": "open", "open again ms": "again", "unpickle ms": "unpickle"})
        row |= scaled(took["first in order"], 1e3, {"first batch in order ms": "first"})
        row |= scaled(took["first shuffled"], 1e3, {"first batch shuffled ms": "first"})
        row |= scaled(took["epochs"], 1, {"epoch 1 CPU s": "epoch 1", "epoch 2 CPU s": "epoch 2"})
        row |= scaled(took["one"], 1e6, {"ds[i] first µs": "one, first", "ds[i] µs": "one"})
        row |= scaled(took["column"], 1, {"column s": "column"})
        row |= scaled(took["memory"], 1, {"anonymous MB": "anonymous", "mapped MB": "mapped"})
        row |= scaled(took["epochs"], 1, {"open files": "files"})
        yield row | {"note": "; ".join(f"{name}: {one['note']}" for name, one in took.items() if one["note"])}
