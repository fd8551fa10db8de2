"""Measuring and reporting: passes by wall and CPU time, fresh processes, tables."""

from __future__ import annotations

import json
import math
import mmap
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# Of fresh processes: an installed package has its bytecode beside it, and compiling it would be most of a short run.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, slots=True)
class Timing:
    """One pass: seconds on the clock, seconds of CPU over all threads of the process (user and system)."""

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> Timing:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    wall = time.perf_counter() - wall
    return Timing(wall, time.process_time() - cpu)


def best(run: Callable[[], Any], enough: float = 0.25, most: int = 9) -> Timing:
    """The fastest pass by wall time, of at least two and as many as fit into `enough` seconds.

    A pass of more than two seconds is not repeated.
    """
    passes = [timed(run)]
    while passes[0].wall <= 2 and len(passes) < most and (len(passes) < 2 or sum(p.wall for p in passes) < enough):
        passes.append(timed(run))
    return min(passes, key=lambda timing: timing.wall)


def median(values: Iterable[float | None]) -> float | None:
    """The median of all values but None; None if there are none."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def _take_memory(nbytes: int) -> None:
    """Uses memory and frees it for the next process.

    A virtual machine may have given free memory back to its host: getting it again costs more than reading into it.
    """
    with mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, nbytes, mmap.PAGESIZE):
            memory[at] = 1


def in_process(
    script: str,
    request: Mapping[str, Any],
    timeout: float = 300,
    before: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    python: str = sys.executable,
    memory: int = 512 << 20,
) -> Row:
    """The last line of `script --one REQUEST`, run in a fresh process; {"failed": reason} if it fails.

    `before` goes before the command, as a program that runs it; `variables` are more of its environment. `memory`: what
    it may need, the page cache included.
    """
    os.sync()  # do not charge this process for earlier writes
    _take_memory(memory)
    command = [*before, python, script, "--one", json.dumps(request)]
    environment = {**os.environ, **BYTECODE, **(variables or {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {timeout:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]}
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def succeeded(row: Row) -> Row:
    """The result of `in_process`; raises RuntimeError if it failed."""
    if "failed" in row:
        raise RuntimeError(row["failed"])
    return row


def answer(row: Row) -> None:
    """Prints the result and ends a process of `in_process`, whatever threads and children a contender has left."""
    print(f"{json.dumps(row)}\n", end="", flush=True)  # at once: several ranks may write to one pipe
    os._exit(0)


def say(line: str) -> None:
    """Prints progress to stderr, so that the table can go to a file."""
    print(line, file=sys.stderr, flush=True)


def memory_nbytes(name: str) -> int:
    """Of this process: "VmRSS" or the peak, "VmHWM", which unlike ru_maxrss does not start from the parent's."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def folder_nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def scratch(out: Path | None) -> Iterator[Path]:
    """The output folder: `out`, or a temporary one."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="recordio-benchmark-") as folder:
        yield Path(folder)


def machine(packages: Sequence[str] = ("numpy", "zstandard", "xxhash")) -> str:
    """The machine and package versions, in one line."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}, CPython {platform.python_version()}"
    return f"{cpus} CPUs, {system}, {', '.join(found)}"


def cell(value: Any) -> str:
    """A number with three significant digits and thousands separators."""
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(digits, 4)}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show(rows: Sequence[Row], as_json: bool, title: str = "") -> None:
    """The rows as a markdown table under a title, or each as one line of JSON. All rows have the first one's keys.

    Values that are dicts appear in JSON only.
    """
    if as_json:
        for row in rows:
            print(json.dumps(({"table": title} if title else {}) | row))
        return
    if not rows:
        return
    if title:
        print(f"\n**{title}**\n")
    names = [name for name, value in rows[0].items() if not isinstance(value, dict)]
    right = [any(isinstance(row[name], int | float) for row in rows) for name in names]
    print("| " + " | ".join(names) + " |")
    print("|" + "|".join("--:" if number else "---" for number in right) + "|")
    for row in rows:
        print("| " + " | ".join(cell(row[name]) for name in names) + " |")
