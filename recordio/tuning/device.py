"""The files of a dataset on this machine: how fast they are read by themselves, in the system's cache or out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from recordio.format.shard_table import shard_name
from recordio.process_guard import ThreadPool
from recordio.reader.dataset import ShardDataset
from recordio.storage.machine import file_system, is_in_memory

PIECE = 1 << 20
_IN_FLIGHT = 4  # reads; a disk gives its full rate to several only
_PROBES = 64


def shard_paths(dataset: ShardDataset) -> list[Path]:
    """The shards of a dataset on this machine."""
    return [Path(dataset._path, shard_name(number)) for number in dataset.store.manifest.table.numbers.tolist()]


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[Iterator[tuple[int, int]]]:
    """Each file, opened when it is its turn, with its size."""
    held: list[int] = []

    def each() -> Iterator[tuple[int, int]]:
        for path in paths:
            if len(held) > _IN_FLIGHT:
                os.close(held.pop(0))
            held.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            yield held[-1], os.fstat(held[-1]).st_size

    try:
        yield each()
    finally:
        for fd in held:
            os.close(fd)


def read_rate(paths: Sequence[Path], seconds: float) -> float:
    """Bytes a second of reads of 1 MiB in order, four at a time, for so long or to the end."""
    begun = perf_counter()
    done = 0
    with ThreadPool(_IN_FLIGHT) as pool, _opened(paths) as files:
        for fd, size in files:
            done += sum(pool.map(lambda at, fd=fd: _read(fd, at, begun + seconds), range(0, size, PIECE)))
            if perf_counter() - begun > seconds:
                break
    return done / (perf_counter() - begun)


def _read(fd: int, at: int, end: float) -> int:
    return len(os.pread(fd, PIECE, at)) if perf_counter() < end else 0


def drop(paths: Sequence[Path]) -> float | None:
    """Has the system forget the files: the share of them that it keeps nevertheless; None if it does not say.

    It keeps pages that are mapped by any process, and those of file systems in memory.
    """
    if paths and is_in_memory(file_system(str(paths[0].parent))):
        return 1.0
    kept: list[bool] = []
    step = max(1, len(paths) // _PROBES)
    with _opened(paths) as files:
        for number, (fd, size) in enumerate(files):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if number % step == 0:
                places = range(0, size, max(PIECE, size // max(1, _PROBES // len(paths)) + 1))
                try:
                    kept += [_is_cached(fd, at) for at in places]
                except (OSError, AttributeError):  # a file system, or a system, that does not know such reads
                    return None
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # looking may have asked for pages
    return sum(kept) / len(kept) if kept else None


def _is_cached(fd: int, at: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) >= 0
    except BlockingIOError:
        return False
