"""`recordio export`: writes a dataset as files of another format."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.sizes import nbytes
from recordio.tools.storage_option import add_storage_option

SUMMARY = "write a dataset as files of another format"
STOPPED = "stopped: nothing was written"
EXAMPLES = """\
examples:
  recordio export photos.rio photos --to folder             a folder for each class
  recordio export photos.rio shards --to webdataset --shard-bytes 1GB
  recordio export table.rio table --to parquet --fields id,text
"""
FORMATS = ("webdataset", "parquet", "mds", "folder", "npy", "jsonl")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options left out are not passed on: the defaults are the library's."""
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add("source", metavar="SRC", help="the dataset, which stays as it is")
    add("destination", metavar="DST", help="a new folder, here or at a URL")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("--fields", type=lambda text: text.split(","), default=None, metavar="A,B,...", help="these fields alone")
    add("--shard-bytes", type=nbytes, metavar="SIZE", help="about the size of a file, such as 256MiB")
    add("--base64", action="store_true", help="in jsonl, bytes and pictures become text")
    add("--workers", type=int, metavar="N", help="processes; the result does not depend on their number")
    add_storage_option(parser)
    add("--json", action="store_true", default=False, help="print one line of JSON")


def run(options: argparse.Namespace) -> int:
    import recordio

    own = ("command", "json", "fields", "source")
    given = {name: value for name, value in vars(options).items() if name not in own}
    source: Any = options.source
    if options.fields is not None:
        source = recordio.ShardDataset(source, fields=options.fields, storage=given.get("storage"), cache=None)
    with Progress("export", "samples", quiet=options.json) as progress:
        report = recordio.export(source, **given, progress=progress)
    if options.json:
        say(json_line(asdict(report)))
        return 0
    files = count_text(report.files, "file")
    size = f"{count_text(report.samples, 'sample')} in {files}, {bytes_text(report.nbytes)}"
    say(f"{clean(report.destination)}: {size} ({report.to})")
    for note in report.notes:
        say(f"  note: {clean(note)}")
    return 0
