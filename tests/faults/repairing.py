"""Repairs that die at each single system call, or to which the system refuses one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import RecordIOError, StorageError
from tests.effort import LONG
from tests.faults.crashing import MEMORY, Contents, Dies, child, rows
from tests.faults.editing import contents

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
        self.damage, self.repair = DAMAGE[damage], REPAIRS[repair]
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            self.prepare(top)
            self.repair(top)
            self.files = self.contents(top)
            self.rows = rows(top / ("new" if repair.startswith("anew") else "it"))

    def prepare(self, top: Path) -> None:
        prepare(top)
        for damage in self.damage:
            damage(top / "it")

    def contents(self, top: Path) -> Contents:
        return contents(top)

    def faults(self, top: Path) -> list[str]:
        """Of a folder in which a repair has died: what it gives when it is run again, twice."""
        new = top / "new"
        if new.exists() and (found := rows(new)) not in (None, self.rows):
            return [f"the new dataset opens with {len(found or [])} samples"]
        try:
            self.repair(top)
            again = self.repair(top)
        except RecordIOError as error:
            return [f"the rerun fails: {error}"]
        found_files = self.contents(top)
        wrong = {name for name in {*self.files, *found_files} if self.files.get(name) != found_files.get(name)}
        return [f"after the rerun {name} differs" for name in sorted(wrong)] + (
            [] if again.done_before else ["the third run is not idle"]
        )


def killed(damage: str, repair: str, how: str) -> list[str]:
    """Before the N-th call, after it, or in the middle of a write, until a repair completes; N goes up by STEP."""
    out: list[str] = []
    oracle, status, n = RepairOracle(damage, repair), 9, {"before": 0, "after": 1, "torn": 2}[how] - STEP
    while status != 0:
        n += STEP
        if n < 1:
            continue
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            oracle.prepare(top)

            def action(top: Path = top, at: int = n) -> None:
                Dies(at, how)
                oracle.repair(top)

            status = os.waitstatus_to_exitcode(os.waitpid(child(action), 0)[1])
            if status not in (0, 9):
                out.append(f"{n}: exit {status}")
            out += [f"{damage}, {repair}, {how} call {n}: {fault}" for fault in oracle.faults(top)]
    return out if n > 20 else [*out, f"{damage}, {repair}: only {n} calls"]


def killed_at_every_call() -> list[str]:
    hows = ("before", "after", "torn")
    return [fault for damage in DAMAGE for repair in REPAIRS for how in hows for fault in killed(damage, repair, how)]


def full_disks() -> list[str]:
    """No room at the N-th write, sync, creation or renaming, until a repair completes."""
    out: list[str] = []
    for repair in REPAIRS:
        oracle = RepairOracle("all, without a manifest", repair)
        for call in ("open", "writev", "fsync", "rename", "replace"):
            refused, n = True, 0
            while refused:
                n += 1
                with TemporaryDirectory(dir=MEMORY) as folder:
                    top = Path(folder)
                    oracle.prepare(top)
                    refused, faults = _refused(oracle.repair, top, call, n)
                    out += [f"{repair} {call} {n}: {fault}" for fault in (*faults, *oracle.faults(top))]
    return out


def _refused(repair: Callable[[Path], Any], top: Path, call: str, at: int) -> tuple[bool, list[str]]:
    """Whether the repair came as far as the call, and what is wrong with its error."""
    real, calls = getattr(os, call), 0

    def fails(*args: Any, **options: Any) -> Any:
        nonlocal calls
        writes = call != "open" or (len(args) > 1 and bool(args[1] & os.O_CREAT))
        calls += writes
        if writes and calls == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    setattr(os, call, fails)
    try:
        repair(top)
    except StorageError:
        return True, []
    except Exception as error:  # noqa: BLE001 any other is a fault
        return True, [f"raises {type(error).__name__}: {error}"]
    finally:
        setattr(os, call, real)
    return calls >= at, [] if calls < at else ["no error"]
