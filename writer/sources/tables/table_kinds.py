"""Which tables are read, by their extension."""

from __future__ import annotations

from dataclasses import replace

from recordio.errors import SourceError
from recordio.writer.sources.kinds import KIND, table_kind
from recordio.writer.sources.source import SourceOptions
from recordio.writer.sources.tables.delimited import CsvTable, TsvTable
from recordio.writer.sources.tables.json_lines import JsonLines
from recordio.writer.sources.tables.tables import Table

TABLES: dict[str, type[Table]] = {"csv": CsvTable, "tsv": TsvTable, "jsonl": JsonLines}


def open_table(path: str, options: SourceOptions) -> Table:
    """The table in a file. Raises SourceError, also for a file that is none by its name."""
    kind = table_kind(path)
    if kind is None:
        extensions = ", ".join(extension for table in TABLES for extension in KIND[table].extensions)
        raise SourceError(f"not a table by its name; these are: {extensions}").at(file=path)
    return TABLES[kind](path, replace(options, embed=()))
