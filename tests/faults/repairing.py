"""Repairs that die at each single system call, or to which the system refuses one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import RecordIOError
from tests.effort import LONG
from tests.faults.crashing import MEMORY, rows
from tests.faults.interrupting import HOWS, contents, full_disk, killed

STEP = 1 if LONG else 9  # calls between two deaths
SHARDS = 4


def prepare(top: Path) -> None:
    """A dataset, and another copy of it that lacks a shard."""
    for name in ("it", "other"):
        with recordio.DatasetWriter(top / name, shard_samples=6, block_bytes=40) as writer:
            for i in range(6 * SHARDS - 1):
                writer.write({"number": i, "text": f"text {i}"})
    shard(top / "other", 3).unlink()


def shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.rio"


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"{}")


def swap(folder: Path) -> None:
    os.rename(shard(folder, 0), folder / "x")
    os.rename(shard(folder, 1), shard(folder, 0))
    os.rename(folder / "x", shard(folder, 1))


def cut(folder: Path) -> None:
    os.truncate(shard(folder, 3), 1500)


def rot(folder: Path) -> None:
    """Damages a page in the middle of a shard that the other copy has."""
    data = bytearray(shard(folder, 2).read_bytes())
    data[data.index(b"text 14")] ^= 1
    shard(folder, 2).write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], None], ...]] = {
    "all but the manifest": (swap, cut, rot),
    "all, without a manifest": (swap, cut, rot, lose_manifest),
    "all, with a bad manifest": (swap, cut, rot, spoil_manifest),
    "the manifest": (lose_manifest,),
    "one shard": (cut,),
}
REPAIRS: dict[str, Callable[[Path], Any]] = {
    "in place": lambda top: recordio.repair(top / "it", in_place=True),
    "in place from the other": lambda top: recordio.repair(top / "it", in_place=True, source=top / "other"),
    "anew from the other": lambda top: recordio.repair(top / "it", top / "new", source=top / "other"),
}


class RepairOracle:
    """The files after an undisturbed repair."""

    def __init__(self, damage: str, repair: str) -> None:
        self.damage, self.run = DAMAGE[damage], REPAIRS[repair]
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            self.prepare(top)
            self.run(top)
            self.files = contents(top)
            self.rows = rows(top / ("new" if repair.startswith("anew") else "it"))

    def prepare(self, top: Path) -> None:
        prepare(top)
        for damage in self.damage:
            damage(top / "it")

    def faults(self, top: Path) -> list[str]:
        """Of a folder in which a repair has died: what it gives when it is run again, twice."""
        new = top / "new"
        if new.exists() and (found := rows(new)) not in (None, self.rows):
            return [f"the new dataset opens with {len(found or [])} samples"]
        try:
            self.run(top)
            again = self.run(top)
        except RecordIOError as error:
            return [f"the rerun fails: {error}"]
        found_files = contents(top)
        wrong = {name for name in {*self.files, *found_files} if self.files.get(name) != found_files.get(name)}
        return [f"after the rerun {name} differs" for name in sorted(wrong)] + (
            [] if again.done_before else ["the third run is not idle"]
        )


def killed_at_every_call() -> list[str]:
    return [
        f"{damage}, {repair}, {fault}"
        for damage in DAMAGE
        for repair in REPAIRS
        for how in HOWS
        for fault in killed(RepairOracle(damage, repair), how, STEP)
    ]


def full_disks() -> list[str]:
    oracles = {repair: RepairOracle("all, without a manifest", repair) for repair in REPAIRS}
    return [f"{repair} {fault}" for repair, oracle in oracles.items() for fault in full_disk(oracle, 1)]
