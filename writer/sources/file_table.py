"""Files below a folder as a table of names, sizes and stamps, which are read whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive_paths import find_archive
from recordio.writer.sources.opening import read_file, status
from recordio.writer.sources.plain_files import opened_folder, read_files, refused, shown, stamp
from recordio.writer.sources.source import Fingerprint

_RUN_FILES, _RUN_NBYTES = 64, 4 << 20
_RUN_NAMES = 1 << 12


@dataclass(frozen=True, slots=True)
class FileTable:
    """Files below a folder.

    Attributes:
        root: the folder.
        names: the paths below it, end to end.
        ends: the end of each path in `names`.
        sizes: bytes, -1 for anything but a regular file.
        stamps: `stamp` of each file.
    """

    root: bytes
    names: bytes
    ends: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> bytes:
        return self.names[self.ends[index - 1] if index else 0 : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for end in self.ends.tolist():
            yield self.names[start:end]
            start = end

    def read(self, index: int) -> bytes:
        """The bytes of one file. Raises SourceError, also when its size has changed."""
        path = os.path.join(self.root, self.name(index))
        if self.sizes[index] < 0:
            raise _irregular(path)
        return read_file(path, int(self.sizes[index]))

    def read_all(self, indices: npt.NDArray[np.int64]) -> list[bytes]:
        """The bytes of several files. Raises SourceError for the first that cannot be read."""
        folder = opened_folder(self.root)
        if folder < 0:
            return [self.read(k) for k in indices.tolist()]
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        try:
            found = read_files(folder, self.names, starts, self.ends[indices], self.sizes[indices])
        finally:
            os.close(folder)
        return [self.read(k) if data is None else data for k, data in zip(indices.tolist(), found, strict=True)]

    def runs(self, indices: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """The indices in runs of files to be read together, of 64 or about 4 MiB."""
        ends = np.cumsum(np.maximum(self.sizes[indices], 0))
        start = 0
        while start < len(indices):
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + _RUN_NBYTES)) + 1
            yield indices[start : (start := min(full, start + _RUN_FILES, len(indices)))]

    def select(self, keep: npt.NDArray[np.bool_]) -> FileTable:
        """The files where `keep` is true."""
        if keep.all():
            return self
        names = [name for name, kept in zip(self, keep.tolist(), strict=True) if kept]
        ends = np.cumsum(np.fromiter(map(len, names), np.int64, len(names)))
        return FileTable(self.root, b"".join(names), ends, self.sizes[keep], self.stamps[keep])

    def paths(self, indices: Iterable[int] | None = None) -> Iterator[bytes]:
        """The paths of these files, of all if None."""
        chosen = self if indices is None else map(self.name, indices)
        return (os.path.join(self.root, name) for name in chosen)

    def nbytes(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sizes of these files, int64 (n,); 0 for -1 and for anything but a regular file."""
        return np.append(np.maximum(self.sizes, 0), 0)[indices]

    def digest_of_some(self, indices: npt.NDArray[np.int64]) -> bytes:
        """`digest`, where -1 stands for no file."""
        return (indices >= 0).tobytes() + self.digest(indices[indices >= 0])

    def digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        """Of the names, sizes and stamps of these files, in order."""
        out = xxhash.xxh3_128()
        for start in range(0, len(indices), _RUN_NAMES):
            out.update(b"".join(map(self.name, indices[start : start + _RUN_NAMES].tolist())))
        lengths = np.diff(self.ends, prepend=0)
        for numbers in (lengths[indices], self.sizes[indices], self.stamps[indices]):
            out.update(numbers.astype("<i8").tobytes())
        return out.digest()

    def fingerprint(self) -> Fingerprint:
        content = xxhash.xxh3_128()
        for part in (self.names, self.ends, self.sizes):
            content.update(part if isinstance(part, bytes) else part.astype("<i8").tobytes())
        return Fingerprint(content.digest(), xxhash.xxh3_128_digest(self.stamps.astype("<i8").tobytes()))


def _irregular(path: bytes) -> SourceError:
    try:
        target = os.readlink(path)
    except OSError:
        found = find_archive(path, fresh=False)
        return SourceError((found and found[0].why_unread(found[1])) or "not a regular file")
    return SourceError(f"the symbolic link leads to no file that can be read: {shown(target)!r}")


def file_table(paths: list[bytes]) -> FileTable:
    """A table of files of one folder, named by their base names. Raises SourceError."""
    return named_files(os.path.dirname(paths[0]), [os.path.basename(path) for path in paths])


def named_files(root: bytes, names: list[bytes]) -> FileTable:
    """A table of the files with these names below a folder. Raises SourceError."""
    stats = []
    for path in (os.path.join(root, name) for name in names):
        try:
            stats.append(status(path))
        except OSError as error:
            raise refused(error).at(file=shown(path)) from error
    return FileTable(
        root,
        b"".join(names),
        np.cumsum(np.array([len(name) for name in names], np.int64)),
        np.array([found.st_size for found in stats], np.int64),
        np.array([stamp(found) for found in stats], np.int64),
    )
