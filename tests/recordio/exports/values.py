"""A dataset with a field of each type, and what its values are in plain Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import recordio
from recordio import Array, Bytes, Image, Object, Scalar, ShardDataset, Text
from tests.photos import encode, photo

FIELDS: dict[str, Any] = {
    "image": Image(),
    "label": Scalar("uint8"),
    "text": Text(),
    "score": Scalar("float32"),
    "flag": Scalar("bool"),
    "count": Scalar("int64"),
    "grid": Array("float32", (2, 3)),
    "run": Array("int16", (None, 2)),
    "data": Bytes(),
    "tree": Object(),
    "pixels": Image(shape=(2, 2, 3)),
}
PICTURES = [encode(photo(5, 7, seed), kind) for seed, kind in enumerate(("JPEG", "PNG"))]


def sample(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {
        "image": PICTURES[i % 2],
        "label": i % 2,
        "text": f"téxt\n{i}",
        "score": np.float32(i / 3),
        "flag": i % 3 == 0,
        "count": -(2**40) + i,
        "grid": rng.random((2, 3), "f4"),
        "run": rng.integers(-9, 9, (i % 3, 2)).astype("i2"),
        "data": bytes([i, 0, 255]),
        "tree": {"a": [i, None, "ü"], "b": {}},
        "pixels": rng.integers(0, 256, (2, 2, 3)).astype("u1"),
    }


def write(path: Path, numbers: Iterable[int] = range(12), fields: Any = FIELDS) -> ShardDataset:
    with recordio.DatasetWriter(path, fields, shard_samples=5, metadata={"classes": ["cat", "dog"]}) as writer:
        for i in numbers:
            writer.write({name: value for name, value in sample(i).items() if name in fields})
    return ShardDataset(path, decode=None)


def plain(value: Any) -> Any:
    """Arrays as lists, numbers as Python's."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def expected(numbers: Iterable[int] = range(12), names: Iterable[str] = FIELDS) -> list[dict[str, Any]]:
    wanted = list(names)
    return [plain({name: sample(i)[name] for name in wanted}) for i in numbers]


def rows(dataset: ShardDataset) -> list[dict[str, Any]]:
    return [plain(row) for row in dataset]
