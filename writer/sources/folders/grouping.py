"""How names of files are cut into the key of a sample and its field: at the last dot, or at the first.

A name is cut at its last dot, except that `.nii.gz` counts as one extension. Only where cutting at the first dot brings
files together, and what follows it looks like the name of a field, is it done so, and said.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

from recordio.errors import SourceError
from recordio.writer.sources.files import shown
from recordio.writer.sources.media import is_picture, is_sound

_FIELD_NAMES = {"txt": "text", "cls": "label", "": "file"}
_COMPRESSED = (b".gz", b".bz2", b".xz", b".zst")  # "a.nii.gz" is a .nii.gz of "a"
_MASK = rb"[-_. ](?:masks?|seg|segmentation|labels?|labelids|gt|matte|trimap)"
MASK_ENDING = re.compile(_MASK + rb"$", re.IGNORECASE)  # of a stem
MASK_NAME = re.compile(_MASK + rb"\.", re.IGNORECASE)  # in every name with an extension whose stem ends so
_MAX_SUFFIXES = 16  # names with more endings than this have dots for other reasons


def field_of(extension: str) -> str:
    """The field for an extension in lower case, without its dot: "image" for pictures, "text", "label", or itself."""
    picture = "." not in extension and is_picture(b"x." + extension.encode())
    return "image" if picture else _FIELD_NAMES.get(extension, extension)


def cut_last(name: bytes) -> tuple[bytes, bytes]:
    stem, extension = os.path.splitext(name)
    if extension.lower() in _COMPRESSED:
        stem, inner = os.path.splitext(stem)
        extension = inner + extension
    return stem, extension


def _cut_first(name: bytes) -> tuple[bytes, bytes]:
    folder, slash, base = name.rpartition(b"/")
    stem, dot, extension = base[1:].partition(b".")  # a name never begins with its extension
    return folder + slash + base[:1] + stem, dot + extension


class Grouping:
    """How the names of a folder are cut into a sample's key and a field.

    Attributes:
        first_dot: whether names are cut at their first dot.
        notes: that it is so, or that it might have been meant.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        names = list(names)
        last = {name: cut_last(name) for name in names}
        first = {name: _cut_first(name) for name in names if _cut_first(name) != last[name]}
        self.first_dot = bool(first) and self._joins(last, first)
        self.notes = self._notes(last, first)
        self._masked = self._masks_beside(last)
        sounds = [stem for name, (stem, extension) in last.items() if is_sound(name)]
        self._one_sound = bool(sounds) and len(set(sounds)) == len(sounds) and not self.first_dot
        if self._masked:
            self.notes += ("pictures whose names end in _mask or the like are the field 'mask' of those without",)

    @staticmethod
    def _masks_beside(last: dict[bytes, tuple[bytes, bytes]]) -> bool:
        """Whether most pictures have another beside them with a name such as `000_mask.png`."""
        stems = {stem for stem, extension in last.values() if is_picture(b"x" + extension)}
        plain = {stem for stem in stems if not MASK_ENDING.search(stem)}
        masks = {MASK_ENDING.sub(b"", stem) for stem in stems - plain}
        return bool(masks) and masks <= plain and 2 * len(masks) >= len(plain)

    @staticmethod
    def _joins(last: dict[bytes, tuple[bytes, bytes]], first: dict[bytes, tuple[bytes, bytes]]) -> bool:
        """Whether cutting at the first dot joins files, and the endings look like fields: few, each found again."""
        all_first = last | first
        suffixes = Counter(suffix.lower() for _, suffix in first.values())
        if len(suffixes) > _MAX_SUFFIXES or any(_numbered(suffix) for suffix in suffixes):
            return False
        if len(set(all_first.values())) < len(all_first):
            return False  # two files for one field
        keys = {stem for stem, _ in last.values()}
        found_again = all(suffixes[suffix.lower()] > 1 or stem in keys for stem, suffix in first.values())
        return found_again and len({stem for stem, _ in all_first.values()}) < len(keys)

    def _notes(
        self, last: dict[bytes, tuple[bytes, bytes]], first: dict[bytes, tuple[bytes, bytes]]
    ) -> tuple[str, ...]:
        if self.first_dot:
            name, (stem, suffix) = next(iter(first.items()))
            return (f"names are cut at the first dot: {shown(name)!r} is {shown(suffix[1:])!r} of {shown(stem)!r}",)
        joined = {stem for stem, _ in (last | first).values()}
        if len(joined) < len({stem for stem, _ in last.values()}):
            name = next(iter(first))
            return (f"names are cut at the last dot: {shown(name)!r} belongs to {shown(last[name][0])!r}",)
        return ()

    def split(self, name: bytes) -> tuple[bytes, str]:
        """The key of the file's sample, and the field. Raises SourceError for an extension that is not UTF-8."""
        stem, extension = _cut_first(name) if self.first_dot else cut_last(name)
        if self._masked and MASK_ENDING.search(stem) and is_picture(b"x" + extension):
            return MASK_ENDING.sub(b"", stem), "mask"
        try:
            found = extension[1:].lower().decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(f"an extension is not UTF-8: {shown(name)!r}") from error
        return stem, "audio" if self._one_sound and is_sound(name) else field_of(found)


def _numbered(suffix: bytes) -> bool:
    """Whether a part between dots begins with a digit, as in a date or a version."""
    return any(part[:1].isdigit() or not part for part in suffix[1:].split(b"."))
