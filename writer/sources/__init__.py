"""Everything that can be converted: folders, tables, arrays and archives, each read as a list of samples."""

from recordio.writer.sources.registry import KINDS, SPLITS, detect, open_source, splits
from recordio.writer.sources.source import Fingerprint, Item, Source, SourceOptions, SourceSpec

__all__ = [
    "KINDS",
    "SPLITS",
    "Fingerprint",
    "Item",
    "Source",
    "SourceOptions",
    "SourceSpec",
    "detect",
    "open_source",
    "splits",
]
