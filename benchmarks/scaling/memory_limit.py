"""A limit on the memory of processes, page cache included: a control group made for the purpose, or a scope of systemd.

`memory_limit` makes one and gives the words that put a command under it; the command calls `require` before it
measures anything, so that nothing is ever measured without the limit.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# The shell enters the group and becomes the command, so everything the command starts is in the group too.
ENTER = 'echo $$ > "$0" && exec "$@"'


class NoLimitError(Exception):
    """No memory limit can be set here; the message says what was tried."""


@contextlib.contextmanager
def memory_limit(nbytes: int) -> Iterator[Sequence[str]]:
    """The words to put before a command so that it and its children hold at most `nbytes`, page cache included.

    Raises NoLimitError where neither version of control groups may be used and systemd-run does not help.
    """
    name, tried = f"recordio-scale-{os.getpid()}", []
    for group, file in ((ROOT / "memory" / name, "memory.limit_in_bytes"), (ROOT / name, "memory.max")):
        try:
            _make(group, file, nbytes)
        except OSError as error:
            tried.append(f"{group}: {error.strerror}")
            continue
        try:
            yield ["/bin/sh", "-c", ENTER, str(group / "cgroup.procs")]
        finally:
            _remove(group)
        return
    words = ["systemd-run", *([] if os.geteuid() == 0 else ["--user"]), "--scope", "--quiet", "--collect"]
    words += [f"--property=MemoryMax={nbytes}", "--property=MemorySwapMax=0"]
    if shutil.which(words[0]) and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        yield words
        return
    raise NoLimitError("; ".join([*tried, "systemd-run: missing, or it refuses"]))


def _make(group: Path, file: str, nbytes: int) -> None:
    if not (group.parent / "cgroup.procs").exists():
        raise FileNotFoundError(0, "no control groups with memory are mounted there")
    group.mkdir()
    try:
        (group / file).write_text(str(nbytes))
    except OSError:
        group.rmdir()
        raise


def _remove(group: Path, seconds: float = 10) -> None:
    """Removes a group; that of a process that has just ended is busy for a moment."""
    end = time.monotonic() + seconds
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def require(nbytes: int) -> None:
    """Raises NoLimitError unless this process is held to `nbytes` or less (and a page: limits are rounded)."""
    limits = []
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        names = {"memory": f"memory{path}/memory.limit_in_bytes", "": f".{path}/memory.max"}
        file = ROOT / names.get(controllers, "nothing")
        limits += [file.read_text("ascii").strip()] if file.is_file() else []
    if all(limit == "max" or int(limit) > nbytes + mmap.PAGESIZE for limit in limits):
        raise NoLimitError(f"this process is not held to {nbytes} bytes")
