"""Other processes: starting ranks, watching children, checking for leaks."""

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

SECONDS = 60  # generous, for a busy machine


def soon(reached: Callable[[], Any]) -> bool:
    """Whether a condition becomes true within SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(reached())


def python_on(ranks: int) -> list[str]:
    """The command before a script: Python, or torchrun for more than one rank."""
    if ranks == 1:
        return [sys.executable]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    return [*torchrun, f"--nproc-per-node={ranks}", "--master-addr=127.0.0.1", f"--master-port={port}"]


@contextmanager
def left_as_found(taken: Callable[[], Any]) -> Iterator[None]:
    """Checks that `taken()` is the same afterwards."""
    resource_tracker.ensure_running()  # multiprocessing starts these once and keeps them
    forkserver.ensure_running()
    gc.collect()  # cycles left by other tests
    before = settled(taken)
    yield
    if taken() != before:
        gc.collect()
        soon(lambda: taken() == before)  # some processes are still ending
    after = taken()
    assert after == before, f"{before} before, {after} after"


def settled(taken: Callable[[], Any]) -> Any:
    """`taken()` once it stays: threads and processes of the test before may still be ending."""
    found = taken()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.02)
        previous, found = found, taken()
        if found == previous:
            break
    return found


def children(pid: int | str = "self") -> set[int]:
    """The processes that a process has started."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found.update(map(int, task.read_text().split()))
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
