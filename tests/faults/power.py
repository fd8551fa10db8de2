"""A model of power loss: what a disk may hold, after the operations of whoever writes to it.

Bytes are durable after fsync of their file, names after fsync of their folder. Any subset of the changes of names since
the last fsync of their folder may have reached the disk, applied in order. A rename is a single change, of two folders
if it leads from one to another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

Disk = dict[str, bytes]  # by the path below the top
Step = tuple[Any, ...]


@dataclass
class Recorder:
    """Records the operations below a folder, in order, as tuples. Paths are relative to it; its own is "."."""

    top: Path
    log: list[Step] = field(default_factory=list)
    files: dict[int, tuple[str, int]] = field(default_factory=dict)

    def _name(self, path: Any, folder: int | None = None) -> str:
        if folder is not None:
            return os.path.normpath(os.path.join(self.files[folder][0], os.fspath(path)))
        return os.path.relpath(path, self.top)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("open", "writev", "fsync", "rename", "replace", "unlink", "link", "mkdir", "rmdir")
        real = {name: getattr(os, name) for name in names}

        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            fd = int(real["open"](path, flags, *args, **options))
            name, inode = self._name(path, options.get("dir_fd")), os.fstat(fd).st_ino
            self.files[fd] = (name, inode)
            if flags & os.O_CREAT:
                self.log.append(("create", name, inode))
            return fd

        def writev(fd: int, parts: Any) -> int:
            count = int(real["writev"](fd, parts))
            self.log.append(("write", self.files[fd][1], b"".join(parts)[:count]))
            return count

        def fsync(fd: int) -> None:
            real["fsync"](fd)
            name, inode = self.files[fd]
            self.log.append(("sync names", name) if (self.top / name).is_dir() else ("sync", inode))

        def rename(source: Any, target: Any, **options: Any) -> None:
            real["rename"](source, target, **options)
            self.log.append(("rename", self._name(source), self._name(target)))

        def link(source: Any, target: Any, **options: Any) -> None:
            real["link"](source, target, **options)
            self.log.append(("link", self._name(source), self._name(target)))

        def one(what: str) -> Any:
            def changed(path: Any, *args: Any, **options: Any) -> None:
                real[what](path, *args, **options)
                self.log.append((what, self._name(path, options.get("dir_fd"))))

            return changed

        fakes: dict[str, Any] = {"open": opened, "writev": writev, "fsync": fsync, "link": link}
        fakes |= {"rename": rename, "replace": rename, "remove": one("unlink")}
        for name, fake in {**fakes, **{what: one(what) for what in ("unlink", "mkdir", "rmdir")}}.items():
            monkeypatch.setattr(os, name, fake)


class Model:
    """The disk: durable bytes per inode, durable names, and pending changes of names. A folder's inode is 0."""

    def __init__(self, start: Disk) -> None:
        self.cached = {-k: data for k, data in enumerate(start.values(), 1)}
        self.durable = dict(self.cached)
        self.names = {name: -k for k, name in enumerate(start, 1)}
        self.pending: list[Step] = []

    def do(self, what: str, *args: Any) -> None:
        if what == "create":
            self.cached[args[1]], self.durable[args[1]] = b"", b""
            self.pending.append(("create", *args))
        elif what == "write":
            self.cached[args[0]] += args[1]
        elif what == "sync":
            self.durable[args[0]] = self.cached[args[0]]
        elif what == "sync names":
            due = self._due(args[0])
            self.names = self._applied([self.pending[k] for k in due])
            self.pending = [change for k, change in enumerate(self.pending) if k not in due]
        else:
            self.pending.append((what, *args))

    def _due(self, folder: str) -> list[int]:
        """The pending changes that a sync of a folder makes durable: its own, and those that they build on."""
        due: list[int] = []
        paths: set[str] = set()
        for k in reversed(range(len(self.pending))):
            own = {path for path in self.pending[k][1:] if isinstance(path, str)}
            if paths & own or any((os.path.dirname(path) or ".") == folder for path in own):
                due.insert(0, k)
                paths |= own
        return due

    def _applied(self, changes: Sequence[Step]) -> dict[str, int]:
        names = dict(self.names)
        for what, *args in changes:
            if what == "create":
                names[args[0]] = args[1]
            elif what == "mkdir":
                names[args[0]] = 0
            elif what in ("unlink", "rmdir"):
                names.pop(args[0], None)
            elif what == "link" and args[0] in names:
                names[args[1]] = names[args[0]]
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
            yield {
                name: self.durable[inode]
                for name, inode in names.items()
                if inode and (os.path.dirname(name) or name) in names  # else its folder is not there
            }


def disks(start: Disk, log: Sequence[Step]) -> Iterator[tuple[int, Disk]]:
    """Every disk that a power loss may leave, each once, with the number of operations before it."""
    model, seen = Model(start), set()
    for step in range(len(log) + 1):
        for disk in model.states():
            key = frozenset(disk.items())
            if key not in seen:
                seen.add(key)
                yield step, disk
        if step < len(log):
            model.do(*log[step])


def at_the_end(start: Disk, log: Sequence[Step]) -> Iterator[Disk]:
    """Every disk that a power loss may leave after the last operation."""
    model = Model(start)
    for step in log:
        model.do(*step)
    return model.states()


def restored(folder: Path, disk: Disk) -> Path:
    """A folder that holds what the disk does."""
    folder.mkdir(parents=True)
    for name, data in disk.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
