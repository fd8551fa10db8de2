"""NumPy files: one for each field of numbers, of all samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ma

from recordio.exports.files import file_names, npy_header
from recordio.exports.formats import ExportPart, class_notes, missing, numeric_fields, refuse
from recordio.format.masks import missing_rows
from recordio.format.schema import Columns
from recordio.reader.view import DatasetView


class Npy:
    """FIELD.npy: an array (samples, *shape) of the field's dtype."""

    def __init__(self, view: DatasetView) -> None:
        schema = view.schema
        self.notes = class_notes(schema, view.metadata)
        others = [name for name, kind in schema.items() if kind.row_nbytes is None]
        refuse(".npy", schema, others, "it is for numbers and arrays of one shape; leave them out with fields=")
        self._fields = numeric_fields(schema)
        self._names = file_names(schema)

    def begin(self, folder: Path, samples: int) -> None:
        """Files of full length, so that parts are written in any order, each to its place."""
        for name, kind in self._fields.items():
            with open(self._path(folder, name), "xb") as file:
                file.write(npy_header(kind.dtype, (samples, *kind.shape)))
                file.truncate(file.tell() + samples * (kind.row_nbytes or 0))

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> None:
        start = part.start
        files = {name: os.open(self._path(folder, name), os.O_WRONLY | os.O_CLOEXEC) for name in self._fields}
        try:
            for columns in chunks:
                for name, kind in self._fields.items():
                    header = npy_header(kind.dtype, (part.samples, *kind.shape))
                    offset = len(header) + start * (kind.row_nbytes or 0)
                    _write(files[name], _values(columns[name], name, start), offset)
                start += len(columns[name])
        finally:
            for fd in files.values():
                os.close(fd)

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        pass

    def _path(self, folder: Path, name: str) -> Path:
        return folder / f"{self._names[name]}.npy"


def _values(column: Any, name: str, start: int) -> Any:
    """The bytes of a column. Raises SchemaError for a missing value."""
    if isinstance(column, ma.MaskedArray) and (gone := missing_rows(column)).any():
        raise missing(".npy", start + int(np.argmax(gone)), name)
    return np.ascontiguousarray(ma.getdata(column)).reshape(-1).view(np.uint8).data


def _write(fd: int, data: memoryview, offset: int) -> None:
    while len(data):
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
