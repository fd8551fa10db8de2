"""What the system says of its memory and of file systems, to choose how files are read."""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_NETWORK = frozenset(
    "9p afs beegfs ceph cifs glusterfs gpfs lustre nfs nfs4 ocfs2 panfs pvfs2 smb3 smbfs virtiofs wekafs".split()
)
_IN_MEMORY = frozenset(("tmpfs", "ramfs", "hugetlbfs"))
_MOST_FILES = 1 << 15  # Linux gives a process 65,530 maps, whatever its limit of files
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_nbytes() -> int:
    """Memory that this process may use: what the system has available, or the limit of its control group if lower."""
    found = [*_limits(), *_system_available()]
    if not found:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return min(found)


def _system_available() -> Iterator[int]:
    with contextlib.suppress(ValueError, IndexError):
        for line in _lines("meminfo"):
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10


def _lines(name: str) -> list[str]:
    """The lines of a file of /proc, whatever bytes are in its paths; none if it cannot be read."""
    try:
        return os.fsdecode((_PROC / name).read_bytes()).split("\n")
    except OSError:
        return []


def _limits() -> Iterator[int]:
    """The limits of the process's control groups: of version 2, or of version 1's memory controller."""
    for line in _lines("self/cgroup"):
        _, _, group = line.partition(":")
        controllers, _, path = group.partition(":")
        if not controllers:
            yield from _limits_up_to(_CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_up_to(_CGROUPS / "memory", path, "memory.limit_in_bytes")


def _limits_up_to(top: Path, path: str, name: str) -> Iterator[int]:
    folder = top / path.lstrip("/")
    for each in (folder, *folder.parents):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            yield int((each / name).read_text())
        if each == top:
            return


def share_of_files(part: int) -> int:
    """One of so many parts of the files that this process may have open, and of those that it could map; at least 1."""
    found = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = _MOST_FILES if found == resource.RLIM_INFINITY else min(found, _MOST_FILES)
    return max(1, most // part)


def allow_many_files() -> None:
    """Lets this process have as many files open as the system allows it to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def file_system(path: str) -> str:
    """The type of the file system that holds a folder, such as "ext4"; "" where the system does not say."""
    try:
        return _file_system_of(os.stat(path).st_dev, os.path.realpath(path))
    except OSError:
        return ""


@lru_cache(64)
def _file_system_of(device: int, path: str) -> str:
    number, found = f"{os.major(device)}:{os.minor(device)}", ("", "")
    for line in _lines("self/mountinfo"):
        with contextlib.suppress(ValueError, IndexError):  # of a line that is not as expected
            before, after = line.split(" - ", 1)
            _, _, mounted, _, where = before.split(" ")[:5]
            kind, where = after.split(" ")[0], re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), where)
            if mounted == number:
                return kind
            if os.path.commonpath([where, path]) == where and len(where) >= len(found[0]):  # btrfs numbers its own way
                found = where, kind
    return found[1]


def free_nbytes(folder: Path) -> int:
    """What is free on its disk; far too much if the file system does not say. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else 1 << 62


def is_network(kind: str) -> bool:
    """Whether files of a file system of this type come over a network, or from a program."""
    return kind in _NETWORK or kind.startswith("fuse")


def is_in_memory(kind: str) -> bool:
    """Whether files of a file system of this type are in memory."""
    return kind in _IN_MEMORY
