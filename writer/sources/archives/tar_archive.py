"""A tar archive as a folder. A compressed one is unpacked into a temporary file: else nothing in it can be found."""

from __future__ import annotations

from collections.abc import Iterator

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive import Archive
from recordio.writer.sources.archives.member_table import MAX_MEMBERS, Found, Link, Place, Unread, inside, member_path
from recordio.writer.sources.archives.tar_members import FILE, FOLDER, HARDLINK, SYMLINK, TarMember, tar_members
from recordio.writer.sources.plain_files import shown


class TarArchive(Archive):
    """A tar archive. Of members with the same name the last counts, as when it is unpacked."""

    def _members(self) -> dict[bytes, Found]:
        found: dict[bytes, Found] = {}
        twice: list[bytes] = []
        end = 0
        for number, member in enumerate(tar_members(self._file.read, self._file.nbytes)):
            if number >= MAX_MEMBERS:
                raise SourceError(f"there are more than {MAX_MEMBERS:,} members in it")
            path = member_path(member.name)
            end = member.start + member.nbytes
            if member.kind != FOLDER:
                twice += [path] if found.get(path) is not None else []
                found[path] = self._found(member, found)
            elif path not in found:
                found[path] = None
        self.notes = (*_said_twice(twice), *self._behind(end))
        return found

    @staticmethod
    def _found(member: TarMember, found: dict[bytes, Found]) -> Found:
        if not member.name.strip(b"/."):
            raise SourceError("a member has no name")
        if member.kind == SYMLINK:
            return Link(member.link)
        if member.kind == HARDLINK:
            target = inside(b"", member.link)
            first = None if target is None else found.get(target)
            return first or Unread(f"the link leads to no member before it: {shown(member.link)[:200]!r}")
        if member.kind == b"S":
            return Unread("it is a sparse file, as GNU tar stores them; unpack the archive, and give the folder")
        if member.kind != FILE:
            return Unread(f"it is no file, but a device, a pipe or the like (type {shown(member.kind)!r})")
        return Place(member.start, member.nbytes)

    def _behind(self, end: int) -> tuple[str, ...]:
        """A note about anything behind the end of the archive."""
        end = -(-end // 512) * 512
        rest = self._file.read(end, 1 << 16)
        if not rest:
            return ("the archive has no end mark, and may have been cut off",)
        if rest.strip(b"\0"):
            return (f"bytes behind the end mark are not read: {self._file.nbytes - end:,}",)
        return ()

    def _content(self, place: Place) -> Iterator[bytes]:
        return self._pieces(place.start, place.nbytes)


def _said_twice(paths: list[bytes]) -> tuple[str, ...]:
    if not paths:
        return ()
    return (f"in the archive more than once, the last counts: {shown(paths[0])!r} ({len(paths)} in all)",)
