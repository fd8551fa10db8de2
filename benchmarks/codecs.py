"""What each compression costs and saves, on our own paths: size, decoding, epochs, random batches, single samples.

    python benchmarks/codecs.py [--rounds 9] [--workloads tokens tabular] [--wide 20000] [--data FOLDER] [--json]

All compressions of a workload are written first, then take turns in one process. Rates are by CPU time of all threads,
the best of the rounds, which other work on the machine disturbs least. "content MB/s" reads, checks and decodes every
page; "codec alone" is the limit of that: the same stored bytes, in memory, through zstd, or copied where there is none
to decode. An epoch makes every batch of 256; "of it" is its rate, in bytes of content, by that of the codec alone.

Beside the workloads there is `wide`, a table of 60 columns: prices, noise, random walks, categories, times, row
numbers, counts, flags, large integers and words.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from measuring import Row, folder_nbytes, machine, say, scratch, show
from workloads import Sample, add_arguments, available

import recordio
from recordio.format.codec import Codec

COMPRESSIONS = (None, "narrow", "auto", "narrow+zstd", "zstd", "zstd:-1")
BATCH, BATCHES, SINGLES = 256, 20, 500
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


def wide(n: int) -> dict[str, Any]:
    """The columns of a wide table of small values."""
    random = np.random.default_rng(5)
    makers: dict[str, tuple[int, Callable[[int], Any]]] = {
        "price": (12, lambda k: np.round(random.lognormal(3, 1, n), 2)),
        "noise": (8, lambda k: random.standard_normal(n).astype(np.float32)),
        "walk": (4, lambda k: np.cumsum(random.standard_normal(n)).astype(np.float32)),
        "category": (10, lambda k: random.integers(0, 2 + 3 * k, n)),
        "time": (4, lambda k: 1_700_000_000_000 + np.cumsum(random.integers(0, 5000, n))),
        "row": (2, lambda k: np.arange(n) * (k + 1)),
        "count": (6, lambda k: random.geometric(0.01, n)),
        "flag": (4, lambda k: random.random(n) < 0.1),
        "large": (4, lambda k: random.integers(0, 1 << 40, n)),
        "word": (6, lambda k: random.choice(WORDS, n).tolist()),
    }
    return {f"{name}{k}": make(k) for name, (count, make) in makers.items() for k in range(count)}


def stored_pages(ds: recordio.ShardDataset) -> list[tuple[int, int, bytes]]:
    """The codec of every page, the bytes of its content and its stored bytes."""
    found = []
    for number in range(len(ds.store.manifest.shards)):
        shard = ds.store.shard(number)
        for (block, column), entry in np.ndenumerate(shard.index.pages):
            stored = bytes(shard.stored(block, column)[: int(entry["stored_nbytes"])])
            found.append((int(entry["codec"]), int(entry["nbytes"]), stored))
    return found


def codec_alone(pages: list[tuple[int, int, bytes]]) -> int:
    """Decodes every page as far as its library does; the bytes of the content."""
    zstd, count = zstandard.ZstdDecompressor(), 0
    for codec, nbytes, stored in pages:
        if codec in (Codec.ZSTD, Codec.NARROW_ZSTD):
            zstd.decompress(stored)
        else:
            bytearray(stored)
        count += nbytes
    return count


def content_nbytes(ds: recordio.ShardDataset) -> int:
    """Reads every page; the bytes of their content."""
    nbytes = 0
    for number in range(len(ds.store.manifest.shards)):
        shard = ds.store.shard(number)
        blocks, fields = shard.index.pages.shape
        nbytes += sum(len(shard.content(block, column)) for block in range(blocks) for column in range(fields))
    return nbytes


def epoch(ds: recordio.ShardDataset, seed: int) -> int:
    for _ in recordio.DataLoader(ds, BATCH, shuffle=True, seed=seed):
        pass
    return len(ds)


def batches(ds: recordio.ShardDataset, seed: int) -> int:
    random = np.random.default_rng(seed)
    for _ in range(BATCHES):
        ds.take(random.integers(0, len(ds), BATCH))
    return BATCH * BATCHES


def singles(ds: recordio.ShardDataset, seed: int) -> int:
    for number in np.random.default_rng(seed).integers(0, len(ds), SINGLES).tolist():
        ds[number]
    return SINGLES


def rate(run: Callable[[], int]) -> float:
    start = time.process_time()
    count = run()
    return count / (time.process_time() - start)


def written(place: Path, compression: str | None, samples: list[Sample] | dict[str, Any]) -> recordio.ShardDataset:
    """A dataset of samples or of whole columns."""
    with recordio.DatasetWriter(place, compression=compression) as writer:
        if isinstance(samples, dict):
            writer.write_batch(samples)
        else:
            for sample in samples:
                writer.write(sample)
    return recordio.ShardDataset(place)


def rows_of(name: str, samples: list[Sample] | dict[str, Any], folder: Path, rounds: int) -> list[Row]:
    datasets = {str(one): written(folder / name / str(one), one, samples) for one in COMPRESSIONS}
    pages = {compression: stored_pages(ds) for compression, ds in datasets.items()}
    found: dict[str, list[tuple[float, ...]]] = {compression: [] for compression in datasets}
    for number in range(rounds):
        for compression, ds in datasets.items():
            rates = [rate(partial(codec_alone, pages[compression])), rate(partial(content_nbytes, ds))]
            rates += [rate(partial(run, ds, number)) for run in (epoch, batches, singles)]
            found[compression].append(tuple(rates))
    out: list[Row] = []
    for compression, ds in datasets.items():
        alone, content, shuffled, random, single = (max(each) for each in zip(*found[compression], strict=True))
        row: dict[str, Any] = {"workload": name, "compression": compression}
        row |= {"MB on disk": folder_nbytes(folder / name / compression) / 1e6}
        row |= {"codec alone MB/s": alone / 1e6, "content MB/s": content / 1e6, "shuffled/s": shuffled}
        row |= {"of it": shuffled * ds.store.content_nbytes / len(ds) / alone}
        out.append(row | {"random batches/s": random, "one sample µs": 1e6 / single})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--wide", type=int, default=20_000, help="rows of the wide table; 0 for none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    say(machine())
    rows: list[Row] = []
    with scratch(None) as folder:
        for name, samples in available(options):
            rows += rows_of(name, samples, folder, options.rounds)
        if options.wide:
            rows += rows_of("wide", wide(options.wide), folder, options.rounds)
    show(rows, options.json)


if __name__ == "__main__":
    main()
