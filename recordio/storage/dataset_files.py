"""Reads and checks the manifest of a dataset, and the footers of its shards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from recordio.errors import CorruptError, DatasetError, Place, RecordIOError, StorageError
from recordio.format import quarantine
from recordio.format.footers import matching_footers
from recordio.format.layout import FOOTER, MAX_MANIFEST_NBYTES
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.format.parity import Parity
from recordio.format.quarantine import Quarantine
from recordio.format.shard import Footer
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.storage.base import File, ShardPlace, Storage

_Decoded = TypeVar("_Decoded")

STAGING = ".convert"  # in a folder that is to become a dataset: the finished shards of a conversion
PLAN = "plan.json"  # in STAGING: what is being made
SPLITS = ("train", "val", "valid", "validation", "test")  # the names that are looked for where none are listed
SOURCE = ".source"  # beside the manifest of a conversion: a digest by which the next one sees whether its input changed


def find_manifest(storage: Storage, folder: str, name: str = FILE_NAME) -> tuple[Manifest, bytes] | None:
    """The manifest and the digest of its bytes; None if there is none.

    Raises CorruptError, UnsupportedError, StorageError, and DatasetError for anything but a regular file.
    """
    return find_file(storage, folder, name, "manifest", lambda data: (Manifest.decode(data), Manifest.digest(data)))


def find_quarantine(storage: Storage, folder: str) -> Quarantine | None:
    """The list of damaged blocks beside the manifest; None if there is none. Raises as `find_manifest` does."""
    return find_file(storage, folder, quarantine.FILE_NAME, "quarantine", Quarantine.decode)


def find_file(
    storage: Storage, folder: str, name: str, what: str, decode: Callable[[bytes], _Decoded]
) -> _Decoded | None:
    """What a small file says, None if there is none; errors have its place. Raises as `find_manifest` does."""
    try:
        return _read(storage, folder, name, what, decode)
    except CorruptError:
        if not storage.is_remote:
            raise
        return _read(storage, folder, name, what, decode)  # it may have been damaged on its way


def _read(storage: Storage, folder: str, name: str, what: str, decode: Callable[[bytes], _Decoded]) -> _Decoded | None:
    where = os.path.join(folder, name)
    try:
        file = storage.open(name)
    except FileNotFoundError:
        return None
    except RecordIOError as error:
        error.place = type(error.place)()
        raise error.at(file=where)
    try:
        if file.nbytes > MAX_MANIFEST_NBYTES:
            raise DatasetError(f"{file.nbytes} bytes are too many for a {what}: expected {MAX_MANIFEST_NBYTES} at most")
        return decode(file.read(0, file.nbytes))
    except RecordIOError as error:
        error.place = type(error.place)(byte=error.place.byte)
        raise error.at(file=where)
    finally:
        file.close()


def read_manifest(storage: Storage, folder: str) -> tuple[Manifest, bytes]:
    """The manifest and the digest of its bytes. Raises as `find_manifest` does, and DatasetError if there is none."""
    found = find_manifest(storage, folder)
    if found is None:
        raise DatasetError(f"not a recordio dataset{_why_none(storage)}").at(file=folder)
    return found


def read_version(
    storage: Storage,
    folder: str,
    wanted: bytes,
    shards: int,
    metadata: Mapping[str, Any],
    statistics: Mapping[str, Any] | None,
    parity: Parity | None,
) -> Manifest:
    """The manifest of a dataset as it was when it had this digest, so many shards, this metadata, statistics, parity.

    Shards that were appended since are left out. Raises DatasetError if the dataset was replaced, and as
    `read_manifest` does.
    """
    manifest, found = read_manifest(storage, folder)
    if found == wanted:
        return manifest
    shown = manifest.shards[:shards]
    before = replace(manifest, shards=shown, metadata=metadata, statistics=statistics, parity=parity)
    if Manifest.digest(before.encode()) != wanted:
        raise DatasetError("the dataset was replaced since it was opened; open it again").at(file=folder)
    return before


_UNFINISHED = ": what makes it has not finished; run the same command again, and it goes on"


def _why_none(storage: Storage) -> str:
    """Explains a missing manifest; names the first few subfolders with datasets, finished or not."""
    if _holds(storage, f"{STAGING}/{PLAN}"):
        return f" yet{_UNFINISHED}"
    try:
        names = storage.names()[:32]
        found = [name for name in names or SPLITS if _holds(storage, f"{name}/{FILE_NAME}")]
        unfinished = [name for name in names if _holds(storage, f"{name}/{STAGING}/{PLAN}")]
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ": there is no such folder"
        if isinstance(error.__cause__, NotADirectoryError):
            return ": this is no folder; `recordio convert` makes datasets of files"
        found = unfinished = []
    text = f": there is no {FILE_NAME}" + (f"; there is one in each of {', '.join(found)}" if found else "")
    return text + (f"; an unfinished conversion is in each of {', '.join(unfinished)}" if unfinished else "")


def _holds(storage: Storage, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError, DatasetError):
        storage.open(name).close()
        return True
    return False


def open_shard_file(storage: Storage, name: str, place: ShardPlace | None = None, what: str = "shard") -> File:
    """The file of a shard, or of `what`. Raises StorageError, and CorruptError if it is missing or no regular file."""
    try:
        return storage.open(name, place)
    except FileNotFoundError:
        raise CorruptError(f"the {what} is missing").at(file=name) from None
    except DatasetError as error:
        raise CorruptError(error.fault, error.place) from error


def check_shards(storage: Storage, manifest: Manifest) -> list[RecordIOError]:
    """The problems of a manifest's shards that their lengths and footers show; over a network nothing is asked."""
    if storage.is_remote:
        return []
    table = manifest.table
    files = zip(map(shard_name, table.numbers.tolist()), table.nbytes.tolist(), strict=True)
    tails = storage.tails(files, FOOTER.size)
    matches = matching_footers(tails, table, manifest.dataset_id, len(manifest.schema))
    found = (_problem(storage, table[number], manifest.dataset_id) for number in np.flatnonzero(~matches).tolist())
    return [problem for problem in found if problem is not None]


def _problem(storage: Storage, entry: ShardEntry, dataset_id: bytes) -> RecordIOError | None:
    try:
        with contextlib.closing(open_shard_file(storage, entry.name)) as file:
            check_footer(file, entry, dataset_id)
    except RecordIOError as error:
        return error
    return None


def refuse(problems: Sequence[RecordIOError], path: str) -> None:
    """Raises an error that names every problem, if there are any."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        fault = f"{len(problems)} shards are not what the manifest says"
        raise CorruptError(fault, Place(file=path), tuple(map(str, problems)))


def read_footer(file: File) -> Footer:
    """The footer of a shard. Raises CorruptError, UnsupportedError, StorageError."""
    if file.nbytes < FOOTER.size:
        raise CorruptError(f"cut to {file.nbytes} bytes: a footer alone takes {FOOTER.size}").at(file=file.name)
    offset = file.nbytes - FOOTER.size
    try:
        return Footer.decode(file.read(offset, FOOTER.size), file.nbytes)
    except RecordIOError as error:
        raise error.at(file=file.name, byte=offset)


def check_footer(file: File, entry: ShardEntry, dataset_id: bytes) -> Footer:
    """Checks by length and footer that a file is the shard in the manifest. Raises CorruptError."""
    if file.nbytes != entry.nbytes:
        raise CorruptError(f"the shard has {file.nbytes} bytes, the manifest says {entry.nbytes}").at(file=entry.name)
    footer = read_footer(file)
    _require_meant(footer, entry, dataset_id)
    return footer


def _require_meant(footer: Footer, entry: ShardEntry, dataset_id: bytes) -> None:
    found = footer.dataset_id, footer.number, footer.digest, footer.samples
    if found == (dataset_id, entry.number, entry.digest, entry.samples):
        return
    for what, got, want in (
        ("dataset", footer.dataset_id.hex(), dataset_id.hex()),
        ("shard number", footer.number, entry.number),
        ("digest", footer.digest.hex(), entry.digest.hex()),
        ("samples", footer.samples, entry.samples),
    ):
        if got != want:
            raise CorruptError(f"another shard than the manifest means: its {what} is {got}, expected {want}").at(
                file=entry.name
            )
