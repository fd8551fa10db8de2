"""Files by their paths, those in archives too: photos.zip/cat/1.jpg is a file, photos.zip/ a folder.

The functions of `os` know no such paths, and answer ENOTDIR; only then is an archive looked for. Nothing but regular
files is opened.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from typing import IO

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive import Archive
from recordio.writer.sources.archives.archive_paths import find_archive
from recordio.writer.sources.archives.scratch import written
from recordio.writer.sources.plain_files import (
    MAX_VALUE as MAX_VALUE,
    Status,
    open_plain,
    read_plain,
    refused,
    require_size as require_size,
    shown,
)


def status(path: bytes | str) -> Status:
    """As os.stat: links are followed. Raises OSError, SourceError for an archive that cannot be read."""
    try:
        return os.stat(path)
    except NotADirectoryError:
        found = find_archive(path)
        known = found and found[0].status(found[1])
        if known is None:
            raise
        return known


def _mode(path: bytes | str) -> int:
    """The type and the permissions of what is at a path, 0 if nothing is."""
    try:
        return status(path).st_mode
    except (OSError, ValueError):
        return 0


def exists(path: bytes | str) -> bool:
    """Whether anything is at a path, links followed."""
    return _mode(path) != 0 and not leads_nowhere(path)


def is_folder(path: bytes | str) -> bool:
    """Whether a folder is at a path. An archive is one if a slash stands behind its name."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: bytes | str) -> bool:
    """Whether a regular file is at a path."""
    return stat.S_ISREG(_mode(path))


def names_file(path: str) -> bool:
    """Whether a path exists and is not a folder. Dangling links and FIFOs count: a file should be there."""
    return (os.path.lexists(path) or _mode(path) != 0) and not is_folder(path)


def leads_nowhere(path: bytes | str) -> bool:
    """Whether a path is a dangling symbolic link."""
    return stat.S_ISLNK(_mode(path)) or (os.path.islink(path) and not os.path.exists(path))


def archive_of(path: bytes | str, error: OSError) -> tuple[Archive, bytes]:
    """The archive that holds a file, and where in it. Raises SourceError for this error if none does."""
    found = find_archive(path, fresh=False)
    if found is None:
        raise refused(error).at(file=shown(os.fsencode(path))) from error
    return found


def open_regular(path: bytes | str) -> int:
    """Opens a regular file, returns its descriptor. Raises SourceError for anything else.

    A file in an archive is unpacked into a temporary file, which vanishes when it is closed.
    """
    try:
        return open_plain(path)
    except NotADirectoryError as error:
        archive, below = archive_of(path, error)
        return written(_placed(archive.chunks(below), path))


def open_file(path: bytes | str) -> IO[bytes]:
    """Opens a regular file, to look into it. Raises SourceError for anything else."""
    try:
        return open(open_plain(path), "rb")
    except NotADirectoryError as error:
        return io.BytesIO(_read_member(path, error))


def _placed(chunks: Iterable[bytes], path: bytes | str) -> Iterator[bytes]:
    try:
        yield from chunks
    except SourceError as fault:
        raise fault.at(file=shown(os.fsencode(path)))


def _read_member(path: bytes | str, error: OSError) -> bytes:
    archive, below = archive_of(path, error)
    try:
        return archive.read(below)
    except SourceError as fault:
        raise fault.at(file=shown(os.fsencode(path)))


def read_file(path: bytes | str, nbytes: int | None = None, most: int = MAX_VALUE) -> bytes:
    """The bytes of a regular file. Raises SourceError, also for more than `most`, or a length other than `nbytes`."""
    try:
        data = read_plain(path, most)
    except NotADirectoryError as error:
        data = _read_member(path, error)
        require_size(len(data), most)
    except OSError as error:
        raise refused(error).at(file=shown(os.fsencode(path))) from error
    if nbytes is not None and len(data) != nbytes:
        raise SourceError(f"changed while it was converted: it had {nbytes} bytes, now {len(data)}")
    return data
