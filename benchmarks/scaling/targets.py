"""The figures that were aimed at, beside those measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from measuring import Row

from scaling.section import Results, row_of
from scaling.writing import INTEGERS, TEXTS


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    aim: float
    section: str
    title: str
    where: Row
    figure: str
    at_least: bool = False


def _cold() -> Iterator[Target]:
    for data in ("plain", "zstd"):
        for run, aim in (("shuffled", 0.7), ("in order", 0.85)):
            where: Row = {"data": data, "run": run}
            for of in ("of best buffered", "of best direct"):
                yield Target(f"cold, {data}, {run}: {of} rate", aim, "cold", "epochs", where, of, True)
            yield Target(f"cold, {data}, {run}: read / useful", 1.1, "cold", "epochs", where, "read / useful")
    where = {"data": "plain", "run": "take(64)"}
    yield Target("cold, take(64): read / useful", 4, "cold", "epochs", where, "read / useful")


def _shards() -> Iterator[Target]:
    figures = {
        "open again ms": (10, 60),
        "first batch shuffled ms": (60, 300),
        "ds[i] µs": (10, 10),
        "column s": (0.1, 1),
        "epoch 1 CPU s": (0.15, None),
        "epoch 2 CPU s": (0.15, None),
        "anonymous MB": (None, 60),
    }
    for figure, aims in figures.items():
        for shards, aim in zip((1_000, 10_000), aims, strict=True):
            if aim is not None:
                yield Target(f"{shards:,} shards: {figure}", aim, "shards", "shards", {"shards": shards}, figure)


def _others() -> Iterator[Target]:
    for kind in ("concatenated", "mixed"):
        where: Row = {"kind": kind, "datasets": 200}
        yield Target(f"200 datasets, {kind}: first batch ms", 100, "datasets", "datasets", where, "first batch ms")
    for values, samples, aim in ((INTEGERS, 10**7, 0.35), (TEXTS, 800_000, 0.6)):
        where = {"values": values, "samples": samples}
        yield Target(f"one write_batch of {samples:,} {values}: CPU s", aim, "writing", "one batch", where, "CPU s")
    for figure, aim in (("disk / values", 1.2), ("ds[i] ms", 10)):
        yield Target(f"4,000 fields: {figure}", aim, "writing", "wide", {"fields": 4_000}, figure)
    where = {"view": "split 0.9", "samples": 10**8}
    for figure, aim in (("epoch start s", 0.5), ("peak MB above the view", 200)):
        yield Target(f"split of 10^8: {figure}", aim, "views", "views", where, figure)
    where = {"view": "random select", "samples": 10**8}
    for figure in ("peak MB above the view",):
        yield Target(f"selection of 10^8: {figure}", 1600, "views", "views", where, figure)


def rows(results: Results) -> Iterator[Row]:
    """A row for each target that was measured."""
    for target in (*_cold(), *_shards(), *_others()):
        row = row_of(results, target.section, target.title, target.where)
        if row is None:
            continue
        found = row.get(target.figure)
        met = found is not None and (found >= target.aim if target.at_least else found <= target.aim)
        asked = f"{'≥' if target.at_least else '≤'} {target.aim:g}"
        verdict = _verdict(met) if found is not None else f"not measured: {row.get('note', '')}"
        yield {"what": target.what, "target": asked, "measured": found, "": verdict}
    for row in results.get("warm", {}).get("warm", []):
        if row["ratio"] is not None:
            what = f"warm, {row['workload']}, {row['pages']}, {row['order']}, by {row['by']}"
            yield {"what": what, "target": "≥ 0.97", "measured": row["ratio"], "": _verdict(row["ratio"] >= 0.97)}


def _verdict(met: bool) -> str:
    return "met" if met else "missed"
