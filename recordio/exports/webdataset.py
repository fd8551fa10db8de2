"""WebDataset: tar files of which the members with one key, the name up to its first dot, are a sample.

The rest of the name is the field. A field with the usual name has the usual extension, which the library decodes by:
image.jpg is `jpg`, label is `cls`, text `txt`, json `json`, npy `npy`. Others are FIELD.EXTENSION, which it decodes
as well.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recordio.display.text import exact_json
from recordio.errors import SchemaError
from recordio.exports.files import file_of, npy_bytes
from recordio.exports.formats import ExportPart, class_notes, is_number, numbered_rows
from recordio.format.fields import Field, Object
from recordio.format.numeric import Scalar
from recordio.format.schema import Columns
from recordio.reader.view import DatasetView

_USUAL = {
    "image": (".jpg", ".png", ".webp"),
    "label": (".cls",),
    "text": (".txt",),
    "json": (".json",),
    "npy": (".npy",),
}

_MAX_NAME = 100  # bytes
_MAX_NBYTES = 8**11


class WebDataset:
    """shard-000000.tar, ...: members as tarfile writes them, with nothing in them that differs from run to run."""

    def __init__(self, view: DatasetView) -> None:
        self._schema = view.schema
        self.notes = class_notes(view.schema, view.metadata)
        seen: dict[str, str] = {}
        for name in view.schema:
            if not name.isprintable() or "/" in name or name != name.strip(".") or not name.strip():
                raise SchemaError(f"a member of a tar cannot be called {name!r}: give the field another name").at(
                    field=name
                )
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise SchemaError(f"WebDataset reads names in lower case, where {other!r} and {name!r} are the same")

    def begin(self, folder: Path, samples: int) -> None:
        pass

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> None:
        digits = max(6, len(str(part.samples)))
        with open(folder / f"shard-{part.number:06}.tar", "xb") as archive:
            for index, row in numbered_rows(part, chunks):
                for name, value in row.items():
                    if value is None:
                        continue  # no member: that is how a value is missing
                    extension, data = _file_of(value, self._schema[name])
                    suffix = extension if extension in _USUAL.get(name, ()) else f".{name}{extension}"
                    archive.write(_header(f"{index:0{digits}}{suffix}", len(data)))
                    archive.write(data.ljust(-(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0"))
            archive.write(bytes(tarfile.BLOCKSIZE * 2))  # POSIX ends an archive by two empty blocks

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        pass


def _header(name: str, nbytes: int) -> bytes:
    """The block before a member of a tar (POSIX.1-1988), which tarfile takes ten times as long to make."""
    if not name.isascii() or len(name) > _MAX_NAME or nbytes >= _MAX_NBYTES:
        member = tarfile.TarInfo(name)
        member.size = nbytes
        return member.tobuf(tarfile.PAX_FORMAT)
    head = b"%b0000644\0" % name.encode().ljust(_MAX_NAME, b"\0") + b"0000000\0" * 2
    head += b"%011o\0%011o\0" % (nbytes, 0)
    tail = b"0".ljust(101, b"\0") + b"ustar\x0000"
    tail = tail.ljust(tarfile.BLOCKSIZE - len(head) - 8, b"\0")
    return b"%b%06o\0 %b" % (head, sum(head) + 8 * ord(" ") + sum(tail), tail)


def _file_of(value: Any, kind: Field) -> tuple[str, bytes]:
    """The extension, by which the library decodes, and the content."""
    if isinstance(kind, Object):
        return ".json", exact_json(value).encode()
    if is_number(kind):
        assert isinstance(kind, Scalar)
        if kind.dtype.kind in "iu":
            return ".cls", str(value).encode()
        return ".json", json.dumps(value.item()).encode()  # Python's json, the library's decoder, reads NaN
    if isinstance(value, np.generic):
        return ".npy", npy_bytes(np.asarray(value))
    found = file_of(value)
    assert found is not None
    return found
