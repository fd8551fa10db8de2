"""Views: a split and a selection in random order of ever more samples, at the start of an epoch.

The samples are one byte in small blocks, so that 10^8 of them have as many blocks as 40 GB of real ones (600 a block)
and next to nothing has to be read.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contenders import without_fsync
from measuring import Row, memory_nbytes, say

import recordio
from scaling import section
from scaling.section import Tables, medians, scaled

BLOCK_SAMPLES = 600
WINDOW_SAMPLES = 300_000  # about the default window of samples of 400 bytes
VIEWS = ("whole", "slice", "split 0.9", "random select")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples-viewed", nargs="+", type=int, default=[10**6, 10**7, 10**8], help="of views")


def write(folder: Path, samples: int) -> None:
    piece = np.arange(BLOCK_SAMPLES * 1000, dtype=np.uint32).astype(np.uint8)
    options: Any = {"compression": None, "block_bytes": BLOCK_SAMPLES, "mode": "overwrite"}
    with without_fsync(), recordio.DatasetWriter(folder, **options) as writer:
        for start in range(0, samples, len(piece)):
            writer.write_batch({"y": piece[: samples - start]})


def view_of(dataset: recordio.ShardDataset, kind: str) -> recordio.ShardDataset:
    if kind == "whole":
        return dataset
    if kind == "slice":
        return dataset[len(dataset) // 10 :]
    if kind == "split 0.9":
        return dataset.split([0.9, 0.1], seed=1)[0]
    return dataset.select(np.random.default_rng(1).permutation(len(dataset)))


class Peak:
    """Seconds within, and the peak of the memory of this process above its start, in bytes, as the kernel counts it."""

    def __enter__(self) -> Peak:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self._start, self._began = memory_nbytes("VmRSS"), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.kept, self.nbytes = memory_nbytes("VmRSS") - self._start, memory_nbytes("VmHWM") - self._start


def measure(request: Row) -> Row:
    folder = Path(request["folder"])
    if request["run"] == "write":
        write(folder, request["samples"])
        return {}
    recordio.DataLoader  # noqa: B018 - imports what is behind it
    dataset = recordio.ShardDataset(folder)
    next(iter(recordio.DataLoader(dataset[:1000], 256)))  # opens the files
    with Peak() as made:
        view = view_of(dataset, request["run"])
    row: Row = {"make": made.seconds, "view": made.kept / 1e6}
    loader = recordio.DataLoader(view, 256, shuffle=True, window_samples=WINDOW_SAMPLES)
    for name in ("first", "second"):
        epoch: Any = iter(loader)
        with Peak() as start:
            next(epoch)
        epoch.close()
        row |= {name: start.seconds, f"{name} peak": start.nbytes / 1e6}
    row["pickle"] = len(pickle.dumps(view, protocol=5)) / 1e6
    for name in ("fingerprint", "fingerprint again"):
        with Peak() as found:
            view.fingerprint  # noqa: B018
        row[name] = found.seconds
    return row


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    return {"views": list(_rows(script, out, options))}


def _rows(script: str, out: Path, options: argparse.Namespace) -> Iterator[Row]:
    for samples in options.samples_viewed:
        folder = out / f"views-{samples}"
        say(f"views: {samples:,}")
        request = {"section": "views", "folder": str(folder), "samples": samples}
        section.write(script, request)
        took = medians(script, {view: request | {"run": view} for view in VIEWS}, options.rounds, 300)
        for view, found in took.items():
            row: Row = {"view": view, "samples": samples}
            row |= scaled(found, 1, {"make s": "make", "view MB": "view", "pickle MB": "pickle"})
            row |= scaled(found, 1, {"epoch start s": "first", "again s": "second"})
            row |= scaled(found, 1, {"peak MB above the view": "first peak", "again MB": "second peak"})
            row |= scaled(found, 1e3, {"fingerprint ms": "fingerprint", "fingerprint again ms": "fingerprint again"})
            yield row | {"note": found["note"]}
