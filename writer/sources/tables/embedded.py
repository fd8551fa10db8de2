"""Files named by a table. Only files below the table's folder are read."""

from __future__ import annotations

import os
import stat

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field
from recordio.images.formats import by_name
from recordio.writer.sources.files import read_file, stamp, status
from recordio.writer.sources.folders.pictures import PictureColumn, PictureSurvey
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.source import SourceOptions


class EmbeddedFiles:
    """The files of one column. After `see` was called for every name, `field` is their type and `read` their bytes."""

    def __init__(self, folder: str, name: str, options: SourceOptions) -> None:
        self._root = os.path.realpath(folder)
        self._survey = PictureSurvey(name, options)
        self._pictures = True
        self._any = self._any_empty = False

    def path(self, name: str) -> str:
        """The path of a named file. Raises SourceError for one outside the folder, links resolved."""
        if "\0" in name or os.path.isabs(name) or os.pardir in name.replace(os.sep, "/").split("/"):
            raise SourceError(f"the name {name[:80]!r} leads out of the table's folder")
        found = os.path.realpath(os.path.join(self._root, name))
        if os.path.commonpath([found, self._root]) != self._root:
            raise SourceError(f"the name {name[:80]!r} leads out of the table's folder by a link")
        return found

    def see(self, name: str | None) -> tuple[int, int]:
        """Size and stamp of a named file. Zeros if it cannot be read: `read` raises the reason."""
        if not name:
            self._any_empty = True
            return 0, 0
        self._any = True
        self._pictures &= by_name(name) is not None
        try:
            found = status(self.path(name))
        except (SourceError, OSError, ValueError):
            return 0, 0
        if self._pictures and stat.S_ISREG(found.st_mode):
            self._survey.see(os.fsencode(os.path.join(self._root, name)))
        return (found.st_size, stamp(found)) if stat.S_ISREG(found.st_mode) else (0, 0)

    def column(self) -> PictureColumn | None:
        """The column of pictures, None if these are other files."""
        return self._survey.column(self._any_empty) if self._pictures and self._any else None

    def field(self) -> Field:
        column = self.column()
        return column.field if column else Bytes(optional=self._any_empty)

    def read(self, name: object) -> bytes | None:
        """The file's bytes, None for no name. Raises SourceError."""
        if name in (None, ""):
            return None
        if not isinstance(name, str):
            raise SourceError(f"{name!r} names no file")
        path = self.path(name)
        with reading(f"the file {name[:80]!r} cannot be read"):
            regular = stat.S_ISREG(status(path).st_mode)
        if not regular:
            raise SourceError(f"{name[:80]!r} is not a regular file")
        return read_file(path)
