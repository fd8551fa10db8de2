"""Merges, appends, reshards and splits that die at each single system call, or to which the system refuses one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import RecordIOError, Scalar, ShardDataset, Text
from tests.effort import LONG
from tests.faults.crashing import MEMORY, Dies, child, rows
from tests.faults.interrupting import contents, full_disk, killed

STEP = 1 if LONG else 5  # calls between two deaths
FIELDS = {"number": Scalar("int64"), "text": Text()}
DESTINATIONS = {"merge": ["new"], "append": ["a"], "reshard": ["new"], "overwrite": ["b"], "split": ["it/x", "it/y"]}
EDITS: dict[str, Callable[[Path], Any]] = {
    "merge": lambda top: recordio.merge(top / "new", [top / "a", top / "b"], workers=1),
    "append": lambda top: recordio.append(top / "a", top / "b", workers=1),
    "reshard": lambda top: recordio.reshard(top / "a", top / "new", shard_bytes=300, shuffle=1, workers=1),
    "overwrite": lambda top: recordio.reshard(top / "a", top / "b", shard_bytes=300, workers=1, overwrite=True),
    "split": lambda top: recordio.split(top / "a", top / "it", {"x": 0.5, "y": 0.5}, workers=1),
}


def prepare(top: Path) -> None:
    for name, dtype, begin in (("a", "int64", 0), ("b", "int32", 100)):
        with recordio.DatasetWriter(top / name, FIELDS | {"number": Scalar(dtype)}, shard_samples=4) as writer:
            for i in range(begin, begin + 10):
                writer.write({"number": i, "text": f"text {i}"})


class EditOracle:
    """What a folder of datasets is before and after an undisturbed edit."""

    def __init__(self, name: str) -> None:
        self.run, self.destinations = EDITS[name], DESTINATIONS[name]
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            self.prepare(top)
            self.before = [rows(top / one) for one in self.destinations]
            self.sources = contents(top)
            self.run(top)
            self.after = [rows(top / one) for one in self.destinations]
            self.files = contents(top)

    def prepare(self, top: Path) -> None:
        prepare(top)

    def faults(self, top: Path) -> list[str]:
        """Of a folder in which an edit has died: each destination is old or new, and the same edit again ends it."""
        out = []
        for one, before, after in zip(self.destinations, self.before, self.after, strict=True):
            if (found := rows(top / one)) not in (before, after):
                out.append(f"{one} opens with {len(found or [])} samples")
        kept = {name for name in self.sources if not name.startswith(tuple(f"{one}/" for one in self.destinations))}
        here = contents(top)
        out += [f"{name} of a source was changed" for name in kept if here.get(name) != self.sources[name]]
        try:
            self.run(top)
        except RecordIOError as error:
            return [*out, f"the rerun fails: {error}"]
        found_files = contents(top)
        wrong = {name for name in {*self.files, *found_files} if self.files.get(name) != found_files.get(name)}
        return [*out, *(f"after the rerun {name} differs" for name in sorted(wrong))]


def killed_exports() -> list[str]:
    """An export that dies leaves nothing or all of its folder, and the same export again ends it."""
    out: list[str] = []
    for to in ("webdataset", "mds", "jsonl", "npy"):
        status, n, found = 9, 0, False
        while status != 0:
            n += 1
            with TemporaryDirectory(dir=MEMORY) as folder:
                top = Path(folder)
                prepare(top)

                def export(name: str, top: Path = top, to: str = to) -> None:
                    recordio.export(ShardDataset(top / "a", fields=["number"]), top / name, to=to, workers=1)

                def action(at: int = n, export: Callable[[str], None] = export) -> None:
                    Dies(at, "before")
                    export("out")

                status = os.waitstatus_to_exitcode(os.waitpid(child(action), 0)[1])
                export("whole")
                whole = contents(top / "whole")
                if (top / "out").exists():
                    found = True
                else:
                    export("out")
                if contents(top / "out") != whole or sorted(os.listdir(top)) != ["a", "b", "out", "whole"]:
                    out.append(f"{to} call {n}: {sorted(os.listdir(top))}")
        if not found or n < 4:
            out.append(f"{to}: {n} calls")
    return out


def killed_before_every_call() -> list[str]:
    return _of_each(lambda oracle: killed(oracle, "before", STEP))


def killed_after_every_call() -> list[str]:
    return _of_each(lambda oracle: killed(oracle, "after", STEP))


def killed_in_every_write() -> list[str]:
    return _of_each(lambda oracle: killed(oracle, "torn", STEP))


def full_disks() -> list[str]:
    return _of_each(lambda oracle: full_disk(oracle, STEP))


def _of_each(attack: Callable[[EditOracle], list[str]]) -> list[str]:
    """The faults of each edit under an attack."""
    return [f"{name} {fault}" for name in EDITS for fault in attack(EditOracle(name))]
