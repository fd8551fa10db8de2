"""`recordio parity`: gives a dataset parity, or takes it away."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from recordio.display.text import bytes_text, clean, count_text, json_line
from recordio.tools.output import say
from recordio.tools.progress import Progress
from recordio.tools.splits import find_splits, naming

SUMMARY = "add a file for every N shards, from which repair gives back any one of them"
STOPPED = "stopped: the dataset is as before; run the same command again"
EXAMPLES = """\
examples:
  recordio parity photos.rio 16        a file for every 16 shards, as long as the longest of them
  recordio parity photos.rio 0         none any more
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, or a folder of splits")
    parser.add_argument("shards", metavar="N", type=int, help="how many shards have a file in common; 0 for none")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(options: argparse.Namespace) -> int:
    import recordio

    facts = []
    for split in find_splits(options.path):
        label = f"parity {clean(split.name)}" if split.name else "parity"
        with naming(split), Progress(label, "bytes", quiet=options.json) as progress:
            report = recordio.parity(split.path, options.shards, progress=progress)
        facts.append({"split": split.name, **asdict(report)})
        if not options.json:
            before = ", as before" if report.done_before else ""
            files = f"{count_text(report.files, 'file')} of parity, {bytes_text(report.nbytes)}"
            say(f"{clean(report.path)}: {files}{before}")
            for note in report.notes:
                say(f"  note: {clean(note)}")
    if options.json:
        say(json_line({"datasets": facts}))
    return 0
