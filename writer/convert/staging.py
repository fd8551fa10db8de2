"""DST/.convert: where finished shards wait until the manifest is written.

`plan.json` names the plan that the shards belong to and the number of the first one. Beside each shard stands a note
with its manifest entry. A later run of the same plan reuses both.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format import strict_json
from recordio.format.manifest import FILE_NAME, Manifest, shard_name
from recordio.storage.atomic import write_file
from recordio.storage.base import storage_error
from recordio.storage.dataset_files import PLAN, STAGING
from recordio.writer.convert.plan import Plan
from recordio.writer.publish import PENDING, read_manifest
from recordio.writer.shard_sink import shard_numbers


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


def open_staging(target: Path, plan: Plan) -> tuple[Staging, tuple[str, ...]]:
    """The staging folder as an earlier run of the plan left it, or an empty one; and notes for the report.

    Raises DatasetError when shards without a manifest are in the way, StorageError.
    """
    folder = target / STAGING
    numbers = shard_numbers(target)
    if numbers and not plan.options.overwrite:
        text = f"there are shards here but no {FILE_NAME}; move them away, or use overwrite=True to leave them aside"
        raise DatasetError(text).at(file=str(target))
    free = 1 + max(numbers, default=-1)
    first = _first_number(folder, plan.digest)
    if first is not None and first >= free:
        return Staging(folder, first), ()
    notes = ("an unfinished conversion of something else was dropped",) if folder.exists() else ()
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise storage_error("make the folder", folder, error) from error
    write_file(folder / PLAN, b'{"digest": "%b", "first": %d}\n' % (plan.digest.hex().encode(), free))
    return Staging(folder, free), notes


def remove_staging(target: Path) -> None:
    """Removes the staging folder once the dataset is published."""
    shutil.rmtree(target / STAGING, ignore_errors=True)


def _first_number(folder: Path, digest: bytes) -> int | None:
    """The number of the first shard of an earlier run of the plan, None without one."""
    try:
        plan = strict_json.loads((folder / PLAN).read_bytes(), "plan")
    except (OSError, CorruptError):
        return None
    same = isinstance(plan, dict) and plan.get("digest") == digest.hex() and isinstance(plan.get("first"), int)
    return plan["first"] if same else None


def restage(target: Path, plan: Plan) -> None:
    """Moves the shards of an interrupted commit back to the staging folder, so that they are not lost.

    To be called before `clear_remains`, which removes shards that no manifest lists.
    """
    pending = _manifest(target, PENDING)
    if pending is None or pending.dataset_id != plan.dataset_id or not (target / STAGING / PLAN).exists():
        return
    published = _manifest(target, FILE_NAME)
    kept = {shard.name for shard in published.shards} if published else set()
    for shard in pending.shards:
        if shard.name not in kept and (target / shard.name).exists():
            try:
                os.replace(target / shard.name, target / STAGING / shard.name)
            except OSError as error:
                raise storage_error("rename", target / shard.name, error) from error


def _manifest(folder: Path, name: str) -> Manifest | None:
    with suppress(RecordIOError):
        return read_manifest(folder, name)
    return None
