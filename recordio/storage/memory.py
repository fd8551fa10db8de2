"""A folder in memory, for tests and for datasets without a disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recordio.storage.base import File, Range


class MemoryFile(File):
    """Bytes as a file."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.nbytes = len(data)
        self.identity = data
        self._data = data

    def _read(self, offset: int, nbytes: int) -> bytes:
        return self._data[offset : offset + nbytes]

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        data = self._data[offset : offset + len(target)]
        target[: len(data)] = data
        return len(data)

    def will_need(self, ranges: Iterable[Range]) -> None:
        pass

    def wont_need(self, offset: int, nbytes: int) -> None:
        pass

    def map(self) -> bytes:
        return self._data

    def close(self) -> None:
        pass


class MemoryStorage:
    """A dict of bytes as a folder."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def open(self, name: str) -> File:
        if name not in self.files:
            raise FileNotFoundError(name)
        return MemoryFile(name, self.files[name])

    def file_system(self) -> str:
        return "ramfs"

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        found = [(self.files.get(name, b""), length) for name, length in files]
        return [data[-nbytes:] if len(data) == length else b"" for data, length in found]

    def names(self) -> list[str]:
        return sorted(self.files)
