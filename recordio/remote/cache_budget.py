"""How much the shards of a cache take on disk, in one file that all processes count in together."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from recordio.remote.cache_files import OPEN_FLAGS, locked

_COUNT = struct.Struct("<q")
_UNIT = 4096  # of a file's space on disk


class CacheBudget:
    """The count. Bytes are counted before they are written: what a killed process did not write stays counted, until
    the files are measured again.

    Args:
        path: the file with the count.
        measure: measures the files.
    """

    def __init__(self, path: Path, measure: Callable[[], int]) -> None:
        self._path = path
        self._measure = measure

    def add(self, *sizes: int, limit: int | None = None) -> bool:
        """Counts ranges of these sizes more, or fewer. False if that is over the limit: then nothing is counted.

        Raises OSError.
        """
        nbytes = sum(-(-size // _UNIT) * _UNIT if size > 0 else size // _UNIT * _UNIT for size in sizes)
        with self._counted() as (descriptor, used):
            if limit is not None and used + nbytes > limit:
                return False
            os.pwrite(descriptor, _COUNT.pack(max(0, used + nbytes)), 0)
            return True

    def used(self) -> int:
        """Bytes on disk, and on their way there."""
        try:
            with self._counted() as (_, used):
                return used
        except OSError:  # a folder of others
            return self._measure()

    def measure(self) -> int:
        """Counts anew: for a process that knows that no other writes."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        return self.used()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[tuple[int, int]]:
        """The open file and the count, while no other process counts."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
        try:
            with locked(descriptor):
                found = os.pread(descriptor, _COUNT.size, 0)
                if len(found) != _COUNT.size:
                    found = _COUNT.pack(self._measure())
                    os.pwrite(descriptor, found, 0)
                yield descriptor, _COUNT.unpack(found)[0]
        finally:
            os.close(descriptor)
