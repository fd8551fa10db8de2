"""A dataset that changes in one step: its shards first, its manifest last. What a dead writer left is cleared away."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from recordio.errors import CorruptError, StorageError, UnsupportedError
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.storage.atomic import TEMPORARY, remove, sync_folder, write_new
from recordio.storage.base import storage_error
from recordio.storage.dataset_files import find_manifest
from recordio.storage.local import LocalStorage

PENDING = f".{FILE_NAME}.pending"
REPLACED = f".{FILE_NAME}.replaced"


def read_manifest(folder: Path, name: str = FILE_NAME) -> Manifest | None:
    """The manifest in a folder, None when there is none. Raises CorruptError, UnsupportedError, StorageError."""
    found = find_manifest(LocalStorage(folder), os.fspath(folder), name)
    return None if found is None else found[0]


def readable_manifest(folder: Path, name: str = FILE_NAME) -> Manifest | None:
    """The manifest in a folder, None when there is none or it is damaged."""
    try:
        return read_manifest(folder, name)
    except (CorruptError, UnsupportedError):
        return None


def clear_remains(folder: Path) -> None:
    """Removes what a writer that died left in a folder that is now locked. Published shards are never touched.

    The pending manifest names shards that were on their way in, the replaced one shards that were on their way out. A
    torn one says nothing: its shards had not been touched yet. Where a manifest was to be replaced and there is none,
    it was lost since: then every shard may be part of the dataset, and all of them stay.
    """
    published = readable_manifest(folder)
    kept = {shard.number for shard in published.shards} if published else set()
    lost = published is None and (os.path.lexists(folder / REPLACED) or os.path.lexists(folder / FILE_NAME))
    for name in () if lost else (PENDING, REPLACED):
        other = readable_manifest(folder, name)
        remove(folder / shard.name for shard in (other.shards if other else ()) if shard.number not in kept)
    remove([folder / PENDING, folder / REPLACED, *folder.glob(f".shard-*{TEMPORARY}")])


def commit(folder: Path, manifest: Manifest, staged: Mapping[Path, str], as_of: int | None = None) -> None:
    """Publishes finished, synced shard files under their names, and the manifest last.

    Raises StorageError, and SchemaError for a manifest that no reader would accept; then nothing was touched.

    A reader sees the old dataset or the new one, never between. Shards that only the old manifest lists are removed
    once the new one stands. `clear_remains` finishes this, or undoes it, for a writer that died on the way.
    `as_of` is the manifest's modification time, in nanoseconds since the epoch, if the file system can set it.
    """
    old = readable_manifest(folder)
    kept = {shard.number for shard in manifest.shards}
    obsolete = [shard.name for shard in (old.shards if old else ()) if shard.number not in kept]
    data = manifest.encode()
    try:
        if old is not None:
            write_new(folder / REPLACED, old.encode())
        write_new(folder / PENDING, data)
        if as_of is not None:
            _set_time(folder / PENDING, as_of)
        sync_folder(folder)
        for path, name in staged.items():
            os.rename(path, folder / name)
        sync_folder(folder)
        os.rename(folder / PENDING, folder / FILE_NAME)
    except OSError as error:
        with contextlib.suppress(StorageError):
            remove([*(folder / name for name in staged.values()), folder / PENDING, folder / REPLACED])
        raise (
            error if isinstance(error, StorageError) else storage_error("publish the dataset", folder, error)
        ) from error
    sync_folder(folder)
    remove([*(folder / name for name in obsolete), folder / REPLACED])


def _set_time(path: Path, time: int) -> None:
    """Never earlier than `time`, also where a file system keeps whole seconds, or two of them."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time, time))
        if path.stat().st_mtime_ns < time:
            os.utime(path, ns=(time + 2 * 10**9, time + 2 * 10**9))
