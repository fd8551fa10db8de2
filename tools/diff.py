"""`recordio diff`: how two copies of a dataset differ."""

from __future__ import annotations

import argparse

from recordio.display.text import clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.storage_option import add_storage_option

SUMMARY = "compare two copies of a dataset by their digests, and name what differs"
STOPPED = "stopped before the end: nothing is known"
EXAMPLES = """\
examples:
  recordio diff digits /backup/digits           shards, and of those that differ the blocks and fields
  recordio diff digits /backup/digits --json    one line

Pages are not read: `recordio verify` proves that each copy is what its digests say.
Exit code: 0 they are the same, 1 they differ, 2 wrong use.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a dataset, or its URL")
    parser.add_argument("second", metavar="B", help="another copy of it")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    import recordio

    report = recordio.diff(options.first, options.second, storage=options.storage)
    if options.json:
        say(json_line(report.to_json()))
        return int(not report.ok)
    for difference in report.differences:
        say(clean(str(difference)))
    names = f"{clean(options.first)} and {clean(options.second)}"
    size = f"{count_text(report.shards, 'shard')} with {count_text(report.samples, 'sample')}"
    differ = f"{count_text(len(report.differences), 'difference')}, {size} the same"
    say(f"SAME  {names}: {size}" if report.ok else f"DIFFERENT  {names}: {differ}")
    return int(not report.ok)
