"""How cost grows: data larger than memory, many shards, many datasets, large batches, large views; and what must not.

    python benchmarks/scale.py [--sections cold shards] [--rounds 3] [--gigabytes 3] [--plots docs/pictures] [--json]

Public names only, every figure from a process of its own, medians over the rounds. The sections:

cold      data of six times the memory, which the section limits itself, page cache included; beside the rate of the
          device over the same files, and Bagz, LitData and MDS where they are installed. Linux, and the right to make
          a control group, or systemd-run; without a limit nothing is measured. No more disk than --gigabytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measuring import answer, machine, say, scratch, show
from scaling import cold
from scaling.memory_limit import NoLimitError
from scaling.section import Tables

SECTIONS = {"cold": cold}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the folder to write to, on a disk; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    for section in SECTIONS.values():
        section.add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.one:
        answer(SECTIONS[options.one["section"]].measure(options.one))
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    results: dict[str, Tables] = {}
    with scratch(options.out) as out:
        for name in options.sections:
            try:
                results[name] = SECTIONS[name].run(__file__, out, options)
            except NoLimitError as error:
                say(f"{name} is left out, no memory limit: {error}")
                continue
            for title, rows in results[name].items():
                show(rows, options.json, f"{name}: {title}")


if __name__ == "__main__":
    main()
