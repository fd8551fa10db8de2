"""Parquet, as Hugging Face's `datasets` writes it: pictures and classes are in the schema's metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recordio.exports.formats import ExportPart
from recordio.format.schema import Columns
from recordio.reader.hugging_face import class_names, hf_schema, hf_table
from recordio.reader.joining import LABEL
from recordio.reader.view import DatasetView


class Parquet:
    """A column for each field, as in `to_hf`: data-00000-of-00012.parquet, row groups of some 64 MiB, in zstd."""

    def __init__(self, view: DatasetView) -> None:
        hf_schema(view.schema, view.metadata)  # raises for a field that has no type
        self._schema, self._metadata = view.schema, {"classes": view.metadata.get("classes")}
        named = class_names(view.schema, view.metadata) is not None
        unnamed = LABEL in view.schema and view.metadata.get("classes") and not named
        note = "the classes are not different texts, so their names are in no file"
        self.notes: tuple[str, ...] = (note,) if unnamed else ()

    def begin(self, folder: Path, samples: int) -> None:
        pass

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> None:
        from pyarrow.parquet import ParquetWriter

        schema = hf_schema(self._schema, self._metadata)
        with ParquetWriter(folder / part.name(".parquet"), schema, compression="zstd") as writer:
            for columns in chunks:
                writer.write_table(hf_table(columns, self._schema, self._metadata))

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        pass
