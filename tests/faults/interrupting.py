"""Work in a folder that dies at each single system call, or to which the system refuses one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from recordio import StorageError
from tests.faults.crashing import MEMORY, Contents, Dies, child

How = Literal["before", "after", "torn"]  # of a call: before it, after it, in the middle of a write
HOWS: tuple[How, ...] = ("before", "after", "torn")


class Interruptible(Protocol):
    """Work that an interruption must not harm."""

    def prepare(self, top: Path) -> None:
        """What the work needs, in an empty folder."""

    def run(self, top: Path) -> Any:
        """The work."""

    def faults(self, top: Path) -> list[str]:
        """What is wrong with a folder in which the work was interrupted, and is then done again."""


def contents(top: Path) -> Contents:
    """Every file below a folder."""
    files = [path for path in sorted(top.rglob("*")) if path.is_file()]
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


def killed(work: Interruptible, how: How, step: int) -> list[str]:
    """The work dies at its N-th call until it completes; N goes up by `step`."""
    out: list[str] = []
    status, n = 9, HOWS.index(how) - step
    while status != 0:
        n += step
        if n < 1:
            continue
        with TemporaryDirectory(dir=MEMORY) as folder:
            top = Path(folder)
            work.prepare(top)

            def action(top: Path = top, at: int = n) -> None:
                Dies(at, how)
                work.run(top)

            status = os.waitstatus_to_exitcode(os.waitpid(child(action), 0)[1])
            if status not in (0, 9):
                out.append(f"{n}: exit {status}")
            out += [f"{how} call {n}: {fault}" for fault in work.faults(top)]
    return out if n > 20 else [*out, f"only {n} calls"]


def full_disk(work: Interruptible, step: int) -> list[str]:
    """No room at the N-th write, sync, creation or renaming, until the work completes; N goes up by `step`."""
    out: list[str] = []
    for call in ("open", "writev", "fsync", "rename", "replace"):
        refused, n = True, 1 - step
        while refused:
            n += step
            with TemporaryDirectory(dir=MEMORY) as folder:
                top = Path(folder)
                work.prepare(top)
                refused, faults = _refused(work, top, call, n)
                out += [f"{call} {n}: {fault}" for fault in (*faults, *work.faults(top))]
    return out


def _refused(work: Interruptible, top: Path, call: str, at: int) -> tuple[bool, list[str]]:
    """Whether the work came as far as the call, and what is wrong with its error."""
    real, calls = getattr(os, call), 0

    def fails(*args: Any, **options: Any) -> Any:
        nonlocal calls
        writes = call != "open" or (len(args) > 1 and bool(args[1] & os.O_CREAT))
        calls += writes
        if writes and calls == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **options)

    setattr(os, call, fails)
    try:
        work.run(top)
    except StorageError:
        return True, []
    except Exception as error:  # noqa: BLE001 any other is a fault
        return True, [f"raises {type(error).__name__}: {error}"]
    finally:
        setattr(os, call, real)
    return calls >= at, [] if calls < at else ["no error"]
