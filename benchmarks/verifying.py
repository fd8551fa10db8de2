"""The speed of `verify` beside its bounds: checksums alone over the same files, the codec alone over the same pages.

    python benchmarks/verifying.py [--rounds 7] [--megabytes 1500] [--out FOLDER] [--json]

All in one process, on a warm page cache, in turns; the table shows medians. "checksum" reads each file 1 MiB at a time
into memory that each thread uses again, and takes its XXH3, with as many threads as there are processors: whoever
checks files has to read them. "mapped" takes it of maps, whose pages are in memory, 1 MiB at a time. "codec" decodes
the frames of all coded pages, which are in memory, and looks at no checksum. Of plain pages the ratio is to "checksum",
of coded ones to "codec".
"""

from __future__ import annotations

import argparse
import io
import mmap
import os
import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zstandard
from measuring import Row, folder_nbytes, machine, say, scratch, show, timed
from PIL import Image

import recordio

PIECE = 1 << 20
THREADS = len(os.sched_getaffinity(0))
SHARDS = 1000

Samples = Iterator[dict[str, Any]]  # batches for write_batch


def noise(nbytes: int, rng: np.random.Generator) -> Samples:
    for begin in range(0, nbytes // 16384, 1000):
        yield {"x": rng.integers(0, 256, (1000, 16384), np.uint8), "y": np.arange(begin, begin + 1000)}


def table(nbytes: int, rng: np.random.Generator) -> Samples:
    for _ in range(0, nbytes, 40 * 4 * 50_000):
        yield {f"c{k}": rng.random(50_000, np.float32) for k in range(40)}


def text(nbytes: int, rng: np.random.Generator) -> Samples:
    words = [bytes(rng.integers(97, 123, rng.integers(2, 10), np.uint8)).decode() for _ in range(5000)]
    lines = [" ".join(words[k] for k in rng.integers(0, 5000, 300)) for _ in range(1000)]
    for _ in range(0, nbytes, sum(map(len, lines))):
        yield {"text": lines}


def pictures(nbytes: int, rng: np.random.Generator) -> Samples:
    found = []
    for _ in range(50):
        file = io.BytesIO()
        small = Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8))
        small.resize((800, 600), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    for _ in range(0, nbytes, sum(map(len, found))):
        yield {"image": found, "label": np.arange(len(found))}


def tokens(nbytes: int, rng: np.random.Generator) -> Samples:
    drawn = np.minimum(rng.zipf(1.2, (2000, 2048)), 50_000).astype(np.uint16)
    for _ in range(0, nbytes, drawn.nbytes):
        yield {"tokens": rng.permutation(drawn)}


Make = Callable[[int, np.random.Generator], Samples]
DATASETS: dict[str, tuple[Make, dict[str, Any]]] = {
    "arrays of 16 KiB": (noise, {"compression": None}),
    "the same, shards of 1 MiB": (noise, {"compression": None, "shard_bytes": 1 << 20}),
    "40 columns": (table, {"compression": None}),
    "text": (text, {"compression": None}),
    "JPEG": (pictures, {"compression": None, "schema": {"image": recordio.Image(), "label": recordio.Scalar("int64")}}),
    "token ids, zstd": (tokens, {"compression": "zstd"}),
}


def written(folder: Path, make: Make, options: dict[str, Any], nbytes: int) -> list[Path]:
    """The shards of a dataset, which is made unless it is there."""
    if not folder.exists():
        with recordio.DatasetWriter(folder, **options) as writer:
            for batch in make(nbytes, np.random.default_rng(0)):
                writer.write_batch(batch)
    return sorted(folder.glob("*.rio"))


def checksums(paths: list[Path]) -> None:
    own = threading.local()

    def work(path: Path) -> None:
        if not hasattr(own, "memory"):
            own.memory = memoryview(bytearray(PIECE))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(own.memory):
                xxhash.xxh3_64_intdigest(own.memory[:count])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, paths))


def mapped(maps: list[memoryview]) -> None:
    def work(data: memoryview) -> None:
        for at in range(0, len(data), PIECE):
            xxhash.xxh3_64_intdigest(data[at : at + PIECE])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, maps))


def frames_of(folder: Path) -> tuple[list[memoryview], int]:
    """The frames of all coded pages, and the bytes that they decode to."""
    store = recordio.ShardDataset(folder).store
    found, nbytes = [], 0
    for number, path in enumerate(sorted(folder.glob("*.rio"))):
        data, index = memoryview(path.read_bytes()), store.shard(number).index
        for at, entry in zip(index.page_offsets.ravel().tolist(), index.pages.ravel().tolist(), strict=True):
            if entry[3]:
                found.append(data[at : at + entry[0]])
                nbytes += entry[1]
    return found, nbytes


def decode(frames: list[memoryview]) -> None:
    def work(part: list[memoryview]) -> None:
        decompressor = zstandard.ZstdDecompressor()
        for frame in part:
            decompressor.decompress(frame)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [frames[k::THREADS] for k in range(THREADS)]))


def medians(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    took: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, run in list(runs.items())[:: 1 if number % 2 else -1]:
            took[name].append(timed(run).wall)
    return {name: statistics.median(found[1:]) for name, found in took.items()}  # the first round warms up


def speed(name: str, top: Path, options: argparse.Namespace) -> Row:
    make, how = DATASETS[name]
    folder = top / name.replace(" ", "-").replace(",", "")
    paths = written(folder, make, how, options.megabytes * 1_000_000)
    maps = [memoryview(mmap.mmap(os.open(path, os.O_RDONLY), 0, prot=mmap.PROT_READ)) for path in paths]
    frames, decoded = frames_of(folder)

    def verify() -> None:
        assert recordio.verify(folder).ok

    runs = {"checksum": lambda: checksums(paths), "mapped": lambda: mapped(maps), "verify": verify}
    if frames:
        runs["codec"] = lambda: decode(frames)
    found, nbytes = medians(runs, options.rounds), folder_nbytes(folder)
    return {
        "pages": name,
        "shards": len(paths),
        "GB": nbytes / 1e9,
        "checksum GB/s": nbytes / found["checksum"] / 1e9,
        "mapped GB/s": nbytes / found["mapped"] / 1e9,
        "codec GB/s decoded": decoded / found["codec"] / 1e9 if frames else None,
        "verify GB/s on disk": nbytes / found["verify"] / 1e9,
        "decoded": decoded / found["verify"] / 1e9 if frames else None,
        "ratio": found["codec" if frames else "checksum"] / found["verify"],
    }


def of_many_shards(top: Path, rounds: int) -> Row:
    """Seconds of `verify --quick`, and of `repair` of a manifest that is lost, for 1,000 shards of 32 samples."""
    folder = top / "many"
    if not folder.exists():
        with recordio.DatasetWriter(folder, compression=None, shard_samples=32) as writer:
            writer.write_batch({"x": np.arange(SHARDS * 32), "z": np.ones((SHARDS * 32, 100), np.uint8)})

    def repair() -> None:
        (folder / "manifest.json").unlink()
        assert recordio.repair(folder, in_place=True).samples == SHARDS * 32

    found = medians({"quick": lambda: recordio.verify(folder, "quick"), "repair": repair}, rounds)
    return {"shards": SHARDS, "verify --quick, s": found["quick"], "repair of a lost manifest, s": found["repair"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=1500, help="of each dataset")
    parser.add_argument("--out", type=Path, help="where the datasets are kept for the next time")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    options = parser.parse_args()
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    rows = []
    with scratch(options.out) as top:
        for name in DATASETS:
            say(name)
            rows.append(speed(name, top, options))
        show(rows, options.json, "verify")
        show([of_many_shards(top, options.rounds)], options.json, "many shards")


if __name__ == "__main__":
    main()
