"""recordio and its peers on every path, taking turns in one sitting; `make bench` writes what it finds into the docs.

    python benchmarks/bench.py [--quick] [--workloads tabular text] [--contenders recordio_plain bagz] [--json]

Without options that leave something out it takes about 12 minutes with two peers, compares its figures with those that
docs/performance.md has, naming each that differs by more than the noise of both, and then writes the section between
the markers of that page anew, its pictures, and the table of speeds in README.md. Whatever leaves something out writes
to build/bench instead, and so does --check, which only compares. build/bench/results.json keeps every round; --results
FILE writes the pages from such a file, or checks it, without measuring anything.

Each contender runs in a process of its own in every round, and each round starts with another contender, so that a slow
moment of the machine affects all. Batches of 256 as NumPy columns, a warm page cache, and no worker processes but in
the section about them. Within a process a measure is the best of several passes.

Measures that take a contender more than --patience seconds run in the first round only, and the slowest contenders
(grain, webdataset, mds) get one round with a quarter of the samples; all figures are rates, so they still compare.

Ours with zstd is held against peers that compress, by declaration or with files below 95 % of the data; the others
against all peers.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import workloads
from benching import marked, readme
from benching.rounds import Standing, Workload, in_turns, rows_of, with_workers
from benching.section import PICTURES, Results, section
from contenders import ALL, versioned
from measuring import Row, machine, say, scratch
from workloads import add_arguments, available

TOP = Path(__file__).parents[1]
PAGE, README = "performance.md", TOP / "README.md"
SECTION, SPEEDS = "bench", "speeds"  # markers
ROUNDS = 3
QUICK = {"samples": 1000, "rounds": 2}
MAPS = {"tabular": "scaled", "tokens": "ordered"}
MAP_WORDS = {
    "tabular": "a map of 12 µs of Python and small calls of NumPy, which holds the interpreter's lock",
    "tokens": "a map of one call of NumPy that lets go of the lock",
}
WORKERS = (0, 1, 2, 4)
SIZES = (10_000, 50_000, 250_000)
WITH_WORKERS = ("recordio_plain", "bagz", "litdata")
WITH_SIZES = ("recordio_plain", "recordio_auto", "bagz", "litdata")
SIZE_MEASURES = ("shuffled", "one", "first")
EXTRAS = ("workers", "sizes")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--extras", nargs="*", choices=EXTRAS, default=list(EXTRAS), help="besides the paths (all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--patience", type=float, default=2.0, help="seconds; see above")
    parser.add_argument("--quick", action="store_true", help="1,000 samples and two rounds: three minutes")
    parser.add_argument("--out", type=Path, help="the folder for datasets; default: a temporary one")
    parser.add_argument("--build", type=Path, default=TOP / "build" / "bench", help="what is left out of the docs")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="which need matplotlib")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the pages from it, and measure nothing")
    parser.add_argument("--check", action="store_true", help="compare with the pages, and leave them as they are")
    parser.add_argument("--json", action="store_true", help="also print a line of JSON for each row")
    options = parser.parse_args()
    options.leaves_out = bool(
        options.quick
        or options.rounds < ROUNDS
        or options.samples
        or set(options.workloads) != set(workloads.ALL)
        or set(options.contenders) != set(ALL)
        or set(options.extras) != set(EXTRAS)
        or not options.pictures
    )
    if options.quick:
        options.samples, options.rounds = options.samples or QUICK["samples"], QUICK["rounds"]
    return options


def measured(options: argparse.Namespace) -> Row:
    """All that was asked for, as JSON keeps it."""
    began = time.monotonic()
    installed = [name for name in options.contenders if ALL[name].installed()]
    with scratch(options.out) as out:
        works = [Workload.stored(name, samples, out) for name, samples in available(options)]
        standings = [Standing(work, name) for work in works for name in installed]
        in_turns(standings, options.rounds, options.patience)
        paths = list(rows_of(standings))
        some = [one for one in standings if one.name in WITH_WORKERS]
        workers = with_workers(some, MAPS, WORKERS, options.rounds) if "workers" in options.extras else []
        sizes = list(by_size(installed, out, options)) if "sizes" in options.extras else []
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["benchmarks/bench.py", *sys.argv[1:]]),
        "machine": machine(),
        "rounds": options.rounds,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "samples": {work.name: work.samples for work in works},
        "without": [name for name in options.workloads if name not in {work.name for work in works}],
        "versions": list(dict.fromkeys(versioned(one) for name in installed for one in ALL[name].packages)),
        "missing": not_installed(options.contenders),
        "maps": MAP_WORDS,
        "leaves_out": options.leaves_out,
    }
    return {"about": about, "paths": paths, "workers": workers, "sizes": sizes}


def by_size(installed: Sequence[str], out: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The same rows, ever more of them."""
    counts = SIZES if not options.samples else [options.samples * k for k in (1, 4)]
    names = [name for name in WITH_SIZES if name in installed]
    standings = []
    for count in counts:
        work = Workload.stored(f"tabular-{count}", workloads.tabular(count, None), out)
        standings += [Standing(work, name, SIZE_MEASURES) for name in names]
    in_turns(standings, min(2, options.rounds), options.patience)
    wanted = (*SIZE_MEASURES, "memory")
    yield from (row for row in rows_of(standings) if row.get("measure", "first") in wanted)


def not_installed(names: Sequence[str]) -> list[str]:
    """The packages of contenders that are not here."""
    return list(dict.fromkeys(one for name in names if not ALL[name].installed() for one in ALL[name].packages))


def publish(found: Row, options: argparse.Namespace) -> None:
    """Says how the figures differ from those of the page, and writes the page, its pictures and README.md."""
    writes = not (options.leaves_out or options.check)
    folder = TOP / "docs" if writes else options.build
    found["about"]["pictures"] = PICTURES if options.pictures else {}
    results = Results(found)
    lines = "".join(f"{line}\n" for line in section(results))
    page = TOP / "docs" / PAGE
    if writes or options.check:
        for line in marked.compared(marked.cut(page.read_text("utf-8"), SECTION)[1], lines).lines():
            print(line)
    if writes:
        marked.write(README, SPEEDS, "".join(f"{line}\n" for line in readme.table(results)))
    folder.mkdir(parents=True, exist_ok=True)
    marked.write(folder / PAGE, SECTION, lines)
    if options.pictures:
        from benching import pictures  # needs matplotlib

        pictures.draw(results, folder / "pictures")
    print(f"wrote {folder / PAGE}")


def main() -> None:
    options = arguments()
    if options.results:
        found = json.loads(options.results.read_text("utf-8"))
        options.leaves_out |= found["about"]["leaves_out"]
        publish(found, options)
        return
    if not options.leaves_out:  # before it has taken its time
        for path, name in ((TOP / "docs" / PAGE, SECTION), (README, SPEEDS)):
            marked.cut(path.read_text("utf-8"), name)
    say(f"not installed, so left out: {', '.join(not_installed(options.contenders)) or 'none'}")
    found = measured(options)
    options.build.mkdir(parents=True, exist_ok=True)
    (options.build / "results.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if options.json:
        for row in [*found["paths"], *found["workers"], *found["sizes"]]:
            print(json.dumps(row))
    publish(found, options)


if __name__ == "__main__":
    main()
