"""The curves of scale.py as SVGs: epochs against data / memory; cost against shards, datasets, batches, views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from measuring import Row, say

from scaling.section import Results
from scaling.writing import INTEGERS, PIECE, TEXTS

COLOURS = ("#1f6fb4", "#d1561e", "#3a8f3a", "#7d4fa8", "#8a8a8a")


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of the rows of a table with some values, against another figure."""

    label: str
    where: Row
    y: str


@dataclass(frozen=True, slots=True)
class Plot:
    name: str
    section: str
    table: str
    x: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    logarithmic: bool = True


def _plots() -> Iterator[Plot]:
    runs = ("shuffled", "in order", "device, random", "device, in order")
    cold = tuple(Line(run, {}, f"{run} MB/s") for run in runs)
    yield Plot("cold", "cold", "curve", "data / memory", "data / memory", "MB/s of an epoch, cold", cold, False)
    figures = ("open again ms", "first batch in order ms", "first batch shuffled ms")
    shards = tuple(Line(figure.removesuffix(" ms"), {}, figure) for figure in figures)
    yield Plot("shards", "shards", "shards", "shards", "shards of 100 samples", "ms", shards)
    kinds = tuple(Line(kind, {"kind": kind}, "first batch ms") for kind in ("concatenated", "mixed"))
    yield Plot(
        "datasets", "datasets", "datasets", "datasets", "datasets of 2,000 samples", "ms to the first batch", kinds
    )
    batches = tuple(
        Line(f"{values}{how}", {"values": values}, figure)
        for values in (INTEGERS, TEXTS)
        for how, figure in ((", one batch", "CPU s"), (f", pieces of {PIECE:,}", f"in pieces of {PIECE:,}, CPU s"))
    )
    yield Plot("writing", "writing", "one batch", "samples", "samples in one write_batch", "CPU s", batches)
    views = tuple(Line(view, {"view": view}, "epoch start s") for view in ("whole", "split 0.9", "random select"))
    yield Plot("views", "views", "views", "samples", "samples of the view", "s to the first batch", views)


def draw(results: Results, folder: Path, before: Results | None = None) -> None:
    """Draws what there are figures of, as FOLDER/scale-NAME.svg; those of `before` are dashed."""
    for plot in _plots():
        if results.get(plot.section, {}).get(plot.table):
            save(folder / f"scale-{plot.name}.svg", partial(curves, plot=plot, results=results, before=before))


def save(path: Path, fill: Callable[[Any], None], height: float = 3.6) -> None:
    """Draws axes into an SVG. The same figures give the same file: no date, no random ids."""
    style = {"svg.hashsalt": "scale", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.4, height))
        axes = figure.add_subplot()
        fill(axes)
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    say(f"drew {path}")


def curves(axes: Any, plot: Plot, results: Results, before: Results | None = None) -> None:
    for line, colour in zip(plot.lines, COLOURS, strict=False):
        _add(axes, _points(plot, line, results), line.label, color=colour, marker="o", markersize=4)
        if before:
            label = f"{line.label}, before"
            _add(
                axes,
                _points(plot, line, before),
                label,
                color=colour,
                marker="o",
                markersize=3,
                linestyle="--",
                alpha=0.6,
            )
    if plot.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)


def plain_numbers(axis: Any) -> None:
    """Labels of an axis with a logarithmic scale: 1,000 rather than a power."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(lambda value, _: "")


def _points(plot: Plot, line: Line, results: Results) -> list[tuple[float, float]]:
    rows = results.get(plot.section, {}).get(plot.table, [])
    chosen = [row for row in rows if all(row.get(name) == value for name, value in line.where.items())]
    return sorted((row[plot.x], row[line.y]) for row in chosen if row.get(line.y) is not None)


def _add(axes: Any, points: list[tuple[float, float]], label: str, **style: Any) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.5, **style)
