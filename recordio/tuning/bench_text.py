"""What was measured of a dataset, as lines for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from recordio.display.text import bytes_text, clean, count_text, seconds_text, table
from recordio.reader.loading.profile_text import rate_text
from recordio.tuning.speeds import Bench, Limit, Speed

_LEGEND = (
    "batch, 99 %: time between two batches (or single samples), median and 99th percentile; first: until an epoch's",
    "first batch; held: memory above that before; limits: of the files alone, and of one thread with one stage",
)
_PACKAGES = ("numpy", "zstandard", "xxhash")


def bench_lines(found: Bench, path: str) -> Iterator[str]:
    """The dataset, the paths, then what they are held against."""
    yield clean(path)
    data = f"{count_text(found.samples, 'sample')}, {bytes_text(found.nbytes)} in {count_text(found.shards, 'shard')}"
    for name, words in {
        "data": f"{data}; {bytes_text(found.sample_nbytes)} of files a sample; {found.io}",
        "machine": ", ".join(f"{name} {value}" for name, value in machine().items()),
        "measured": f"batches of {found.batch_size:,}; {count_text(found.rounds, 'round')} in turn, "
        f"{found.seconds:g} s each; opened in {_short(found.open_seconds)}",
    }.items():
        yield f"  {name:<10}{words}"
    yield ""
    head = ("path", "files", "workers", "samples/s", "in rounds", "MB/s", "batch", "99 %", "first", "held", "of limit")
    yield from table(head, [_speed(one, found.sample_nbytes) for one in found.speeds], right=range(3, 10))
    yield ""
    yield from table(("limit", "samples/s", "files"), [_limit(one) for one in found.limits], right=(1, 2))
    yield ""
    yield from _LEGEND
    yield from (f"note: {clean(note)}" for note in found.notes)


def _speed(one: Speed, sample_nbytes: float) -> tuple[str, ...]:
    held = "" if one.held_nbytes is None else bytes_text(one.held_nbytes)
    return (
        one.path,
        "cold" if one.cold else "cached",
        one.workers,
        _number(one.rate),
        f"{_number(one.lowest)} to {_number(one.highest)}",
        f"{one.rate * sample_nbytes / 1e6:,.0f}",
        *map(_short, (one.batch_seconds, one.slow_batch_seconds, one.first_batch_seconds)),
        held,
        "" if one.of_limit is None else f"{one.of_limit:.2f} of {clean(one.limit)}",
    )


def _limit(one: Limit) -> tuple[str, str, str]:
    nbytes = one.nbytes_per_second
    return clean(one.name), _number(one.rate), "" if nbytes is None else f"{bytes_text(nbytes)}/s"


def _number(rate: float) -> str:
    return rate_text(rate).partition(" ")[0]


def _short(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return (
        f"{seconds * 1e6:,.3g} µs"
        if seconds < 1e-3
        else f"{seconds * 1e3:.3g} ms"
        if seconds < 1
        else seconds_text(seconds)
    )


def machine() -> dict[str, Any]:
    """What figures depend on, besides the data."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"CPUs": cpus, "Python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def facts_of(found: Bench, path: str) -> dict[str, Any]:
    """Everything, for JSON."""
    return {"path": path, "machine": machine(), **asdict(found)}
