"""How cost grows: data larger than memory, many shards, many datasets, large batches, large views; and what must not.

    python benchmarks/scale.py [--sections cold shards] [--rounds 3] [--gigabytes 3] [--plots docs/pictures] [--json]

Public names only, every figure from a process of its own, medians over the rounds. The sections:

cold      data of six times the memory, which the section limits itself, page cache included; beside the rate of the
          device over the same files, and Bagz, LitData and MDS where they are installed. Linux, and the right to make
          a control group, or systemd-run: without a limit nothing is measured. The disk holds --gigabytes at a time.
          Useful bytes are those of the rows delivered; of coded rows, those of their files. "read / useful" takes the
          larger count of the process's own and the device's, which has what others read meanwhile in it.
shards    1 to 10,000 shards of 100 samples: opening, first batches, epochs, single samples, a column, and the memory
          after all of these with windows of 8 MiB
datasets  1 to 200 datasets, concatenated and mixed: the first batch, and a sample of the rest
writing   one write_batch of ever more integers and texts; schemas of 10 to 4,000 fields
views     a split and a random selection of 10^6 to 10^8 samples: the start of an epoch
warm      epochs of the five workloads, beside another checkout with --against

`--store FILE` keeps the tables as JSON, and a later run adds its sections to them. `--plots FOLDER` draws what the file
holds (FOLDER/scale.json by default); with `--sections none` nothing is measured first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measuring import answer, machine, say, scratch, show
from scaling import cold, datasets, shards, targets, views, warm, writing
from scaling.memory_limit import NoLimitError
from scaling.section import Results

SECTIONS: dict[str, Any] = {
    "cold": cold,
    "shards": shards,
    "datasets": datasets,
    "writing": writing,
    "views": views,
    "warm": warm,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=[*SECTIONS, "none"], default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the folder to write to, on a disk; default: a temporary one")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keep the tables in this file of JSON")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw SVGs there; needs matplotlib")
    parser.add_argument(
        "--before", type=Path, metavar="FILE", help="draw the tables of an earlier --store beside, dashed"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    for section in SECTIONS.values():
        section.add_arguments(parser)
    return parser.parse_args()


def measured(options: argparse.Namespace) -> Results:
    """The sections that were asked for, shown as they are done."""
    results: Results = {}
    for name in options.sections:
        if name == "none":
            continue
        with scratch(options.out) as out:
            try:
                results[name] = SECTIONS[name].run(__file__, out, options)
            except NoLimitError as error:
                say(f"{name} is left out, no memory limit: {error}")
                continue
        for title, rows in results[name].items():
            show(rows, options.json, title if title == name else f"{name}: {title}")
        if store := stored(options):
            store.parent.mkdir(parents=True, exist_ok=True)
            store.write_text(json.dumps(loaded(store) | {name: results[name]}, indent=1) + "\n", "utf-8")
    return results


def stored(options: argparse.Namespace) -> Path | None:
    """The file that keeps the tables."""
    return options.store or (options.plots / "scale.json" if options.plots else None)


def loaded(path: Path | None) -> Results:
    """The tables in a file; none if there is no file yet."""
    found: Results = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
    return found


def main() -> None:
    options = arguments()
    if options.one:
        answer(SECTIONS[options.one["section"]].measure(options.one))
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    results = loaded(stored(options)) | measured(options)
    show(list(targets.rows(results)), options.json, "targets")
    if options.plots:
        from scaling import plots  # needs matplotlib

        plots.draw(loaded(stored(options)), options.plots, loaded(options.before))


if __name__ == "__main__":
    main()
