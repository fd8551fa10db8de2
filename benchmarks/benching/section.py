"""The section of docs/performance.md that bench.py writes, from its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from contenders import ALL
from measuring import Row

from benching.figures import MEASURES, TIMES, Figure, Measure, ratio

COMPRESSES = 0.95  # of the data: with smaller files a contender counts as one that compresses
PATH_NOTES = {
    "shuffled": "A contender without a shuffle of its own reads a permutation. Of plain bytes LitData gives views of "
    "its files, the others copies.",
    "one": "`ds[i]`, by random numbers.",
    "p50": "Time between two batches of a shuffled epoch, the first one included.",
    "first": "From a path to the first shuffled batch, with modules loaded and files in the cache.",
    "write": "Sample by sample, but for `write_batch`. What is made durable (ours by default, `+ fsync`) is held "
    "against peers that do so, the rest against the rest.",
    "memory": "The most that a process holds (anonymous and shared memory, not the cache's pages of files), above what "
    "it held with all modules and a dataset of 8 samples.",
}
HEAD = """\
Batches of 256 as NumPy columns, in one process without workers, on a warm page cache; a process of its own for each
contender, workload and round. In a round all contenders take turns on all workloads, and the next round begins with
another. A figure is the median of the rounds, ± its distance from the one that is farthest, 5 % at least, and 1 MB of
memory. Ours with zstd is held against peers that compress, the rest against all. `make bench` says which figures of a
new run are farther from these than both noises together, once the speeds of the two machines are divided out."""
PICTURES = {
    "bench-throughput.svg": "samples/s of a shuffled epoch",
    "bench-latency.svg": "99th percentile of the time between two batches, µs",
    "bench-memory.svg": "MB that shuffled epochs hold",
    "bench-workers.svg": "samples/s against workers, with a map of one call of NumPy that lets go of the lock",
    "bench-sizes.svg": "ms from a path to the first shuffled batch, against rows",
}
Cells = Callable[[str, str], str]


class Results:
    """What bench.py measured, as it is kept in JSON."""

    def __init__(self, found: Row) -> None:
        self.about: Row = found["about"]
        self.paths: list[Row] = found["paths"]
        self.workers: list[Row] = found["workers"]
        self.sizes: list[Row] = found["sizes"]
        self._rounds = {(r["workload"], r["contender"], r["measure"]): r["rounds"] for r in self.paths if "rounds" in r}
        self.workloads = list(dict.fromkeys(r["workload"] for r in self.paths))
        self.contenders = list(dict.fromkeys(r["contender"] for r in self.paths))

    def rounds(self, workload: str, contender: str, measure: str) -> list[float] | None:
        return self._rounds.get((workload, contender, measure))

    def compresses(self, workload: str, contender: str) -> bool:
        share = self.rounds(workload, contender, "share")
        return ALL[contender].compressed or (share is not None and share[0] < COMPRESSES)

    def best_peer(self, workload: str, ours: str, measure: Measure) -> str | None:
        """The best of all peers; for ours with zstd of those that compress."""
        there = {
            name: sorted(rounds)[len(rounds) // 2]
            for name in self.contenders
            if ALL[name].role == "peer"
            and (rounds := self.rounds(workload, name, measure.key)) is not None
            and (self.compresses(workload, name) or not ALL[ours].compressed)
            and (measure.key != "write" or ALL[name].durable == ALL[ours].durable)
        }
        return (max if measure.more_is_better else min)(there, key=there.__getitem__) if there else None


def section(results: Results) -> Iterator[str]:
    """The lines of the section, without its markers."""
    yield from _head(results)
    for measure in MEASURES:
        yield from _path(results, measure)
    yield from _workers(results)
    yield from _sizes(results)


def _head(results: Results) -> Iterator[str]:
    about = results.about
    took = f"rounds: {about['rounds']}, in {about['minutes']} minutes"
    yield f"{about['date']}, `{about['command']}`: {about['machine']}; {took}."
    yield ""
    yield HEAD
    yield ""
    samples = ", ".join(f"{name} {count:,} samples" for name, count in about["samples"].items())
    yield f"Workloads (`benchmarks/workloads.py`): {samples}."
    if about["without"]:
        yield f"Left out, without their data: {', '.join(about['without'])}."
    yield f"Versions: {', '.join(about['versions'])}."
    yield f"Not installed, so not here: {', '.join(about['missing']) or 'none'}."
    rows = [*results.paths, *results.sizes]
    notes = [f"{row['contender']} on {row['workload']}: {row['note']}" for row in rows if "note" in row]
    notes += [
        f"{row['contender']} on {row['workload']}, workers: {row['note']}" for row in results.workers if "note" in row
    ]
    if notes:
        yield f"Without figures: {'; '.join(note.rstrip('.') for note in notes)}."
    for name, what in about["pictures"].items():
        yield ""
        yield f"![{what}](pictures/{name})"


def _path(results: Results, measure: Measure) -> Iterator[str]:
    names = [n for n in results.contenders if any(results.rounds(w, n, measure.key) for w in results.workloads)]
    if measure.key != "write":
        names = [name for name in names if ALL[name].measures != ("write",)]

    def cells(name: str, workload: str) -> str:
        rounds = results.rounds(workload, name, measure.key)
        return "" if rounds is None else Figure.of(rounds, measure.step).text()

    def against(name: str, workload: str) -> str:
        ours = name.partition(" :")[0]
        peer = results.best_peer(workload, ours, measure)
        mine = results.rounds(workload, ours, measure.key)
        if peer is None or mine is None:
            return ""
        theirs = results.rounds(workload, peer, measure.key) or []
        return f"{ratio(mine, theirs, measure.more_is_better).text(TIMES)} {peer}"

    yield ""
    yield f"### {measure.title}, {measure.unit}"
    yield ""
    if measure.key in PATH_NOTES:
        yield PATH_NOTES[measure.key]
        yield ""
    yield from grid("contender", names, results.workloads, cells, lambda name: anchor(measure.key, name))
    ours = [n for n in names if ALL[n].role == "ours"]
    if measure.power and any(results.best_peer(w, n, measure) for w in results.workloads for n in ours):
        yield ""
        yield from grid("times as good as", [f"{n} : best peer" for n in ours], results.workloads, against)


def anchor(measure: str, contender: str) -> str:
    """The name that links find a row by."""
    words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in contender).split()
    return "-".join(["bench", measure, *words])


def grid(
    corner: str, rows: Sequence[str], columns: Sequence[str], cells: Cells, anchors: Callable[[str], str] | None = None
) -> Iterator[str]:
    """A markdown table, with a place to link to in each row."""
    yield f"| {corner} | " + " | ".join(columns) + " |"
    yield "|---|" + "--:|" * len(columns)
    for row in rows:
        place = f'<a id="{anchors(row)}"></a>' if anchors else ""
        yield f"| {place}{row} | " + " | ".join(cells(row, column) for column in columns) + " |"


def _of(rows: Iterable[Row], step: float = 0.0, **where: Any) -> Figure | None:
    for row in rows:
        if "rounds" in row and all(row[key] == value for key, value in where.items()):
            return Figure.of(row["rounds"], step)
    return None


def _text(figure: Figure | None) -> str:
    return "" if figure is None else figure.text()


def _workers(results: Results) -> Iterator[str]:
    rows = [row for row in results.workers if "rounds" in row]
    columns = list(dict.fromkeys(row["workers"] for row in rows))
    for workload, what in results.about["maps"].items():
        names = list(dict.fromkeys(row["contender"] for row in rows if row["workload"] == workload))
        if names:
            yield ""
            yield f"### Workers, {workload}: {what}, samples/s"
            yield ""

            def cells(name: str, workers: str, workload: str = workload) -> str:
                return _text(_of(rows, workload=workload, contender=name, workers=workers))

            yield from grid("contender", names, columns, cells)


def _sizes(results: Results) -> Iterator[str]:
    rows = [row for row in results.sizes if "rounds" in row]
    counts = list(dict.fromkeys(row["samples"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for measure in MEASURES:
        if any(row["measure"] == measure.key for row in rows):
            yield ""
            yield f"### Against the size of the dataset: {measure.title.lower()}, {measure.unit}"
            yield ""

            def cells(name: str, count: str, measure: Measure = measure) -> str:
                samples = int(count.split()[0].replace(",", ""))
                return _text(_of(rows, measure.step, contender=name, samples=samples, measure=measure.key))

            yield from grid("contender", names, [f"{count:,} rows" for count in counts], cells)
