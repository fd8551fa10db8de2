"""Publishes what is left of a dataset: as a new one, or in place of the damaged one.

In place, a shard that is given back bit for bit takes its name again: the manifest is as true as before. One that has
lost blocks gets a new number, so the old files stay until the new manifest stands. Whoever dies in between has lost
nothing: the next repair finds the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from recordio.errors import DatasetError, RecordIOError
from recordio.format.layout import FOOTER
from recordio.format.manifest import Manifest
from recordio.format.parity import parity_name
from recordio.format.quarantine import FILE_NAME as QUARANTINE
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.salvage.identity import MENDED, number_of, unpublished_files
from recordio.salvage.mending import Mended
from recordio.salvage.survey import Survey, Whole
from recordio.salvage.writing import link_or_copy, write_as_it_was, write_rest
from recordio.storage.atomic import TEMPORARY, FolderLock, remove, sync_folder
from recordio.storage.base import storage_error
from recordio.storage.local import LocalStorage
from recordio.writer.convert.staging import restage
from recordio.writer.parity import with_parity
from recordio.writer.publish import (
    PENDING,
    REPLACED,
    clear_remains,
    commit,
    damaged_file,
    readable_manifest,
    temporaries,
)
from recordio.writer.shard_sink import shard_numbers


def write_new(target: Path, found: Survey) -> bool:
    """Writes a new dataset. False if it was there before. Raises DatasetError, CorruptError, StorageError."""
    _require_some(found)
    with FolderLock(target):
        clear_remains(target)
        manifest = readable_manifest(target)
        if manifest is not None and _is_written(target, manifest, found):
            return False
        if manifest is not None or shard_numbers(target):
            raise DatasetError("there is something here already: name a new folder").at(file=str(target))
        staged: dict[Path, str] = {}
        entries = []
        try:
            for shard in found.shards:
                if isinstance(shard, Mended) and shard.header is None:
                    continue
                path = _temporary(target, shard.number)
                staged[path] = shard_name(shard.number)
                entries.append(_write(shard, found, path))
            every = [parity_name(header.number) for header in found.identity.parity]
            manifest, parity = with_parity(target, found.manifest(entries), staged, every)
            staged |= parity
            commit(target, manifest, staged)
        except BaseException:
            with contextlib.suppress(RecordIOError):
                remove(staged)
            raise
    return True


def _temporary(folder: Path, number: int) -> Path:
    return folder / f".{shard_name(number)}{TEMPORARY}"


def _require_some(found: Survey) -> None:
    if found.report.lost and not found.report.shards:
        raise DatasetError("nothing of the dataset can be saved").at(file=found.report.path)


def _write(shard: Whole | Mended, found: Survey, path: Path) -> ShardEntry:
    """Writes what is left of a shard, under its number."""
    manifest = found.identity.manifest
    if isinstance(shard, Whole):
        link_or_copy(shard.copy, manifest.schema, path)
        return shard.entry
    if (entry := shard.entry) is None:
        return write_rest(shard, shard.number, manifest, path)
    write_as_it_was(shard, manifest.schema, path)
    return entry


def _is_written(target: Path, manifest: Manifest, found: Survey) -> bool:
    """Whether a dataset is what a repair with these findings has written."""
    saved = [shard for shard in found.shards if isinstance(shard, Whole) or shard.header is not None]
    if manifest.dataset_id != found.identity.manifest.dataset_id or len(manifest.shards) != len(saved):
        return False
    same = [
        entry == shard.entry if shard.entry else (entry.number, entry.samples) == (shard.number, shard.saved_samples)
        for entry, shard in zip(manifest.shards, saved, strict=True)
    ]
    return all(same) and damaged_file(target, manifest) is None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder without the remains of dead writers, and with no other writer in it. Raises DatasetError."""
    if not folder.is_dir():
        raise DatasetError("there is no such folder").at(file=str(folder))
    with FolderLock(folder):
        restage(folder)
        if readable_manifest(folder) is None:  # `clear_remains` would leave shards that no manifest has named yet
            remove(folder / name for name in unpublished_files(LocalStorage(folder), str(folder)))
            remove([folder / PENDING, folder / REPLACED, *temporaries(folder)])
        else:
            clear_remains(folder)
        yield


def mend_in_place(folder: Path, found: Survey) -> bool:
    """Mends a dataset where it is. False if there was nothing to do. `folder` is `locked` since before the survey.

    Raises DatasetError, CorruptError, StorageError.
    """
    if found.report.ok:
        _drop(folder, found)
        return False
    _require_some(found)
    names = _stage_mended(folder, found)
    free = 1 + max(found.identity.numbers, default=-1)
    rest = [shard for shard in found.shards if isinstance(shard, Mended) and not shard.entry and shard.header]
    staged: dict[Path, str] = {}
    written: dict[int, ShardEntry] = {}
    for number, shard in enumerate(rest, free):
        path = _temporary(folder, number)
        written[shard.number] = write_rest(shard, number, found.identity.manifest, path)
        staged[path] = shard_name(number)
    _take_names(folder, names, found)
    entries = [written.get(shard.number) or shard.entry for shard in found.shards]
    old = found.identity.manifest.parity
    manifest = found.manifest([entry for entry in entries if entry is not None])
    manifest, parity = with_parity(folder, manifest, staged, found.bad_parity)
    again = {path: name for path, name in parity.items() if name in found.bad_parity}
    for path, name in again.items():
        _replace(path, folder / name)
    if again:
        sync_folder(folder)
    if found.identity.fault or found.report.lost or staged or manifest.parity != old:
        new = {path: name for path, name in parity.items() if path not in again}
        commit(folder, manifest, staged | new, _before(found))
    _drop(folder, found)
    return True


def _stage_mended(folder: Path, found: Survey) -> list[str]:
    """Gathers the shards that are given back bit for bit, so that each is whole before any takes its name."""
    mended = [shard for shard in found.shards if isinstance(shard, Mended) and shard.entry]
    staging = folder / MENDED
    try:
        if mended:
            staging.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error("make the folder", staging, error) from error
    names = []
    for shard in mended:
        name = shard_name(shard.number)
        names.append(name)
        if shard.whole is not None and shard.whole.name == f"{MENDED}/{name}":
            continue
        path = _temporary(staging, shard.number)
        remove([path])
        write_as_it_was(shard, found.identity.manifest.schema, path)
        _replace(path, staging / name)
    if mended:
        sync_folder(staging)
        sync_folder(folder)
    return names


def _take_names(folder: Path, names: Sequence[str], found: Survey) -> None:
    """Gives mended shards their names. A file of another dataset is moved aside, a damaged one is replaced."""
    strangers = {copy.name for copy in found.identity.copies if _is_strange(found, copy.claims)}
    for name in names:
        if name in strangers:
            _replace(folder / name, _free_name(folder / f"{name}.other"))
        _replace(folder / MENDED / name, folder / name)
    if names:
        sync_folder(folder)


def _is_strange(found: Survey, claims: frozenset[tuple[bytes, int]]) -> bool:
    """Whether a file is of another dataset."""
    return bool(claims) and not any(one == found.identity.manifest.dataset_id for one, _ in claims)


def _free_name(path: Path) -> Path:
    names: Callable[[int], Path] = lambda k: path.with_name(f"{path.name}{k or ''}")  # noqa: E731
    return next(names(k) for k in range(1 << 20) if not os.path.lexists(names(k)))


def _before(found: Survey) -> Manifest:
    """The files of before, in place of their manifest: `commit` removes those that are not kept.

    The file of another dataset under the name of a shard is not among them, and so the parity of that shard is not.
    """
    strange = {number_of(copy.name) for copy in found.identity.copies if _is_strange(found, copy.claims)}
    entries = [
        shard.entry or ShardEntry(shard.number, FOOTER.size, 0, 0, bytes(16), ())
        for shard in found.shards
        if shard.entry is not None or shard.number not in strange
    ]
    manifest, numbers = found.manifest(entries), {entry.number for entry in entries}
    if manifest.parity is None:
        return manifest
    files = tuple(file for file in manifest.parity.files if numbers.issuperset(file.shards))
    return replace(manifest, parity=replace(manifest.parity, files=files))


def _replace(path: Path, to: Path) -> None:
    try:
        os.replace(path, to)
    except OSError as error:
        raise storage_error("rename", to, error) from error


def _drop(folder: Path, found: Survey) -> None:
    """Removes what a repair leaves; and the list of damaged blocks, if every page was read: there are none any more."""
    shutil.rmtree(folder / MENDED, ignore_errors=True)
    if found.report.level == "full":
        remove([folder / QUARANTINE])
