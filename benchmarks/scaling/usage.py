"""What a run costs: bytes from the device, major faults, CPU, peak memory. Linux only."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

Files = list[Path]


def files_of(folder: Path) -> Files:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def drop_cache(folder: Path) -> None:
    """Drops the files from the page cache. Raises RuntimeError if more than 1 % of their pages stay.

    Pages that are not on the disk yet stay, as do those of file systems in memory and those that others have mapped.
    """
    paths, kept, pages = files_of(folder), 0, 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        there = cached_pages(path)
        kept, pages = kept + int(there.sum()), pages + len(there)
    if kept > pages * 0.01 + 16:
        raise RuntimeError(f"{kept:,} of {pages:,} pages of {folder} stay in the page cache: on a disk?")


def cached_pages(path: Path) -> npt.NDArray[np.uint8]:
    """uint8 (pages,): 1 for each page of the file that is in the page cache, by mincore(2)."""
    nbytes = path.stat().st_size
    if not nbytes:
        return np.zeros(0, np.uint8)
    there = np.zeros(-(-nbytes // mmap.PAGESIZE), np.uint8)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(nbytes), ctypes.c_void_p(there.ctypes.data)
        )
        del view
    if failed:
        raise OSError(ctypes.get_errno(), "mincore", str(path))
    return there & np.uint8(1)


def process_read_bytes() -> int:
    """Bytes that this process, its threads and its children that have ended made the device read.

    The kernel counts a read where it is handed to the device, so reading ahead, by faults and by advice as well, counts
    for the thread that caused it.
    """
    lines = Path("/proc/self/io").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def device_read_bytes(folder: Path) -> int | None:
    """Bytes read from the device below a folder by anybody; None where it has none of its own."""
    number = folder.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    return int(stat.read_text("ascii").split()[2]) * 512 if stat.exists() else None


def major_faults() -> int:
    return sum(resource.getrusage(who).ru_majflt for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def cpu_seconds() -> float:
    """CPU seconds of this process and its children that have ended."""
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def memory_of(pid: int) -> tuple[int, int]:
    """Anonymous bytes of a process in memory, and bytes of mapped files; zeros if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0, 0
    found = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in lines)
        if name[:3] == "Rss"
    }
    return found.get("RssAnon", 0), found.get("RssFile", 0) + found.get("RssShmem", 0)


def family() -> list[int]:
    """This process and its descendants."""
    pids = [os.getpid()]
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                pids += map(int, file.read_text("ascii").split())
            except OSError:  # the thread has ended
                continue
    return pids


class Usage:
    """What this process and its children use between entering and leaving. They must have ended by then, to count."""

    def __init__(self, folder: Path, alone: bool = True) -> None:
        self._folder, self._alone = folder, alone

    def __enter__(self) -> Usage:
        self.anonymous, self.mapped = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._start = self._counters()
        return self

    def _counters(self) -> tuple[int, int, int, float, float]:
        device = device_read_bytes(self._folder) or 0
        return process_read_bytes(), device, major_faults(), cpu_seconds(), time.perf_counter()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            members = [memory_of(pid) for pid in family()]
            self.anonymous = max(self.anonymous, sum(anonymous for anonymous, _ in members))
            self.mapped = max(self.mapped, sum(mapped for _, mapped in members))

    def __exit__(self, *_: object) -> None:
        process, device, faults, cpu, wall = (b - a for a, b in zip(self._start, self._counters(), strict=True))
        self._stop.set()
        self._thread.join()
        self.process_read, self.faults, self.cpu, self.wall = process, faults, cpu, wall
        self.device_read = device if self._alone else None

    def figures(self) -> dict[str, float | None]:
        return {
            "process read": self.process_read,
            "device read": self.device_read,
            "faults": self.faults,
            "cpu": self.cpu,
            "anonymous": self.anonymous / 1e6,
            "mapped": self.mapped / 1e6,
        }
