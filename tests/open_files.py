"""Which files of a folder this process has open.

Counted by folder: what other tests left to the garbage collector closes at any moment.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path


def open_files(folder: Path) -> list[str]:
    """The paths below `folder` that are open, one for each descriptor; "<path> (deleted)" for a deleted file."""
    gc.collect()
    root, paths = f"{folder.resolve()}", []
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the descriptor of the listing itself, or one closed meanwhile
            continue
        if path == root or path.startswith(f"{root}/"):
            paths.append(path)
    return sorted(paths)
