"""Memory, and files in it: small ones that were read as a whole, or a folder without a disk, for tests."""

from __future__ import annotations

import mmap
from collections.abc import Hashable, Iterable, Mapping, Sequence

from recordio.storage.base import File, Range, ShardPlace

_LARGE_PAGE = 2 << 20
_SMALL_STEP = 64 << 10


def new_memory(nbytes: int) -> mmap.mmap:
    """At least that much memory, aligned to pages, which a forked child does not share. Raises OSError, OverflowError.

    In large pages, so that first use takes fewer faults, each of which costs more than filling a small one. Memory that
    is smaller than a large page does not ask for one: many such pieces would take many times their size.
    """
    step = _LARGE_PAGE if nbytes >= _LARGE_PAGE else _SMALL_STEP
    memory = mmap.mmap(-1, -(-max(nbytes, 1) // step) * step, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if step == _LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class MemoryFile(File):
    """Bytes as a file."""

    def __init__(self, name: str, data: bytes | memoryview, identity: Hashable = None) -> None:
        self.name = name
        self.nbytes = len(data)
        self.identity = data if identity is None else identity
        self._data = data

    def _read(self, offset: int, nbytes: int) -> bytes:
        return bytes(self._data[offset : offset + nbytes])

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        data = self._data[offset : offset + len(target)]
        target[: len(data)] = data
        return len(data)

    def will_need(self, ranges: Iterable[Range]) -> None:
        pass

    def wont_need(self, offset: int, nbytes: int) -> None:
        pass

    def map(self) -> bytes:
        return bytes(self._data)

    def close(self) -> None:
        pass


class MemoryStorage:
    """A dict of bytes as a folder."""

    is_remote = False

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        if name not in self.files:
            raise FileNotFoundError(name)
        return MemoryFile(name, self.files[name])

    def file_system(self) -> str:
        return "ramfs"

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        found = [(self.files.get(name, b""), length) for name, length in files]
        return [data[-nbytes:] if len(data) == length else b"" for data, length in found]

    def read_whole(self, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
        found: list[Hashable] = []
        at = 0
        for name, length in files:
            data = self.files.get(name)
            found.append(data if data is not None and len(data) == length else None)
            if found[-1] is not None:
                target[at : at + length] = self.files[name]
            at += length
        return found

    def names(self) -> list[str]:
        return sorted(self.files)
