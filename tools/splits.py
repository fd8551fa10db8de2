"""Finds the datasets at a path on the command line: a single one, or one for each split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from recordio.errors import RecordIOError

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.remote.opening import StorageArgument


class Split(NamedTuple):
    """A dataset; `name` is None for a single one. `storage`: how its object store is reached."""

    name: str | None
    path: str
    storage: StorageArgument = None


def find_splits(path: str, storage: Mapping[str, Any] | None = None) -> list[Split]:
    """The datasets at `path`: train, val, valid, validation, test, then any others by name; or `path` itself.

    Folders with shards but no manifest count too, and so do unfinished conversions: the library reports them, so no
    split is silently missed. A path without datasets is returned as it is, for the library to refuse. Below a URL
    those five names are looked for: a bucket is not listed.

    Raises RecordIOError for a URL that cannot be reached.
    """
    from recordio.format.manifest import FILE_NAME
    from recordio.remote.urls import is_url, local_path
    from recordio.storage.dataset_files import SPLITS, STAGING

    if is_url(path):
        return _known_splits(path, storage) or [Split(None, path, storage)]
    path = local_path(path)
    if os.path.lexists(os.path.join(path, FILE_NAME)) or not os.path.isdir(path):
        return [Split(None, path)]
    with os.scandir(path) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    names = [entry.name for entry in shown if _holds_dataset(entry.path, (FILE_NAME, STAGING))]
    names.sort(key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    return [Split(name, os.path.join(path, name)) for name in names] or [Split(None, path)]


def _known_splits(url: str, storage: Mapping[str, Any] | None) -> list[Split]:
    """The splits of the usual names below a URL where there is no dataset itself."""
    from recordio.format.manifest import FILE_NAME
    from recordio.remote.opening import given_access
    from recordio.remote.write_target import RemoteTarget
    from recordio.storage.dataset_files import SPLITS

    location, options = given_access("path", url, storage)
    target = RemoteTarget(location, options)
    if target.holds(FILE_NAME):
        return []
    names = [name for name in SPLITS if target.holds(f"{name}/{FILE_NAME}")]
    return [Split(name, f"{location.rstrip('/')}/{name}", options) for name in names]


@contextmanager
def naming(split: Split) -> Iterator[None]:
    """Adds the name of the split to errors: those of a shard name its file alone."""
    try:
        yield
    except RecordIOError as error:
        raise error.at(dataset=split.name)


def open_whole(split: Split, fields: Sequence[str] | None) -> tuple[ShardDataset, list[str]]:
    """The dataset with encoded pictures, and those of its fields that are the names of files.

    All fields are read if `fields` is None, those names too, which a dataset reads on request alone.
    """
    import recordio

    dataset = recordio.ShardDataset(split.path, fields=fields, decode=None, storage=split.storage)
    every = list(dataset.store.manifest.schema)
    shown = dataset.store.shown_fields() or every
    files = [name for name in every if name not in shown]
    if fields is None and files:
        dataset = recordio.ShardDataset(split.path, fields=every, decode=None, storage=split.storage)
    return dataset, [name for name in dataset.schema if name in files]


def _holds_dataset(folder: str, signs: tuple[str, ...]) -> bool:
    if not os.path.isdir(folder):
        return False
    with os.scandir(folder) as entries:
        return any(entry.name in signs or entry.name.endswith(".rio") for entry in entries)
