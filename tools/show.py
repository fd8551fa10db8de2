"""`recordio show`: prints samples, readable or as JSON."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recordio.display.text import clean, count_text, json_line
from recordio.errors import DatasetError, SchemaError
from recordio.tools.output import say
from recordio.tools.splits import Split, find_splits, naming, open_whole
from recordio.tools.storage_option import add_storage_option

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset

SUMMARY = "print samples"
STOPPED = "stopped"
EXAMPLES = """\
examples:
  recordio show digits                               the first samples
  recordio show digits --index 7                     one of them; -1 is the last
  recordio show digits --count 100 --fields label    some fields only
  recordio show digits --count 50 --save digits/     their pictures, sounds, texts and arrays as files
  recordio show digits --json                        a line a sample: {"split": ..., "index": ..., "sample": {...}}
"""
COUNT = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DST", help="a dataset, a folder of splits, or the URL of a dataset")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--index", type=int, metavar="I", help="this sample; -1 is the last one")
    choice.add_argument(
        "--count", type=count, default=COUNT, metavar="N", help="the first N samples (default %(default)s)"
    )
    parser.add_argument("--fields", type=lambda text: text.split(","), metavar="A,B", help="these fields only")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one line of JSON a sample")
    how.add_argument("--save", metavar="DIR", help="write the values as files to this new folder, and print nothing")
    add_storage_option(parser)


def count(text: str) -> int:
    """A number of samples. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"not a number of samples: {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    if options.save == "":
        raise DatasetError("--save names no folder")
    good = True
    for number, split in enumerate(find_splits(options.path, options.storage)):
        if number and not options.json and options.save is None:
            say()
        with naming(split):
            dataset, _ = open_whole(split, options.fields)
            if options.save is None:
                _show(split, dataset, options)
            else:
                good &= _save(split, dataset, options)
    return int(not good)


def _show(split: Split, dataset: ShardDataset, options: argparse.Namespace) -> None:
    if not options.json:
        say(f"{clean(split.path)}: {count_text(len(dataset), 'sample')}")
    for index in _indices(split, dataset, options):
        if options.json:
            say(_json(split, index, dataset[index]))
        else:
            _print(index, dataset[index], dataset)


def _save(split: Split, dataset: ShardDataset, options: argparse.Namespace) -> bool:
    """Whether every sample could be read and saved."""
    from recordio.tools.save import save_samples

    indices = _indices(split, dataset, options)
    folder = options.save if split.name is None else os.path.join(options.save, split.name)
    saved = save_samples(dataset, indices, folder)
    samples = len(indices) - len(saved.faults)
    say(f"{clean(folder)}: {count_text(samples, 'sample')} in {count_text(saved.files, 'file')}")
    if saved.faults:
        left_out, (index, fault) = count_text(len(saved.faults), "sample"), saved.faults[0]
        fault.at(dataset=split.name)
        say(f"recordio: error: {left_out} left out; the first is sample {index}: {clean(str(fault))}", sys.stderr)
    return not saved.faults


def _indices(split: Split, dataset: ShardDataset, options: argparse.Namespace) -> Sequence[int]:
    """Raises SchemaError for an index out of range."""
    size = len(dataset)
    if options.index is None:
        return range(min(options.count, size))
    if not -size <= options.index < size:
        raise SchemaError(f"no sample {options.index}: {split.path} has {count_text(size, 'sample')}")
    return [options.index % size]


def _json(split: Split, index: int, sample: Mapping[str, Any]) -> str:
    from recordio.display.values import json_value

    values = {name: json_value(value) for name, value in sample.items()}
    return json_line({"split": split.name, "index": index, "sample": values})


def _print(index: int, sample: Mapping[str, Any], dataset: ShardDataset) -> None:
    from recordio.display.values import sample_lines

    say()
    say(f"sample {index}")
    for line in sample_lines(sample, dataset.metadata, shutil.get_terminal_size().columns):
        say(line)
