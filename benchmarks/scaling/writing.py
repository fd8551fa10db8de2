"""Writing: one `write_batch` of ever more integers and texts, beside pieces of it; and ever wider schemas."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, folder_nbytes, timed

import recordio
from scaling.section import Tables, medians, scaled

TEXT_BYTES, PIECE, WIDE_ROWS, WIDE_READS = 200, 65_536, 2_000, 50
INTEGERS, TEXTS, FIELDS = "integers", "texts of 200 bytes", "float32 fields, 2,000 rows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    integers, texts = [10**5, 10**6, 10**7], [100_000, 200_000, 400_000, 800_000]
    parser.add_argument("--integers", nargs="+", type=int, default=integers, help="in one write_batch")
    parser.add_argument("--texts", nargs="+", type=int, default=texts, help="in one write_batch")
    parser.add_argument("--fields", nargs="+", type=int, default=[10, 100, 1_000, 4_000], help="of a wide schema")
    parser.add_argument("--epoch-seconds", type=float, default=5, help="at most, for an epoch over a wide schema")


def columns(what: str, n: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    if what == INTEGERS:
        return {"n": random.integers(0, 1 << 62, n)}
    if what == TEXTS:
        blob = random.integers(97, 123, n + TEXT_BYTES, np.uint8).tobytes().decode("ascii")
        return {"text": [blob[start : start + TEXT_BYTES] for start in range(n)]}
    return {f"f{number:04d}": random.standard_normal(WIDE_ROWS).astype(np.float32) for number in range(n)}


def measure(request: Row) -> Row:
    """CPU seconds of writing a batch, whole or in pieces, and of `close`; and what reading a wide schema takes."""
    folder, what, n = Path(request["folder"]), request["what"], request["n"]
    batch = columns(what, n)
    rows = WIDE_ROWS if what == FIELDS else n
    size = PIECE if request["pieces"] else rows
    nbytes = {INTEGERS: 8 * n, TEXTS: TEXT_BYTES * n, FIELDS: 4 * WIDE_ROWS * n}[what]

    def write(rows: int) -> None:
        with recordio.DatasetWriter(folder, compression=None, mode="overwrite") as writer:
            for start in range(0, rows, size):
                end = min(rows, start + size)
                writer.write_batch({name: column[start:end] for name, column in batch.items()})

    write(8)  # imports what a writer needs
    timing = timed(partial(write, rows))
    row: Row = {"cpu": timing.cpu, "wall": timing.wall, "disk": folder_nbytes(folder) / nbytes}
    return row | (read_wide(folder, request["seconds"]) if what == FIELDS else {})


def read_wide(folder: Path, seconds: float) -> Row:
    """Seconds for a sample by its number, and for an epoch, from the samples that `seconds` were enough for."""
    dataset = recordio.ShardDataset(folder)
    numbers = np.random.default_rng(2).integers(0, len(dataset), WIDE_READS).tolist()
    dataset[0]
    began = time.perf_counter()
    for number in numbers:
        dataset[number]
    one = (time.perf_counter() - began) / len(numbers)
    samples, began = 0, time.perf_counter()
    for batch in recordio.DataLoader(dataset, 256, shuffle=True):
        samples += len(batch["f0000"])
        if time.perf_counter() - began > seconds:
            break
    return {"one": one, "epoch": (time.perf_counter() - began) / samples * len(dataset)}


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    common = {"section": "writing", "folder": str(out / "writing"), "seconds": options.epoch_seconds}
    counts = {INTEGERS: options.integers, TEXTS: options.texts, FIELDS: options.fields}
    requests = {
        (what, n, pieces): common | {"what": what, "n": n, "pieces": pieces}
        for what, pieces in itertools.product(counts, (False, True))
        for n in counts[what]
        if what != FIELDS or not pieces
    }
    took = medians(script, requests, options.rounds, 120)
    return {
        "one batch": [row for what in (INTEGERS, TEXTS) for n in counts[what] for row in _batches(took, what, n)],
        "wide": [row for n in options.fields for row in _wide(took[FIELDS, n, False], n)],
    }


def _batches(took: dict[tuple[str, int, bool], Row], what: str, n: int) -> Iterator[Row]:
    whole, pieces = took[what, n, False], took[what, n, True]
    row: Row = {"values": what, "samples": n} | scaled(whole, 1, {"CPU s": "cpu", "wall s": "wall"})
    row |= scaled(whole, 1e6 / n, {"CPU µs a sample": "cpu"}) | scaled(
        pieces, 1, {f"in pieces of {PIECE:,}, CPU s": "cpu"}
    )
    yield row | scaled(whole, 1, {"disk / values": "disk"}) | {"note": whole["note"] or pieces["note"]}


def _wide(found: Row, n: int) -> Iterator[Row]:
    row: Row = {"fields": n} | scaled(found, 1, {"write CPU s": "cpu", "disk / values": "disk"})
    row |= scaled(found, 1e3, {"ds[i] ms": "one"}) | scaled(found, 1, {"shuffled epoch s": "epoch"})
    yield row | {"note": found["note"]}
