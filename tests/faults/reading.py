"""Reads a dataset in every way, and returns the outcomes: data, a RecordIOError, or a crash."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import recordio
import recordio.remote.opening
from recordio.reader.verify import VerifyReport, verify
from recordio.storage.local import LocalStorage
from recordio.storage.memory import MemoryStorage
from tests.faults.forging import Files

PLACE = "in memory"


@contextmanager
def in_memory(files: Files) -> Iterator[str]:
    """Makes the files the dataset at PLACE."""
    recordio.remote.opening.LocalStorage = lambda _: MemoryStorage(files)
    try:
        yield PLACE
    finally:
        recordio.remote.opening.LocalStorage = LocalStorage


def open_files(files: Files, **options: Any) -> recordio.ShardDataset:
    with in_memory(files) as place:
        return recordio.ShardDataset(place, **options)


def verify_files(files: Files) -> VerifyReport:
    with in_memory(files) as place:
        return verify(place)


def frozen(value: Any) -> list[Any]:
    """A form that compares equal only for the same types and bytes. Not recursive: data may be deep."""
    out: list[Any] = []
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, np.ma.MaskedArray):
            out.append("masked")
            pending += [np.ma.getmaskarray(value), value.filled(0)]
        elif isinstance(value, (np.ndarray, np.generic)):
            out.append((value.dtype.str, value.shape, value.tobytes()))
        elif isinstance(value, dict):
            out.append(("dict", *value))
            pending += value.values()
        elif isinstance(value, (list, tuple)):
            out.append(("list", len(value)))
            pending += value
        else:
            out.append((type(value).__name__, value))
    return out


def _few(ds: recordio.ShardDataset) -> range:
    return range(min(len(ds), 64))


def _take(ds: recordio.ShardDataset) -> Any:
    return ds.take(_few(ds))


def _each(ds: recordio.ShardDataset) -> Any:
    return [ds[i] for i in _few(ds)]


def _columns(ds: recordio.ShardDataset) -> Any:
    return {name: ds[: len(_few(ds))].column(name) for name in ds.schema}


def _loader(ds: recordio.ShardDataset) -> Any:
    return [batch for batch, _ in zip(recordio.DataLoader(ds, 2), range(32), strict=False)]


def _shuffled(ds: recordio.ShardDataset) -> Any:
    return [batch for batch, _ in zip(recordio.DataLoader(ds, 3, shuffle=True), range(32), strict=False)]


WAYS: dict[str, Callable[[recordio.ShardDataset], Any]] = {
    "take": _take,
    "[i]": _each,
    "column": _columns,
    "DataLoader": _loader,
    "shuffled": _shuffled,
}


def outcome(action: Callable[[], Any]) -> tuple[str, Any]:
    """("data", the frozen value), ("error", the RecordIOError), or ("crash", any other exception)."""
    try:
        return "data", frozen(action())
    except recordio.RecordIOError as error:
        return "error", error
    except Exception as error:  # noqa: BLE001 crashes are the findings
        return "crash", error


def read(files: Files, ways: Any = WAYS, **options: Any) -> dict[str, tuple[str, Any]]:
    """The outcome of each way of reading; {"open": ...} if it does not open."""
    found: list[recordio.ShardDataset] = []
    opened = outcome(lambda: found.append(open_files(files, **options)))
    if opened[0] != "data":
        return {"open": opened}
    ds = found[0]
    return {name: outcome(functools.partial(WAYS[name], ds)) for name in ways}


def wrong(files: Files, expected: dict[str, Any] | None, ways: Any = WAYS, **options: Any) -> list[str]:
    """The faults: crashes, and data other than expected. None accepts any data."""
    out = []
    for way, (kind, value) in read(files, ways, **options).items():
        if kind == "crash":
            out.append(f"{way}: {type(value).__name__}: {str(value)[:120]}")
        elif kind == "data" and expected is not None and value != expected[way][1]:
            out.append(f"{way}: other data")
    return out


def told(files: Files, ways: Any = WAYS, **options: Any) -> list[str]:
    """The faults of a dataset that must not read: ways that do not end in a RecordIOError."""
    found = read(files, ways, **options).items()
    return [f"{way}: {kind} {str(value)[:160]}" for way, (kind, value) in found if kind != "error"]
