"""DST/.convert: where finished shards wait until the manifest is written.

`plan.json` names the plan that the shards belong to and the number of the first one. Beside each shard stands a note
with its manifest entry. A later run of the same plan reuses both. A run of another plan moves the folder into its own,
as `earlier`, and takes from there what may serve (reuse.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format import strict_json
from recordio.format.manifest import FILE_NAME, Manifest, ShardEntry, shard_name
from recordio.statistics.records import checked_json
from recordio.storage.atomic import sync_folder, write_file
from recordio.storage.base import storage_error
from recordio.storage.dataset_files import PLAN, STAGING, read_footer
from recordio.storage.local import LocalStorage
from recordio.writer.convert.plan import Recipe
from recordio.writer.publish import PENDING, read_manifest
from recordio.writer.shard_sink import shard_numbers

EARLIER = "earlier"  # in the staging folder: that of an earlier plan, which may have one in turn
_NEXT = f"{STAGING}.next"  # beside it: the one that is to take its place


@dataclass(frozen=True, slots=True)
class UnitNote:
    """What stands beside a finished shard: its manifest entry, (name, reason) of each skipped sample, remarks on
    pictures, counted, what it was made of, how many inputs gave no sample, and the statistics of its fields, None if
    they are not known.
    """

    entry: ShardEntry
    skipped: tuple[tuple[str, str], ...]
    remarks: Mapping[str, int]
    recipe: Recipe
    dropped: int = 0
    statistics: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        note: dict[str, Any] = {"entry": self.entry.to_json(), "skipped": self.skipped, "remarks": dict(self.remarks)}
        note |= {"dropped": self.dropped, "statistics": self.statistics}
        return json.dumps(note | self.recipe._asdict()).encode()

    def write(self, path: Path) -> None:
        """Raises StorageError."""
        write_file(path, self.encode())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None if it is missing, or not what `write` writes."""
        try:
            return cls.decode(path.read_bytes())
        except OSError:
            return None

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """None if it is not what `encode` gives."""
        try:
            note = strict_json.loads(data, "note of a shard")
            return cls(
                ShardEntry.from_json(note["entry"]),
                tuple((str(key), str(reason)) for key, reason in note["skipped"]),
                {str(text): int(count) for text, count in note["remarks"].items()},
                Recipe(str(note["rules"]), str(note["inputs"])),
                int(note["dropped"]),
                checked_json(note["statistics"]),
            )
        except (RecordIOError, KeyError, TypeError, ValueError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class Staging:
    """The folder of the finished shards, and the number of the first."""

    folder: Path
    first: int = 0

    def number(self, unit: int) -> int:
        """The number of a unit's shard."""
        return self.first + unit

    def shard(self, unit: int) -> Path:
        return self.folder / shard_name(self.number(unit))

    def note(self, unit: int) -> Path:
        return self.shard(unit).with_suffix(".json")


def open_staging(target: Path, digest: bytes | None, overwrite: bool) -> Staging:
    """The staging folder as an earlier run of the plan with this digest left it, or a new one.

    That of another plan lies in it then. With `overwrite` shards without a manifest are left aside.

    Raises DatasetError when shards without a manifest are in the way, StorageError.
    """
    folder, following = target / STAGING, target / _NEXT
    numbers = shard_numbers(target)
    if numbers and not overwrite:
        text = f"there are shards here but no {FILE_NAME}; move them away, or use overwrite=True to leave them aside"
        raise DatasetError(text).at(file=str(target))
    if following.exists() and not folder.exists():
        _move(following, folder)  # the run that made it died before this
    free = 1 + max(numbers, default=-1)
    first = _first_number(folder, digest)
    if first is not None and first >= free:
        return Staging(folder, first)
    try:
        shutil.rmtree(following, ignore_errors=True)
        following.mkdir()
    except OSError as error:
        raise storage_error("make the folder", following, error) from error
    known = b"" if digest is None else digest.hex().encode()
    write_file(following / PLAN, b'{"digest": "%b", "first": %d}\n' % (known, free))
    if folder.exists():
        _move(folder, following / EARLIER)
    _move(following, folder)
    sync_folder(target)
    return Staging(folder, free)


def finished_note(staging: Staging, unit: int) -> UnitNote | None:
    """The note of a unit whose shard an earlier run has finished, None if it has to be made."""
    note = UnitNote.read(staging.note(unit))
    if note is None or note.entry.number != staging.number(unit):
        return None
    try:
        footer = read_footer(LocalStorage(staging.folder).open(note.entry.name))
    except (OSError, RecordIOError):
        return None  # missing or incomplete
    return note if footer.digest == note.entry.digest else None  # it covers the header too: dataset, number, schema


def _move(folder: Path, to: Path) -> None:
    try:
        os.replace(folder, to)
    except OSError as error:
        raise storage_error("rename", folder, error) from error


def remove_staging(target: Path) -> None:
    """Removes the staging folder once the dataset is published."""
    for name in (STAGING, _NEXT):
        shutil.rmtree(target / name, ignore_errors=True)


def _first_number(folder: Path, digest: bytes | None) -> int | None:
    """The number of the first shard of an earlier run of the plan, None without one."""
    if digest is None:
        return None
    try:
        plan = strict_json.loads((folder / PLAN).read_bytes(), "plan")
    except (OSError, CorruptError):
        return None
    same = isinstance(plan, dict) and plan.get("digest") == digest.hex() and isinstance(plan.get("first"), int)
    return plan["first"] if same else None


def restage(target: Path) -> None:
    """Moves the shards of an interrupted commit back to the staging folder, so that they are not lost.

    To be called before `clear_remains`, which removes shards that no manifest lists.
    """
    pending = _manifest(target, PENDING)
    if pending is None:
        return
    published = _manifest(target, FILE_NAME)
    kept = {shard.name for shard in published.shards} if published else set()
    for shard in pending.shards:
        place = target / STAGING / shard.name
        note = UnitNote.read(place.with_suffix(".json"))
        if note and note.entry == shard and shard.name not in kept and (target / shard.name).exists():
            _move(target / shard.name, place)


def _manifest(folder: Path, name: str) -> Manifest | None:
    with suppress(RecordIOError):
        return read_manifest(folder, name)
    return None
