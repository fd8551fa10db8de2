"""`recordio clean`: lists what writers have left beside a dataset, and removes it on request."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.storage_option import add_storage_option

SUMMARY = "list files beside a dataset that nothing refers to; --yes removes them"
STOPPED = "stopped: some may be removed already; run the same command to go on"
EXAMPLES = """\
examples:
  recordio clean s3://bucket/photos          shards of a dataset that was replaced, of a writer that was killed
  recordio clean s3://bucket/photos --yes    remove them; no writer and no reader of the old dataset may be at work

recordio itself leaves no unfinished uploads. For those of other programs, which a bucket charges for and does not list,
have it remove them: a lifecycle rule with AbortIncompleteMultipartUpload after some days.
"""
MOST_SHOWN = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options left out are not passed on: the defaults are the library's."""
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add("path", metavar="DST", help="the dataset")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--yes", dest="remove", action="store_true", help="remove what is found")
    how.add_argument("--dry-run", dest="remove", action="store_false", help="only list it: the default")
    add("--hours", type=float, metavar="N", help="what is newer stays; a day by default")
    add_storage_option(parser)
    add("--json", action="store_true", default=False, help="print one line of JSON")


def run(options: argparse.Namespace) -> int:
    import recordio

    given = {name: value for name, value in vars(options).items() if name not in ("command", "json")}
    report = recordio.clean(**given)
    if options.json:
        say(json_line(asdict(report) | {"nbytes": report.nbytes}))
        return 0
    for one in report.leftovers[:MOST_SHOWN]:
        say(f"  {clean(one.name)}  {bytes_text(one.nbytes)}  {one.hours / 24:.1f} days old")
    if len(report.leftovers) > MOST_SHOWN:
        say(f"  ... and {len(report.leftovers) - MOST_SHOWN:,} more (--json lists all)")
    what = f"{count_text(len(report.leftovers), 'file')}, {bytes_text(report.nbytes)}"
    newer = f"; {report.newer:,} newer ones stay" if report.newer else ""
    if not report.leftovers:
        say(f"{clean(report.location)}: nothing to remove{newer}")
    elif report.removed:
        say(f"{clean(report.location)}: {what} removed{newer}")
    else:
        say(f"{clean(report.location)}: {what} that nothing refers to{newer}; --yes removes them")
    return 0
