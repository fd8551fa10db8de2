"""Samples whose every value follows from their number, so that whatever is read can be checked."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import recordio
from recordio import DatasetError, ShardDataset

SCHEMA = recordio.Schema(
    {
        "number": recordio.Scalar("int64"),
        "text": recordio.Text(),
        "vector": recordio.Array("float32", (5,)),
        "blob": recordio.Bytes(optional=True),
        "notes": recordio.Object(),
    }
)


def sample(number: int) -> dict[str, Any]:
    rng = random.Random(number)
    return {
        "number": number,
        "text": f"text {number} \N{SNOWMAN}" * rng.randrange(4),
        "vector": np.arange(5, dtype=np.float32) * np.float32(number % 1009),
        "blob": None if number % 11 == 0 else rng.randbytes(rng.randrange(200)),
        "notes": {"number": number, "list": [number % 7, None, "x" * rng.randrange(20)]},
    }


def check(found: Mapping[str, Any]) -> int:
    """The number of a sample, of which every value is right."""
    number = int(found["number"])
    for name, value in sample(number).items():
        is_right = np.array_equal(found[name], value) if name == "vector" else found[name] == value
        assert is_right, f"sample {number}: {name} is {found[name]!r}, not {value!r}"
    return number


def check_columns(columns: Mapping[str, Any]) -> list[int]:
    """The numbers of a batch, of which every value is right."""
    names = list(columns)
    return [check(dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def held(folder: Path) -> list[int] | None:
    """The samples of a dataset, in order, every value checked; None if there is none."""
    try:
        ds = ShardDataset(folder, verify="always")
    except DatasetError:
        return None
    return check_columns(ds.take(range(len(ds))))


def litter(folder: Path) -> list[str]:
    """Files of a dataset's folder that do not belong to it."""
    own = {"manifest.json", "signature.json", "quarantine.json", ".source", *ShardDataset(folder).store.manifest.files}
    return sorted({path.name for path in folder.iterdir()} - own)
