"""A table beside files that it names, a row a sample: Hugging Face's metadata.jsonl and metadata.csv, a Kaggle CSV.

The fields are those of the table and the content of the files: `image` for pictures, `audio` for sounds. A column that
is called so already keeps its names as `file_name`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import RecordIOError, SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import shown
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.leftovers import left_out
from recordio.writer.sources.media import is_picture, is_sound
from recordio.writer.sources.named_files import NamedFiles, missing
from recordio.writer.sources.pictures import survey
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec
from recordio.writer.sources.split_names import named_splits
from recordio.writer.sources.table_kinds import open_table, table_kind

_SURE = 0.9  # of the names have a file
_ENOUGH = 0.5
_PEEKED = 256  # rows that decide on the column
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")  # Hugging Face's names


class IndexedFiles(Source):
    """The rows of a table with the files that one of its columns names."""

    kind = "indexed_files"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._table = open_table(path, options)
        self._root = options.root or os.path.dirname(path) or "."
        hint = os.path.splitext(os.path.basename(path))[0]
        self.column = options.names or self._naming_column(hint)
        if self.column not in self._table.schema.fields:
            known = ", ".join(self._table.schema)
            raise SourceError(f"there is no column {self.column!r}; there are {known}").at(file=path)
        self._named = NamedFiles(self._root, self._names(range(len(self._table))), hint)
        self.hits = self._named.hits
        if not len(self._named.files):
            raise SourceError(f"the column {self.column!r} names no picture or sound in {self._root}").at(file=path)
        self._pictures = all(map(is_picture, self._named.files))
        sounds = all(map(is_sound, self._named.files))
        self._field = "image" if self._pictures else "audio" if sounds else "file"
        self._kept = next(name for name in ("file_name", "path", "source") if name not in self._table.schema.fields)
        self._noted: tuple[str, ...] = ()
        self.schema = self._find_schema(options)
        self.metadata = dict(self._table.metadata)
        self.notes = (*self._table.notes, *self._noted, *self._say(path))

    def _find_schema(self, options: SourceOptions) -> Schema:
        optional = bool((self._named.numbers < 0).any()) and any(not name for name in self._names(range(len(self))))
        kind: Field = Bytes(optional=optional)
        if self._pictures:
            files = self._named.files
            column = survey(self._field, (os.path.join(files.root, name) for name in files), options, optional)
            self.pictures, self._noted, kind = {self._field: column.kind}, column.notes, column.field
        fields = dict(self._table.schema.fields)
        kept = {self._kept: Text(optional=optional)} if self._field in fields else {}
        fields.pop(self._field, None)
        return Schema({self._field: kind} | fields | kept)

    def _say(self, path: str) -> Iterator[str]:
        """What was found, and what is left out."""
        used = self._named.numbers[self._named.numbers >= 0]
        where = f"{self._named.folder or 'the folder'}"
        yield f"the column {self.column!r} of {os.path.basename(path)} names the files in {where}"
        files = len(set(used.tolist()))
        if files < len(used):
            yield f"{len(used)} rows name {files} files: a file is stored once for each row that names it"
        for note in left_out([*self._named.beside, *self._named.elsewhere]):
            yield f"no row names these files; {note}"

    def _names(self, rows: range) -> list[str]:
        return [_name(value) for value in self._values(rows, getattr(self, "column", ""))]

    def _values(self, rows: range, column: str) -> Iterator[Any]:
        for _, row in self._table.read(rows):
            yield None if isinstance(row, RecordIOError) else row.get(column)

    def _naming_column(self, hint: str) -> str:
        """The column that names most files; of equal ones that with more different names, then the first."""
        step = max(1, len(self._table) // _PEEKED)
        rows = [row for _, row in self._table.read(range(0, len(self._table), step)) if isinstance(row, dict)]
        best, most = "", (0.0, 0.0)
        for column, kind in self._table.schema.items():
            if not isinstance(kind, Text) and not (isinstance(kind, Scalar) and kind.dtype.kind == "i"):
                continue
            names = [_name(row.get(column)) for row in rows]
            unlike = len(set(names)) / max(1, len(names))
            score = (_fit(self._root, names, hint, whole=isinstance(kind, Scalar)), unlike)
            if score[0] >= _ENOUGH and score > most:
                best, most = column, score
        if not best:
            raise SourceError("no column names files beside the table").at(file=self._root)
        return best

    def __len__(self) -> int:
        return len(self._table)

    def nbytes(self) -> npt.NDArray[np.int64]:
        sizes = np.append(np.maximum(self._named.files.sizes, 0), 0)
        total: npt.NDArray[np.int64] = self._table.nbytes() + sizes[self._named.numbers]
        return total

    def fingerprint(self) -> Fingerprint:
        table, files = self._table.fingerprint(), self._named.files.fingerprint()
        content = xxhash.xxh3_128_digest(table.content + files.content)
        return Fingerprint(content, xxhash.xxh3_128_digest(table.state + files.state))

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        chosen = self._named.numbers[indices]
        files = (chosen >= 0).tobytes() + self._named.files.digest(chosen[chosen >= 0])
        return xxhash.xxh3_128_digest(self._table.input_digest(indices) + self.column.encode() + files)

    def key(self, index: int) -> str:
        return self._table.key(index)

    def file(self, index: int, field: str) -> str:
        number = int(self._named.numbers[index])
        return shown(self._named.files.name(number)) if field == self._field and number >= 0 else self.key(index)

    def sample(self, index: int) -> Sample:
        row = dict(self._table.sample(index))
        name, number = row.get(self.column), int(self._named.numbers[index])
        if self._field in row:
            row[self._kept] = row.pop(self._field)
        if name is None or name == "":
            return row
        if number < 0:
            raise SourceError(missing(_name(name), self._named.folder or self._root))
        data = self._named.files.read(number)
        row[self._field] = data
        return row


def _name(value: Any) -> str:
    """A cell as the name of a file; "" for anything that names none."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    text = str(value)
    return "" if "\0" in text or len(text) > 1024 else text


def _fit(root: str, names: list[str], hint: str, whole: bool) -> float:
    """The share of the names that have a file; 0 if that may be by chance.

    Numbers and words such as labels may have files by chance, `3` in `cat/3.jpg`. So names without an extension have to
    name most of their folder, and those that are numbers (`whole`) nearly all of it.
    """
    if not any(names) or any("\n" in name for name in names):
        return 0.0
    found = NamedFiles(root, names, hint)
    by_chance = not found.exact and found.coverage < (_SURE if whole else _ENOUGH)
    return 0.0 if by_chance else found.hits


def recognise(folder: Folder) -> Match | None:
    """A table in the folder itself of whose names most are files below."""
    media = [name for name in folder.names if is_picture(name) or is_sound(name)]
    tables = [os.fsdecode(name) for name in folder.own if table_kind(os.fsdecode(name))]
    if not media or not tables:
        return None
    tables = [name for name in tables if name in _METADATA] or tables
    found = {name: source for name in tables if (source := _index(folder.file(name))) is not None}
    if not found:
        return None
    splits = named_splits(found, folder.path)
    if not splits and len(found) > 1:
        names = ", ".join(map(repr, found))
        text = f"several tables here name the files ({names}); give the path of one of them, with --kind indexed_files"
        raise SourceError(text).at(file=folder.path)
    chosen = splits or {"": next(iter(found))}
    sources = [found[name] for name in chosen.values()]
    specs = {
        split: SourceSpec(folder.file(name), "indexed_files", SourceOptions(names=found[name].column))
        for split, name in chosen.items()
    }
    certainty = Certainty.CERTAIN if all(source.hits >= _SURE for source in sources) else Certainty.LIKELY
    others = [name for name in folder.names if name not in media and os.fsdecode(name) not in chosen.values()]
    return Match("indexed_files", certainty, sum(map(len, sources)), others, specs)


def _index(path: str) -> IndexedFiles | None:
    """The source of a table that names files, None for any other."""
    try:
        source = IndexedFiles(path, SourceOptions())
    except RecordIOError:
        return None
    return source if source.hits >= _ENOUGH else None
