"""The results of bench.py as SVGs: bars by contender, and curves against workers and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from contenders import ALL
from measuring import Row
from scaling.plots import Line, Plot, curves, plain_numbers, save

from benching.section import PICTURES, Results

BARS = {"bench-throughput.svg": "shuffled", "bench-latency.svg": "p99", "bench-memory.svg": "memory"}
COLOURS = {"ours": "#1f6fb4", "limit": "#c8c8c8", "peer": "#d1561e"}
WORKERS_OF = "tokens"  # the workload of the picture


def draw(results: Results, folder: Path) -> None:
    """Draws what there are figures of; needs matplotlib."""
    for name, measure in BARS.items():
        names = [n for n in results.contenders if any(results.rounds(w, n, measure) for w in results.workloads)]
        if names:
            fill = partial(_bars, results=results, names=names, measure=measure, what=PICTURES[name])
            save(folder / name, fill, 0.8 + 0.16 * len(names) * len(results.workloads))
    lines = [row for row in results.workers if "rounds" in row and row["workload"] == WORKERS_OF]
    table = [
        {"kind": f"{row['contender']}, {kind}", "workers": count, "rate": median(row["rounds"])}
        for row in lines
        for kind, count in _kinds(row["workers"], [one for one in lines if one["contender"] == row["contender"]])
    ]
    _curves(folder / "bench-workers.svg", table, "workers", "rate", "workers", "samples/s", False)
    table = [
        {"kind": row["contender"], "samples": row["samples"], "first": median(row["rounds"])}
        for row in results.sizes
        if row.get("measure") == "first"
    ]
    _curves(folder / "bench-sizes.svg", table, "samples", "first", "rows", "ms to the first batch", True)


def _kinds(workers: str, rows: Sequence[Row]) -> list[tuple[str, int]]:
    """The lines that a figure is a point of, and its number of workers: none is a point of all."""
    if workers == "none":
        return [(kind, 0) for kind in dict.fromkeys(one["workers"].split()[0] for one in rows) if kind != "none"]
    kind, count = workers.split()
    return [(kind, int(count))]


def _curves(path: Path, table: list[Row], x: str, y: str, x_label: str, y_label: str, logarithmic: bool) -> None:
    if not table:
        return
    kinds = dict.fromkeys(row["kind"] for row in table)
    lines = tuple(Line(kind, {"kind": kind}, y) for kind in kinds)
    plot = Plot(path.stem, "bench", "table", x, x_label, y_label, lines, logarithmic)
    save(path, partial(curves, plot=plot, results={"bench": {"table": table}}))


def _bars(axes: Any, results: Results, names: list[str], measure: str, what: str) -> None:
    """Groups of bars, a group a workload and a bar a contender; the line in a bar is from the least to the most."""
    places, labels = [], []
    for group, workload in enumerate(results.workloads):
        for k, name in enumerate(names):
            rounds = results.rounds(workload, name, measure)
            place = group * (len(names) + 1) + k
            places.append(place)
            labels.append(f"{workload}, {name}")
            if rounds:
                middle = median(rounds)
                error = [[middle - min(rounds)], [max(rounds) - middle]]
                axes.barh(place, middle, xerr=error, color=COLOURS[ALL[name].role], error_kw={"linewidth": 0.8})
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    if measure != "memory":  # which may be none
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    axes.set_xlabel(what)
