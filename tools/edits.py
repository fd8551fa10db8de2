"""What `recordio merge`, `append`, `reshard` and `split` have in common: options, progress, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.sizes import nbytes
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.edit.job import EditReport

STOPPED = "stopped: what is finished is kept; run the same command to go on"


def add_common_options(parser: argparse.ArgumentParser, *, overwrite: bool = True) -> None:
    """Options left out are not passed on: the defaults are the library's."""
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="processes; the result does not depend on their number")
    if overwrite:
        add("--overwrite", action="store_true", help="replace a dataset that is at DST")
        add("--parity", type=int, metavar="N", help="a file of parity for every N shards, as for convert")
    add_storage_option(parser)
    add("--json", action="store_true", default=False, help="print one line of JSON")


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """How samples are laid out that are written anew."""
    add = parser.add_argument
    add("--compression", metavar="HOW", help="auto, none, narrow, zstd[:LEVEL] or narrow+zstd[:LEVEL]")
    add("--shard-bytes", type=nbytes, metavar="SIZE", help="about the size of a shard, such as 256MiB")
    add("--block-bytes", type=nbytes, metavar="SIZE", help="gather samples into blocks of this size, such as 256KiB")


def run_edit(label: str, options: argparse.Namespace, edit: Callable[..., Any], *given: str) -> int:
    """Calls a function of the library with these arguments, in this order, and all the other options."""
    named = {name: value for name, value in vars(options).items() if name not in ("command", "json", *given)}
    with Progress(label, "samples", quiet=options.json) as progress:
        result = edit(*(getattr(options, name) for name in given), **named, progress=progress)
    reports: Mapping[str | None, EditReport] = result if isinstance(result, dict) else {None: result}
    if options.json:
        facts = [{"split": split, **asdict(report)} for split, report in reports.items()]
        say(json_line({"datasets": facts}))
        return 0
    for report in reports.values():
        for line in _lines(report):
            say(line)
    return 0


def _lines(report: EditReport) -> Iterator[str]:
    size = f"{count_text(report.samples, 'sample')} in {count_text(report.shards, 'shard')}"
    before = ", was there already" if report.done_before else ""
    yield f"{clean(report.destination)}: {size}, {bytes_text(report.nbytes)}{before}"
    if not report.done_before:
        yield f"  {count_text(report.copied, 'shard')} copied, {report.rewritten:,} written anew"
    if report.reused:
        yield f"  {count_text(report.reused, 'shard')} finished by an earlier run"
    yield from (f"  note: {clean(note)}" for note in report.notes)
