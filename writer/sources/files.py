"""Input files: listed in a fixed order, read whole; only regular files are opened.

A million files take their names and 24 bytes each. FIFOs, sockets, devices and dangling links are listed, so that no
sample is lost silently, but never opened: reading one raises an error.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.source import Fingerprint

# O_NONBLOCK: opening a FIFO must not wait for a writer.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def shown(name: bytes) -> str:
    """A file name for display; bytes that are not UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")


def refused(error: OSError) -> SourceError:
    return SourceError(f"cannot be read: {error.strerror or error}")


def names_file(path: str) -> bool:
    """Whether a path exists and is not a folder. Dangling links and FIFOs count: a file should be there."""
    return os.path.lexists(path) and not os.path.isdir(path)


def leads_nowhere(path: bytes | str) -> bool:
    """Whether a path is a dangling symbolic link."""
    return os.path.islink(path) and not os.path.exists(path)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or no permission to search the target
        return False


def open_regular(path: bytes | str) -> int:
    """Opens a regular file, returns its descriptor. Raises SourceError for anything else."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise refused(error).at(file=shown(os.fsencode(path))) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SourceError("not a regular file").at(file=shown(os.fsencode(path)))
    return fd


def read_file(path: bytes | str, nbytes: int | None = None) -> bytes:
    """The bytes of a regular file. Raises SourceError, also for a length other than `nbytes`."""
    with open(open_regular(path), "rb", buffering=0) as file:
        try:
            data: bytes = file.readall()
        except OSError as error:
            raise refused(error).at(file=shown(os.fsencode(path))) from error
    if nbytes is not None and len(data) != nbytes:
        raise SourceError(f"changed while it was converted: it had {nbytes} bytes, now {len(data)}")
    return data


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
        names = [self.name(index) for index in indices.tolist()]
        lengths = np.fromiter(map(len, names), np.int64, len(names))
        out = xxhash.xxh3_128(b"".join(names))
        for numbers in (lengths, self.sizes[indices], self.stamps[indices]):
            out.update(numbers.astype("<i8").tobytes())
        return out.digest()

    def fingerprint(self) -> Fingerprint:
        content = xxhash.xxh3_128()
        for part in (self.names, self.ends, self.sizes):
            content.update(part if isinstance(part, bytes) else part.astype("<i8").tobytes())
        return Fingerprint(content.digest(), xxhash.xxh3_128_digest(self.stamps.astype("<i8").tobytes()))


def stamp(found: os.stat_result) -> int:
    """A digest of times and inode, 63 bits: another one as soon as a file was written, or another put in its place.

    The modification time alone is not enough: `mv`, `cp -p`, `rsync -a` and `tar x` keep an older one. ctime is set by
    the system alone, but to the tick of a clock, and to the same one for files that are made together. The inode tells
    those apart, also where a link or a folder on the way leads elsewhere now.
    """
    numbers = struct.pack("<Qqq", found.st_ino, found.st_ctime_ns, found.st_mtime_ns)
    return xxhash.xxh3_64_intdigest(numbers) >> 1


def _irregular(path: bytes) -> SourceError:
    try:
        target = os.readlink(path)
    except OSError:
        return SourceError("not a regular file")
    return SourceError(f"the symbolic link leads to no file that can be read: {shown(target)!r}")


def file_table(paths: list[bytes]) -> FileTable:
    """A table of files of one folder, named by their base names. Raises SourceError."""
    return named_files(os.path.dirname(paths[0]), [os.path.basename(path) for path in paths])


def named_files(root: bytes, names: list[bytes]) -> FileTable:
    """A table of the files with these names below a folder. Raises SourceError."""
    stats = []
    for path in (os.path.join(root, name) for name in names):
        try:
            stats.append(os.stat(path))
        except OSError as error:
            raise refused(error).at(file=shown(path)) from error
    return FileTable(
        root,
        b"".join(names),
        np.cumsum(np.array([len(name) for name in names], np.int64)),
        np.array([found.st_size for found in stats], np.int64),
        np.array([stamp(found) for found in stats], np.int64),
    )


def entries(folder: bytes, on_hidden: Callable[[bytes], None] | None = None) -> list[os.DirEntry[bytes]]:
    """The entries of a folder without hidden ones, sorted as their paths would be. Raises SourceError.

    `on_hidden` is called with the name of each hidden one.
    """
    seen = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if not entry.name.startswith(b"."):
                    seen.append(entry)
                elif on_hidden is not None:
                    on_hidden(entry.name)
    except OSError as error:
        raise refused(error).at(file=shown(folder)) from error
    # Folders sort with a slash: the order is that of the bytes of all paths below.
    return sorted(seen, key=lambda entry: entry.name + b"/" if _is_folder(entry) else entry.name)


def file_names(folder: str) -> list[str]:
    """All names in a folder, unordered. Ten times faster than `entries`. Raises SourceError."""
    try:
        return os.listdir(folder)
    except OSError as error:
        raise refused(error).at(file=folder) from error


def folders(folder: bytes) -> list[bytes]:
    """The names of the folders in a folder, sorted. Raises SourceError."""
    return sorted(entry.name for entry in entries(folder) if _is_folder(entry))


def walk(
    root: bytes,
    on_hidden: Callable[[bytes], None] | None = None,
) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Path below `root` and entry of everything but folders.

    Links to folders are followed, except in a loop. Hidden names are passed over; `on_hidden` is called with the path
    of each.
    """

    def inside(path: bytes, prefix: bytes) -> list[os.DirEntry[bytes]]:
        told = None if on_hidden is None else lambda name: on_hidden(prefix + name)
        return entries(path, told)[::-1]

    top = os.stat(root)
    stack: list[tuple[bytes, os.DirEntry[bytes], tuple[tuple[int, int], ...]]]
    stack = [(b"", entry, ((top.st_dev, top.st_ino),)) for entry in inside(root, b"")]
    while stack:
        prefix, entry, above = stack.pop()
        if not _is_folder(entry):
            yield prefix + entry.name, entry
            continue
        found = entry.stat()
        here = (found.st_dev, found.st_ino)
        if here not in above:
            path = prefix + entry.name + b"/"
            stack += [(path, below, (*above, here)) for below in inside(entry.path, path)]


def scan_folder(root: bytes) -> FileTable:
    """Everything but folders below a folder, sorted by the bytes of the paths, hidden names left out.

    Raises SourceError when a folder cannot be listed.
    """
    names, ends, sizes, stamps = bytearray(), array("q"), array("q"), array("q")
    for name, entry in walk(root):
        try:
            regular = _is_regular(entry)
            found = entry.stat(follow_symlinks=regular)
        except OSError as error:
            raise refused(error).at(file=shown(name)) from error
        names += name
        ends.append(len(names))
        sizes.append(found.st_size if regular else -1)
        stamps.append(stamp(found))
    return FileTable(root, bytes(names), _int64(ends), _int64(sizes), _int64(stamps))


def _is_regular(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _int64(values: array[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)  # one copy, no Python objects
