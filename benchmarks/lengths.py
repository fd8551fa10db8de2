"""Padding of batches by length and waste of packed rows, beside transformers, TRL, and packing in a buffer.

    python benchmarks/lengths.py [--samples 50000] [--start 1000000] [--rounds 3] [--json]

    batch size     batches of 32: in random order, of transformers' LengthGroupedSampler, of `bucket_by`
    tokens N       batches of `batch_tokens`, of 32 samples of mean length
    rows N         TRL's `pack_dataset`, recordio's `sequence_length`, and a greedy packer of a shuffled buffer, which
                   puts the longest sample into a row that still fits. Megatron Energon gives its user such a buffer
                   (`packing_buffer_size`), and leaves the packer to the user; this one is ours

The lengths are log-normal, or of seconds of speech in frames of 10 ms, or of the Python files of this environment at
four bytes a token. `small window` mixes an eighth of the dataset at a time, in 64 lanes. `seconds` is the best of the
rounds, for all that is done before the first batch of an epoch: recordio reads the lengths from the dataset, TRL writes
its rows, and the others are given the lengths.
`cut` is the share of samples that are in more than one row or lost tokens, `lost` the share of tokens that are in none.
A second table says what an epoch's start takes, in seconds of CPU, with `--start` samples of chat: to read their
lengths, once, when the loader is made, and to count the bins of each epoch.
Packages that are missing are named and left out: `pip install transformers trl`.
"""

from __future__ import annotations

import argparse
import sysconfig
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, machine, say, scratch, show

import recordio
from recordio.format.page import Indices

BATCH = 32
SMALL = 8
Counted = tuple[int, int, int, int]  # bins, tokens in them, what they hold, samples cut


def chat(samples: int, rng: np.random.Generator) -> Indices:
    return np.minimum(rng.lognormal(5.5, 0.9, samples).astype(np.int64) + 1, 8192)


def speech(samples: int, rng: np.random.Generator) -> Indices:
    """As in LibriSpeech: most of 12 to 16 seconds, some of any shorter length."""
    long = rng.random(samples) < 0.7
    return (
        np.where(long, rng.normal(1400, 120, samples), rng.uniform(150, 1400, samples)).clip(120, 3500).astype(np.int64)
    )


def files(samples: int, rng: np.random.Generator) -> Indices:
    found = [path.stat().st_size // 4 + 1 for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))]
    return np.minimum(rng.permutation(np.array(found))[:samples], 32_768)


SETS: dict[str, tuple[Callable[[int, np.random.Generator], Indices], int]] = {
    "chat": (chat, 2048),
    "speech": (speech, 4096),
    "Python files": (files, 8192),
}


def of_batches(lengths: Indices, batches: Iterator[Indices]) -> Counted:
    held = [len(batch) * int(lengths[batch].max()) for batch in batches]
    return len(held), int(lengths.sum()), sum(held), 0


def in_batches(order: Indices) -> Iterator[Indices]:
    return (order[at : at + BATCH] for at in range(0, len(order), BATCH))


def random_batches(lengths: Indices, seed: int) -> Counted:
    return of_batches(lengths, in_batches(np.random.default_rng(seed).permutation(len(lengths))))


def grouped_batches(lengths: Indices, seed: int) -> Counted:
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    generator = torch.Generator().manual_seed(seed)
    sampler = LengthGroupedSampler(BATCH, lengths=lengths.tolist(), generator=generator)
    return of_batches(lengths, in_batches(np.array(list(sampler))))


def greedy_rows(lengths: Indices, seed: int, size: int, buffer: int) -> Counted:
    rows, order = 0, np.random.default_rng(seed).permutation(lengths)
    pieces = np.concatenate([np.minimum(order, size), (order - size)[order > size] % size])
    rows += int((order // size).sum() - (order >= size).sum())  # whole rows of split samples, but for the first piece
    for at in range(0, len(pieces), buffer):
        left = sorted(pieces[at : at + buffer].tolist())
        while left:
            rows, room = rows + 1, size
            while left and (k := bisect_right(left, room)):
                room -= left.pop(k - 1)
    return rows, int(lengths.sum()), rows * size, int((lengths > size).sum())


def trl_rows(dataset: Any, lengths: Indices, seed: int, size: int, strategy: str) -> Counted:
    from trl import pack_dataset

    packed = pack_dataset(dataset.shuffle(seed), size, strategy, {"load_from_cache_file": False})
    column = packed.with_format("arrow")[:]["input_ids"].combine_chunks()
    tokens, rows = len(column.flatten()), len(packed)
    cut = int((lengths > size).sum()) if strategy != "wrapped" else rows - 1  # a row of these begins in a sample
    return rows, tokens, rows * size, cut


def of_loader(ds: recordio.ShardDataset, small: bool, options: dict[str, Any], seed: int) -> Counted:
    if small:
        options = options | {"window_bytes": ds.store.content_nbytes // SMALL}
    counts = recordio.DataLoader(ds, shuffle=True, seed=seed, **options).bins
    assert counts is not None
    return counts.bins, counts.tokens, counts.capacity, counts.overlong


def row_of(name: str, kind: str, method: str, lengths: Indices, rounds: int, run: Callable[[int], Counted]) -> Row:
    found, seconds = [], []
    for seed in range(rounds):
        start = time.perf_counter()
        found.append(run(seed))
        seconds.append(time.perf_counter() - start)
    bins, tokens, capacity, cut = np.mean(found, axis=0).tolist()
    return {
        "samples": name,
        "bins": kind,
        "method": method,
        "batches or rows": round(bins),
        "padding %": round(100 * (1 - tokens / capacity), 2),
        "cut %": round(100 * cut / len(lengths), 2),
        "lost %": round(100 * (1 - tokens / int(lengths.sum())), 2),
        "seconds": round(min(seconds), 3),
    }


def methods_of(
    ds: recordio.ShardDataset, lengths: Indices, size: int
) -> Iterator[tuple[str, str, Callable[[int], Counted]]]:
    """What is measured, as (kind of bins, method, run)."""
    yield "batch size", "random", lambda seed: random_batches(lengths, seed)
    if find_spec("transformers"):
        yield "batch size", "transformers", lambda seed: grouped_batches(lengths, seed)
    tokens = max(int(lengths.mean() * BATCH), int(lengths.max()))
    kinds: dict[str, dict[str, Any]] = {
        "batch size": {"batch_size": BATCH, "bucket_by": "input_ids"},
        f"tokens {tokens}": {"batch_tokens": tokens},
        f"rows {size}": {"sequence_length": size, "on_overlong": "split"},
    }
    for kind, options in kinds.items():
        for small in (False, True):
            method = "recordio, small window" if small else "recordio"
            yield kind, method, lambda seed, small=small, options=options: of_loader(ds, small, options, seed)  # type: ignore[misc]
    for buffer in (100, 1000, 10_000):
        yield f"rows {size}", f"greedy, buffer {buffer}", lambda seed, n=buffer: greedy_rows(lengths, seed, size, n)  # type: ignore[misc]
    if find_spec("trl") and find_spec("datasets"):
        import datasets

        datasets.disable_progress_bars()
        features = datasets.Features({"input_ids": datasets.List(datasets.Value("uint16"))})
        hf = datasets.Dataset.from_dict({"input_ids": [np.zeros(n, np.uint16) for n in lengths]}, features)
        for strategy in ("bfd", "bfd_split", "wrapped"):
            yield f"rows {size}", f"TRL {strategy}", lambda seed, s=strategy: trl_rows(hf, lengths, seed, size, s)  # type: ignore[misc]


def starts(ds: recordio.ShardDataset, compression: str, rounds: int) -> Row:
    """Seconds of CPU until the first epoch of a loader can begin, of a dataset in the page cache."""
    kinds: dict[str, dict[str, Any]] = {
        "bins of tokens": {"batch_tokens": 16_384},
        "rows": {"sequence_length": 8192, "batch_size": 4},
    }
    found: dict[str, list[float]] = {"lengths": []} | {kind: [] for kind in kinds}
    for seed in range(rounds):
        for kind, options in kinds.items():
            start = time.process_time()
            loader = recordio.DataLoader(ds, shuffle=True, seed=seed, **options)
            made = time.process_time()
            len(loader)
            found[kind].append(time.process_time() - made)
            found["lengths"].append(made - start)
    row: Row = {"samples": len(ds), "compression": compression, "content MB": ds.store.content_nbytes // 1_000_000}
    return row | {f"{name} s": round(min(seconds), 3) for name, seconds in found.items()}


def written(folder: Path, lengths: Indices, **options: Any) -> recordio.ShardDataset:
    rng = np.random.default_rng(0)
    with recordio.DatasetWriter(folder, {"input_ids": recordio.Array("uint16", (None,))}, **options) as writer:
        for begin in range(0, len(lengths), 1000):
            some = lengths[begin : begin + 1000]
            tokens = (rng.pareto(1, int(some.sum())) * 100).astype(np.int64).astype(np.uint16)  # some are frequent
            writer.write_batch({"input_ids": np.split(tokens, np.cumsum(some)[:-1])})
    return recordio.ShardDataset(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--start", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    say(machine(("numpy", "transformers", "trl")))
    rows: list[Row] = []
    for name, (lengths_of, size) in SETS.items():
        lengths = lengths_of(options.samples, np.random.default_rng(0))
        with scratch(None) as folder:
            ds = written(folder / name, lengths)
            found = [
                row_of(name, kind, method, lengths, options.rounds, run)
                for kind, method, run in methods_of(ds, lengths, size)
            ]
        rows += sorted(found, key=lambda row: str(row["bins"]))
    show(rows, options.json)
    lengths = np.minimum(chat(options.start, np.random.default_rng(0)), 1000)
    rows = []
    for compression in ("none", "zstd"):
        with scratch(None) as folder:
            ds = written(folder / "it", lengths, compression=None if compression == "none" else compression)
            rows.append(starts(ds, compression, options.rounds))
    show(rows, options.json, "What an epoch's start takes")


if __name__ == "__main__":
    main()
