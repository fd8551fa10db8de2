"""How much memory this process and its children hold while something runs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_EVERY = 0.01  # seconds


@dataclass(slots=True)
class Held:
    """The most bytes above those before; None where the system does not say."""

    nbytes: int | None = None


@contextmanager
def watched() -> Iterator[Held]:
    """Looks again and again while the block runs. Pages of files in the system's cache do not count."""
    found, before, stop = Held(), _taken(), threading.Event()
    if before is None:
        yield found
        return

    def watch() -> None:
        most = before
        while not stop.wait(_EVERY):
            most = max(most, _taken() or 0)
            found.nbytes = most - before

    found.nbytes = 0
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _taken() -> int | None:
    """Bytes of anonymous and shared memory, each shared page counted once over all processes."""
    try:
        return sum(_of_process(pid) for pid in _family())
    except OSError:
        return None


def _of_process(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text("ascii")
    except OSError:
        if pid == os.getpid():
            raise
        return 0  # a child that has ended
    return sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.M))) << 10


def _family() -> list[int]:
    """This process and its descendants."""
    pids = [os.getpid()]
    for pid in pids:
        for children in (_PROC / str(pid) / "task").glob("*/children"):
            try:
                pids += map(int, children.read_text("ascii").split())
            except OSError:  # the thread has ended
                continue
    return pids
