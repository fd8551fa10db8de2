"""WebDataset: tar files whose members are samples, `000001.jpg` and `000001.cls`, one file or many.

A sample has its `key` and a field for each extension, named as WebDataset names it: `jpg`, `cls`, `seg.png`. Values are
those of the library's decoders where they are data: integers, texts, JSON, arrays, pictures; anything else is bytes.
Pickles are refused, as reading one can run any program.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.layout import MAX_FIELDS
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.archives.archive import require_fit
from recordio.writer.sources.archives.tar_members import FILE, TarMember, ahead, tar_members
from recordio.writer.sources.archives.unpacked_file import UnpackedFile, unpacked_file
from recordio.writer.sources.archives.webdataset_names import key_and_suffix, passed_over
from recordio.writer.sources.arrays.arrays import common_field, fitted
from recordio.writer.sources.arrays.npy import NpyHeader, checked_dtype, read_array
from recordio.writer.sources.files import shown
from recordio.writer.sources.folders.pictures import PictureSurvey
from recordio.writer.sources.folders.text import class_number, json_value, plain_text
from recordio.writer.sources.media import TRUST, is_picture
from recordio.writer.sources.records.record_files import RecordFiles
from recordio.writer.sources.source import SourceOptions

_NPY_HEAD = 1 << 17  # more than the header of a .npy file may take
_KINDS = (
    dict.fromkeys("cls cls2 index inx id".split(), "integer")
    | dict.fromkeys("txt text transcript".split(), "text")
    | dict.fromkeys("json jsn".split(), "json")
    | dict.fromkeys("pyd pickle pkl pth pt".split(), "pickle")
    | {"npy": "npy", "npz": "npz"}
)


_TWICE = "a key in several places makes a sample in each, as in WebDataset"


def _kind(suffix: str) -> str:
    """What the members of a field hold, by the last of its extensions."""
    last = suffix.rpartition(".")[2]
    return _KINDS.get(last) or ("image" if is_picture(b"x." + last.encode()) else "bytes")


def _array(data: bytes) -> Any:
    found = read_array(data)
    return found.astype(checked_dtype(found.dtype), copy=False)


_PARSE: dict[str, Callable[[bytes], Any]] = {
    "integer": class_number,
    "text": plain_text,
    "json": json_value,
    "npy": _array,
}


class _Column:
    """What is found out about one field while the members are listed."""

    def __init__(self, suffix: str, options: SourceOptions) -> None:
        self.kind = _kind(suffix)
        self.count = 0
        self.survey = PictureSurvey(suffix, options)
        self._suffix = suffix
        self._arrays: set[tuple[Any, tuple[int, ...]]] = set()

    def see(self, member: TarMember, file: UnpackedFile) -> None:
        self.count += 1
        try:
            if self.kind == "image" and not self.survey.decided:
                require_fit(member.nbytes)
                self.survey.see_data(file.read(member.start, member.nbytes), shown(member.name))
            elif self.kind == "npy":
                head = file.read(member.start, min(member.nbytes, _NPY_HEAD))
                header = NpyHeader.read(io.BytesIO(head), member.nbytes)
                self._arrays.add((checked_dtype(header.dtype), header.shape))
        except SourceError:
            return  # reading the sample raises it again, subject to on_error

    def field(self, optional: bool) -> Field:
        """Raises SourceError where no field holds the values."""
        if self.kind == "integer":
            return Scalar("int64", optional=optional)
        if self.kind == "npy":
            if not self._arrays:
                raise SourceError("none of the arrays can be read").at(field=self._suffix)
            return common_field(self._arrays, optional)
        return {"text": Text, "json": Object}.get(self.kind, Bytes)(optional=optional)


class WebDataset(RecordFiles):
    """The samples in the order of the files, and of the members in each."""

    kind = "webdataset"

    def __init__(self, path: str, options: SourceOptions) -> None:
        super().__init__(path, options)
        self._options = options
        self._columns: dict[str, _Column] = {}
        self._unpacked: dict[int, UnpackedFile] = {}
        self._told: dict[str, tuple[str, int]] = {}  # what there is to say: of which first, and of how many
        self._scan()
        self.schema = self._find_schema()
        self.notes += tuple(self._say())
        del self._columns, self._options, self._told

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        file = unpacked_file(next(self.files.paths([number])))
        if file.packed:
            self._unpacked[number] = file
        keys: set[bytes] = set()
        key, fields, start, end = b"", set[str](), -1, -1
        for member in tar_members(ahead(file.read), file.nbytes):
            part = self._part(member)
            if part is None:
                continue
            if start < 0 or part[0] != key:
                if start >= 0:
                    yield start, end
                key, fields, start = part[0], set(), member.header
                if key in keys:
                    self._tell(_TWICE, f"{shown(key)!r} in {self.file_name(number)}")
                keys.add(key)
            end = member.start + member.nbytes
            if part[1] in fields:
                text = f"the sample {shown(key)!r} has two members for the field {part[1]!r}"
                raise SourceError(text).at(file=f"{self.file_name(number)}/{shown(member.name)}")
            fields.add(part[1])
            self._column(part[1], member, number).see(member, file)
        if start >= 0:
            yield start, end

    def _part(self, member: TarMember) -> tuple[bytes, str] | None:
        part = key_and_suffix(member.name) if member.kind == FILE else None
        if part is None and member.kind != b"5":
            self._tell(f"left out, as WebDataset does: {passed_over(member)}", shown(member.name)[:80])
        return part

    def _tell(self, what: str, name: str) -> None:
        first, count = self._told.get(what, (name, 0))
        self._told[what] = first, count + 1

    def _column(self, suffix: str, member: TarMember, number: int) -> _Column:
        """Raises SourceError for a field that is refused."""
        if suffix in self._columns:
            return self._columns[suffix]
        column = _Column(suffix, self._options)
        where = f"{self.file_name(number)}/{shown(member.name)}"
        if column.kind == "pickle":
            raise SourceError(f"the field {suffix!r} holds a pickle: {TRUST}").at(file=where)
        if column.kind == "npz":
            text = f"the field {suffix!r} holds several arrays each: save every array as a member of its own, x.npy"
            raise SourceError(text).at(file=where)
        if suffix == "key":
            raise SourceError("members with the extension .key clash with the field 'key'").at(file=where)
        if len(self._columns) >= MAX_FIELDS - 1:
            raise SourceError("the members have too many different extensions for a WebDataset").at(file=where)
        self._columns[suffix] = column
        return column

    def _find_schema(self) -> Schema:
        fields: dict[str, Field] = {"key": Text()}
        order = sorted(self._columns, key=lambda suffix: (self._columns[suffix].kind != "image", suffix))
        for suffix in order:
            column = self._columns[suffix]
            optional = column.count < len(self)
            if column.kind != "image":
                fields[suffix] = column.field(optional)
                continue
            found = column.survey.column(optional)
            fields[suffix] = found.field
            self.pictures = {**self.pictures, suffix: found.kind}
            self.notes += found.notes
        return Schema(fields)

    def _say(self) -> Iterator[str]:
        """What is left out, and what may have been meant otherwise."""
        names = [repr(suffix) for suffix, column in sorted(self._columns.items()) if column.kind == "bytes"]
        if names:
            yield f"kept as bytes: {', '.join(names)}"
        if len(self._columns) == 1:
            yield "the samples have one member each: no label is made of the names of folders or files"
        for what, (first, count) in self._told.items():
            yield f"{what}, such as {first} ({count:,} in all)"

    def _bytes(self, index: int) -> bytes:
        number, _ = self.place(index)
        start, end = int(self._starts[index]), int(self._ends[index])
        require_fit(end - start)
        if number not in self._unpacked:
            return super()._bytes(index)
        return self._unpacked[number].read(start, end - start)

    def sample(self, index: int) -> Sample:
        record = self._bytes(index)
        values: dict[str, Any] = {}
        for member in tar_members(lambda start, nbytes: record[start : start + nbytes], len(record)):
            part = key_and_suffix(member.name) if member.kind == FILE else None
            if part is None:
                continue
            try:
                values.setdefault("key", part[0].decode("utf-8"))
                values[part[1]] = self._value(part[1], record[member.start : member.start + member.nbytes])
            except UnicodeDecodeError as error:
                raise SourceError("the name is not UTF-8").at(file=self.key(index)) from error
            except SourceError as error:
                raise error.at(file=f"{self.file_name(self.place(index)[0])}/{shown(member.name)}", field=part[1])
        return values

    def _value(self, suffix: str, data: bytes) -> Any:
        kind = _kind(suffix)
        value = _PARSE.get(kind, bytes)(data)
        field = self.schema[suffix]
        return fitted(value, suffix, field) if kind == "npy" and isinstance(field, Array | Scalar) else value
