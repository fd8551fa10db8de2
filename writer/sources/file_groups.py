"""Any folder of files: files that differ only in their extension are one sample.

`a.jpg`, `a.json` and `a.cls` become {"key": "a", "image": ..., "json": ..., "label": ...}. A field that some samples
lack is optional.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.format import strict_json
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.arrays import array_field
from recordio.writer.sources.files import FileTable, scan_folder, shown
from recordio.writer.sources.image_folder import encoded_image
from recordio.writer.sources.npy import checked_dtype, peek_header, read_array
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions

FIELD_NAMES = dict.fromkeys(("jpg", "jpeg", "png", "webp"), "image") | {"txt": "text", "cls": "label", "": "file"}


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error


def _json(data: bytes) -> Any:
    try:
        value = strict_json.parse(_text(data))
        Object().pack(value)
    except ValueError as error:
        raise SourceError(f"the JSON cannot be read: {error}") from error
    return value


def _label(data: bytes) -> int:
    try:
        value = int(_text(data[:64]).strip())
        Scalar("int64").pack(value)
    except ValueError as error:
        raise SourceError(f"a .cls file holds one integer, not {data[:40]!r}") from error
    return value


def _array(data: bytes) -> npt.NDArray[Any]:
    found = read_array(data)
    return found.astype(checked_dtype(found.dtype), copy=False)


_PARSE: dict[str, Callable[[bytes], Any]] = {
    "image": encoded_image,
    "text": _text,
    "json": _json,
    "label": _label,
    "npy": _array,
}


def _split(name: bytes) -> tuple[bytes, str]:
    """The path without its extension, and the field for the extension."""
    stem, extension = os.path.splitext(name)
    try:
        found = extension[1:].lower().decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"an extension is not UTF-8: {shown(name)!r}") from error
    return stem, FIELD_NAMES.get(found, found)


class FileGroups(Source):
    """Samples are sorted by the bytes of their key, the path without the extension."""

    kind = "file_groups"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._files = scan_folder(os.fsencode(path))
        if not len(self._files):
            raise SourceError("the folder is empty").at(file=path)
        parts = [_split(name) for name in self._files]
        order = sorted(range(len(parts)), key=parts.__getitem__)
        self._order = np.array(order, np.int64)
        stems = [parts[i][0] for i in order]
        self._starts = np.array([k for k in range(len(stems)) if not k or stems[k] != stems[k - 1]], np.int64)
        self.metadata = {}
        self.schema = self._find_schema(parts)

    def _find_schema(self, parts: list[tuple[bytes, str]]) -> Schema:
        names = [field for _, field in parts]
        samples_with = Counter(field for _, field in set(parts))
        fields: dict[str, Field] = {"key": Text()}
        for name in sorted(samples_with, key=lambda name: (name != "image", name)):
            if name == "key":
                raise SourceError("files with the extension .key clash with the field 'key'; rename them")
            fields[name] = self._field(name, names, optional=samples_with[name] < len(self))
        return Schema(fields)

    def _field(self, name: str, names: list[str], optional: bool) -> Field:
        plain: dict[str, type[Field]] = {"image": Image, "text": Text, "json": Object}
        if name == "label":
            return Scalar("int64", optional=optional)
        if name == "npy":
            return npy_field(self._files, [i for i, field in enumerate(names) if field == name], optional)
        return plain.get(name, Bytes)(optional=optional)  # type: ignore[call-arg]

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

    def key(self, index: int) -> str:
        return shown(self._files.name(int(self._order[self._starts[index]])))

    def sample(self, index: int) -> Sample:
        members = self._members(index)
        try:
            values: dict[str, Any] = {"key": _split(self._files.name(members[0]))[0].decode("utf-8")}
        except UnicodeDecodeError as error:
            raise SourceError("the file's name is not UTF-8; rename it") from error
        for member in members:
            name = self._files.name(member)
            field = _split(name)[1]
            if field in values:
                raise SourceError(f"two files for the field {field!r}").at(file=shown(name))
            try:
                values[field] = _PARSE.get(field, bytes)(self._files.read(member))
            except SourceError as error:
                error.at(file=shown(name), field=field)
                raise
        self._fit(values)
        return values

    def _fit(self, values: dict[str, Any]) -> None:
        """Raises SourceError for an array unlike the others: its header may have been unreadable before."""
        kind = self.schema.fields.get("npy")
        if isinstance(kind, Array) and "npy" in values:
            try:
                kind.pack(values["npy"])  # before the cast, which rounds large integers
                values["npy"] = np.asarray(values["npy"]).astype(kind.dtype, casting="safe")
            except (SchemaError, TypeError) as error:
                raise SourceError(f"the array does not fit the others: {error}") from error


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
    ranks = {len(shape) for _, shape in found}
    if len(ranks) > 1:
        raise SourceError(f"the .npy files have {' and '.join(map(str, sorted(ranks)))} dimensions; they must agree")
    dtype = np.result_type(*{dtype for dtype, _ in found})
    shapes = {shape for _, shape in found}
    shape = tuple(sizes.pop() if len(sizes) == 1 else None for sizes in map(set, zip(*shapes, strict=True)))
    return array_field(dtype, shape, optional)
