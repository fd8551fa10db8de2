"""The field for a column of picture files, by the headers of all of them, and how they are to be treated.

Headers are read only as long as they can decide something: the first ordinary colour picture of a column ends it, and
JPEG and WebP are known by their first bytes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from recordio.errors import DecodeError, SchemaError, SourceError, StorageError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array
from recordio.images.pillow import Depth, depth_of, format_of, opened, read_head
from recordio.images.prepare import PictureKind
from recordio.writer.sources.file_table import FileTable
from recordio.writer.sources.files import open_file
from recordio.writer.sources.source import Source, SourceOptions

_MASK_NAMES = re.compile(
    r"(?:^|[^a-z])(masks?|labels?|seg|segm|segmentations?|annotations?|gt|semantic|instances?|classes)(?:$|[^a-z])"
)
_SURE_MASK_NAMES = re.compile(r"(?:^|[^a-z])(masks?|segm?|segmentations?)(?:$|[^a-z])")


@dataclass(frozen=True, slots=True)
class PictureColumn:
    """The field of a column of pictures, their treatment, and what was found out, in words."""

    field: Field
    kind: PictureKind = "photo"
    notes: tuple[str, ...] = ()


def add_pictures(
    source: Source,
    name: str,
    files: FileTable,
    options: SourceOptions,
    optional: bool = False,
    indices: Iterable[int] | None = None,
) -> Field:
    """The field of picture files, by their headers, as far as they can decide something.

    The source is told how the pictures are treated, and what to say of them. `indices`: which of the files, None for
    all.
    """
    found = PictureSurvey(name, options)
    for path in files.paths(indices):
        found.see(path)
        if found.decided:
            break
    column = found.column(optional)
    source.pictures = {**source.pictures, name: column.kind}
    source.notes += column.notes
    return column.field


class PictureSurvey:
    """Looks at the files of one column, one after another.

    `decided` is true once no other file can change the outcome. What cannot be read is passed over: reading the sample
    raises.
    """

    def __init__(self, name: str, options: SourceOptions) -> None:
        self._name = name
        self._mode = options.mode
        self._asked = name in options.masks
        self._named = self._asked or _MASK_NAMES.search(name.lower()) is not None
        self._found: set[str | Depth] = set()
        self.decided = False

    def see(self, path: bytes) -> None:
        """Looks at a file."""
        if not self.decided:
            self._add(_look(path))

    def see_data(self, data: bytes, name: str = "") -> bool:
        """Looks at the bytes of a file. Returns whether they are a picture."""
        look = _look_into(io.BytesIO(data), name)
        self._add(look)
        return look is not None

    def _add(self, look: str | Depth | None) -> None:
        if look is None or self.decided:
            return
        self._found.add(look)
        values = self._found <= {"grey", "palette"}
        self.decided = "colour" in self._found or (self._found == {"grey"} and not self._named)
        self.decided |= len(self._found) > 1 and not (values and self._named)

    def column(self, optional: bool = False) -> PictureColumn:
        """The outcome. Raises SchemaError for a mode that does not go with it."""
        return _column(self._name, self._found, self._named, self._asked, self._mode, optional)


def _column(
    name: str, found: set[str | Depth], named: bool, asked: bool, mode: str | None, optional: bool
) -> PictureColumn:
    depths = [look for look in found if isinstance(look, Depth)]
    if depths and found == {depths[0]}:
        if mode is not None:
            raise SchemaError(f"mode {mode!r} is for pictures of 8 bits a channel, and those of {name!r} have more")
        shape = (None, None, depths[0].channels) if depths[0].channels > 1 else (None, None)
        note = (
            f"the pictures of {name!r} have more than 8 bits a channel, and are stored as arrays of {depths[0].dtype}"
        )
        return PictureColumn(Array(depths[0].dtype, shape, optional=optional), "mask" if asked else "photo", (note,))
    if asked or (named and found and found <= {"grey", "palette"}):
        if mode not in (None, "L") and asked:
            raise SchemaError(f"mode {mode!r} does not go with masks, whose mode is 'L'")
        note = f"{name!r} holds masks: their values are kept, of a palette the indices"
        return PictureColumn(Image(mode or "L", optional=optional), "mask", () if asked else (note,))
    kind: PictureKind = "palette" if found == {"palette"} else "photo"
    return PictureColumn(Image(mode or "RGB", optional=optional), kind, _no_masks(name) if kind == "photo" else ())


def _no_masks(name: str) -> tuple[str, ...]:
    """A note that a column of this name is not one of masks, if its name says so."""
    if _SURE_MASK_NAMES.search(name.lower()) is None:
        return ()
    advice = f"--masks {name} (masks=) keeps their values, if they have one a pixel and are no JPEG"
    return (f"{name!r} holds colours, and is treated as photographs are: resizing makes new values; {advice}",)


def _look(path: bytes) -> str | Depth | None:
    """What a header says: more than 8 bits, or "colour", "palette" or "grey"; None if it cannot be read."""
    try:
        with open_file(path) as file:
            return _look_into(file, os.fsdecode(path))
    except StorageError:  # of too many open files, say: the next ones would be passed over as well
        raise
    except (SourceError, OSError):
        return None


def _look_into(file: IO[bytes], name: str) -> str | Depth | None:
    try:
        return _header(file, name)
    except (DecodeError, OSError):
        return None


def _header(file: IO[bytes], path: str) -> str | Depth | None:
    head = file.read(64)
    form = format_of(head, path)
    if form in ("jpeg", "webp"):
        return "colour"
    if form == "png" and len(head) >= 26 and head[24] <= 8:
        return {0: "grey", 3: "palette"}.get(head[25], "colour")
    with opened(file, form) as picture:
        depth = depth_of(picture, read_head(file))
        return depth or {"P": "palette", "1": "grey", "L": "grey"}.get(picture.mode, "colour")
