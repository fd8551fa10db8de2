"""Work on datasets with parity that dies at each single system call, or to which the system refuses one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import RecordIOError, verify
from tests.effort import LONG
from tests.faults.crashing import MEMORY, rows
from tests.faults.interrupting import HOWS, contents, full_disk, killed

STEP = 1 if LONG else 23  # calls between two deaths
GROUP = 2


def write(folder: Path, mode: Any, first: int, shards: int) -> None:
    parity = None if mode == "append" else GROUP
    with recordio.DatasetWriter(folder, mode=mode, shard_samples=4, block_bytes=40, parity=parity) as writer:
        for i in range(first, first + 4 * shards - 1):
            writer.write({"number": i, "text": f"text {i}"})


def dataset(top: Path) -> None:
    """Three shards: a group of two, and one of one."""
    write(top / "it", "create", 0, 3)


def table(top: Path) -> None:
    lines = [f"{i},text {i}" for i in range(30)]
    (top / "table.csv").write_text("\n".join(["number,text", *lines, ""]))


def damaged(*names: str) -> Callable[[Path], None]:
    """A dataset of five shards, without these files."""

    def prepare(top: Path) -> None:
        write(top / "it", "create", 0, 5)
        for name in names:
            (top / "it" / name).unlink()

    return prepare


def convert(top: Path) -> None:
    recordio.convert(top / "table.csv", top / "it", shard_bytes=100, parity=GROUP, workers=1)


WORK: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "create": (lambda top: None, lambda top: write(top / "it", "create", 100, 3)),
    "append": (dataset, lambda top: write(top / "it", "append", 100, 2)),
    "overwrite": (dataset, lambda top: write(top / "it", "overwrite", 100, 3)),
    "convert": (table, convert),
    "other parity": (dataset, lambda top: recordio.parity(top / "it", 3)),
    "no parity": (dataset, lambda top: recordio.parity(top / "it", 0)),
}
REPAIRS = {
    "one of each group": ("shard-00000.rio", "shard-00003.rio", "parity-00002.xor"),
    "and the manifest": ("manifest.json", "shard-00000.rio", "parity-00001.xor"),
    "two of a group": ("shard-00000.rio", "shard-00001.rio", "shard-00004.rio"),
}
WORK |= {
    name: (damaged(*lost), lambda top: recordio.repair(top / "it", in_place=True)) for name, lost in REPAIRS.items()
}
IDEMPOTENT = {"convert", "other parity", "no parity", *REPAIRS}


class ParityOracle:
    """A dataset before and after undisturbed work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prepare, self.run = WORK[name]
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            self.prepare(top)
            self.before = self._rows(top)
            self.run(top)
            self.after, self.files = self._rows(top), contents(top)
            assert verify(top / "it").ok

    def _rows(self, top: Path) -> Any:
        """None too for a dataset that a shard is missing of."""
        try:
            return rows(top / "it")
        except RecordIOError:
            return None

    def faults(self, top: Path) -> list[str]:
        """It is the dataset of before or after, and the same work ends it, with the same files."""
        out, found = [], self._rows(top)
        if found not in (self.before, self.after):
            out.append(f"opens with {len(found or [])} samples")
        elif self.name not in REPAIRS and found is not None and not verify(top / "it").ok:
            out.append(f"is damaged: {verify(top / 'it').problems[0]}")
        try:
            if found != self.after or self.name in IDEMPOTENT:
                self.run(top)
            else:
                with recordio.DatasetWriter(top / "it", mode="append"):  # removes what the dead one has left
                    pass
        except RecordIOError as error:
            return [*out, f"the rerun fails: {error}"]
        here = contents(top)
        names = {*self.files, *here} - {"it/.source", "table.csv"}  # what a conversion knows of its source
        wrong = {name for name in names if self.files.get(name) != here.get(name)}
        return [*out, *(f"after the rerun {name} differs" for name in sorted(wrong))]


def killed_at_every_call() -> list[str]:
    return [f"{name} {fault}" for name in WORK for how in HOWS for fault in killed(ParityOracle(name), how, STEP)]


def full_disks() -> list[str]:
    return [f"{name} {fault}" for name in WORK for fault in full_disk(ParityOracle(name), 1 if LONG else 5)]
