"""Other processes: how ranks are started, what the system tells of them, what tests must leave as they found it."""

from __future__ import annotations

import gc
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

SECONDS = 60  # for what takes a moment, on a machine that has much else to do


def soon(reached: Callable[[], Any]) -> bool:
    """Whether something comes about within that time."""
    deadline = time.monotonic() + SECONDS
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(reached())


def python_on(ranks: int) -> list[str]:
    """The words before a script: Python, or torchrun for more than one rank."""
    if ranks == 1:
        return [sys.executable]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-addr=127.0.0.1",
            f"--master-port={port}"]  # fmt: skip


@contextmanager
def left_as_found(taken: Callable[[], Any]) -> Iterator[None]:
    """What `taken` counts is afterwards what it was before."""
    resource_tracker.ensure_running()  # what multiprocessing itself starts once, and keeps
    forkserver.ensure_running()
    gc.collect()  # what other tests have left in cycles
    before = taken()
    yield
    if taken() != before:
        gc.collect()
        soon(lambda: taken() == before)  # what ends by itself
    after = taken()
    assert after == before, f"{before} before, {after} after"


def children(pid: int | str = "self") -> set[int]:
    """The processes that a process has started."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found.update(map(int, task.read_text().split()))
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
