"""A folder of files, as Hugging Face's ImageFolder and torchvision's read them.

CLASS/NAME.jpg       where samples are a picture (or a sound) and a label with classes, and nothing else
NAME.jpg             else, with metadata.jsonl: a line for each sample, `file_name`, and all other values
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from recordio.errors import SchemaError
from recordio.exports.files import file_names, file_of
from recordio.exports.formats import ExportPart, class_of, is_encoded, missing, numbered_chunks, numbered_rows
from recordio.exports.jsonl import JsonValues
from recordio.format.fields import Bytes
from recordio.format.schema import Columns
from recordio.reader.columns import uncollate
from recordio.reader.hugging_face import class_names
from recordio.reader.joining import LABEL
from recordio.reader.view import DatasetView

_TABLE = "metadata.jsonl"
_NAMES = "file"  # the field with the names of files that a conversion of class folders keeps


class Folder:
    """Files are named by the number of their sample, or in class folders as the conversion found them."""

    def __init__(self, view: DatasetView) -> None:
        schema = view.schema
        self._files = [name for name, kind in schema.items() if is_encoded(kind) or isinstance(kind, Bytes)]
        if not self._files:
            raise SchemaError("no field holds pictures or bytes, which become files: 'jsonl' or 'parquet' has the rest")
        classes = class_names(schema, view.metadata)
        in_folders = len(self._files) == 1 and set(schema) - {_NAMES} == {LABEL, self._files[0]}
        self._classes = classes if classes is not None and in_folders and all(map(_is_name, classes)) else None
        self._named = self._classes is not None and _NAMES in schema and _are_names(view, self._classes)
        self._names = file_names(self._files)
        columns = {_column(field, self._files) for field in self._files}
        if self._classes is None and (taken := [name for name in schema if name in columns]):
            text = f"in {_TABLE} this is the column of the names of files: give the field another name"
            raise SchemaError(text).at(field=taken[0])
        self._values = JsonValues(base64=False)
        self.notes = self._class_notes(view) if self._classes is not None else self._table_notes(view)

    def _class_notes(self, view: DatasetView) -> tuple[str, ...]:
        assert self._classes is not None
        notes = []
        labels = set(view.column(LABEL).tolist())
        empty = [name for label, name in enumerate(self._classes) if label not in labels]
        if empty or self._classes != sorted(self._classes):
            notes.append("readers number the classes by the names of the folders that are there: labels will differ")
        if _NAMES in view.schema and not self._named:
            notes.append(
                f"files are numbered: {_NAMES!r} does not hold a name of its own for each, in its class folder"
            )
        return tuple(notes)

    def _table_notes(self, view: DatasetView) -> tuple[str, ...]:
        if isinstance(view.metadata.get("classes"), list) and LABEL in view.schema:
            return (f"labels in {_TABLE} are numbers: the names of the classes are in no file",)
        return ()

    def begin(self, folder: Path, samples: int) -> None:
        for name in self._classes or ():
            (folder / name).mkdir()

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> Path | None:
        """A file with the part's lines of the table; none in class folders."""
        digits = len(str(max(part.samples - 1, 0)))
        if self._classes is not None:
            for index, row in numbered_rows(part, chunks):
                self._write_in_class(folder, row, index, f"{index:0{digits}}")
            return None
        lines = folder / f".{part.name('.jsonl')}"
        with open(lines, "xb") as file:
            file.writelines(self._lines(folder, numbered_chunks(part, chunks), digits))
        return lines

    def _lines(self, folder: Path, chunks: Iterator[tuple[int, Columns]], digits: int) -> Iterator[bytes]:
        """Writes the files of the samples, and gives the lines of the table."""
        for start, columns in chunks:
            others = {name: column for name, column in columns.items() if name not in self._files}
            names = self._written(folder, {name: columns[name] for name in self._files}, start, digits)
            values = self._values.rows(others, start) if others else repeat({})
            for name, row in zip(names, values, strict=False):
                yield (json.dumps(name | row, ensure_ascii=False) + "\n").encode()

    def finish(self, folder: Path, written: Sequence[Path | None]) -> None:
        if self._classes is None:
            with open(folder / _TABLE, "xb") as table:
                for path in filter(None, written):
                    with open(path, "rb") as lines:
                        shutil.copyfileobj(lines, table)
                    path.unlink()
        for name in self._classes or ():
            if not any((folder / name).iterdir()):
                (folder / name).rmdir()

    def _write_in_class(self, folder: Path, row: dict[str, Any], index: int, number: str) -> None:
        (field,) = self._files
        extension, data = _content(row, field, index)
        if row[LABEL] is None:
            raise missing("a class folder", index, LABEL)
        name = class_of(self._classes or (), int(row[LABEL]), index)
        path = folder / row[_NAMES] if self._named else folder / name / f"{number}{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)

    def _written(self, folder: Path, columns: Columns, start: int, digits: int) -> Iterator[dict[str, str]]:
        """Writes the files of samples: the names of those of each, by column of the table."""
        for index, row in enumerate(uncollate(columns, len(columns[self._files[0]])), start):
            names = {}
            for field in self._files:
                extension, data = _content(row, field, index)
                inner = "" if len(self._files) == 1 else f".{self._names[field]}"
                names[_column(field, self._files)] = name = f"{index:0{digits}}{inner}{extension}"
                _write(folder / name, data)
            yield names


def _column(field: str, files: Sequence[str]) -> str:
    """The column of the names of a field's files, as Hugging Face knows it."""
    return "file_name" if len(files) == 1 else f"{field}_file_name"


def _content(row: dict[str, Any], field: str, index: int) -> tuple[str, bytes]:
    found = file_of(row[field])
    if found is None:
        raise missing("a folder of files", index, field)
    return found


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _is_name(name: str) -> bool:
    """Whether a folder can have this name, and no reader takes it for hidden."""
    return name.isprintable() and 0 < len(name.encode()) <= 255 and name[0] != "." and "/" not in name


def _are_names(view: DatasetView, classes: Sequence[str]) -> bool:
    """Whether the field of names has one of its own for each file, in the folder of its class."""
    names = view.column(_NAMES)
    labels = view.column(LABEL).tolist()
    if len(set(names)) < len(names):
        return False
    return all(
        label is not None and 0 <= label < len(classes) and _lies_in(name, classes[label])
        for name, label in zip(names, labels, strict=True)
    )


def _lies_in(name: Any, folder: str) -> bool:
    parts = name.split("/") if isinstance(name, str) else []
    return len(parts) > 1 and parts[0] == folder and all(map(_is_name, parts))
