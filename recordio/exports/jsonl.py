"""JSON lines: a line for each sample, arrays as lists, objects as they are."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recordio.errors import SchemaError
from recordio.exports.formats import ExportPart, class_notes, is_encoded, numbered_rows, numeric_fields, plain, refuse
from recordio.format.fields import Bytes
from recordio.format.schema import Columns
from recordio.reader.view import DatasetView


@dataclass(frozen=True, slots=True)
class JsonValues:
    """Values as JSON says them. `base64` makes text of bytes."""

    base64: bool

    def row(self, values: Mapping[str, Any], index: int) -> dict[str, Any]:
        """A sample. Raises SchemaError for what JSON cannot say."""
        return {name: self._value(plain(value), name, index) for name, value in values.items()}

    def _value(self, value: Any, name: str, index: int) -> Any:
        if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
            raise self._refuse(str(value), name, index)
        if isinstance(value, bytes):
            if not self.base64:
                raise self._refuse("bytes", name, index)
            return b64encode(value).decode("ascii")
        if isinstance(value, list):
            return [self._value(one, name, index) for one in value]
        if isinstance(value, dict):
            return {key: self._value(one, name, index) for key, one in value.items()}
        return value

    def _refuse(self, what: str, name: str, index: int) -> SchemaError:
        text = f"JSON has no {what}: leave such samples out with filter, or the field with fields="
        return SchemaError(text).at(field=name, sample=index)


class JsonLines:
    """data-00000-of-00001.jsonl, ... Bytes and picture files are refused, or with `base64` become text."""

    def __init__(self, view: DatasetView, base64: bool = False) -> None:
        schema = view.schema
        self.notes = class_notes(schema, view.metadata)
        self._values = JsonValues(base64)
        complexes = [name for name, kind in numeric_fields(schema).items() if kind.dtype.kind == "c"]
        refuse("JSON", schema, complexes, "it has no complex numbers; leave them out with fields=")
        binary = [name for name, kind in schema.items() if isinstance(kind, Bytes) or is_encoded(kind)]
        if not base64:
            refuse("JSON", schema, binary, "base64=True (--base64) makes text of them, fields= leaves them out")

    def begin(self, folder: Path, samples: int) -> None:
        pass

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> None:
        with open(folder / part.name(".jsonl"), "x", encoding="utf-8") as file:
            for index, row in numbered_rows(part, chunks):
                file.write(json.dumps(self._values.row(row, index), ensure_ascii=False) + "\n")

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        pass
