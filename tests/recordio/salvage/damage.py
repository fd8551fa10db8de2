"""Small datasets, and what may befall them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import recordio
from recordio import ShardDataset

SCHEMA = recordio.Schema(
    {"number": recordio.Scalar("int64"), "text": recordio.Text(), "bytes": recordio.Bytes(optional=True)}
)


def sample(n: int) -> dict[str, Any]:
    return {"number": n, "text": f"text {n}" * (n % 7), "bytes": None if n % 5 == 0 else bytes([n % 256]) * 40}


def write(folder: Path, samples: int = 60, **options: Any) -> Path:
    """Three shards of 20 samples in several blocks, unless options say otherwise."""
    given = {"shard_samples": 20, "block_bytes": 400, "metadata": {"classes": ["a", "b"]}} | options
    with recordio.DatasetWriter(folder, SCHEMA, **given) as writer:
        for n in range(samples):
            writer.write(sample(n))
    return folder


def shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.rio"


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 0x10
    path.unlink()  # a hard link of it stays as it is
    path.write_bytes(data)


def cut(path: Path, nbytes: int) -> None:
    data = path.read_bytes()[:nbytes]
    path.unlink()
    path.write_bytes(data)


def numbers(folder: Path) -> list[int]:
    """The samples of a dataset, each proven to be what was written."""
    ds = ShardDataset(folder, verify="always")
    for found in ds:
        assert found == sample(int(found["number"]))
    return [int(number) for number in ds.column("number")]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def damage_blocks(folder: Path, share: float, seed: int) -> tuple[dict[tuple[str, int], str], list[int]]:
    """Flips a bit in a page of some of the blocks: the field of each, by file and block; and the samples that stay."""
    rng = random.Random(seed)
    store = ShardDataset(folder).store
    damaged: dict[tuple[str, int], str] = {}
    left: list[int] = []
    names = list(store.manifest.schema)
    for position, entry in enumerate(store.manifest.shards):
        index = store.shard(position).index
        for block in range(entry.blocks):
            first = store.first[position] + int(index.first[block])
            if rng.random() >= share:
                left += range(first, first + int(index.samples[block]))
                continue
            column = rng.randrange(len(names))
            nbytes = int(index.pages[block, column]["stored_nbytes"])
            flip(folder / entry.name, int(index.page_offsets[block, column]) + rng.randrange(nbytes))
            damaged[entry.name, block] = names[column]
    return damaged, left


def aside(path: Path, name: str) -> None:
    os.rename(path, path.with_name(name))
