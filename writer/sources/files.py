"""Input files: listed in a fixed order, read whole; only regular files are opened.

A path may lead into an archive: photos.zip/cat/1.jpg is a file, photos.zip/ a folder. All of these functions take such
paths; those of `os` do not. A million files take their names and 24 bytes each. FIFOs, sockets, devices and dangling
links are listed, so that no sample is lost silently, but never opened: reading one raises an error.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive import MemberEntry
from recordio.writer.sources.archives.archive_paths import find_archive
from recordio.writer.sources.opening import (
    archive_of,
    exists as exists,
    is_file as is_file,
    is_folder as is_folder,
    leads_nowhere as leads_nowhere,
    names_file as names_file,
    open_file as open_file,
    open_regular as open_regular,
    read_file as read_file,
    status as status,
)
from recordio.writer.sources.plain_files import refused as refused, shown as shown, stamp as stamp
from recordio.writer.sources.source import Fingerprint

_MAX_VISITS = 1000  # of one folder, by links
Entry = os.DirEntry[bytes] | MemberEntry
_NAME = attrgetter("name")
_RUN_FILES, _RUN_NBYTES = 64, 4 << 20
_RUN_NAMES = 1 << 12


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or no permission to search the target
        return False


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
        sizes = self.sizes[indices]
        if (sizes < 0).any():
            return [self.read(k) for k in indices.tolist()]
        folder = os.path.join(self.root, b"")
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        parts = zip(starts.tolist(), self.ends[indices].tolist(), sizes.tolist(), strict=True)
        return [read_file(folder + self.names[start:end], nbytes) for start, end, nbytes in parts]

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


def entries(folder: bytes, on_hidden: Callable[[bytes], None] | None = None) -> list[Entry]:
    """The entries of a folder without hidden ones, sorted as their paths would be. Raises SourceError.

    `on_hidden` is called with the name of each hidden one.
    """
    return _entries(folder, on_hidden)[0]


def _entries(folder: bytes, on_hidden: Callable[[bytes], None] | None) -> tuple[list[Entry], list[Entry]]:
    """The same, and which of them are folders, in order."""
    seen = []
    for entry in _listed(folder):
        if not entry.name.startswith(b"."):
            seen.append(entry)
        elif on_hidden is not None:
            on_hidden(entry.name)
    inside = set(filter(_is_folder, seen))
    if not inside:
        return sorted(seen, key=_NAME), []
    # Folders sort with a slash: the order is that of the bytes of all paths below.
    seen.sort(key=lambda entry: entry.name + b"/" if entry in inside else entry.name)
    return seen, [entry for entry in seen if entry in inside]


def _listed(folder: bytes) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            yield from found
    except NotADirectoryError as error:
        archive, below = archive_of(folder + b"/", error)
        members = archive.entries(below)
        if members is None:
            raise refused(error).at(file=shown(folder)) from error
        yield from members
    except OSError as error:
        raise refused(error).at(file=shown(folder)) from error


def file_names(folder: str) -> list[str]:
    """All names in a folder, unordered. Ten times faster than `entries`. Raises SourceError."""
    try:
        return os.listdir(folder)
    except NotADirectoryError:
        return [os.fsdecode(entry.name) for entry in _listed(os.fsencode(folder))]
    except OSError as error:
        raise refused(error).at(file=folder) from error


def folders(folder: bytes) -> list[bytes]:
    """The names of the folders in a folder, sorted. Raises SourceError."""
    return sorted(entry.name for entry in _entries(folder, None)[1])


def walk(
    root: bytes,
    on_hidden: Callable[[bytes], None] | None = None,
) -> Iterator[tuple[bytes, list[Entry]]]:
    """Everything but folders below `root`, in the order of the bytes of the paths, in runs of entries of one folder.

    With each run comes the path of its folder below `root`, with a slash, b"" for `root` itself. Links to folders are
    followed, except in a loop; folders that lead to one another by several links each are refused, as there is no end
    to their paths. Hidden names are passed over; `on_hidden` is called with the path of each.
    """

    def inside(path: bytes, prefix: bytes) -> Iterator[tuple[list[Entry], Entry | None]]:
        told = None if on_hidden is None else lambda name: on_hidden(prefix + name)
        return _runs(*_entries(path, told))

    top = status(root)
    visits: Counter[tuple[int, int]] = Counter()
    stack: list[tuple[bytes, Iterator[tuple[list[Entry], Entry | None]], tuple[tuple[int, int], ...]]]
    stack = [(b"", inside(root, b""), ((top.st_dev, top.st_ino),))]
    while stack:
        prefix, rest, above = stack[-1]
        run, folder = next(rest)
        if run:
            yield prefix, run
        if folder is None:
            stack.pop()
            continue
        found = folder.stat()
        here = (found.st_dev, found.st_ino)
        if here not in above:
            visits[here] += 1
            if visits[here] > _MAX_VISITS:
                text = f"links lead into this folder in more than {_MAX_VISITS} ways; give a folder without such links"
                raise SourceError(text).at(file=shown(prefix + folder.name))
            path = prefix + folder.name + b"/"
            stack.append((path, inside(folder.path, path), (*above, here)))


def _runs(found: list[Entry], folders: list[Entry]) -> Iterator[tuple[list[Entry], Entry | None]]:
    """The entries before each folder, and the folder; those after the last, and None."""
    start = 0
    for folder in folders:
        end = found.index(folder, start)
        yield found[start:end], folder
        start = end + 1
    yield found[start:], None


def scan_folder(root: bytes) -> FileTable:
    """Everything but folders below a folder, sorted by the bytes of the paths, hidden names left out.

    Raises SourceError when a folder cannot be listed.
    """
    names, lengths, sizes, stamps = bytearray(), array("q"), array("q"), array("q")
    for prefix, run in walk(root):
        paths = [prefix + entry.name for entry in run]
        names += b"".join(paths)
        lengths.extend(map(len, paths))
        for entry in run:
            try:
                regular = _is_regular(entry)
                found = entry.stat(follow_symlinks=regular)
            except OSError as error:
                raise refused(error).at(file=shown(prefix + entry.name)) from error
            sizes.append(found.st_size if regular else -1)
            stamps.append(stamp(found))
    return FileTable(root, bytes(names), np.cumsum(lengths, dtype=np.int64), _int64(sizes), _int64(stamps))


def _is_regular(entry: Entry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _int64(values: array[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)  # one copy, no Python objects
