"""A table beside files that it names, a row a sample: Hugging Face's metadata.jsonl and metadata.csv, a Kaggle CSV.

The fields are those of the table and the content of the files: `image` for pictures, `audio` for sounds, with `rate`,
`channels` and `frames` from the header unless columns are called so. A column that is called as the files' field keeps
its names as `file_name`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import RecordIOError, SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import shown
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.named_files import FileIndex, NamedFiles
from recordio.writer.sources.folders.pictures import add_pictures
from recordio.writer.sources.folders.sounds import sound_fields, sound_values
from recordio.writer.sources.kinds import TABLE_KINDS, endings, table_kind
from recordio.writer.sources.leftovers import left_out
from recordio.writer.sources.media import PICTURES, SOUNDS, is_picture, is_sound
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec
from recordio.writer.sources.split_names import named_splits, split_word
from recordio.writer.sources.tables.table_kinds import open_table
from recordio.writer.sources.tables.table_options import DEFAULT
from recordio.writer.sources.tables.tables import Table

_SURE = 0.9  # of the names have a file
_ENOUGH = 0.5
_PEEKED = 256  # rows that decide on the column
_MOST_TABLES = 20  # in folders of their own, such as meta/
_MASK = re.compile(r"mask|seg|label|annot|ground_?truth", re.IGNORECASE)
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")  # Hugging Face's names


class IndexedFiles(Source):
    """The rows of a table with the files that one of its columns names; other columns of files are taken in too."""

    kind = "indexed_files"

    def __init__(self, path: str, options: SourceOptions, opened: _Opened | None = None) -> None:
        self._root = options.root or os.path.dirname(path) or "."
        self._table, index, noted = opened or _open(path, options, FileIndex(self._root))
        hint = _hint(path)
        columns = [options.names] if options.names else _naming_columns(self._table, index, hint)
        if not columns:
            raise SourceError(
                "no column names pictures or sounds beside the table; --root (root=) says where they are"
            ).at(file=path)
        self.column = columns[0]
        if self.column not in self._table.schema.fields:
            known = ", ".join(self._table.schema)
            raise SourceError(f"there is no column {self.column!r}; there are {known}").at(file=path)
        rows = range(len(self._table))
        names = {column: _names_in(self._table, rows, column) for column in columns}
        self._named, *others = (NamedFiles(index, names[column], hint) for column in columns)
        self._others = dict(zip(columns[1:], others, strict=True))
        for found in (self._named, *self._others.values()):
            found.require_one_folder()
        self.hits = self._named.hits
        if not len(self._named.files):
            raise SourceError(f"the column {self.column!r} names no picture or sound in {self._root}").at(file=path)
        self._field = _what(self._named)
        self._kept = _free_name(self._table.schema)
        self.notes = (*self._table.notes, *noted, *self._say(path))
        self.schema = self._find_schema(options, names)
        self.metadata = dict(self._table.metadata)

    def _find_schema(self, options: SourceOptions, names: dict[str, list[str]]) -> Schema:
        fields = dict(self._table.schema.fields)
        kept = {self._kept: fields.pop(self._field)} if self._field in fields else {}
        if kept:
            self.notes += (f"the column {self._field!r} is the field {self._kept!r}",)
        files = {self._field: (self._named, names[self.column])}
        files |= {column: (found, names[column]) for column, found in self._others.items()}
        added = {name: self._files_field(name, found, options, not all(said)) for name, (found, said) in files.items()}
        self._sounds = sound_fields((*fields, *added, *kept)) if self._field == "audio" else {}
        return Schema({self._field: added.pop(self._field)} | self._sounds | fields | added | kept)

    def _files_field(self, name: str, found: NamedFiles, options: SourceOptions, optional: bool) -> Field:
        if _what(found) != "image":
            return Bytes(optional=optional)
        return add_pictures(self, name, found.files, options, optional)

    def _say(self, path: str) -> Iterator[str]:
        """What was found, and what is left out."""
        columns = {self.column: self._named, **self._others}
        for column, found in columns.items():
            where = found.folder or "the folder"
            yield f"the column {column!r} of {os.path.basename(path)} names the files in {where}"
        used = self._named.numbers[self._named.numbers >= 0]
        files = len(set(used.tolist()))
        if files < len(used):
            yield f"{len(used)} rows name {files} files: a file is stored once for each row that names it"
        for note in left_out(self.unnamed()):
            yield f"no row names these files; {note}"

    def unnamed(self) -> list[bytes]:
        """The pictures and sounds that no column names."""
        rest = set(self._named.beside) | set(self._named.elsewhere)
        for found in self._others.values():
            rest -= set(found.files)
        return sorted(rest)

    def __len__(self) -> int:
        return len(self._table)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return self._table.nbytes() + self._named.files.nbytes(self._named.numbers)

    def fingerprint(self) -> Fingerprint:
        named = (found.files.fingerprint() for found in (self._named, *self._others.values()))
        return Fingerprint.joined((self._table.fingerprint(), *named))

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        files = self._named.files.digest_of_some(self._named.numbers[indices])
        for column, found in self._others.items():
            files += column.encode() + found.files.digest_of_some(found.numbers[indices])
        return xxhash.xxh3_128_digest(self._table.input_digest(indices) + self.column.encode() + files)

    def key(self, index: int) -> str:
        return self._table.key(index)

    def file(self, index: int, field: str) -> str:
        number = int(self._named.numbers[index])
        return shown(self._named.files.name(number)) if field == self._field and number >= 0 else self.key(index)

    def _read(self, index: int, found: NamedFiles, name: Any) -> bytes | None:
        if name is None or name == "":
            return None
        if found.numbers[index] < 0:
            raise found.missing(_name(name))
        return found.files.read(int(found.numbers[index]))

    def sample(self, index: int) -> Sample:
        row = dict(self._table.sample(index))
        main = self._read(index, self._named, row.get(self.column))
        for column, found in self._others.items():
            row[column] = self._read(index, found, row.get(column))
        if self._field in row:
            row[self._kept] = row.pop(self._field)
        return row | {self._field: main} | sound_values(main, self._sounds)


class _Opened(NamedTuple):
    """A table, the files that it may name, and what was guessed about it."""

    table: Table
    files: FileIndex
    notes: tuple[str, ...] = ()


def _open(path: str, options: SourceOptions, index: FileIndex) -> _Opened:
    """The table; where its first line names a file, that line is a row."""
    table = open_table(path, options)
    if options.table.header is None and any(index.anywhere(os.fsencode(name)) >= 0 for name in table.schema):
        table = open_table(path, replace(options, table=replace(options.table, header=False)))
        return _Opened(table, index, ("the first line names a file, and is a row: the table has no header",))
    return _Opened(table, index)


def _hint(path: str) -> str:
    """The name of a table without its extension: train.csv means the files of train_images/."""
    return os.path.splitext(os.path.basename(path))[0]


def _what(found: NamedFiles) -> str:
    """The field for files: "image" for pictures, "audio" for sounds, "file" for both."""
    if all(map(is_picture, found.files)):
        return "image"
    return "audio" if all(map(is_sound, found.files)) else "file"


def _free_name(schema: Schema) -> str:
    return next(name for name in ("file_name", "path", "source", "original") if name not in schema.fields)


def _names_in(table: Table, rows: Iterable[int], column: str) -> list[str]:
    return ["" if isinstance(row, RecordIOError) else _name(row.get(column)) for _, row in table.read(rows)]


def _naming_columns(table: Table, index: FileIndex, hint: str) -> list[str]:
    """The columns that name files, the main one first: that which names most, pictures before masks."""
    rows = range(0, len(table), max(1, len(table) // _PEEKED))
    peeked = [row if isinstance(row, Mapping) else {} for _, row in table.read(rows)]
    found: list[tuple[tuple[float, bool, float], str, bool]] = []
    for column, kind in table.schema.items():
        numbers = isinstance(kind, Scalar) and kind.dtype.kind == "i"
        names = [_name(row.get(column)) for row in peeked] if numbers or isinstance(kind, Text) else []
        if not any(names) or any("\n" in name for name in names):
            continue
        named = NamedFiles(index, names, hint, len(rows) / len(table))
        if named.hits >= _ENOUGH and not _by_chance(named, numbers):
            score = (named.hits, _MASK.search(column) is None, len(set(names)) / len(names))
            found.append((score, column, named.exact and named.hits >= _SURE))
    found.sort(key=lambda entry: entry[0], reverse=True)
    return [column for number, (_, column, sure) in enumerate(found) if sure or not number]


def _by_chance(named: NamedFiles, numbers: bool) -> bool:
    """Whether words or numbers, such as labels, may have files by chance, as `3` in `cat/3.jpg`.

    So names without an extension have to name most of their folder, and numbers nearly all of it.
    """
    return not named.exact and named.coverage < (_SURE if numbers else _ENOUGH)


def _name(value: Any) -> str:
    """A cell as the name of a file; "" for anything that names none."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    text = str(value)
    return "" if "\0" in text or len(text) > 1024 else text


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """A table of whose names most are files: one in the folder itself, or else in a folder without such files in it."""
    named = map(os.fsdecode, folder.having(endings(TABLE_KINDS)))
    tables = [name for name in named if name.count("/") < 2 and table_kind(name)]
    media = set(folder.having(PICTURES | SOUNDS)) if tables else set()
    if not media:
        return None
    index = FileIndex(options.root or folder.path)
    found = _opened_tables(folder, [name for name in tables if "/" not in name], options, index)
    if not found and options.root is None:
        full = {os.fsdecode(name.partition(b"/")[0]) for name in media}
        inside = [name for name in tables if "/" in name and name.partition("/")[0] not in full]
        rooted = replace(options, root=folder.path)
        found = _opened_tables(folder, inside if len(inside) <= _MOST_TABLES else [], rooted, index)
    if not found:
        return None
    splits = named_splits(found, folder.path)
    if not splits and len(found) > 1:
        names = ", ".join(map(repr, found))
        text = f"several tables here name the files ({names}); give the path of one of them, with --kind indexed_files"
        raise SourceError(text).at(file=folder.path)
    return _match(folder, found, splits or {"": next(iter(found))}, media)


def _opened_tables(
    folder: Folder, tables: list[str], options: SourceOptions, index: FileIndex
) -> dict[str, IndexedFiles]:
    """The tables that name files; Hugging Face's metadata alone, where it is there."""
    metadata = [name for name in tables if name in _METADATA]
    opened = {name: _index(folder.file(name), options, index, name in metadata) for name in metadata or tables}
    return {name: source for name, source in opened.items() if source is not None}


def _match(folder: Folder, found: dict[str, IndexedFiles], chosen: dict[str, str], media: set[bytes]) -> Match:
    sources = [found[name] for name in chosen.values()]
    unnamed = set.intersection(*(set(source.unnamed()) for source in sources))
    tables = {os.fsencode(name) for name in chosen.values()}
    others = [name for name in folder.names if name not in media and name not in tables]
    specs = {
        split: SourceSpec(
            folder.file(name),
            "indexed_files",
            SourceOptions(names=found[name].column, root=folder.path if "/" in name else None),
        )
        for split, name in chosen.items()
    }
    taken = len(media) - len(unnamed)
    certain = all(source.hits >= _SURE for source in sources) and 2 * taken >= len(media)
    certainty = Certainty.CERTAIN if certain else Certainty.POSSIBLE
    apart = [name for name in unnamed if not _of_another_split(name, chosen)]
    return Match("indexed_files", certainty, taken, [*others, *apart], specs, left_out(others))


def _of_another_split(name: bytes, chosen: dict[str, str]) -> bool:
    """Whether a file lies in a folder of a split that no table is about: test pictures have no labels."""
    words = (split_word(os.fsdecode(part)) for part in name.split(b"/")[:-1])
    about = {word[0] for word in map(split_word, chosen.values()) if word is not None} | set(chosen)
    return any(word is not None and word[0] not in about for word in words)


def _index(path: str, options: SourceOptions, index: FileIndex, strict: bool) -> IndexedFiles | None:
    """The source of a table that names files, None for any other; `strict` raises for one that cannot be read."""
    try:
        opened = _open(path, options, index)
    except RecordIOError:
        if strict or options.table != DEFAULT:
            raise
        return None
    if not _naming_columns(opened.table, index, _hint(path)):
        return None
    source = IndexedFiles(path, options, opened)
    return source if source.hits >= _ENOUGH else None
