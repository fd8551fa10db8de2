"""Which tables are read, by their extension."""

from __future__ import annotations

import os
from dataclasses import replace

from recordio.errors import SourceError
from recordio.writer.sources.delimited import CsvTable, TsvTable
from recordio.writer.sources.json_lines import JsonLines
from recordio.writer.sources.source import SourceOptions
from recordio.writer.sources.tables import Table
from recordio.writer.sources.text_file import COMPRESSED

TABLES: dict[str, type[Table]] = {"csv": CsvTable, "tsv": TsvTable, "jsonl": JsonLines}
EXTENSIONS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def table_kind(name: str) -> str | None:
    """The kind of a table by its file's name, None for anything else."""
    stem, extension = os.path.splitext(name.lower())
    return EXTENSIONS.get(os.path.splitext(stem)[1] if extension in COMPRESSED else extension)


def open_table(path: str, options: SourceOptions) -> Table:
    """The table in a file. Raises SourceError, also for a file that is none by its name."""
    kind = table_kind(path)
    if kind is None:
        raise SourceError(f"not a table by its name; these are: {', '.join(EXTENSIONS)}").at(file=path)
    return TABLES[kind](path, replace(options, embed=()))
