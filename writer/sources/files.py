"""Input files: listed in a fixed order; only regular files are opened.

A path may lead into an archive: photos.zip/cat/1.jpg is a file, photos.zip/ a folder. All of these functions take such
paths; those of `os` do not. A million files take their names and 24 bytes each. FIFOs, sockets, devices and dangling
links are listed, so that no sample is lost silently, but never opened: reading one raises an error.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive import MemberEntry
from recordio.writer.sources.file_table import FileTable
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
from recordio.writer.sources.plain_files import (
    Status,
    opened_folder,
    refused as refused,
    shown as shown,
    stamp as stamp,
    stamps as stamps,
)

_MAX_VISITS = 1000  # of one folder, by links
Entry = os.DirEntry[bytes] | MemberEntry
_NAME, _MODE = attrgetter("name"), attrgetter("st_mode")
_is_regular, _DOT = stat.S_ISREG, ord(".")
_AT_ONCE = 64  # files whose status is held at a time: that of a whole folder would not stay in the cache


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or no permission to search the target
        return False


def entries(folder: bytes, on_hidden: Callable[[bytes], None] | None = None) -> list[Entry]:
    """The entries of a folder without hidden ones, sorted as their paths would be. Raises SourceError.

    `on_hidden` is called with the name of each hidden one.
    """
    return _entries(folder, on_hidden)[0]


def _entries(folder: bytes, on_hidden: Callable[[bytes], None] | None) -> tuple[list[Entry], list[Entry]]:
    """The same, and which of them are folders, in order."""
    found = _listed(folder)
    seen = [entry for entry in found if entry.name[0] != _DOT]
    if on_hidden is not None and len(seen) < len(found):
        for entry in found:
            if entry.name[0] == _DOT:
                on_hidden(entry.name)
    try:
        inside = {entry for entry in seen if entry.is_dir()}
    except OSError:
        inside = set(filter(_is_folder, seen))
    if not inside:
        return sorted(seen, key=_NAME), []
    # Folders sort with a slash: the order is that of the bytes of all paths below.
    seen.sort(key=lambda entry: entry.name + b"/" if entry in inside else entry.name)
    return seen, [entry for entry in seen if entry in inside]


def _listed(folder: bytes) -> Sequence[Entry]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except NotADirectoryError as error:
        archive, below = archive_of(folder + b"/", error)
        members = archive.entries(below)
        if members is None:
            raise refused(error).at(file=shown(folder)) from error
        return list(members)
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


def scan_folder(root: bytes, on_hidden: Callable[[bytes], None] | None = None) -> FileTable:
    """Everything but folders below a folder, sorted by the bytes of the paths, hidden names left out.

    `on_hidden` is called with the path of each hidden name. Raises SourceError when a folder cannot be listed.
    """
    names, lengths, sizes, digests = bytearray(), array("q"), array("q"), array("q")
    for prefix, entries in walk(root, on_hidden):
        paths = [prefix + entry.name for entry in entries]
        names += b"".join(paths)
        lengths.extend(map(len, paths))
        for found in _statuses(os.path.join(root, prefix), entries):
            sizes.extend([one.st_size if _is_regular(one.st_mode) else -1 for one in found])
            digests.extend(stamps(found))
    return FileTable(root, bytes(names), np.cumsum(lengths, dtype=np.int64), _int64(sizes), _int64(digests))


def _statuses(folder: bytes, entries: list[Entry]) -> Iterator[list[Status]]:
    """Of these entries, some at a time; of a link that leads to a regular file, of that file. Raises SourceError."""
    fd = opened_folder(folder) if len(entries) >= _AT_ONCE else -1
    try:
        for start in range(0, len(entries), _AT_ONCE):
            part = entries[start : start + _AT_ONCE]
            try:
                found: list[Status]
                if fd < 0:
                    found = [entry.stat(follow_symlinks=False) for entry in part]
                else:
                    found = [os.stat(entry.name, dir_fd=fd, follow_symlinks=False) for entry in part]
            except OSError:  # `_status` says of which
                found = []
            if not found or not all(map(_is_regular, set(map(_MODE, found)))):
                found = [_status(entry) for entry in part]
            yield found
    finally:
        if fd >= 0:
            os.close(fd)


def _status(entry: Entry) -> Status:
    try:
        return entry.stat(follow_symlinks=_leads_to_file(entry))
    except OSError as error:
        raise refused(error).at(file=shown(entry.path)) from error


def _leads_to_file(entry: Entry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _int64(values: array[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)  # one copy, no Python objects
