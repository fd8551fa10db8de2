"""A small dataset as the objects of a store, and where its parts lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import recordio
from recordio import ShardDataset
from recordio.storage.dataset_files import read_footer
from recordio.storage.local import LocalStorage

COUNT = 60
SHARD = "shard-00000.rio"
MANIFEST = "manifest.json"
QUICK: dict[str, Any] = {"retry_seconds": 1.0, "timeout_seconds": 0.5}  # enough on this machine


class Stored(NamedTuple):
    """A dataset's files by name.

    Attributes:
        parts: the object and a byte of it, of "manifest", "header", "page" and "index".
    """

    objects: dict[str, bytes]
    parts: dict[str, tuple[str, int]]

    def below(self, path: str) -> dict[str, bytes]:
        return {f"{path}/{name}": data for name, data in self.objects.items()}


def small_dataset(folder: Path, offset: int = 0) -> Stored:
    """Two shards of some blocks each; `offset` makes it another one."""
    schema = {"x": recordio.Array("float32", (20,)), "number": recordio.Scalar("int64")}
    with recordio.DatasetWriter(folder, schema, shard_bytes=1 << 12, block_bytes=1 << 10) as writer:
        for n in range(COUNT):
            writer.write({"x": np.full(20, n / 7, np.float32), "number": n + offset})
    objects = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    file = LocalStorage(str(folder)).open(SHARD)
    index = read_footer(file).index_offset
    file.close()
    places = {"manifest": (MANIFEST, 0), "header": (SHARD, 0), "page": (SHARD, index // 2), "index": (SHARD, index)}
    return Stored(objects, places)


def numbers(url: str, storage: dict[str, Any], cache: Path | None = None) -> list[int]:
    """What a dataset at a URL holds, every byte of it read."""
    ds = ShardDataset(url, storage=storage, cache=cache)
    found = ds.take(np.arange(len(ds)))
    assert np.array_equal(found["x"][:, 0], np.arange(COUNT, dtype=np.float32) / np.float32(7))
    return [int(one) for one in found["number"]]
