"""The rate of the device itself: 256 KiB in random order and 1 MiB in order, with 1, 4 and 8 reads in flight.

Buffered and with O_DIRECT, over the very files of the data set, so that both stand on the same place of the disk.
"""

from __future__ import annotations

import mmap
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scaling.usage import drop_cache, files_of

PATTERNS = {"random": 256 << 10, "in order": 1 << 20}
IN_FLIGHT = (1, 4, 8)
KINDS = {"buffered": 0, "direct": os.O_DIRECT}


def measure(folder: Path, seconds: float) -> dict[str, float]:
    """Bytes a second of each "pattern, in flight, kind", of at most `seconds` each, each on a cold cache."""
    rates = {}
    for pattern in PATTERNS:
        for in_flight in IN_FLIGHT:
            for kind in KINDS:
                drop_cache(folder)
                rates[f"{pattern}, {in_flight}, {kind}"] = rate(folder, pattern, in_flight, kind, seconds)
    return rates


def rate(folder: Path, pattern: str, in_flight: int, kind: str, seconds: float) -> float:
    """Bytes a second."""
    size, done, lock = PATTERNS[pattern], 0, threading.Lock()
    opened = [os.open(path, os.O_RDONLY | KINDS[kind]) for path in files_of(folder)]
    places = iter(_places(opened, size, pattern))
    end = time.perf_counter() + seconds

    def work() -> None:
        nonlocal done
        buffer = mmap.mmap(-1, size)  # O_DIRECT wants whole pages
        while time.perf_counter() < end:
            with lock:
                place = next(places, None)
            if place is None:
                return
            got = os.preadv(place[0], [buffer], place[1])
            with lock:
                done += got

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for fd in opened:
        os.close(fd)
    return done / took


def _places(opened: list[int], size: int, pattern: str) -> list[tuple[int, int]]:
    """Files and offsets of all whole pieces of a size; in random order they differ from call to call."""
    places = [(fd, at) for fd in opened for at in range(0, os.fstat(fd).st_size - size + 1, size)]
    if pattern == "random":
        random.shuffle(places)
    return places


def best(rates: dict[str, float], pattern: str, kind: str) -> float:
    """The best rate of a pattern over the reads in flight."""
    return max(rates[f"{pattern}, {in_flight}, {kind}"] for in_flight in IN_FLIGHT)


def rows(rates: dict[str, float]) -> Iterator[dict[str, object]]:
    for pattern, size in PATTERNS.items():
        for in_flight in IN_FLIGHT:
            found = {f"{kind} MB/s": rates[f"{pattern}, {in_flight}, {kind}"] / 1e6 for kind in KINDS}
            yield {"reads": f"{size >> 10} KiB {pattern}", "in flight": in_flight} | found
