"""Writers that die, as child processes: at a random moment, or at each single system call."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import DatasetError, RecordIOError, ShardDataset

CALLS = "open writev write fsync fdatasync rename replace link unlink remove mkdir rmdir ftruncate close".split()
MODES = ("create", "append", "overwrite")
SHARDS = 3
# A killed process loses no written data, on disk or in memory, so use the faster.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.exists() else {}


def prepare(folder: Path, mode: str) -> None:
    if mode != "create":
        with recordio.DatasetWriter(folder, shard_samples=4) as writer:
            for i in range(10):
                writer.write({"number": i, "text": f"old {i}"})


def write(folder: Path, mode: Any, shards: int = SHARDS) -> None:
    with recordio.DatasetWriter(folder, mode=mode, shard_samples=4, block_bytes=32) as writer:
        for i in range(4 * shards - 1):
            writer.write({"number": 100 + i, "text": f"new {i}"})


def rows(folder: Path) -> list[tuple[int, str]] | None:
    """Every sample; None without a dataset. Any other error is a fault."""
    try:
        ds = ShardDataset(folder, verify="always")
    except DatasetError:
        return None
    columns = ds.take(range(len(ds)))
    return list(zip(columns["number"].tolist(), columns["text"], strict=True))


class Oracle:
    """The samples and files of a folder before and after an undisturbed write."""

    def __init__(self, mode: str, shards: int = SHARDS) -> None:
        self.mode, self.shards = mode, shards
        self.left: list[str] = []  # old shards that even the next writer did not remove
        with TemporaryDirectory(dir=MEMORY) as name:
            folder = Path(name) / "it"
            prepare(folder, mode)
            self.before = rows(folder) if mode != "create" else None
            begun = time.monotonic()
            write(folder, mode, shards)
            self.seconds = time.monotonic() - begun
            self.after, self.files = rows(folder), contents(folder)

    def faults(self, folder: Path) -> tuple[str, list[str]]:
        """Which dataset a dead writer left, and its faults; an old dataset is then written again."""
        try:
            found = rows(folder)
        except Exception as error:  # noqa: BLE001 any of them is a fault
            return "broken", [f"does not open: {type(error).__name__}: {error}"]
        if found == self.after:
            return "new", self._faults_after_the_commit(folder)
        if found != self.before:
            return "between", [f"opens with {len(found or [])} samples"]
        try:
            write(folder, self.mode, self.shards)
        except Exception as error:  # noqa: BLE001
            return "old", [f"the rerun fails: {type(error).__name__}: {error}"]
        return "old", [] if contents(folder) == self.files else [f"the rerun gives {sorted(contents(folder))}"]

    def _faults_after_the_commit(self, folder: Path) -> list[str]:
        """The dataset must be the new one, byte for byte. The next writer should remove other files."""
        here = contents(folder)
        with recordio.DatasetWriter(folder, mode="append"):
            pass
        self.left += sorted(set(contents(folder)) - set(self.files))
        return [f"{name} differs" for name, data in self.files.items() if here.get(name) != data]


def child(action: Callable[[], None]) -> int:
    """Forks; the child acts and exits 0."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return pid


def killed_at_random(runs: int) -> list[str]:
    """SIGKILL at a random moment of a write."""
    out: list[str] = []
    seen: set[str] = set()
    for mode in MODES:
        oracle, rng = Oracle(mode, 12), random.Random(mode)
        spans = sorted(Oracle(mode, 12).seconds for _ in range(5))
        for run in range(runs):
            with TemporaryDirectory(dir=MEMORY) as name:
                folder = Path(name) / "it"
                prepare(folder, mode)
                pid = child(lambda folder=folder, oracle=oracle: write(folder, oracle.mode, 12))
                time.sleep(rng.random() * spans[2] * 1.3)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                state, faults = oracle.faults(folder)
                seen.add(f"{mode} {state}")
                out += [f"{mode} run {run} {state}: {fault}" for fault in faults]
    missing = {f"{mode} old" for mode in MODES} - seen
    return out + [f"never seen: {state}" for state in missing]


class Dies:
    """Replaces functions of `os`: the N-th call of any of them ends the process."""

    def __init__(self, at: int, how: str, calls: Sequence[str] = CALLS) -> None:
        self.left, self.how = at, how
        self.real = {name: getattr(os, name) for name in {*calls, "write", "pwrite"}}
        for name in calls:
            setattr(os, name, self._replacement(name))

    def _replacement(self, name: str) -> Callable[..., Any]:
        real = self.real[name]

        def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                try:
                    if self.how == "after":
                        real(*args, **options)
                    elif self.how == "torn" and name == "writev":
                        data = b"".join(args[1])
                        self.real["write"](args[0], data[: len(data) // 2])
                    elif self.how == "torn" and name == "pwrite":
                        self.real["pwrite"](args[0], args[1][: len(args[1]) // 2], args[2])
                finally:
                    os._exit(9)
            return real(*args, **options)

        return call


def killed_at_every_call(oracle: Oracle, how: str) -> list[str]:
    """Before the N-th call, after it, or in the middle of a write, for every N until a write completes."""
    out: list[str] = []
    states, status, n, mode = set(), 9, 0, oracle.mode
    while status != 0:
        n += 1
        with TemporaryDirectory(dir=MEMORY) as name:
            folder = Path(name) / "it"
            prepare(folder, mode)

            def action(folder: Path = folder, at: int = n) -> None:
                Dies(at, how)
                write(folder, mode)

            status = os.waitstatus_to_exitcode(os.waitpid(child(action), 0)[1])
            if status not in (0, 9):
                out.append(f"{mode} {n}: exit {status}")
            state, faults = oracle.faults(folder)
            states.add(state)
            out += [f"{mode} {how} call {n} {state}: {fault}" for fault in faults]
    if not {"old", "new"} <= states or n < 20:
        out.append(f"{mode}: only {states} in {n} calls")
    return out


def killed_twice() -> list[str]:
    """Two writers in a row die, each at every seventh call."""
    out: list[str] = []
    for mode in MODES:
        oracle = Oracle(mode, 2)
        for first in range(1, 60, 7):
            for second in range(1, 60, 7):
                with TemporaryDirectory(dir=MEMORY) as name:
                    folder = Path(name) / "it"
                    prepare(folder, mode)
                    for at in (first, second):

                        def action(folder: Path = folder, at: int = at, mode: str = mode) -> None:
                            Dies(at, "after")
                            write(folder, mode, 2)

                        if rows(folder) == oracle.before:
                            os.waitpid(child(action), 0)
                    state, faults = oracle.faults(folder)
                    out += [f"{mode} calls {first}, {second} {state}: {fault}" for fault in faults]
    return out


def traced(folder: str, mode: str) -> None:
    """The program that runs under strace."""
    write(Path(folder), mode, 2)


def killed_by_strace() -> list[str]:
    """Killed from outside: strace sends the signal at the N-th system call."""
    import subprocess

    out: list[str] = []
    for mode, calls in (("create", "rename,renameat,renameat2"), ("append", "fsync"), ("overwrite", "unlink,unlinkat")):
        oracle, n, status = Oracle(mode, 2), 0, -9
        while status != 0 and n < 30:
            n += 1
            with TemporaryDirectory(dir=MEMORY) as name:
                folder = Path(name) / "it"
                prepare(folder, mode)
                inject = f"inject={calls}:signal=KILL:when={n}"
                code = f"from tests.faults import crashing; crashing.traced({str(folder)!r}, {mode!r})"
                tracer = ["strace", "-f", "-qq", "-o", f"{name}/trace", "-e", f"trace={calls}", "-e", inject]
                command = [*tracer, sys.executable, "-c", code]
                status = subprocess.run(command, capture_output=True, check=False).returncode
                if status not in (0, -9, 137):
                    return [*out, f"{mode} {n}: exit {status}"]
                state, faults = oracle.faults(folder)
                out += [f"{mode} {calls} {n} {state}: {fault}" for fault in faults]
        if n < 2:
            out.append(f"{calls}: never called")
    return out


def killed_200_times() -> list[str]:
    return killed_at_random(67)


def killed_before_every_call() -> list[str]:
    return [fault for mode in MODES for fault in killed_at_every_call(Oracle(mode), "before")]


def killed_after_every_call() -> list[str]:
    return [fault for mode in MODES for fault in killed_at_every_call(Oracle(mode), "after")]


def killed_in_every_write() -> list[str]:
    return [fault for mode in MODES for fault in killed_at_every_call(Oracle(mode), "torn")]


def left_behind() -> list[str]:
    oracle = Oracle("overwrite", 1)
    killed_at_every_call(oracle, "before")
    return oracle.left


def manifest_lost() -> list[str]:
    """A writer dies, the manifest is lost, another writer comes: the published shards must stay."""
    out: list[str] = []
    for mode in ("append", "overwrite"):
        before = Oracle(mode, 1).before
        for n in range(1, 100):
            with TemporaryDirectory(dir=MEMORY) as name:
                folder = Path(name) / "it"
                prepare(folder, mode)
                shards = {path for path in contents(folder) if path.startswith("shard-")}

                def action(folder: Path = folder, at: int = n, mode: str = mode) -> None:
                    Dies(at, "before")
                    write(folder, mode, 1)

                status = os.waitpid(child(action), 0)[1]
                if status == 0:
                    break
                if rows(folder) == before:
                    os.unlink(folder / "manifest.json")
                    with contextlib.suppress(RecordIOError):
                        recordio.DatasetWriter(folder, mode="overwrite").abort()
                    lost = shards - set(contents(folder))
                    out += [f"{mode} call {n}: {sorted(lost)} are gone"] if lost else []
    return out
