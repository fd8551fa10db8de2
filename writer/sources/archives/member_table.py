"""The members of an archive as a folder: names, what is in each folder, and where the bytes of each file lie.

What a name or a link could do outside the archive is refused here, so that the code after it trusts the names.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.writer.sources.plain_files import shown

MAX_MEMBERS = 1 << 24
_MAX_NAME = 4096  # bytes, as in a path of Linux
_MAX_DEPTH = 100
_MAX_LINKS = 40
_ODD = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)|\0")  # what a plain path has not: empty parts, . and .., NUL


class Place(NamedTuple):
    """Where the bytes of a file lie in the archive. `packed` and `crc` are those of zip; packed is -1 if stored."""

    start: int
    nbytes: int
    packed: int = -1
    crc: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link that leads to `target`."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Unread:
    """A member that is not read, and why."""

    reason: str


Found = Place | Link | Unread | None  # None is a folder


def member_path(name: bytes) -> bytes:
    """The path of a member below the folder that the archive stands for. Raises SourceError for one that leads out."""
    if not _ODD.search(name):
        return _checked(name)
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b"\0" in name or b".." in parts or name.startswith(b"/"):
        text = f"the member {shown(name)[:200]!r} leads out of the archive, or has a name that no file can have"
        raise SourceError(text)
    return _checked(b"/".join(parts))


def _checked(path: bytes) -> bytes:
    if len(path) > _MAX_NAME or path.count(b"/") > _MAX_DEPTH:
        text = f"the name {shown(path)[:60]!r}... has more than {_MAX_NAME} bytes, or {_MAX_DEPTH} folders"
        raise SourceError(text)
    return path


def inside(folder: bytes, target: bytes) -> bytes | None:
    """The path that a link in a folder leads to; None if it leads out of the archive."""
    if target.startswith(b"/"):
        return None
    parts = folder.split(b"/") if folder else []
    for part in target.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


@dataclass(frozen=True, slots=True)
class MemberTable:
    """The members, sorted by the bytes of their paths.

    Attributes:
        names: their paths; those of folders end with a slash.
        places: a Place each, int64 (n, 4).
        unread: why a member is not read, by its path; links are among them if they lead to no file.
        links: which of `unread` are links.
    """

    names: list[bytes]
    places: npt.NDArray[np.int64]
    unread: Mapping[bytes, str]
    links: frozenset[bytes]

    @classmethod
    def of(cls, found: Mapping[bytes, Found]) -> MemberTable:
        """The table of these members. Raises SourceError where one is a file and a folder at once."""
        _require_no_file_is_a_folder(found)
        unread: dict[bytes, str] = {}
        links = set()
        places: dict[bytes, Place] = {}
        for path, what in found.items():
            end = _followed(path, what, found) if isinstance(what, Link) else what
            if isinstance(end, Unread):
                unread[path] = end.reason
                if isinstance(what, Link):
                    links.add(path)
            key = path + b"/" if what is None else path
            places[key] = end if isinstance(end, Place) else Place(0, 0)
        places.pop(b"/", None)  # the root
        names = sorted(places)
        table = np.array([places[name] for name in names], np.int64).reshape(-1, len(Place._fields))
        return cls(names, table, unread, frozenset(links))

    def place(self, path: bytes) -> Place | None:
        """Where the bytes of a file lie, None if there is no such file."""
        at = bisect_left(self.names, path)
        if at == len(self.names) or self.names[at] != path:
            return None
        return Place(*self.places[at].tolist())

    def has_folder(self, path: bytes) -> bool:
        """Whether there is a folder at a path; b"" is the archive itself."""
        at = bisect_left(self.names, path + b"/")
        return not path or (at < len(self.names) and self.names[at].startswith(path + b"/"))

    def listing(self, path: bytes) -> Iterator[tuple[bytes, int]]:
        """The names in a folder with the length of each file; -1 for folders, and for what is not read."""
        start = path + b"/" if path else b""
        at = bisect_left(self.names, start)
        while at < len(self.names) and self.names[at].startswith(start):
            first, slash, _ = self.names[at][len(start) :].partition(b"/")
            if first:
                unread = slash or (self.unread and self.names[at] in self.unread)
                yield first, -1 if unread else int(self.places[at, 1])
            # "0" is the byte behind the slash: what sorts before it lies in that folder.
            at = bisect_left(self.names, start + first + b"0", at) if first and slash else at + 1


def _followed(path: bytes, link: Link, found: Mapping[bytes, Found]) -> Place | Unread:
    """The file that a symbolic link leads to, or why it is none."""
    what: Found = link
    for _ in range(_MAX_LINKS):
        if not isinstance(what, Link):
            break
        target = inside(path.rpartition(b"/")[0], what.target)
        if target is None:
            return Unread(f"the symbolic link leads out of the archive: {shown(link.target)!r}")
        path, what = target, found.get(target)
    if isinstance(what, Place | Unread):
        return what
    return Unread(f"the symbolic link leads to no file in the archive: {shown(link.target)!r}")


def _require_no_file_is_a_folder(found: Mapping[bytes, Found]) -> None:
    folders: set[bytes] = set()
    for path in found:
        above = path.rpartition(b"/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition(b"/")[0]
    clash = next((path for path in folders if found.get(path) is not None), None)
    if clash is not None:
        raise SourceError(f"{shown(clash)!r} is a file, and a folder with other members in it")
