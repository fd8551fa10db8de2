"""Power loss: unsynced data is gone, and the rest holds the old dataset or the new one.

The model: bytes are durable after fsync of their file, names after fsync of their folder. Any subset of the changes of
names since the last fsync may have reached the disk, applied in order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError
from tests.faults.crashing import MODES, Oracle, contents, prepare, rows, write

SHARDS = 2
Disk = dict[str, bytes]


@dataclass
class Recorder:
    """Records the operations of a writer, in order, as tuples."""

    folder: Path
    log: list[tuple[Any, ...]] = field(default_factory=list)
    files: dict[int, tuple[str, int]] = field(default_factory=dict)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = {name: getattr(os, name) for name in ("open", "writev", "fsync", "rename", "replace", "unlink", "close")}

        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            fd = int(real["open"](path, flags, *args, **options))
            inode = os.fstat(fd).st_ino
            self.files[fd] = (Path(path).name, inode)
            if flags & os.O_CREAT:
                self.log.append(("create", Path(path).name, inode))
            return fd

        def writev(fd: int, parts: Any) -> int:
            count = int(real["writev"](fd, parts))
            self.log.append(("write", self.files[fd][1], b"".join(parts)[:count]))
            return count

        def fsync(fd: int) -> None:
            real["fsync"](fd)
            name, inode = self.files[fd]
            self.log.append(("sync names",) if Path(name) == Path(self.folder.name) else ("sync", inode))

        def rename(source: Any, target: Any, **options: Any) -> None:
            real["rename"](source, target, **options)
            self.log.append(("rename", Path(source).name, Path(target).name))

        def unlink(path: Any, **options: Any) -> None:
            real["unlink"](path, **options)
            self.log.append(("unlink", Path(path).name))

        fakes = {
            "open": opened,
            "writev": writev,
            "fsync": fsync,
            "rename": rename,
            "replace": rename,
            "unlink": unlink,
        }
        for name, fake in {**fakes, "remove": unlink}.items():
            monkeypatch.setattr(os, name, fake)


class Model:
    """The disk: durable bytes per inode, durable names, and pending changes of names."""

    def __init__(self, start: Disk) -> None:
        self.cached = {-k: data for k, data in enumerate(start.values(), 1)}
        self.durable = dict(self.cached)
        self.names = {name: -k for k, name in enumerate(start, 1)}
        self.pending: list[tuple[Any, ...]] = []

    def do(self, what: str, *args: Any) -> None:
        if what == "create":
            self.cached[args[1]], self.durable[args[1]] = b"", b""
            self.pending.append(("create", *args))
        elif what == "write":
            self.cached[args[0]] += args[1]
        elif what == "sync":
            self.durable[args[0]] = self.cached[args[0]]
        elif what == "sync names":
            self.names, self.pending = self._applied(self.pending), []
        else:
            self.pending.append((what, *args))

    def _applied(self, changes: Any) -> dict[str, int]:
        names = dict(self.names)
        for what, *args in changes:
            if what == "create":
                names[args[0]] = args[1]
            elif what == "unlink":
                names.pop(args[0], None)
            elif args[0] in names:
                names[args[1]] = names.pop(args[0])
        return names

    def states(self) -> Iterator[Disk]:
        """Every possible disk after a power loss now."""
        kept = range(len(self.pending))
        sizes = kept if len(self.pending) <= 6 else [0, 1, len(self.pending) - 1]
        subsets = [s for n in (*sizes, len(self.pending)) for s in combinations(kept, n)]
        subsets += [tuple(range(n)) for n in kept]
        for subset in dict.fromkeys(subsets):
            names = self._applied([self.pending[k] for k in subset])
            yield {name: self.durable[inode] for name, inode in names.items()}


def recorded(folder: Path, mode: str) -> tuple[Disk, list[tuple[Any, ...]]]:
    prepare(folder, mode)
    start, recorder = contents(folder), Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        recorder.patch(patch)
        write(folder, mode, SHARDS)
    return start, recorder.log


def disks(start: Disk, log: list[tuple[Any, ...]]) -> Iterator[tuple[int, Disk]]:
    model, seen = Model(start), set()
    for step in range(len(log) + 1):
        for disk in model.states():
            key = frozenset(disk.items())
            if key not in seen:
                seen.add(key)
                yield step, disk
        if step < len(log):
            model.do(*log[step])


def restored(folder: Path, disk: Disk) -> Path:
    folder.mkdir()
    for name, data in disk.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_power_loss_leaves_the_old_or_new_dataset_and_a_rerun_works(tmp_path: Path, mode: str) -> None:
    oracle = Oracle(mode, SHARDS)
    start, log = recorded(tmp_path / "it", mode)
    found = set()
    for number, (step, disk) in enumerate(disks(start, log)):
        folder = restored(tmp_path / f"{number}", disk)
        state, faults = oracle.faults(folder)
        found.add(state)
        assert faults == [], f"after {step} steps, {log[step - 1][:2]}, with {sorted(disk)}"
    assert found == {"old", "new"}


@pytest.mark.parametrize("mode", MODES)
def test_dataset_is_durable_when_close_returns(tmp_path: Path, mode: str) -> None:
    oracle = Oracle(mode, SHARDS)
    start, log = recorded(tmp_path / "it", mode)
    model = Model(start)
    for step in log:
        model.do(*step)
    for number, disk in enumerate(model.states()):
        assert rows(restored(tmp_path / f"{number}", disk)) == oracle.after


@pytest.mark.parametrize("mode", MODES)
def test_files_are_synced_before_they_are_renamed(tmp_path: Path, mode: str) -> None:
    """The rule itself, without the model: no file is renamed with unsynced bytes."""
    _, log = recorded(tmp_path / "it", mode)
    unsynced: set[int] = set()
    inodes: dict[str, int] = {}
    renames = 0
    for what, *args in log:
        if what == "create":
            inodes[args[0]] = args[1]
        elif what == "write":
            unsynced.add(args[0])
        elif what == "sync":
            unsynced.discard(args[0])
        elif what == "rename":
            renames += 1
            assert inodes[args[0]] not in unsynced, args
            inodes[args[1]] = inodes.pop(args[0])
    assert renames > SHARDS
    after = [step[0] for step in log][max(k for k, step in enumerate(log) if step[0] == "rename") + 1 :]
    assert "sync names" in after[: after.index("unlink") if "unlink" in after else None]


def test_power_loss_model_detects_missing_syncs(tmp_path: Path) -> None:
    """The model catches a writer that omits a sync."""
    start, log = recorded(tmp_path / "it", "create")
    oracle = Oracle("create", SHARDS)
    for forgotten in ("sync", "sync names"):
        careless = [step for step in log if step[0] != forgotten]
        bad = 0
        for number, (_, disk) in enumerate(disks(start, careless)):
            folder = restored(tmp_path / f"{forgotten} {number}", disk)
            try:
                found = rows(folder)
            except recordio.RecordIOError:
                bad += 1
                continue
            bad += found not in (oracle.before, oracle.after)
        assert bad, forgotten
    with pytest.raises(DatasetError):
        recordio.ShardDataset(restored(tmp_path / "none", {}))
