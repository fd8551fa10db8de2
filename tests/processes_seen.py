"""What other processes are doing, as the system tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60  # for what takes a moment, on a machine that has much else to do


def soon(reached: Callable[[], Any]) -> bool:
    """Whether something comes about within that time."""
    deadline = time.monotonic() + SECONDS
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(reached())


def children(pid: int | str = "self") -> set[int]:
    """The processes that a process has started."""
    return {int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()}


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
