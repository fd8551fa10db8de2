"""`recordio repair`: saves what is left of a damaged dataset, and says what is lost."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.salvage.report import RepairReport

SUMMARY = "save what is left of a damaged dataset, and say what is lost"
STOPPED = "stopped: the dataset is as before; run the same command again"
EXAMPLES = """\
examples:
  recordio repair digits                          what would be saved, what is lost; nothing is written
  recordio repair digits mended                   the rest as a new dataset
  recordio repair digits --in-place               the same, where it is
  recordio repair digits mended --from /backup/digits    with what another copy of it still has

Exit code: 0 nothing is lost, 1 something is; without NEW and --in-place, 1 if anything is to be repaired.
"""
_SHOWN = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="the damaged dataset")
    parser.add_argument("destination", metavar="NEW", nargs="?", help="where to write a new dataset")
    parser.add_argument("--from", dest="source", metavar="OTHER", help="another copy of the dataset, to fill the gaps")
    parser.add_argument("--in-place", action="store_true", help="mend the dataset where it is")
    parser.add_argument("--quick", action="store_true", help="do not read the pages of shards that look whole")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    add_storage_option(parser)


def run(options: argparse.Namespace) -> int:
    import recordio

    with Progress("repair", "bytes", quiet=options.json) as progress:
        report = recordio.repair(
            options.path,
            options.destination,
            source=options.source,
            in_place=options.in_place,
            level="quick" if options.quick else "full",
            progress=progress,
            storage=options.storage,
        )
    if options.json:
        say(json_line(report.to_json()))
    else:
        for line in _lines(report, clean(options.destination or options.path)):
            say(line)
    return int(bool(report.lost) if report.destination else not report.ok)


def _lines(report: RepairReport, path: str) -> Iterator[str]:
    if report.manifest is not None:
        yield f"manifest: {clean(report.manifest)}; it is made anew"
    yield from _some("mended", [clean(text) for text in report.mended])
    yield from _some("lost", [clean(str(loss)) for loss in report.lost])
    yield from _some("note", [clean(note) for note in report.notes])
    counts = ((report.shards, "shard"), (report.blocks, "block"), (report.samples, "sample"))
    size = f"{', '.join(count_text(*count) for count in counts)}, {bytes_text(report.nbytes)}"
    yield f"{_verdict(report, path)}: {size}{_loss_text(report)}"


def _some(label: str, lines: list[str]) -> Iterator[str]:
    yield from (f"{label}: {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"{label}: {len(lines) - _SHOWN:,} more; --json has all of them"


def _verdict(report: RepairReport, path: str) -> str:
    if report.ok:
        return f"OK  {path}"
    if report.destination is None:
        return f"{path} can be repaired"
    return f"{path} was written before" if report.done_before else f"{path} is repaired"


def _loss_text(report: RepairReport) -> str:
    if not report.lost:
        return "; nothing is lost"
    samples = report.lost_samples
    return "; nobody knows how much is lost" if samples is None else f"; {count_text(samples, 'sample')} lost"
