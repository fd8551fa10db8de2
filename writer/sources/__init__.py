"""Everything that can be converted: folders, tables, arrays and archives, each read as a list of samples."""

from recordio.writer.sources.kinds import KINDS
from recordio.writer.sources.registry import detect, find_sources, open_source, splits
from recordio.writer.sources.source import Fingerprint, Item, Output, Source, SourceOptions, SourceSpec
from recordio.writer.sources.split_names import SPLITS
from recordio.writer.sources.tables.table_options import TableOptions

__all__ = [
    "KINDS",
    "SPLITS",
    "Fingerprint",
    "Item",
    "Output",
    "Source",
    "SourceOptions",
    "SourceSpec",
    "TableOptions",
    "detect",
    "find_sources",
    "open_source",
    "splits",
]
