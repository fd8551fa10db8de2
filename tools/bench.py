"""`recordio bench`: how fast a dataset is read on every path, beside what the machine could give."""

from __future__ import annotations

import argparse
from functools import partial

from recordio.display.text import json_line
from recordio.tools.numbers import amount, whole_number
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.storage_option import add_storage_option

SUMMARY = "measure how fast a dataset is read: in order, shuffled, at random, with workers, cold"
STOPPED = "stopped"
EXAMPLES = """\
examples:
  recordio bench photos.rio
  recordio bench tokens.rio --batch-size 64 --workers 8,16 --fields tokens --json

Every path is measured with a plain loader, in turns with the others. `recordio tune` says what holds a loader of your
own back.
"""
_number, _count, _amount = whole_number(1, 1 << 20), whole_number(1, 1 << 10), amount(3600)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", metavar="DST", help="a dataset, or the URL of one")
    add("--batch-size", type=_number, default=256, metavar="N", help="of every batch (256)")
    add("--workers", type=_counts, default=[1, 2, 4], metavar="A,B", help="so many threads, and processes (1,2,4)")
    add("--fields", type=lambda text: text.split(","), metavar="A,B", help="these fields alone")
    add("--seconds", type=_amount, default=1.0, metavar="N", help="that each measurement takes (1)")
    add("--rounds", type=_count, default=3, metavar="N", help="in which the paths take turns (3)")
    add("--no-cold", dest="cold", action="store_false", help="leave the system's cache as it is")
    add("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def _counts(text: str) -> list[int]:
    return [count for count in map(whole_number(0, 256), text.split(",")) if count]


def run(options: argparse.Namespace) -> int:
    import recordio
    from recordio.remote.urls import shown
    from recordio.tuning.bench import bench
    from recordio.tuning.bench_text import bench_lines, facts_of

    opened = partial(recordio.ShardDataset, options.path, fields=options.fields, storage=options.storage)
    with Progress("measuring", "measurements", quiet=options.json) as progress:
        found = bench(
            opened,
            batch_size=options.batch_size,
            workers=options.workers,
            seconds=options.seconds,
            rounds=options.rounds,
            cold=options.cold,
            progress=progress,
        )
    path = shown(options.path)
    for line in [json_line(facts_of(found, path))] if options.json else bench_lines(found, path):
        say(line)
    return 0
