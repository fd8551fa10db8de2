"""The values of samples as files of their own: `recordio show --save`.

Contract: files are named by the sample's number and the field's name, of which plain characters alone are kept, so that
no name from a dataset leads anywhere else. Nothing is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recordio.display.text import json_line
from recordio.errors import DatasetError, RecordIOError
from recordio.exports.files import file_names, file_of

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset

LIST = "samples.jsonl"


class Saved(NamedTuple):
    """Attributes:
    files: how many were written.
    faults: (index, error) of the samples that were left out.
    """

    files: int
    faults: list[tuple[int, RecordIOError]]


def save_samples(dataset: ShardDataset, indices: Sequence[int], folder: str) -> Saved:
    """Writes these samples' values into a new folder, and LIST, a line for each sample.

    Numbers and missing values stand in LIST, with the names of the files that hold the others. A sample that cannot be
    read is left out. Raises DatasetError if there is something at `folder`, or it cannot be made.
    """
    try:
        os.makedirs(folder)
    except FileExistsError:
        raise DatasetError(f"there is something already: name a new folder: {folder}") from None
    except OSError as error:
        raise DatasetError(f"the folder cannot be made ({error.strerror}): {folder}") from error
    names = file_names(dataset.schema)
    digits = len(str(max(len(dataset) - 1, 0)))
    files, faults = 1, []
    with _new(folder, LIST) as list_file:
        for index in indices:
            try:
                line, contents = _parts(dataset[index], names, f"{index:0{digits}}")
            except RecordIOError as error:
                faults.append((index, error))
                continue
            for name, data in contents.items():
                with _new(folder, name) as file:
                    file.write(data)
            files += len(contents)
            list_file.write((json_line({"index": index, "sample": line}) + "\n").encode())
    return Saved(files, faults)


def _parts(sample: Mapping[str, Any], names: Mapping[str, str], number: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What LIST says of a sample, and the contents of its files by name. Raises DatasetError."""
    line, contents = {}, {}
    for name, value in sample.items():
        line[name] = value.item() if isinstance(value, np.generic) else value
        if found := file_of(value):
            extension, data = found
            line[name] = f"{number}.{names[name]}{extension}"
            contents[line[name]] = data
    return line, contents


def _new(folder: str, name: str) -> Any:
    return open(os.path.join(folder, name), "xb")
