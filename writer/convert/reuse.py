"""Finished shards of an earlier run whose input or options were changed since: those that may still serve are kept.

A shard serves if it was made by the same rules of the same input, as its note says. The dataset is another one now, and
the shard's number may be, so both are written anew into a checked copy; the old shard goes once the copy has its note.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from recordio.errors import CorruptError, UnsupportedError
from recordio.storage.atomic import remove
from recordio.writer.convert.plan import Plan, Recipe
from recordio.writer.convert.staging import EARLIER, Staging, UnitNote, finished_note
from recordio.writer.convert.units import finished_unit
from recordio.writer.restamp import restamp

_OTHER_RULES = "they were made with other options, or the source had other fields then"
_OTHER_INPUT = "their input was changed, or is cut into other shards now"
_UNKNOWN_INPUT = "the source was changed, and of its kind it cannot be told where"
_DAMAGED = "they are damaged"


def reuse_finished(plan: Plan, staging: Staging) -> tuple[str, ...]:
    """Takes over the shards of earlier plans that units of this one would make again. Removes the others.

    Returns notes that say how many were dropped, and why. Raises StorageError; then another run goes on from there.
    """
    earlier = staging.folder / EARLIER
    if not earlier.exists():
        return ()
    notes = {path: note for path in sorted(earlier.rglob("shard-*.json")) if (note := UnitNote.read(path))}
    units: dict[Recipe, int] = {}
    if any(note.recipe.rules == plan.rules.hex() for note in notes.values()):
        units = {plan.recipe(unit): unit for unit in range(plan.units)}
    dropped: Counter[str] = Counter()
    for path, note in notes.items():
        unit = units.get(note.recipe) if note.recipe.inputs else None
        if unit is None:
            dropped[_why_not(plan, note, units)] += 1
        elif finished_unit(plan, unit, finished_note(staging, unit)) is None and not _take_over(
            plan, unit, staging, path, note
        ):
            dropped[_DAMAGED] += 1
        remove([path, path.with_suffix(".rio")])
    shutil.rmtree(earlier, ignore_errors=True)
    return tuple(_said(count, why) for why, count in dropped.items() if count)


def _take_over(plan: Plan, unit: int, staging: Staging, path: Path, note: UnitNote) -> bool:
    """Whether the shard was fit to be copied."""
    header = plan.header(staging.number(unit))
    try:
        entry = restamp(path.with_suffix(".rio"), note.entry, staging.folder, header, plan.options.write)
    except (CorruptError, UnsupportedError):
        return False
    replace(note, entry=entry).write(staging.note(unit))
    return True


def _why_not(plan: Plan, note: UnitNote, units: dict[Recipe, int]) -> str:
    if note.recipe.rules != plan.rules.hex():
        return _OTHER_RULES
    return _OTHER_INPUT if note.recipe.inputs and all(recipe.inputs for recipe in units) else _UNKNOWN_INPUT


def _said(count: int, why: str) -> str:
    shards = "1 finished shard" if count == 1 else f"{count} finished shards"
    return f"dropped {shards} of an earlier, unfinished run: {why}"
