"""Shards that an index.json lists, MosaicML's and LitData's: what they have in common.

A shard begins with the number of its records and where each begins and ends, u32. Each column of a record is decoded by
a rule that the index names. The names of shards in an index never lead out of its folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recordio.errors import CorruptError, DecodeError, SchemaError, SourceError
from recordio.format import strict_json
from recordio.format.schema import Schema
from recordio.writer.sources.files import is_file, read_file, status
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.leftovers import left_out
from recordio.writer.sources.records.inferred import Column
from recordio.writer.sources.records.packed_files import PackedRecordFiles
from recordio.writer.sources.source import SourceOptions, SourceSpec
from recordio.writer.sources.split_names import split_word

INDEX = "index.json"
MAX_RECORD_NBYTES = 1 << 30
_MAX_INDEX_NBYTES = 1 << 27
_MAX_SHARDS = 1 << 20
_CHUNK = 1 << 16  # offsets that are read at a time


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard as its index describes it.

    Attributes:
        name: its path below the folder.
        packing: what it is compressed with as a whole, None for nothing.
        nbytes: its size, unpacked.
        records: how many it has.
        hashes: digests of the file by the name of the algorithm, in hexadecimal.
    """

    name: str
    packing: str | None
    nbytes: int
    records: int
    hashes: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class ShardColumn:
    """A column of records: `decode` makes a value of its bytes, `inferred` finds the field of all values."""

    name: str
    decode: Callable[[bytes], Any]
    inferred: Column

    def value(self, data: bytes) -> Any:
        """Raises SourceError."""
        try:
            return self.decode(data)
        except (SourceError, DecodeError) as error:
            raise SourceError(error.fault).at(field=self.name) from error
        except ValueError as error:
            raise SourceError(f"the value cannot be read: {error}").at(field=self.name) from error


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """A folder of shards with their index, or one that holds nothing but such a folder."""
    if INDEX.encode() not in folder.own:
        return _in_folders(folder)
    try:
        kind = kind_of(read_index(folder.path))
    except SourceError:
        if not any(name.endswith((b".mds", b".mds.zstd")) or name.startswith(b"chunk-") for name in folder.own):
            return None  # a file of this name beside anything else
        raise
    return None if kind is None else _match(folder, folder.path, kind)


def _match(folder: Folder, path: str, kind: str) -> Match:
    # Shards by number, whether compressed or not, and the indexes that were merged into this one.
    extension = {"mds": b".mds", "litdata": b".bin"}[kind]
    others = [name for name in folder.names if extension not in name and os.path.basename(name) != INDEX.encode()]
    taken = len(folder.names) - len(others)
    return Match(kind, Certainty.CERTAIN, taken, others, {"": SourceSpec(path, kind)}, left_out(others))


def _in_folders(folder: Folder) -> Match | None:
    """What lies in the only folder. Several with an index each, as several writers leave them, are refused.

    Splits are something else.
    """
    parts = [name for name in folder.folders if folder.has(os.fsencode(f"{name}/{INDEX}"))]
    if not parts or any(split_word(name) for name in parts) or len(parts) < len(folder.folders):
        return None
    try:
        kind = kind_of(read_index(folder.file(parts[0])))
    except SourceError:
        return None
    if kind is None:
        return None
    if len(parts) == 1:
        return _match(folder, folder.file(parts[0]), kind)
    text = f"its folders have an {INDEX} each ({kind}): merge them to one here with the library, or convert one by one"
    raise SourceError(text).at(file=folder.path)


def read_index(folder: str) -> dict[str, Any]:
    """The index of a folder, {} if its JSON is no object. Raises SourceError."""
    path = os.path.join(folder, INDEX)
    if is_file(path) and status(path).st_size > _MAX_INDEX_NBYTES:
        raise SourceError(f"the index is larger than {_MAX_INDEX_NBYTES} bytes").at(file=path)
    try:
        found = strict_json.loads(read_file(path), "index")
    except CorruptError as error:
        raise SourceError(error.fault).at(file=path) from error
    return found if isinstance(found, dict) else {}


def kind_of(index: dict[str, Any]) -> str | None:
    """Whose index it is: "mds", "litdata" or None for something else."""
    if isinstance(index.get("shards"), list):
        return "mds"
    return "litdata" if isinstance(index.get("chunks"), list) and isinstance(index.get("config"), dict) else None


def below(name: Any) -> str:
    """The name of a file below the folder of an index. Raises SourceError for anything else."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise SourceError(f"its index names a file {name!r:.80}")
    if os.path.isabs(name) or "\\" in name or os.pardir in name.split("/"):
        raise SourceError(f"its index names a file outside: {name[:80]!r}")
    return name


def whole_number(value: Any, what: str, most: int = 1 << 48) -> int:
    """A count in an index. Raises SourceError for anything else."""
    if type(value) is not int or not 0 <= value <= most:
        raise SourceError(f"its index says {what} {value!r:.40}: expected an integer from 0 to {most}")
    return value


class IndexedShards(PackedRecordFiles):
    """A subclass lists its shards and columns, and cuts a record into the bytes of its columns."""

    def __init__(self, path: str, options: SourceOptions, shards: list[ListedShard]) -> None:
        if not 0 < len(shards) <= _MAX_SHARDS:
            raise SourceError(f"its index lists {len(shards)} shards: expected 1 to {_MAX_SHARDS}").at(file=path)
        super().__init__(path, replace(options, files=tuple(shard.name for shard in shards)))
        self._shards = shards
        self._columns: list[ShardColumn] = []

    def _cells(self, record: bytes) -> list[bytes]:
        """The bytes of each column of a record. Raises SourceError."""
        raise NotImplementedError

    def _packing(self, number: int) -> str | None:
        return self._shards[number].packing

    def _most(self, number: int) -> int:
        return self._shards[number].nbytes

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        size, shard = self._size(number), self._shards[number]
        header = self._range(number, 0, min(4, size))
        count = int.from_bytes(header, "little")
        if len(header) < 4 or count != shard.records:
            raise SourceError(f"it says it has {count} records, and the index says {shard.records}")
        first = 4 * (count + 2)
        if first > size:
            raise SourceError(f"it ends within the index of its {count} records")
        before = None
        for at in range(4, first, 4 * _CHUNK):
            for offset in np.frombuffer(self._range(number, at, min(at + 4 * _CHUNK, first)), "<u4").tolist():
                if not (before or first) <= offset <= size:
                    raise SourceError(f"its index is damaged: a record from byte {before} to {offset} of {size}")
                if before is not None:
                    yield before, offset
                before = offset

    def _infer(self) -> None:
        """Looks at records until the fields of all columns are known. What is wrong is raised again when it is read."""
        open_columns = [(k, column) for k, column in enumerate(self._columns) if not column.inferred.decided]
        for index in range(len(self)):
            if not open_columns:
                break
            try:
                cells = self._cells(self._bytes(index))
                for k, column in open_columns:
                    column.inferred.see(column.value(cells[k]))
            except SourceError:
                continue
            open_columns = [(k, column) for k, column in open_columns if not column.inferred.decided]
        try:
            self.schema = Schema({column.name: column.inferred.field(self) for column in self._columns})
        except SchemaError as error:
            raise SourceError(f"the columns cannot become fields: {error.fault}").at(file=self._path) from error

    def _sample(self, record: bytes) -> dict[str, Any]:
        cells = self._cells(record)
        return {column.name: column.value(cell) for column, cell in zip(self._columns, cells, strict=True)}

    def _bytes(self, index: int) -> bytes:
        nbytes = int(self._ends[index] - self._starts[index])
        if nbytes > MAX_RECORD_NBYTES:
            raise SourceError(f"a record of {nbytes} bytes is over the limit of {MAX_RECORD_NBYTES}")
        return super()._bytes(index)


def cut(data: bytes, at: int, sizes: list[int]) -> list[bytes]:
    """Parts of these sizes, from `at` to the end. Raises SourceError if they are longer or shorter."""
    if at + sum(sizes) != len(data):
        raise SourceError(f"its parts of {sum(sizes)} bytes do not fill the {len(data) - at} that it has")
    parts = []
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def sized_parts(data: bytes, at: int = 0) -> list[bytes]:
    """Byte strings behind their number and their sizes, u32. Raises SourceError."""
    count = int.from_bytes(data[at : at + 4], "little")
    start = at + 4 + 4 * count
    if start > len(data):
        raise SourceError(f"{count} parts in {len(data)} bytes")
    return cut(data, start, np.frombuffer(data, "<u4", count, at + 4).tolist())
