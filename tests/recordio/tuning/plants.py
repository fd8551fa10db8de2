"""Loaders with one planted bottleneck each: sleeps, which let go of the processor, so that any machine shows them."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, DataLoader, DatasetWriter, Scalar, ShardDataset
from recordio.storage.local import LocalFile
from tests.effort import LONG

BATCH = 4
QUICK = SLOW = 0.02 if LONG else 0.004  # seconds a sample; a busy machine adds a few milliseconds
DISK = 25e6  # bytes a second


def write_numbers(folder: Path, samples: int = 4000, compression: str | None = None) -> Path:
    """Rows of 4 KiB that compress to about a third."""
    rng = np.random.default_rng(0)
    schema = {"number": Scalar("int64"), "x": Array("int32", (1024,))}
    with DatasetWriter(folder, schema, compression=compression, block_bytes=1 << 16) as writer:
        for begin in range(0, samples, 500):
            count = min(500, samples - begin)
            rows = rng.integers(0, 1000, (count, 1024)).astype(np.int32)
            writer.write_batch({"number": np.arange(begin, begin + count), "x": rows})
    return folder


def quick(sample: Any) -> Any:
    time.sleep(QUICK)
    return sample


def heavy(sample: Any) -> Any:
    """As if every sample needed the same device: one at a time, whatever threads and processes there are."""
    with open(os.path.join(tempfile.gettempdir(), f"recordio-heavy-{os.getuid()}"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(SLOW)
    return sample


def step(batch: Any) -> None:
    time.sleep(0.016)


def slow_step(batch: Any) -> None:
    time.sleep(0.15)


def too_few_workers(ds: ShardDataset) -> DataLoader:
    return DataLoader(ds.map(quick), BATCH, shuffle=True, num_workers=1)


def heavy_transform(ds: ShardDataset) -> DataLoader:
    return DataLoader(ds.map(quick).map(heavy), BATCH, shuffle=True, num_workers=4)


def without_heavy(ds: ShardDataset) -> DataLoader:
    return DataLoader(ds.map(quick), BATCH, shuffle=True, num_workers=4)


def slow_disk(path: Path) -> DataLoader:
    ds = ShardDataset(path, io="pread")
    return DataLoader(ds, 256, shuffle=True, window_bytes=2 << 20)


def throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read of a local file takes as long as from a disk of 25 MB/s that does one thing at a time."""
    device = threading.Lock()
    read: Callable[..., int] = LocalFile._read_into

    def throttled(self: LocalFile, target: memoryview, offset: int, direct: bool) -> int:
        with device:
            time.sleep(len(target) / DISK)
        return read(self, target, offset, direct)

    monkeypatch.setattr(LocalFile, "_read_into", throttled)
