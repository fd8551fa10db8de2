"""`recordio merge`: makes one dataset of several."""

from __future__ import annotations

import argparse

from recordio.tools.edits import STOPPED as STOPPED, add_common_options, run_edit

SUMMARY = "make one dataset of several, without coding their pages anew"
EXAMPLES = """\
examples:
  recordio merge week monday tuesday wednesday
  recordio merge pets cats dogs --relabel                   labels become numbers of the classes of all
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", metavar="DST", help="the dataset to make")
    parser.add_argument("sources", metavar="SRC", nargs="+", help="the datasets, one after the other")
    add_common_options(parser)
    parser.add_argument("--relabel", action="store_true", help="map labels to the union of the classes")


def run(options: argparse.Namespace) -> int:
    import recordio

    return run_edit("merge", options, recordio.merge, "destination", "sources")
