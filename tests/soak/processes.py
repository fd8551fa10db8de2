"""Actions as processes that may be killed, limited and watched: what they gave, and what they have left over."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recordio import RecordIOError
from tests.open_files import open_files
from tests.processes_seen import children, soon

SECONDS = 120.0  # an action that takes longer hangs
INTERRUPTED = 130
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)
_running: set[int] = set()


class Fault(Exception):
    """What must not happen has happened."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal; what the action gave, or the error that it raised."""

    status: int
    value: Any = None
    error: Exception | None = None

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    def require(self) -> Any:
        """What the action gave; anything else is a fault."""
        if self.status or self.error:
            raise Fault(f"exit {self.status}: {type(self.error).__name__}: {self.error}")
        return self.value


class Child:
    """An action in a process of its own, with the time limit and the folder of which it may leave no file open."""

    def __init__(self, action: Callable[[], Any], top: Path, file_nbytes: int | None = None) -> None:
        self._result = os.memfd_create("result")
        self._begun = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the child has a handler for it
        self.pid = os.fork()
        if not self.pid:
            _live(action, self._result, top, file_nbytes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        _running.add(self.pid)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Waits until it has ended and nothing of it is left. A hang is a fault."""
        while not (status := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self._begun > SECONDS:
                self.kill()
                os.waitpid(self.pid, 0)
                raise Fault(f"hangs: no end after {SECONDS:g} seconds")
            time.sleep(0.002)
        _running.remove(self.pid)
        code = os.waitstatus_to_exitcode(status[1])
        with os.fdopen(self._result, "rb") as file:
            file.seek(0)
            data = file.read()
        value, error = pickle.loads(data) if code == 0 else (None, None)
        if code not in (0, INTERRUPTED, -signal.SIGKILL):
            raise Fault(f"a process ended with {code}")
        if not soon(_reaped):
            raise Fault(f"processes are left: {sorted(children() - _running)}")
        return Ended(code, value, error)


def run(action: Callable[[], Any], top: Path) -> Any:
    """The result of an action that has to succeed."""
    return Child(action, top).wait().require()


def adopt() -> None:
    """Makes orphans of the actions children of this process, so that it sees them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reaped() -> bool:
    """Whether all children of this process have ended, but for those that it watches still."""
    ended = [os.waitpid(pid, os.WNOHANG)[0] for pid in children() - _running]
    return all(ended)


def _live(action: Callable[[], Any], result: int, top: Path, file_nbytes: int | None) -> None:
    """The life of a child: acts, leaves what it found, and ends as an interpreter does."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        faulthandler.enable()
        faulthandler.dump_traceback_later(SECONDS - 5)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        if file_nbytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_nbytes, hard))
        found = _outcome(action)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        gc.collect()
        if left := open_files(top):
            raise Fault(f"files are left open: {left}")
        with os.fdopen(result, "wb") as file:
            pickle.dump(found, file)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException:  # noqa: BLE001 it ends here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _outcome(action: Callable[[], Any]) -> tuple[Any, RecordIOError | None]:
    """What the action gives, or our error without its causes and frames."""
    try:
        return action(), None
    except RecordIOError as error:
        return None, type(error)(error.fault, error.place, error.problems)


def private_disk(where: Path, nbytes: int) -> None:
    """A file system of this size, which only this process and its children see. Raises OSError."""
    faulthandler.cancel_dump_traceback_later()
    soon(lambda: len(os.listdir("/proc/self/task")) == 1)  # a process of several threads may not leave its namespace
    user, group = os.getuid(), os.getgid()
    _call(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _call(_libc.mount(b"none", os.fsencode(where), b"tmpfs", 0, b"size=%d" % nbytes))
    faulthandler.dump_traceback_later(SECONDS - 5)


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
