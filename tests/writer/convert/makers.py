"""What the tests of Python sources convert, and with what. Processes that are spawned can import it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import recordio
from recordio.writer.convert.convert import ConvertReport

SHARD = 2000


def made(*args: Any, **options: Any) -> ConvertReport:
    """The report of a conversion into a single dataset, in this process and with small shards."""
    report = recordio.convert(*args, **{"workers": 1, "shard_bytes": SHARD} | options)
    assert isinstance(report, ConvertReport)
    return report


def contents(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def one(number: int) -> dict[str, Any]:
    return {"n": number, "text": f"row {number}", "x": np.full(4, number, np.float32)}


def any_number(number: int) -> Any:
    """No sample of some inputs, one of most, several of others: as a list or as they come."""
    kind = number % 10
    if kind == 3:
        return None
    if kind == 4:
        return [one(number), one(number)]
    return several(number) if kind == 5 else one(number)


def several(number: int) -> Iterator[dict[str, Any]]:
    for _ in range(3):
        yield one(number)


def expected(numbers: Any) -> list[int]:
    """The field `n` of all samples that `any_number` makes."""
    return [number for number in numbers for _ in range({3: 0, 4: 2, 5: 3}.get(number % 10, 1))]


def bad_at_700(number: int) -> dict[str, Any]:
    if number == 700:
        raise ValueError("seven hundred")
    return one(number)


def bad_in_the_middle(number: int) -> Iterator[dict[str, Any]]:
    yield one(number)
    if number == 700:
        raise ValueError("seven hundred")
    yield one(number)


def other_shape_at_700(number: int) -> dict[str, Any]:
    return one(number) if number != 700 else one(number) | {"x": np.zeros(5, np.float32)}


def length(sample: dict[str, Any]) -> dict[str, Any]:
    return sample | {"length": len(sample["text"])}


def read(path: Path) -> dict[str, Any]:
    return {"text": path.read_text()}


class Squares:
    """A map-style dataset of tuples."""

    classes = ("even", "odd")

    def __init__(self, length: int = 300, bad: int | None = None) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == self.bad:
            raise KeyError("gone")
        return np.full((3, 3), index, np.int32), index % 2
