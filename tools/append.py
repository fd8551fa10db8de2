"""`recordio append`: adds the samples of one dataset to another."""

from __future__ import annotations

import argparse

from recordio.tools.edits import add_common_options, run_edit

SUMMARY = "add the samples of a dataset to another that is there"
STOPPED = "stopped: the dataset is as before; run the same command to go on"
EXAMPLES = """\
examples:
  recordio append all monday                                monday stays; again adds only what is new in it
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", metavar="DST", help="the dataset that grows")
    parser.add_argument("source", metavar="SRC", help="the dataset whose samples are added")
    add_common_options(parser, overwrite=False)


def run(options: argparse.Namespace) -> int:
    import recordio

    return run_edit("append", options, recordio.append, "destination", "source")
