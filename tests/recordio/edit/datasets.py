"""Small datasets of several shards, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import recordio
from recordio import Array, Image, Object, Scalar, ShardDataset, Text
from recordio.reader.columns import values_of
from tests.photos import encode, photo

FIELDS: dict[str, Any] = {
    "number": Scalar("int64"),
    "label": Scalar("uint8"),
    "text": Text(optional=True),
    "run": Array("float32", (None,), optional=True),
    "tree": Object(),
    "picture": Image(),
}
PICTURES = [encode(photo(5, 7, seed), "JPEG") for seed in range(3)]


def sample(i: int) -> dict[str, Any]:
    return {
        "number": i,
        "label": i % 2,
        "text": None if i % 5 == 4 else f"text {i}",
        "run": None if i % 4 == 3 else [float(i)] * (i % 3),
        "tree": {"of": [i, None]},
        "picture": PICTURES[i % 3],
    }


def write(
    path: Path, numbers: Iterable[int], fields: Mapping[str, Any] = FIELDS, mode: Any = "create", **metadata: Any
) -> Path:
    """A dataset of these samples, of the fields named."""
    given = {"classes": ["cat", "dog"], **metadata} if mode != "append" else None
    with recordio.DatasetWriter(
        path, fields, shard_samples=7, block_bytes=2000, metadata=given, mode=mode, compression="zstd"
    ) as writer:
        for i in numbers:
            writer.write({name: value for name, value in sample(i).items() if name in fields})
    return path


def rows(dataset: Path | ShardDataset) -> list[dict[str, Any]]:
    """Every sample as it is stored, arrays as lists."""
    ds = dataset if isinstance(dataset, ShardDataset) else ShardDataset(dataset, verify="always")
    ds = ShardDataset(ds.store.storage.folder, fields=list(ds.schema), decode=None)  # type: ignore[attr-defined]
    columns = ds.take(range(len(ds)))
    every = [values_of(column) for column in columns.values()]
    plain = [[value.tolist() if hasattr(value, "tolist") else value for value in values] for values in every]
    return [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]


def numbers(path: Path) -> list[int]:
    found: list[int] = ShardDataset(path).column("number").tolist()
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
