"""Folders of LitData: chunks of records and index.json, as `litdata.optimize` writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from recordio.errors import SourceError
from recordio.format import strict_json
from recordio.writer.sources.archives.compression import packed_with
from recordio.writer.sources.files import exists
from recordio.writer.sources.records.indexed_shards import (
    INDEX,
    MAX_RECORD_NBYTES,
    IndexedShards,
    ListedShard,
    ShardColumn,
    below,
    cut,
    kind_of,
    read_index,
    whole_number,
)
from recordio.writer.sources.records.litdata_chunks import (
    ARROW,
    FRAMES,
    arrow_columns,
    arrow_records,
    layout_of,
    unframed,
)
from recordio.writer.sources.records.litdata_serializers import litdata_column
from recordio.writer.sources.records.packed_files import unpacked_zstd
from recordio.writer.sources.source import SourceOptions

_TOKENS = "tokens"
_PACKED_NAME = re.compile(r"\.zstd(?::\d+)?(?=\.bin$)")
_ROOT = "data"  # the field of samples that are one value
_CONTAINERS = ("builtins.dict", "collections.OrderedDict", "builtins.list", "builtins.tuple")


class LitData(IndexedShards):
    """A sample is an item as it was written: a field for each leaf of its tree, named by the way to it, as in `a/b`.

    Items of TokensLoader are arrays, the field `tokens`: LitData cuts the tokens of a chunk into blocks when it reads
    them, whereas here an item stays one sample.
    """

    kind = "litdata"

    def __init__(self, path: str, options: SourceOptions) -> None:
        try:
            shards, config = _parse(path)
            super().__init__(path, options, shards)
            self._tokens = config.get("item_loader") == "TokensLoader"
            self._arrow = self._packing(0) == ARROW
            # Whether each record is compressed by itself.
            self._each = config.get("compression_level") == "sample" and not self._arrow
            self._columns = self._found_columns(config, options)
        except SourceError as error:
            raise error.at(file=os.path.join(path, INDEX))
        if self._tokens:
            self.notes += ("an item is a sample, and not a block: LitData cuts the tokens of a chunk when it reads",)
        self._scan()
        self._infer()

    def _found_columns(self, config: dict[str, Any], options: SourceOptions) -> list[ShardColumn]:
        if not self._arrow:
            return _columns(config, self._tokens, options)
        with self._as_it_is(0) as raw:
            return arrow_columns(raw)

    def _most(self, number: int) -> int:
        """Older versions say the size without the header, newer ones with it."""
        shard = self._shards[number]
        return shard.nbytes + 4 * (shard.records + 2)

    def _packing(self, number: int) -> str | None:
        with self._as_it_is(number) as raw:
            layout = layout_of(raw)
            raw.seek(0)
            return layout or ("zstd" if packed_with(raw.read(16)) == "zstd" else None)

    def _unpacked(self, raw: IO[bytes], packing: str, most: int | None) -> Iterator[bytes]:
        if packing == FRAMES:
            return unframed(raw)
        if packing == ARROW:
            return arrow_records(raw, [column.name for column in self._columns])
        return super()._unpacked(raw, packing, most)

    def _cells(self, record: bytes) -> list[bytes]:
        data = unpacked_zstd(record, MAX_RECORD_NBYTES) if self._each else record
        if self._tokens:
            return [data]
        start = 4 * len(self._columns)
        if len(data) < start:
            raise SourceError(f"a record of {len(data)} bytes ends within the sizes of its {len(self._columns)} values")
        return cut(data, start, np.frombuffer(data, "<u4", len(self._columns)).tolist())


def _parse(path: str) -> tuple[list[ListedShard], dict[str, Any]]:
    """The chunks of an index, and what it says of all of them. Raises SourceError."""
    index = read_index(path)
    if kind_of(index) != "litdata":
        raise SourceError("this is no index of LitData")
    config = index["config"]
    if config.get("encryption"):
        raise SourceError("the chunks are encrypted: decrypt them with LitData first")
    if config.get("item_loader") not in (None, "PyTreeLoader", "TokensLoader"):
        text = f"the chunks are for {config['item_loader']!r:.40}: only PyTreeLoader's and TokensLoader's can be read"
        raise SourceError(text)
    if str(config.get("compression") or "zstd").partition(":")[0] != "zstd":
        raise SourceError(f"the chunks are compressed with {config['compression']!r:.40}: only zstd can be read")
    return [_chunk(path, entry) for entry in index["chunks"]], config


def _chunk(path: str, entry: Any) -> ListedShard:
    if not isinstance(entry, dict):
        raise SourceError(f"an entry for a chunk is {entry!r:.80}")
    nbytes = whole_number(entry.get("chunk_bytes"), "a chunk's size is")
    records = whole_number(entry.get("chunk_size"), "the number of items in a chunk is", 1 << 32)
    name = below(entry.get("filename"))
    if not exists(os.path.join(path, name)):
        name = _PACKED_NAME.sub("", name)  # LitData unpacks a chunk in place when it reads it
    return ListedShard(name, None, nbytes, records)


def _columns(config: dict[str, Any], tokens: bool, options: SourceOptions) -> list[ShardColumn]:
    """A column for each leaf of the tree of an item. Raises SourceError."""
    formats = config.get("data_format")
    if not isinstance(formats, list) or not all(isinstance(name, str) for name in formats):
        raise SourceError(f"the formats of the values are {formats!r:.80}")
    names = [_TOKENS] if tokens else leaves(config.get("data_spec"))
    if len(names) != len(formats) or not names:
        raise SourceError(f"{len(formats)} formats of values for a tree of {len(names)} leaves")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"two values of an item would be called {twice!r}")
    return [litdata_column(name, form, options) for name, form in zip(names, formats, strict=True)]


def leaves(spec: Any) -> list[str]:
    """The names of the leaves of a tree as PyTorch's treespec_dumps writes it. Nothing is imported or run.

    Raises SourceError.
    """
    try:
        protocol, tree = strict_json.parse(spec) if isinstance(spec, str) else (None, None)
    except (ValueError, TypeError) as error:
        raise SourceError(f"the tree of an item cannot be read: {error}") from error
    if protocol != 1:
        raise SourceError(f"the tree of an item is {spec!r:.80}")
    return [name or _ROOT for name in _leaves(tree, "")]


def _leaves(tree: Any, way: str) -> Iterator[str]:
    children = tree.get("children_spec") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(children, list):
        raise SourceError(f"a part of the tree of an item is {tree!r:.80}")
    if tree.get("type") is None and not children:
        yield way
        return
    for key, child in zip(_keys(tree, len(children)), children, strict=True):
        yield from _leaves(child, f"{way}/{key}" if way else str(key))


def _keys(tree: dict[str, Any], count: int) -> list[Any]:
    """The keys of a dict, or the numbers of a list."""
    kind = tree.get("type")
    if kind not in _CONTAINERS:
        raise SourceError(f"an item holds a {kind!r:.80}: only dict, list and tuple can be read")
    if kind in _CONTAINERS[2:]:
        return list(range(count))
    try:
        keys = strict_json.parse(str(tree.get("context")))
    except ValueError as error:
        raise SourceError(f"the keys of a dict cannot be read: {error}") from error
    if not isinstance(keys, list) or len(keys) != count or not all(isinstance(key, (str, int)) for key in keys):
        raise SourceError(f"the keys of a dict are {keys!r:.80}, and it has {count} values")
    return keys
