"""`recordio split`: cuts a dataset into several, at random."""

from __future__ import annotations

import argparse

from recordio.tools.edits import STOPPED as STOPPED, add_common_options, add_layout_options, run_edit

SUMMARY = "cut a dataset into several, such as train and val, at random"
EXAMPLES = """\
examples:
  recordio split all parts --parts train=0.8,val=0.2        parts/train and parts/val
  recordio split all parts --parts train=0.8,val=0.1,test=0.1 --seed 7 --stratify label
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="the dataset, which stays as it is")
    parser.add_argument("destination", metavar="DST", help="the folder of the new datasets")
    add_common_options(parser)
    add = parser.add_argument
    add("--parts", type=fractions, required=True, metavar="A=F,B=F,...", help="the fraction of each part, by its name")
    add("--seed", type=int, metavar="N", help="another seed draws other samples; 0 by default")
    add("--stratify", metavar="FIELD", help="split the samples of each value of this field in these proportions")
    add_layout_options(parser)


def fractions(text: str) -> dict[str, float]:
    """'train=0.8,val=0.2' -> {'train': 0.8, 'val': 0.2}. Raises ArgumentTypeError."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            fraction = float(number)
        except ValueError:
            raise argparse.ArgumentTypeError(f"not a part: {part!r}; expected such as train=0.8") from None
        if name in found:
            raise argparse.ArgumentTypeError(f"the part {name!r} is given twice")
        found[name] = fraction
    return found


def run(options: argparse.Namespace) -> int:
    import recordio

    return run_edit("split", options, recordio.split, "source", "destination", "parts")
