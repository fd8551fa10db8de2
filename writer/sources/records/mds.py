"""Folders of MosaicML Streaming: shards in the MDS format, version 2, and index.json."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.files import exists, open_regular
from recordio.writer.sources.records.indexed_shards import (
    INDEX,
    IndexedShards,
    ListedShard,
    below,
    cut,
    kind_of,
    read_index,
    whole_number,
)
from recordio.writer.sources.records.mds_encodings import fixed_nbytes, mds_column
from recordio.writer.sources.source import SourceOptions

_PACKINGS = {"zstd": "zstd", "gz": "gzip", "bz2": "bzip2"}
_XXHASHES = ("xxh32", "xxh64", "xxh128", "xxh3_64", "xxh3_128")
_CHUNK = 1 << 20


class Mds(IndexedShards):
    """A sample is a row: a field for each column, of the type of its encoding.

    Where the index has hashes, each shard is read through for the first of them, once, and a shard with another hash is
    an error for each of its samples.
    """

    kind = "mds"

    def __init__(self, path: str, options: SourceOptions) -> None:
        try:
            (names, encodings, self._sizes), shards = _parse(path)
            columns = [mds_column(name, encoding, options) for name, encoding in zip(names, encodings, strict=True)]
        except SourceError as error:
            raise error.at(file=os.path.join(path, INDEX))
        super().__init__(path, options, shards)
        self._columns = columns
        unknown = sorted({name for shard in shards for name, _ in shard.hashes if not _is_known(name)})
        if unknown:
            self.notes += (f"hashes of an unknown kind in {INDEX} are not checked: {', '.join(unknown)}",)
        self._damaged: dict[int, str] = {}
        self._scan()
        self._infer()

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        fault = _hash_fault(next(self.files.paths([number])), self._shards[number])
        if fault is not None:
            self._damaged[number] = fault
        size, nbytes = self._size(number), self._shards[number].nbytes
        if size != nbytes:
            raise SourceError(f"it has {size} bytes, and the index says {nbytes}")
        yield from super()._records(number)

    def _bytes(self, index: int) -> bytes:
        fault = self._damaged.get(self.place(index)[0]) if self._damaged else None
        if fault is not None:
            raise SourceError(fault)
        return super()._bytes(index)

    def _cells(self, record: bytes) -> list[bytes]:
        variable = sum(size is None for size in self._sizes)
        if len(record) < 4 * variable:
            raise SourceError(f"a record of {len(record)} bytes ends within the sizes of its columns")
        heads = (int.from_bytes(record[at : at + 4], "little") for at in range(0, 4 * variable, 4))
        return cut(record, 4 * variable, [next(heads) if size is None else size for size in self._sizes])


Columns = tuple[list[str], list[str], list[int | None]]


def _parse(path: str) -> tuple[Columns, list[ListedShard]]:
    """The columns (names, encodings, sizes) and the shards of an index. Raises SourceError."""
    index = read_index(path)
    if kind_of(index) != "mds":
        raise SourceError("this is no index of MosaicML Streaming")
    found: list[tuple[Columns, ListedShard]] = []
    for entry in index["shards"]:
        if not isinstance(entry, dict) or entry.get("format") != "mds" or entry.get("version") != 2:
            form = (entry.get("format"), entry.get("version")) if isinstance(entry, dict) else entry
            raise SourceError(f"a shard of the format {form!r:.80}: expected ('mds', 2)")
        found.append((_columns(entry), _shard(path, entry)))
        if found[-1][0] != found[0][0]:
            raise SourceError(f"the columns of {found[-1][1].name} are not those of {found[0][1].name}")
    if not found:
        raise SourceError("the index lists no shards")
    return found[0][0], [shard for _, shard in found]


def _columns(entry: dict[str, Any]) -> Columns:
    names, encodings, sizes = (entry.get(f"column_{what}") for what in ("names", "encodings", "sizes"))
    lists = (names, encodings, sizes)
    if not all(isinstance(found, list) for found in lists) or len({len(found or ()) for found in lists}) != 1:
        raise SourceError("column_names, column_encodings and column_sizes are not lists of one length")
    assert names is not None
    assert encodings is not None
    assert sizes is not None
    if not all(isinstance(text, str) for text in (*names, *encodings)) or len(set(names)) != len(names):
        raise SourceError("the names or encodings of columns are no strings, or a name stands twice")
    known = [None if size in (None, 0) else whole_number(size, "a column has the size") for size in sizes]
    for name, encoding, size in zip(names, encodings, known, strict=True):
        if fixed_nbytes(name, encoding) != size:
            raise SourceError(f"values of {encoding!r:.40} with {size} bytes").at(field=name)
    return names, encodings, known


def _shard(path: str, entry: dict[str, Any]) -> ListedShard:
    """The shard of an entry: the file as it is, or else the compressed one."""
    raw, packed = _file(entry.get("raw_data")), _file(entry.get("zip_data"))
    records = whole_number(entry.get("samples"), "the number of samples is")
    if raw is None:
        raise SourceError("a shard has no raw_data")
    name, nbytes, hashes = raw
    if packed is None or exists(os.path.join(path, name)):
        return ListedShard(name, None, nbytes, records, hashes)
    algorithm = str(entry.get("compression")).partition(":")[0]
    if algorithm not in _PACKINGS:
        text = (
            f"{packed[0]} is compressed with {algorithm!r}: only {', '.join(_PACKINGS)} can be read; unpack the shards"
        )
        raise SourceError(text)
    return ListedShard(packed[0], _PACKINGS[algorithm], nbytes, records, packed[2])


def _file(info: Any) -> tuple[str, int, tuple[tuple[str, str], ...]] | None:
    """Name, size and hashes of a file in an index, None for none."""
    if info is None:
        return None
    hashes = info.get("hashes") if isinstance(info, dict) else None
    if not isinstance(hashes, dict) or not all(isinstance(digest, str) for digest in hashes.values()):
        raise SourceError(f"an entry for a file is {info!r:.80}")
    return below(info.get("basename")), whole_number(info.get("bytes"), "a file's size is"), tuple(hashes.items())


def _is_known(name: str) -> bool:
    """Whether a hash can be computed here."""
    return name in _XXHASHES or (name in hashlib.algorithms_guaranteed and not name.startswith("shake"))


def _hash_fault(path: bytes, shard: ListedShard) -> str | None:
    """What is wrong by the first hash that is known here, None if nothing is. Raises SourceError."""
    for name, stored in shard.hashes:
        if not _is_known(name):
            continue
        state: Any = getattr(xxhash, name)() if name in _XXHASHES else hashlib.new(name)
        with open(open_regular(path), "rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
        found = state.hexdigest()
        return None if found == stored else f"the {name} of the shard is {found}, and the index says {stored[:64]}"
    return None
