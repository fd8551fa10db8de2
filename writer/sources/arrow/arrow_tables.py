"""Tables of Parquet and Arrow: a row is a sample, a column a field.

All files of a source have the same columns. They are listed by their footers and headers; values are read beforehand
only where a decision needs them: to tell whether lists have values missing inside, and what pictures a column holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SchemaError, SourceError
from recordio.format.fields import Text
from recordio.format.schema import Columns, Sample, Schema
from recordio.packages import pyarrow
from recordio.writer.sources.arrow import arrow_columns
from recordio.writer.sources.arrow.arrow_files import ArrowFile
from recordio.writer.sources.arrow.arrow_groups import GroupReader, Groups
from recordio.writer.sources.arrow.arrow_schema import TableColumns
from recordio.writer.sources.arrow.hf_features import Feature
from recordio.writer.sources.arrow.ipc_file import IpcFile
from recordio.writer.sources.arrow.parquet_file import ParquetFile
from recordio.writer.sources.folders.pictures import PictureSurvey
from recordio.writer.sources.folders.sounds import sound_fields, sound_values
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.records.record_files import FileSet
from recordio.writer.sources.source import NAME, Item, Source, SourceOptions, with_name_fields
from recordio.writer.sources.tables.embedded import EmbeddedFiles


class ArrowTable(FileSet):
    """Rows of one file or of several, in order.

    A subclass says how a file is opened, and may know `features` from elsewhere than the files.
    """

    opener: type[ArrowFile]

    def __init__(self, path: str, options: SourceOptions, features: dict[str, Feature] | None = None) -> None:
        pyarrow()
        super().__init__(path, options)
        self._options = options
        self._found = found = TableColumns(features)
        files: list[int] = []
        numbers: list[int] = []
        rows: list[int] = []
        nbytes: list[int] = []
        for number in range(len(self.files)):
            try:
                with closing(self._open(number)) as file:
                    found.see(file, self.file_name(number))
                    files += [number] * len(file.rows)
                    numbers += range(len(file.rows))
                    rows += file.rows
                    nbytes += file.nbytes
            except SourceError as error:
                raise error.at(file=self.file_name(number))
        self._groups = Groups(np.array(files, np.int64), np.array(numbers, np.int64), np.array(rows, np.int64))
        if not len(self._groups):
            raise SourceError("there are no rows").at(file=path)
        self._row_nbytes = np.maximum(np.array(nbytes, np.int64) // np.maximum(rows, 1), found.least_row_nbytes)
        self._reader: GroupReader | None = None
        self._keeps_names = False
        self._settle(path)

    def _settle(self, path: str) -> None:
        """The schema, and what is said with it."""
        found = self._found
        self._columns = found.settled()
        self.notes = found.notes
        self.metadata = found.metadata()
        root = os.fsdecode(self.files.root) or "."
        self._embedded = {name: EmbeddedFiles(root, name, self._options) for name in found.files}
        self._external = found.external
        self.nameless = bool(self._embedded)
        fields = {column.name: column.field for column in self._columns}
        for name in found.files:
            picture = self._picture(name)
            if picture is not None:
                fields[name] = picture
        sounds = [name for name in found.files if name in found.features and found.features[name].type == "Audio"]
        self._sound = sounds[0] if len(sounds) == 1 else ""
        self._sound_fields = sound_fields(fields) if self._sound else {}
        try:
            self.schema = Schema({**fields, **self._sound_fields})
        except SchemaError as error:
            raise SourceError(f"the columns cannot become fields: {error.fault}").at(file=path) from error

    def _picture(self, name: str) -> Any:
        """The field of a column of pictures, None for other files."""
        feature = self._found.features.get(name)
        if feature is not None and feature.type != "Image":
            return None
        survey = PictureSurvey(name, self._options)
        optional = self._found[name].field.optional
        for data, path in self._files_in(name):
            if data is None:
                with suppress(SourceError):
                    survey.see(os.fsencode(self._embedded[name].path(path or "")))
            elif not survey.see_data(data) and feature is None:
                return None  # nothing says that these are pictures
            if survey.decided:
                break
        column = survey.column(optional)
        self.pictures = {**self.pictures, name: column.kind}
        self.notes += column.notes
        if feature is None:
            self.notes += (f"{name!r} holds files by name, and they are pictures",)
        return column.field

    def _files_in(self, name: str) -> Iterator[tuple[bytes | None, str | None]]:
        """The files in a column, in order, as far as they can be read."""
        for number in range(len(self.files)):
            with closing(self._open(number)) as file, suppress(SourceError):
                for group in range(len(file.rows)):
                    for batch in file.steps(group, [name]):
                        with reading():
                            yield from filter(None, arrow_columns.files(batch.column(name)))

    def _open(self, number: int) -> ArrowFile:
        return self.opener(next(self.files.paths([number])), int(self.files.stamps[number]))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_found": None}

    def __len__(self) -> int:
        return len(self._groups)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.repeat(self._row_nbytes, np.diff(self._groups.firsts))

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        if self._external:
            return None  # files that are named elsewhere may have changed
        files, rows = self._groups.places(indices)
        used, of_file = np.unique(files, return_inverse=True)
        out = xxhash.xxh3_128(self.files.digest(used))
        for part in (of_file, rows):
            out.update(part.astype("<i8").tobytes())
        return out.digest()

    def key(self, index: int) -> str:
        (key,) = self._keys(np.array([index]))
        return key

    def _keys(self, indices: npt.NDArray[np.int64]) -> list[str]:
        files, rows = self._groups.places(indices)
        names = {number: self.file_name(number) for number in np.unique(files).tolist()}
        return [f"{names[number]} row {row}" for number, row in zip(files.tolist(), rows.tolist(), strict=True)]

    def sample(self, index: int) -> Sample:
        ((_, found),) = self.read([index])
        if isinstance(found, Exception):
            raise found
        return found

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        asked = np.fromiter(indices, np.int64)
        for run in self._reading().runs(asked, self._estimates(asked)):
            order = np.argsort(run, kind="stable")
            if (order[1:] > order[:-1]).all():
                yield from self._items(run)
                continue
            found: list[Item] = [("", {})] * len(run)
            for place, item in zip(order.tolist(), self._items(run[order]), strict=True):
                found[place] = item
            yield from found

    def _items(self, ordered: npt.NDArray[np.int64]) -> Iterator[Item]:
        """Samples in the order of the files."""
        at = 0
        for piece in self._reading().pieces(ordered):
            keys = self._keys(ordered[at : at + piece.rows])
            at += piece.rows
            if piece.error is not None:
                yield from ((key, SourceError(piece.error.fault).at(file=key)) for key in keys)
            else:
                for key, found in zip(keys, self._samples(piece.batch), strict=True):
                    yield key, found.at(file=key) if isinstance(found, SourceError) else found

    def _samples(self, batch: Any) -> Iterator[Sample | SourceError]:
        """The rows of a batch; where they cannot be read together, one by one."""
        try:
            columns = self._made(batch)
        except SourceError as error:
            if batch.num_rows == 1:
                yield error
            else:
                for row in range(batch.num_rows):
                    yield from self._samples(batch.slice(row, 1))
            return
        for values in zip(*map(arrow_columns.rows_of, columns.values()), strict=True):
            yield dict(zip(columns, values, strict=True))

    def batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns]:
        for run in self._reading().runs(indices, self._estimates(indices)):
            for batch in self._reading().ordered(run):
                yield self._made(batch)

    def _made(self, batch: Any) -> Columns:
        """The columns of a batch. Raises SourceError."""
        made: Columns = {}
        for column in self._columns:
            try:
                with reading():
                    array = batch.column(column.name)
                    made[column.name] = arrow_columns.convert(column.converter, array, column.field.optional)
                    if column.name in self._embedded:
                        self._take_in(column.name, made)
            except SourceError as error:
                raise error.at(field=column.name)
        return made

    def _take_in(self, name: str, made: Columns) -> None:
        """The bytes of files in place of their bytes and names."""
        pairs = made[name]
        if self._keeps_names:
            made[f"{name}_{NAME}"] = [pair and pair[1] for pair in pairs]
        read = self._embedded[name].read
        made[name] = [None if pair is None else read(pair[1]) if pair[0] is None else pair[0] for pair in pairs]
        if name == self._sound:
            said = [sound_values(data, self._sound_fields) for data in made[name]]
            made.update({field: [one.get(field) for one in said] for field in self._sound_fields})

    def _estimates(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self._row_nbytes[np.searchsorted(self._groups.firsts, indices, "right") - 1]
        return found

    def _reading(self) -> GroupReader:
        if self._reader is None:
            self._reader = GroupReader(self._groups, self._open)
        return self._reader

    def with_names(self) -> Source:
        """The same rows with the names in each column of files as a field more, such as `image_file`."""
        if not self._embedded:
            raise SchemaError("keep_names (--keep-names) keeps the names in columns of files, and there is none")
        self.schema = with_name_fields(self.schema, {f"{name}_{NAME}": Text(optional=True) for name in self._embedded})
        self._keeps_names = True
        return self


class Parquet(ArrowTable):
    """Parquet files."""

    kind = "parquet"
    opener = ParquetFile


class ArrowIpc(ArrowTable):
    """Files and streams of Arrow IPC, and Feather."""

    kind = "arrow"
    opener = IpcFile
