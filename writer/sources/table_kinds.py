"""Which tables are read, by their extension."""

from __future__ import annotations

import os
from dataclasses import replace

from recordio.errors import SourceError
from recordio.writer.sources.json_lines import JsonLines
from recordio.writer.sources.source import SourceOptions
from recordio.writer.sources.tables import CsvTable, Table, TsvTable

TABLES: dict[str, type[Table]] = {"csv": CsvTable, "tsv": TsvTable, "jsonl": JsonLines}
EXTENSIONS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def table_kind(name: str) -> str | None:
    """The kind of a table by its file's name, None for anything else."""
    return EXTENSIONS.get(os.path.splitext(name)[1].lower())


def open_table(path: str, options: SourceOptions) -> Table:
    """The table in a file. Raises SourceError, also for a file that is none by its name."""
    kind = table_kind(path)
    if kind is None:
        raise SourceError(f"not a table by its name; these are: {', '.join(EXTENSIONS)}").at(file=path)
    return TABLES[kind](path, replace(options, embed=()))
