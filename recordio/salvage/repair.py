"""`recordio.repair`: what is left of a damaged dataset, as a dataset."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from recordio.arguments import choice, flag, folder_path
from recordio.errors import DatasetError, SchemaError
from recordio.remote.opening import RemoteAccess, StorageArgument, dataset_access, open_storage
from recordio.remote.urls import is_url
from recordio.salvage.identity import Other
from recordio.salvage.publishing import locked, mend_in_place, write_new
from recordio.salvage.report import Level, RepairReport
from recordio.salvage.survey import Progress, survey
from recordio.storage.local import LocalStorage


def repair(
    path: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    level: Level = "full",
    progress: Progress | None = None,
    storage: StorageArgument = None,
) -> RepairReport:
    """Saves what is left of a damaged dataset.

        recordio.repair("photos")                                    what would be saved, and what is lost
        recordio.repair("photos", "mended", source="/backup/photos") a new dataset, with what the copy still has
        recordio.repair("photos", in_place=True)                     the same, where it is

    Without a manifest, the headers and footers of the shards say what it said, but for statistics and for the record of
    a conversion. A shard that has lost its header, index or footer gets it back from the others and from its blocks,
    which are found by their own headers. A shard of which every block is left is given back bit for bit, proven by its
    digest, whatever its file was called. Otherwise its good blocks are saved, their pages as they are.

    Running it again gives the same, and whoever kills it loses nothing.

    Args:
        path: the dataset's folder, or its URL.
        destination: where to write a new dataset. Whole shards are linked if that is on the same file system.
        source: another copy of the dataset; only what is missing is read from it, and believed by its digest.
        in_place: mends the dataset where it is. The old files stay until the new manifest stands.
        level: "full" reads every page; "quick" takes a shard for whole if its header, index and footer are good.
        progress: called with (bytes read, total bytes).
        storage: how an object store is reached, see `StorageOptions`: path and source may be URLs. A bucket is not
            listed, so a dataset there needs its manifest.

    Raises:
        DatasetError: nothing of a dataset is at the path, nothing can be saved, or the destination is not free.
        CorruptError: a page became unreadable while it was copied; nothing was published.
        StorageError: the system refused; nothing was published.
        SchemaError: an argument is wrong.
    """
    choice("level", level, ("full", "quick"))
    folder, options = dataset_access("path", path, storage)
    if flag("in_place", in_place) and destination is not None:
        raise SchemaError("a repair is in_place or has a destination, not both")
    if in_place and is_url(folder):
        raise DatasetError("a dataset in a bucket is repaired into a new one on this machine").at(file=folder)
    target = None if destination is None else folder_path("destination", destination)
    other = None if source is None else _other(source, folder, storage)
    if in_place:
        with locked(Path(folder)):
            found = survey(LocalStorage(folder), folder, other, level, progress)
            changed = mend_in_place(Path(folder), found)
        return replace(found.report, destination=folder, done_before=not changed)
    if target is not None:
        _require_apart(folder, target)
    found = survey(open_storage(folder, RemoteAccess(options, cache=None)), folder, other, level, progress)
    if target is None:
        return found.report
    return replace(found.report, destination=target, done_before=not write_new(Path(target), found))


def _other(source: str | os.PathLike[str], folder: str, storage: StorageArgument) -> Other:
    """Raises DatasetError if it is no folder, or the dataset itself."""
    place, options = dataset_access("source", source, storage)
    if not is_url(place) and not os.path.isdir(place):
        raise DatasetError("the source is no folder").at(file=place)
    if place == folder or os.path.realpath(place) == os.path.realpath(folder):
        raise DatasetError("the source is the dataset itself: name another copy of it").at(file=place)
    return open_storage(place, RemoteAccess(options, cache=None)), place if is_url(place) else os.fspath(source)


def _require_apart(folder: str, target: str) -> None:
    """Raises DatasetError if one of the two lies in the other."""
    theirs, ours = os.path.realpath(folder), os.path.realpath(target)
    if theirs == ours:
        raise DatasetError("the destination is the dataset itself: in_place=True mends it there").at(file=target)
    if os.path.commonpath([theirs, ours]) in (theirs, ours):
        raise DatasetError("the destination lies in the dataset, or the dataset in it").at(file=target)
