"""The files of a cache: which of a folder are ours, what they take on disk, and locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # follows no link, waits for no pipe
DATA, MAP = ".rio", ".map"  # of a shard
MAGIC = b"recordio-cache-2"  # begins a shard's map

_SHARD_FILE = re.compile(r"([0-9a-f]{32})\.(?:rio|map)")


def make_folder(path: Path) -> None:
    """For this user alone. Raises OSError unless it is there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_file(path: Path, most: int) -> bytes:
    """Its first bytes; none if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def shard_sizes(shards: Path) -> Counter[str]:
    """What each shard takes on disk, in bytes, by its digest. Files that the cache has not made are left out."""
    sizes: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError), os.scandir(shards) as entries:
        for entry in entries:
            if (name := _SHARD_FILE.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    sizes[name[1]] += entry.stat(follow_symlinks=False).st_blocks * 512
    return sizes


def remove_shard(shards: Path, digest: str) -> None:
    """Removes a shard's files: what says that pages are present goes first. Raises OSError."""
    for suffix in (MAP, DATA):
        (shards / f"{digest}{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Alone with this file, where the file system knows locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
