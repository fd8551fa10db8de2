"""`recordio copy`: a dataset from any place to any other."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say, seconds_text
from recordio.tools.progress import Progress, rate_text
from recordio.tools.splits import find_splits, naming
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.edit.copy import CopyReport

SUMMARY = "copy a dataset between folders and object stores, every byte proved on the way"
STOPPED = "stopped: what is finished is kept; run the same command to go on"
EXAMPLES = """\
examples:
  recordio copy photos.rio s3://bucket/photos               shard by shard; what is there already is not sent again
  recordio copy s3://bucket/photos photos.rio --storage region=eu-west-1
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options left out are not passed on: the defaults are the library's."""
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add("source", metavar="SRC", help="a dataset, or a folder of splits, here or at a URL")
    add("destination", metavar="DST", help="the folder to make")
    add("--workers", type=int, metavar="N", help="shards at a time")
    add("--overwrite", action="store_true", help="replace the manifest of another version of the dataset at DST")
    add_storage_option(parser)
    add_storage_option(parser, "--source-storage", "the same for SRC, if it is in another store")
    add("--json", action="store_true", default=False, help="print one line of JSON")


def run(options: argparse.Namespace) -> int:
    import recordio

    own = ("command", "json", "source", "destination")
    given = {name: value for name, value in vars(options).items() if name not in own}
    facts = []
    for split in find_splits(options.source, given.get("source_storage", given.get("storage"))):
        destination = options.destination if split.name is None else f"{options.destination}/{split.name}"
        with naming(split), Progress("copy", "bytes", quiet=options.json) as progress:
            report = recordio.copy(split.path, destination, **given, progress=progress)
        facts.append({"split": split.name, **asdict(report)})
        if not options.json:
            _say(report, progress)
    if options.json:
        say(json_line({"datasets": facts}))
    return 0


def _say(report: CopyReport, progress: Progress) -> None:
    size = (
        f"{count_text(report.samples, 'sample')} in {count_text(report.shards, 'shard')}, {bytes_text(report.nbytes)}"
    )
    before = ", was there already" if report.done_before else ""
    say(f"{clean(report.destination)}: {size}{before}")
    if report.copied:
        speed = f", {rate_text(progress.done / progress.seconds, 'bytes')}" if progress.seconds > 0 else ""
        reused = f", {report.reused:,} were there" if report.reused else ""
        say(f"  {count_text(report.copied, 'shard')} copied{reused}, in {seconds_text(progress.seconds)}{speed}")
