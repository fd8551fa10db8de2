"""Where the datasets are that a path on the command line means: the one that is there, or one for each split."""

from __future__ import annotations

import os
from typing import NamedTuple

WAITING = ".convert"  # where a conversion that is not finished keeps its shards
ORDER = ("train", "val", "valid", "validation", "test")


class Split(NamedTuple):
    """A dataset, and its name where it is one of several."""

    name: str | None
    path: str


def find_splits(path: str) -> list[Split]:
    """The datasets at `path`: train, val, valid, validation, test, then any others by name; or `path` itself.

    A folder that holds shards and no manifest counts too, and so does one whose conversion is not finished: the library
    says what is wrong with it, and no split is passed over. A path with none is left to the library to refuse.
    """
    from recordio.format.manifest import FILE_NAME

    if os.path.lexists(os.path.join(path, FILE_NAME)) or not os.path.isdir(path):
        return [Split(None, path)]
    with os.scandir(path) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    names = [entry.name for entry in shown if _holds_dataset(entry.path, FILE_NAME)]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [Split(name, os.path.join(path, name)) for name in names] or [Split(None, path)]


def _holds_dataset(folder: str, manifest: str) -> bool:
    if not os.path.isdir(folder):
        return False
    with os.scandir(folder) as entries:
        return any(entry.name in (manifest, WAITING) or entry.name.endswith(".rio") for entry in entries)
