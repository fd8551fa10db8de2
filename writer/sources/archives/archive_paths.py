"""Which archive a path leads into, such as photos.zip/cat/1.jpg, and where in it.

The file system knows no such path and answers ENOTDIR. Only then is this asked, so that ordinary paths pay nothing. The
archive itself, as a folder, is its path with a slash behind it.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import OrderedDict

from recordio.writer.sources.archives.archive import Archive
from recordio.writer.sources.archives.tar_archive import TarArchive
from recordio.writer.sources.archives.unpacked_file import forget_unpacked, identity
from recordio.writer.sources.archives.zip_archive import ZipArchive
from recordio.writer.sources.plain_files import open_plain

TAR_ENDINGS = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_ENDINGS = (".zip", *TAR_ENDINGS)
_KEPT = 8  # archives whose members stay listed, those used last
_listed: OrderedDict[bytes, Archive] = OrderedDict()


def is_archive_name(path: str) -> bool:
    """Whether a file is an archive of a folder by its name."""
    return path.lower().endswith(_ENDINGS)


def open_archive(path: bytes) -> Archive:
    """The archive in a regular file, zip or tar by its first bytes. Raises SourceError."""
    with open(open_plain(path), "rb") as file:
        magic = file.read(4)
    return ZipArchive(path) if magic in (b"PK\3\4", b"PK\5\6") else TarArchive(path)


def find_archive(path: bytes | str, fresh: bool = True) -> tuple[Archive, bytes] | None:
    """The archive that a path leads into, and the path below it; None where there is no archive on the way.

    `fresh`: whether an archive that was changed is listed anew. While samples are read it is not: reading them tells.
    Raises SourceError for an archive that cannot be read.
    """
    whole = os.fsencode(path)
    root = next((root for root in reversed(_listed) if whole.startswith(root + b"/")), None) or _archive_above(whole)
    if root is None:
        return None
    below = posixpath.normpath(whole[len(root) :].lstrip(b"/"))
    if below.startswith(b".."):
        return None
    return _archive(root, fresh), b"" if below == b"." else below


def _archive_above(path: bytes) -> bytes | None:
    """The regular file on the way of a path, if it is an archive by its name."""
    while (above := path.rstrip(b"/") if path.endswith(b"/") else posixpath.dirname(path)) not in (path, b""):
        path = above
        try:
            found = os.stat(path)
        except OSError:
            continue
        return path if stat.S_ISREG(found.st_mode) and is_archive_name(os.fsdecode(path)) else None
    return None


def _archive(root: bytes, fresh: bool) -> Archive:
    known = _listed.get(root)
    if known is None or (fresh and not known.is_of(identity(os.stat(root)))):
        known = open_archive(root)
    _keep(root, known)
    return known


def _keep(root: bytes, archive: Archive) -> None:
    _listed[root] = archive
    _listed.move_to_end(root)
    while len(_listed) > _KEPT:
        _listed.popitem(last=False)


def listed_archives() -> dict[bytes, Archive]:
    """The archives that are listed, for another process, which need not list them again."""
    return dict(_listed)


def forget_archives() -> None:
    """Lets go of all archives, and of what was unpacked, once nobody else uses it."""
    _listed.clear()
    forget_unpacked()


def keep_archives(archives: dict[bytes, Archive]) -> None:
    """Takes over what `listed_archives` of another process gave."""
    for root, archive in archives.items():
        _keep(root, archive)
