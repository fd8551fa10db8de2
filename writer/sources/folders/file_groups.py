"""A folder of files: files that differ only in their extension are one sample.

`a.jpg`, `a.json` and `a.cls` become {"key": "a", "image": ..., "json": ..., "label": ...}. A field that some
samples lack is optional. A sound is `audio`, with what its header says, unless a sample has several. Names are cut at
the last dot, or at the first where that alone brings files together, as in `a.jpg` and `a.seg.png`, which is then the
field "seg.png", as WebDataset has it.

Fields other than image, audio, text, json, label and npy hold the bytes of their files. Unless the user names the kind,
such a file is only taken beside another one of its sample that is understood.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.arrays.arrays import common_field, fitted
from recordio.writer.sources.arrays.npy import checked_dtype, peek_header, read_array
from recordio.writer.sources.file_table import FileTable
from recordio.writer.sources.files import scan_folder, shown
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.boxes import CLASS_FILES
from recordio.writer.sources.folders.grouping import Grouping, field_of
from recordio.writer.sources.folders.pictures import add_pictures
from recordio.writer.sources.folders.sounds import sound_fields, sound_values
from recordio.writer.sources.folders.text import class_number, json_value, plain_text
from recordio.writer.sources.leftovers import is_clutter, left_out
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec


def _array(data: bytes) -> npt.NDArray[Any]:
    found = read_array(data)
    return found.astype(checked_dtype(found.dtype), copy=False)


_PARSE: dict[str, Callable[[bytes], Any]] = {
    "image": bytes,
    "audio": bytes,
    "text": plain_text,
    "json": json_value,
    "label": class_number,
    "npy": _array,
}
_FIELDS: dict[str, type[Field]] = {"text": Text, "json": Object}


def _kind(field: str) -> str:
    """What a field's files hold, a key of _PARSE, or something else for bytes: "seg.png" holds pictures."""
    if field == "mask":
        return "image"
    return field if field in _PARSE else field_of(field.rpartition(".")[2])


def _understood(names: Sequence[bytes], grouping: Grouping) -> list[bool]:
    """Whether more is known of each file than its bytes, or of another file of its sample."""
    parts = [grouping.split(name) for name in names]
    known = [_kind(field) in _PARSE for _, field in parts]
    keys = {key for (key, _), good in zip(parts, known, strict=True) if good}
    pictures = any(_kind(field) == "image" for _, field in parts)
    return [
        key in keys and not (pictures and os.fsdecode(os.path.basename(name)) in CLASS_FILES)
        for name, (key, _) in zip(names, parts, strict=True)
    ]


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """Any files that are understood, with what shares a sample with them."""
    good = _understood(folder.names, Grouping(folder.names))
    rest = [name for name, taken in zip(folder.names, good, strict=True) if not taken]
    if not any(good):
        return None
    return Match("file_groups", Certainty.POSSIBLE, sum(good), rest, {"": SourceSpec(folder.path, "file_groups")})


class FileGroups(Source):
    """Samples are sorted by the bytes of their key, the path without the extension."""

    kind = "file_groups"

    def __init__(self, path: str, options: SourceOptions) -> None:
        files = scan_folder(os.fsencode(path))
        if not len(files):
            raise SourceError("the folder is empty").at(file=path)
        keep = np.ones(len(files), bool)
        if not options.forced:
            keep = np.fromiter((not is_clutter(name) for name in files), bool, len(files))
            names = [name for name, kept in zip(files, keep.tolist(), strict=True) if kept]
            keep[keep] = _understood(names, Grouping(names))
        self._files = files.select(keep)
        self._grouping = Grouping(self._files)
        self.notes = (
            *left_out(
                name for name, kept in zip(files, keep.tolist(), strict=True) if not kept and not is_clutter(name)
            ),
            *self._grouping.notes,
        )
        if not len(self._files):
            raise SourceError("no file here is understood; kind='file_groups' takes all as bytes").at(file=path)
        parts = [self._grouping.split(name) for name in self._files]
        order = sorted(range(len(parts)), key=parts.__getitem__)
        self._order = np.array(order, np.int64)
        stems = [parts[i][0] for i in order]
        self._starts = np.array([k for k in range(len(stems)) if not k or stems[k] != stems[k - 1]], np.int64)
        self.metadata = {}
        self._options = options
        self.schema = self._find_schema(parts)
        self.notes += (*self._as_bytes(), *self._in_folders(stems))

    def _as_bytes(self) -> tuple[str, ...]:
        names = [repr(name) for name, field in self.schema.items() if isinstance(field, Bytes)]
        return (f"kept as bytes, not understood: {', '.join(names)}",) if names else ()

    def _in_folders(self, stems: list[bytes]) -> tuple[str, ...]:
        """A note when the folders may be classes: their names are part of the keys, and no labels are made of them."""
        tops = {stem.partition(b"/")[0] for stem in stems if b"/" in stem}
        if len(tops) < 2 or "image" not in self.schema.fields:
            return ()
        text = f"the {len(tops)} folders are part of `key`; --kind image_folder (kind=) makes labels of them"
        return (text,)

    def _find_schema(self, parts: list[tuple[bytes, str]]) -> Schema:
        names = [field for _, field in parts]
        samples_with = Counter(field for _, field in set(parts))
        fields: dict[str, Field] = {"key": Text()}
        for name in sorted(samples_with, key=lambda name: (name != "image", name)):
            if name == "key":
                raise SourceError("files with the extension .key clash with the field 'key'; rename them")
            fields[name] = self._field(name, names, optional=samples_with[name] < len(self))
        self._sounds = sound_fields(fields) if "audio" in fields else {}
        return Schema(fields | self._sounds)

    def _field(self, name: str, names: list[str], optional: bool) -> Field:
        kind = _kind(name)
        if kind == "label":
            return Scalar("int64", optional=optional)
        if kind == "image":
            members = (number for number, field in enumerate(names) if field == name)
            return add_pictures(self, name, self._files, self._options, optional, members)
        if kind == "npy":
            return npy_field(self._files, [i for i, field in enumerate(names) if field == name], optional)
        return _FIELDS.get(kind, Bytes)(optional=optional)  # type: ignore[call-arg]

    def __len__(self) -> int:
        return len(self._starts)

    def _members(self, index: int) -> list[int]:
        end = self._starts[index + 1] if index + 1 < len(self._starts) else len(self._order)
        members: list[int] = self._order[self._starts[index] : end].tolist()
        return members

    def nbytes(self) -> npt.NDArray[np.int64]:
        sizes = np.maximum(self._files.sizes, 0)
        return np.add.reduceat(sizes[self._order], self._starts) + 32

    def fingerprint(self) -> Fingerprint:
        return self._files.fingerprint()

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        members = [self._members(index) for index in indices.tolist()]
        files = np.array([member for group in members for member in group], np.int64)
        # What a name means depends on the names of all files.
        parts = [[self._grouping.split(self._files.name(member)) for member in group] for group in members]
        return xxhash.xxh3_128_digest(self._files.digest(files) + repr(parts).encode())

    def key(self, index: int) -> str:
        return shown(self._files.name(int(self._order[self._starts[index]])))

    def file(self, index: int, field: str) -> str:
        names = map(self._files.name, self._members(index))
        return next((shown(name) for name in names if self._grouping.split(name)[1] == field), self.key(index))

    def sample(self, index: int) -> Sample:
        members = self._members(index)
        try:
            values: dict[str, Any] = {"key": self._grouping.split(self._files.name(members[0]))[0].decode("utf-8")}
        except UnicodeDecodeError as error:
            raise SourceError("the file's name is not UTF-8; rename it") from error
        for member in members:
            name = self._files.name(member)
            field = self._grouping.split(name)[1]
            if field in values:
                raise SourceError(f"two files for the field {field!r}").at(file=shown(name))
            try:
                values[field] = _PARSE.get(_kind(field), bytes)(self._files.read(member))
            except SourceError as error:
                error.at(file=shown(name), field=field)
                raise
        self._fit(values)
        return values | sound_values(values.get("audio"), self._sounds)

    def _fit(self, values: dict[str, Any]) -> None:
        """Raises SourceError for an array unlike the others: its header may have been unreadable before."""
        for name, field in self.schema.items():
            if not isinstance(field, Array) or name not in values or _kind(name) != "npy":
                continue
            values[name] = fitted(values[name], name, field)


def npy_field(files: FileTable, members: list[int], optional: bool) -> Field:
    """The field for the arrays of these files. Raises SourceError."""
    found = []
    for member in members:
        if files.sizes[member] < 0:
            continue  # not a regular file: reading the sample raises
        try:
            header = peek_header(os.path.join(files.root, files.name(member)))
            found.append((checked_dtype(header.dtype), header.shape))
        except SourceError:
            continue  # reading the sample raises it again, subject to on_error
    if not found:
        raise SourceError("none of the .npy files can be read").at(file=shown(files.name(members[0])))
    return common_field(set(found), optional)
