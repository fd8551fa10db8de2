"""Tells a dataset of recordio from a folder of files."""

from __future__ import annotations

import os

from recordio.errors import SourceError
from recordio.format.layout import SHARD_MAGIC
from recordio.format.manifest import FILE_NAME
from recordio.writer.sources.files import file_names, folders, is_file, open_file


def refuse_dataset(path: str) -> None:
    """Raises SourceError for a dataset of ours, or a folder of such: it is no folder of files."""
    for folder in (path, *(os.path.join(path, os.fsdecode(name)) for name in folders(os.fsencode(path)))):
        if is_file(os.path.join(folder, FILE_NAME)) and _holds_shards(folder):
            text = "this is a recordio dataset already; open it with recordio.ShardDataset"
            raise SourceError(text).at(file=folder)


def _holds_shards(folder: str) -> bool:
    for name in file_names(folder):
        if name.endswith(".rio"):
            with open_file(os.path.join(folder, name)) as file:
                return file.read(len(SHARD_MAGIC)) == SHARD_MAGIC
    return False
