"""Which files of a folder, and which pipes, this process has open.

All descriptors are no count to compare: what other tests left to the garbage collector closes at any moment, and
servers in threads take and end connections.
"""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path


def open_files(folder: Path) -> list[str]:
    """The paths below `folder` that are open, one for each descriptor; "<path> (deleted)" for a deleted file."""
    root = f"{folder.resolve()}"
    return sorted(path for path in _open() if path == root or path.startswith(f"{root}/"))


def open_pipes() -> set[str]:
    """The pipes that are open, each by its number."""
    return {path for path in _open() if path.startswith("pipe:")}


def _open() -> list[str]:
    """What each descriptor leads to."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself, or one closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found
