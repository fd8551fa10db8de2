"""Publishes a dataset atomically: shards first, manifest last. Clears the leftovers of dead writers."""

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
    """The manifest in a folder; None if there is none. Raises CorruptError, UnsupportedError, StorageError."""
    found = find_manifest(LocalStorage(folder), os.fspath(folder), name)
    return None if found is None else found[0]


def readable_manifest(folder: Path, name: str = FILE_NAME) -> Manifest | None:
    """The manifest in a folder; None if there is none or it is damaged."""
    try:
        return read_manifest(folder, name)
    except (CorruptError, UnsupportedError):
        return None


def damaged_file(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the first shard or parity that is missing or of the wrong length, None if none is."""
    for name, nbytes in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != nbytes:
            return f"the dataset here is damaged: {name} is missing or of the wrong length"
    return None


def clear_remains(folder: Path) -> None:
    """Removes the leftovers of a dead writer from a locked folder. Never touches published files.

    The pending manifest lists the files to add, the replaced manifest those to remove. A torn one lists nothing: its
    files were not touched yet. If a manifest was to be replaced and none is left, it was lost afterwards: any shard
    may belong to the dataset, so all of them stay.
    """
    published = readable_manifest(folder)
    kept = published.files if published else {}
    lost = published is None and (os.path.lexists(folder / REPLACED) or os.path.lexists(folder / FILE_NAME))
    for name in () if lost else (PENDING, REPLACED):
        other = readable_manifest(folder, name)
        remove(folder / name for name in (other.files if other else ()) if name not in kept)
    remove([folder / PENDING, folder / REPLACED, *temporaries(folder)])


def temporaries(folder: Path) -> list[Path]:
    """The unfinished files of dead writers."""
    return [path for kind in ("shard", "parity") for path in folder.glob(f".{kind}-*{TEMPORARY}")]


def commit(folder: Path, manifest: Manifest, staged: Mapping[Path, str], old: Manifest | None = None) -> None:
    """Publishes finished, synced files of shards and parity under their names, and the manifest last.

    A reader sees the old dataset or the new one, nothing between. Files of the old manifest alone are removed after
    the new one is in place: `old` says what they are if the manifest in the folder does not. If the writer dies,
    `clear_remains` finishes or undoes the commit.

    Raises StorageError, and SchemaError for an invalid manifest; then nothing was touched.
    """
    old = old or readable_manifest(folder)
    kept = manifest.files
    obsolete = [name for name in (old.files if old else ()) if name not in kept]
    data = manifest.encode()
    try:
        if old is not None:
            write_new(folder / REPLACED, old.encode())
        write_new(folder / PENDING, data)
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
