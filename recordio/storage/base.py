"""The interface to storage: a folder of named files, read at offsets or mapped.

A read is exact: all the requested bytes, or an error. Only this package turns errors of the system into ours.
"""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from recordio.errors import CorruptError, StorageError
from recordio.format.index import Index
from recordio.format.shard import Footer, ShardHeader

Range = tuple[int, int]  # offset and number of bytes
DIRECT_ALIGNMENT = 4096  # of a direct read: its offset, its length, and the address of its memory


def storage_error(action: str, path: str | os.PathLike[str], error: OSError) -> StorageError:
    """An error of the operating system as one of ours, with the name of the file."""
    return StorageError(f"cannot {action}: {error.strerror or error}").at(file=os.fspath(path))


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """What the manifest says of a shard, before it is opened.

    Attributes:
        nbytes: its length.
        digest: identifies its content.
        header_nbytes: where its header ends, or will most likely.
        index_offset: where its index begins, which the footer follows.
        pages: how many it has.
        index: its index if it is in memory.
    """

    nbytes: int
    digest: bytes
    header_nbytes: int
    index_offset: int
    pages: int
    index: Callable[[], Index | None]

    @classmethod
    def of(cls, footer: Footer, text: bytes, index: Callable[[], Index | None] = lambda: None) -> Self:
        """By the footer that is expected; `text`: the JSON of the shard's header, most likely."""
        header = len(ShardHeader.encode_text(footer.dataset_id, footer.number, text))
        pages = footer.blocks * footer.fields
        return cls(footer.file_nbytes, footer.digest, header, footer.index_offset, pages, index)


class File(ABC):
    """An open file of fixed length."""

    name: str
    nbytes: int
    identity: Hashable = (
        None  # equal for two files if they are the same and were not changed in between; None if unknown
    )

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly these bytes.

        Raises CorruptError if the file is shorter: it was cut. Raises StorageError if the system fails to read, and for
        a negative offset or length.
        """
        if offset < 0 or nbytes < 0:  # a slice would count a negative offset from the end of the file
            text = f"cannot read {nbytes} bytes at offset {offset}: neither may be negative"
            raise StorageError(text).at(file=self.name)
        data, found = b"", max(0, self.nbytes - offset)
        if nbytes <= found:  # else a damaged size would ask for any amount of memory
            data = self._read(offset, nbytes)
            found = len(data)
        if found != nbytes:
            raise CorruptError(f"the file was cut: {found} of {nbytes} bytes").at(file=self.name, byte=offset)
        return data

    def read_into(self, target: memoryview, offset: int, nbytes: int, *, direct: bool = False) -> None:
        """Reads `nbytes` bytes from `offset` on into the target; what is behind them there is undefined.

        Args:
            target: uint8, writable.
            offset: where to begin.
            nbytes: up to len(target).
            direct: past the system's cache, where it can do that. The address and the length of the target, and the
                offset, are multiples of DIRECT_ALIGNMENT then.

        Raises CorruptError if the file is shorter, StorageError if the system fails to read.
        """
        found = self._read_into(target if direct else target[:nbytes], offset, direct)
        if found < nbytes:
            raise CorruptError(f"the file was cut: {found} of {nbytes} bytes").at(file=self.name, byte=offset)

    @property
    def is_here(self) -> bool:
        """Whether every byte is on this machine, so that nothing has to be asked of a network."""
        return True

    @abstractmethod
    def will_need(self, ranges: Iterable[Range]) -> None:
        """Asks the system to read these ranges ahead. A hint: nothing fails."""

    @abstractmethod
    def wont_need(self, offset: int, nbytes: int) -> None:
        """Allows the system to drop this range from its cache. A hint: nothing fails."""

    def discard(self, offset: int, nbytes: int) -> bool:
        """Drops what is kept of this range if the file is a copy. Whether reading it again may give other bytes."""
        return False

    @abstractmethod
    def _read(self, offset: int, nbytes: int) -> bytes:
        """These bytes, fewer only where the file ends. Raises StorageError."""

    @abstractmethod
    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        """The number of bytes read; fewer than asked only where the file ends. Raises StorageError."""

    @abstractmethod
    def map(self) -> mmap.mmap | bytes:
        """The whole file as memory; a slice of it is bytes. Raises StorageError."""

    @abstractmethod
    def close(self) -> None: ...


class Storage(Protocol):
    """A folder.

    Attributes:
        is_remote: whether every read is a request over a network, which takes long and costs the same for few bytes.
    """

    is_remote: bool

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        """A file; `place` if it is a shard, which saves a storage over a network from asking.

        Raises FileNotFoundError, StorageError, and DatasetError for anything but a regular file."""

    def file_system(self) -> str:
        """The type of the file system that holds the folder, such as "ext4" or "nfs4"; "" if unknown."""

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        """The last `nbytes` bytes of each of these files, (name, length) pairs: a quick look at many of them.

        Of a file that cannot be read, is not regular or has another length, it is not `nbytes` bytes but fewer or more:
        `open` tells why. Follows no symbolic link, waits for no pipe.
        """

    def read_whole(self, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
        """Reads these small files, (name, length) pairs, one after the other into `target`: the identity of each.

        It is None for a file that cannot be read, is not regular or has another length: `open` tells why. Its part of
        the target is undefined. Follows no symbolic link, waits for no pipe.
        """

    def names(self) -> list[str]:
        """The names in the folder, sorted. Raises StorageError."""
