"""A dataset of three small shards, on disk and in memory, for tests of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recordio import DatasetWriter
from recordio.format.manifest import Manifest
from recordio.storage.dataset_files import read_manifest
from recordio.storage.memory import MemoryStorage


def write(folder: Path, count: int, **options: Any) -> None:
    with DatasetWriter(folder, shard_samples=10, block_bytes=40, compression=None, **options) as writer:
        for number in range(count):
            writer.write({"number": number})


def loaded(folder: Path) -> tuple[MemoryStorage, Manifest]:
    storage = MemoryStorage({path.name: path.read_bytes() for path in folder.iterdir()})
    return storage, read_manifest(storage, "here")[0]


def write_three(folder: Path) -> Path:
    """Three shards of two blocks, the last one added with other metadata."""
    write(folder, 20, metadata={"made": "first"})
    write(folder, 10, metadata={"made": "second"}, mode="append")
    return folder
