"""Epochs onto a GPU: pinned by the loader's threads, by torch's pin_memory in the training thread, or not at all.

    python benchmarks/gpu.py [--rounds 5] [--json]

Each batch is copied with `to("cuda", non_blocking=True)` and dropped. Figures are medians of GB/s over epochs that take
turns, on data in memory-mapped shards that the page cache holds; the first round is not counted. "torch" is torch's
DataLoader over the same arrays, memory-mapped, with four processes and its own pinning thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils import data
from torch.utils.data._utils.pin_memory import pin_memory

import recordio
from recordio.torch import DataLoader

WORKLOADS: dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]] = {  # of a sample; samples, samples a batch
    "tokens, 1 MB a batch": (np.dtype("int32"), (1025,), 100_000, 256),
    "tokens, 17 MB a batch": (np.dtype("int32"), (1025,), 100_000, 4096),
    "pictures, 39 MB a batch": (np.dtype("uint8"), (224, 224, 3), 4000, 256),
}
WORKERS: dict[str, dict[str, Any]] = {
    "none": {},
    "4 threads": {"num_workers": 4, "worker_type": "thread"},
    "4 processes": {"num_workers": 4, "worker_type": "process", "persistent_workers": True},
}


class Arrays:
    """A memory-mapped array as a map-style dataset that gives whole batches, so that torch collates nothing."""

    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [{"x": torch.from_numpy(self.array[indices])}]

    @staticmethod
    def only(batches: list[dict[str, Any]]) -> dict[str, Any]:
        return batches[0]


def contenders(folder: Path, batch_size: int, options: dict[str, Any]) -> dict[str, Callable[[], Iterable[Any]]]:
    """Epochs that start anew with each call."""
    ds = recordio.ShardDataset(folder / "shards")
    plain = DataLoader(ds, batch_size, True, seed=1, **options)
    pinned = DataLoader(ds, batch_size, True, seed=1, pin_memory=True, **options)
    found: dict[str, Callable[[], Iterable[Any]]] = {
        "not pinned": lambda: plain,
        "pinned late": lambda: map(pin_memory, plain),
        "pinned": lambda: pinned,
    }
    if options.get("worker_type") == "process":
        torchs = data.DataLoader(
            Arrays(folder / "x.npy"),  # type: ignore[arg-type]
            batch_size,
            shuffle=True,
            num_workers=4,
            persistent_workers=True,
            pin_memory=True,
            collate_fn=Arrays.only,
        )
        found["torch"] = lambda: torchs
    return found


def rate(batches: Iterable[Any]) -> float:
    """GB/s of an epoch onto the GPU."""
    torch.cuda.synchronize()
    begun, nbytes = time.perf_counter(), 0
    for batch in batches:
        nbytes += batch["x"].to("cuda", non_blocking=True).nbytes
        del batch
    torch.cuda.synchronize()
    return nbytes / (time.perf_counter() - begun) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON a row")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU")
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}")
    rng = np.random.default_rng(0)
    for name, (dtype, shape, samples, batch_size) in WORKLOADS.items():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
            folder = Path(scratch)
            array = rng.integers(0, 250, (samples, *shape)).astype(dtype)
            np.save(folder / "x.npy", array)
            with recordio.DatasetWriter(
                folder / "shards", {"x": recordio.Array(dtype, shape)}, compression=None
            ) as writer:
                for begin in range(0, samples, 1000):
                    writer.write_batch({"x": array[begin : begin + 1000]})
            del array
            for workers, options in WORKERS.items():
                found = contenders(folder, batch_size, options)
                rates: dict[str, list[float]] = {one: [] for one in found}
                for _ in range(arguments.rounds + 1):
                    for one, epoch in found.items():
                        rates[one].append(rate(epoch()))
                row = {one: round(median(each[1:]), 2) for one, each in rates.items()}
                print(
                    json.dumps({"workload": name, "workers": workers, **row})
                    if arguments.json
                    else f"{name} | {workers} | {row}",
                    flush=True,
                )
                del found


if __name__ == "__main__":
    main()
