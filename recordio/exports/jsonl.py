"""JSON lines: a line for each sample, arrays as lists, objects as they are."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.errors import SchemaError
from recordio.exports.formats import ExportPart, class_notes, is_encoded, numbered_chunks, numeric_fields, refuse
from recordio.format.fields import Bytes
from recordio.format.masks import missing_rows
from recordio.format.schema import Columns
from recordio.reader.view import DatasetView


@dataclass(frozen=True, slots=True)
class JsonValues:
    """Columns as values that JSON can say. `base64` makes text of bytes."""

    base64: bool

    def rows(self, columns: Columns, start: int) -> Iterator[dict[str, Any]]:
        """The samples from index `start` on. Raises SchemaError for what JSON cannot say."""
        lists = [self._column(column, name, start) for name, column in columns.items()]
        return (dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True))

    def _column(self, column: Any, name: str, start: int) -> list[Any]:
        if isinstance(column, np.ndarray):
            return self._numbers(column, name, start)
        return [self._value(value, name, start + row) for row, value in enumerate(column)]

    def _numbers(self, column: npt.NDArray[Any], name: str, start: int) -> list[Any]:
        """Numbers, or arrays of one shape, as lists; a missing value is None."""
        values = np.asarray(ma.getdata(column))
        gone = missing_rows(column) if isinstance(column, ma.MaskedArray) else np.zeros(len(values), bool)
        if values.dtype.kind == "f" and not np.isfinite(values[~gone]).all():
            for row in np.flatnonzero(~gone).tolist():
                self._value(values[row], name, start + row)
        listed: list[Any] = values.tolist()
        return [None if one else value for value, one in zip(listed, gone.tolist(), strict=True)]

    def _value(self, value: Any, name: str, index: int) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise self._refuse("NaN or infinity", name, index)
            return value.tolist()
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refuse("NaN or infinity", name, index)
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
            for start, columns in numbered_chunks(part, chunks):
                for row in self._values.rows(columns, start):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        pass
