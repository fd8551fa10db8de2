"""MDS of MosaicML Streaming, version 2: shards of rows, each with the offsets of its samples first, and index.json.

shard  := samples (u32), samples + 1 offsets (u32), the JSON of the columns, sample*
sample := the size (u32) of each value without a fixed one, then the values, in the order of the columns' names
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recordio.display.text import exact_json
from recordio.errors import SchemaError
from recordio.exports.formats import ExportPart, class_notes, is_encoded, missing, numbered_rows, numeric_fields, refuse
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.image_field import image_format
from recordio.format.numeric import Numeric, Scalar
from recordio.format.schema import Columns
from recordio.reader.stored import stored_columns
from recordio.reader.view import DatasetView

_MAX_NBYTES = (1 << 32) - 1  # of a shard: its offsets are u32
_SHAPES = ("uint8", "uint16", "uint32", "uint64")
_PICTURES = {"jpeg": "jpeg", "png": "png", "webp": "png"}  # the library opens any picture under both names


class Mds:
    """shard.00000.mds, ...: numbers by their dtype, bools as uint8, arrays as ndarray, objects as JSON."""

    def __init__(self, view: DatasetView) -> None:
        self._fields = dict(sorted(view.schema.items()))
        numeric = numeric_fields(view.schema)
        complexes = [name for name, kind in numeric.items() if kind.dtype.kind == "c"]
        refuse("MDS", view.schema, complexes, "it has no complex numbers; leave them out with fields=")
        empty = [name for name, kind in numeric.items() if 0 in kind.shape]
        refuse("MDS", view.schema, empty, "it has no arrays without elements; leave them out with fields=")
        bools = [name for name, kind in numeric.items() if kind.dtype.kind == "b"]
        found = (f"MDS has no bools: {', '.join(bools)} become uint8, 0 and 1",) if bools else ()
        self.notes = (*class_notes(view.schema, view.metadata), *found)
        first = stored_columns(view, np.arange(min(1, len(view))))
        self._encodings = [_encoding(kind, first[name]) for name, kind in self._fields.items()]
        self._sizes = [kind.row_nbytes for kind in self._fields.values()]
        self._writers = [_writer(kind) for kind in self._fields.values()]

    def begin(self, folder: Path, samples: int) -> None:
        pass

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> tuple[int, int]:
        """The samples and the bytes of the shard."""
        count = part.stop - part.start
        config = json.dumps(self._config(), sort_keys=True).encode()
        offsets = np.zeros(count + 1, np.int64)
        offsets[0] = 4 + 4 * (count + 1) + len(config)
        with open(folder / _name(part.number), "xb") as file:
            file.write(bytes(int(offsets[0])))
            for index, row in numbered_rows(part, chunks):
                data = self._sample(index, row)
                file.write(data)
                at = index - part.start
                offsets[at + 1] = offsets[at] + len(data)
                if offsets[at + 1] > _MAX_NBYTES:
                    raise SchemaError(f"a shard of MDS has at most {_MAX_NBYTES} bytes: give a smaller shard_bytes")
            file.seek(0)
            file.write(struct.pack("<I", count) + offsets.astype("<u4").tobytes() + config)
        return count, int(offsets[-1])

    def finish(self, folder: Path, written: Sequence[tuple[int, int]]) -> None:
        shards = [
            self._config()
            | {
                "raw_data": {"basename": _name(number), "bytes": nbytes, "hashes": {}},
                "samples": samples,
                "zip_data": None,
            }
            for number, (samples, nbytes) in enumerate(written)
        ]
        (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}, sort_keys=True))

    def _config(self) -> dict[str, Any]:
        return {
            "column_encodings": self._encodings,
            "column_names": list(self._fields),
            "column_sizes": self._sizes,
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": None,
            "version": 2,
        }

    def _sample(self, index: int, row: dict[str, Any]) -> bytes:
        head, body = [], []
        for (name, size), write in zip(zip(self._fields, self._sizes, strict=True), self._writers, strict=True):
            if row[name] is None:
                raise missing("MDS", index, name)
            body.append(write(row[name]))
            if size is None:
                head.append(struct.pack("<I", len(body[-1])))
        return b"".join(head + body)


def _name(number: int) -> str:
    return f"shard.{number:05}.mds"


def _encoding(kind: Field, column: Any) -> str:
    """The name of a field's encoding; that of pictures by the first of them."""
    if is_encoded(kind):
        return _PICTURES.get(image_format(column[0]) or "", "jpeg") if len(column) and column[0] else "jpeg"
    if isinstance(kind, Numeric):
        dtype = "uint8" if kind.dtype.kind == "b" else kind.dtype.name
        if isinstance(kind, Scalar):
            return dtype
        return f"ndarray:{dtype}" + ("" if None in kind.shape else ":" + ",".join(map(str, kind.shape)))
    return {Text: "str", Bytes: "bytes", Object: "json"}[type(kind)]


def _writer(kind: Field) -> Callable[[Any], bytes]:
    if isinstance(kind, Text):
        return str.encode
    if isinstance(kind, Object):
        return _as_json
    if not isinstance(kind, Numeric) or is_encoded(kind):
        return bytes
    return _with_shape if None in kind.shape else _as_bytes


def _as_bytes(value: Any) -> bytes:
    return value.tobytes()  # type: ignore[no-any-return]


def _as_json(value: Any) -> bytes:
    return exact_json(value).encode()


def _with_shape(value: Any) -> bytes:
    """Dimensions and the size of each, in the smallest type that holds them, then the elements."""
    kind = next(k for k, name in enumerate(_SHAPES) if max(value.shape) <= np.iinfo(name).max)
    shape = np.array(value.shape, _SHAPES[kind])
    return bytes([value.ndim << 2 | kind]) + shape.tobytes() + value.tobytes()  # type: ignore[no-any-return]
