"""Which files of a folder, and which pipes, this process has open, and how many descriptors but those of connections.

Connections are no count to compare: servers of other tests take and end them in threads of this process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
from pathlib import Path


def open_files(folder: Path) -> list[str]:
    """The paths below `folder` that are open, one for each descriptor; "<path> (deleted)" for a deleted file."""
    root = f"{folder.resolve()}"
    return sorted(path for path in _open() if path == root or path.startswith(f"{root}/"))


def open_pipes() -> set[str]:
    """The pipes that are open, each by its number."""
    return {path for path in _open() if path.startswith("pipe:")}


def descriptors() -> int:
    """How many descriptors are open, without those of internet connections. Zero where the system does not tell."""
    gc.collect()
    try:
        found = list(map(int, os.listdir("/proc/self/fd")))
    except FileNotFoundError:
        return 0
    return sum(not _is_connection(fd) for fd in found)


def _is_connection(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family in (socket.AF_INET, socket.AF_INET6)
    except OSError:  # closed meanwhile
        return True


def _open() -> list[str]:
    """What each descriptor leads to."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself, or one closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found
