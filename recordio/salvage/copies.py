"""What a file of a shard says of itself: header, footer and index, each proven by its checksum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.index import Index
from recordio.format.layout import HEADER
from recordio.format.schema import Schema
from recordio.format.shard import Footer, ShardHeader
from recordio.format.shard_table import ShardEntry
from recordio.storage.base import File, ShardPlace, Storage
from recordio.storage.dataset_files import open_shard_file, read_footer

_FIRST_READ = 4096  # most headers are shorter
Claim = tuple[bytes, int]  # dataset id and number of a shard
_Read = TypeVar("_Read")


@dataclass(frozen=True, eq=False)
class ShardCopy:
    """A file that is, or was, a shard.

    Attributes:
        storage, name: where it is.
        label: what messages call it.
        nbytes: its length.
        header: the bytes of its header, if that is good.
        footer: its footer, if that is good.
        claims: the shards that its header and its footer say it is: one, unless they are of two shards.
        fault: the first thing that is wrong with it; the blocks have not been looked at.
        place: what is known of it beforehand, for a storage over a network.
    """

    storage: Storage
    name: str
    label: str
    nbytes: int = 0
    header: bytes | None = None
    footer: Footer | None = None
    claims: frozenset[Claim] = frozenset()
    fault: RecordIOError | None = None
    place: ShardPlace | None = None

    @property
    def text(self) -> bytes | None:
        """The JSON of its header."""
        return None if self.header is None else ShardHeader.decode_fixed(self.header)[2]

    def opened(self) -> contextlib.closing[File]:
        """Its file. Raises CorruptError, StorageError."""
        return contextlib.closing(open_shard_file(self.storage, self.name, self.place))

    def index(self, schema: Schema) -> Index:
        """Its index, proven by its header and its footer, which are good. Raises CorruptError, StorageError."""
        assert self.header is not None
        assert self.footer is not None
        with self.opened() as file:
            data = file.read(self.footer.index_offset, self.footer.index_nbytes)
        return Index.decode(data, self.footer, self.header, schema)

    def entry(self, schema: Schema) -> ShardEntry | None:
        """What a manifest says of it, if header, footer and index prove each other; pages have not been read."""
        if self.fault is not None or self.footer is None:
            return None
        index = self.index(schema)
        return ShardEntry.of(self.footer, int(index.pages["nbytes"].astype(np.int64).sum()), index.samples.tolist())


def look(storage: Storage, name: str, label: str | None = None, place: ShardPlace | None = None) -> ShardCopy:
    """Reads the header and the footer of a file. What cannot be read is its fault."""
    label = label or name
    try:
        file = open_shard_file(storage, name, place)
    except RecordIOError as error:
        return ShardCopy(storage, name, label, fault=_named(error, label), place=place)
    with contextlib.closing(file):
        header, bad_header = _attempt(_read_header, file)
        footer, bad_footer = _attempt(read_footer, file)
        claims = set()
        if header is not None:
            claims.add(ShardHeader.decode_fixed(header)[:2])
        if footer is not None:
            claims.add((footer.dataset_id, footer.number))
        fault = bad_header or bad_footer
        return ShardCopy(
            storage=storage,
            name=name,
            label=label,
            nbytes=file.nbytes,
            header=header,
            footer=footer,
            claims=frozenset(claims),
            fault=fault and _named(fault, label),
            place=place,
        )


def _attempt(read: Callable[[File], _Read], file: File) -> tuple[_Read | None, RecordIOError | None]:
    try:
        return read(file), None
    except RecordIOError as error:
        return None, error


def _named(error: RecordIOError, label: str) -> RecordIOError:
    """The error with this name of the file, wherever it was noticed."""
    return type(error)(error.fault).at(file=label, byte=error.place.byte)


def _read_header(file: File) -> bytes:
    start = file.read(0, min(file.nbytes, _FIRST_READ))
    nbytes = ShardHeader.nbytes(start[: HEADER.size])
    data = start[:nbytes] if nbytes <= len(start) else file.read(0, nbytes)
    parsed(ShardHeader.decode_fixed(data)[2])
    return data


@lru_cache(8)  # nearly all shards of a dataset have the same
def parsed(text: bytes) -> tuple[Schema, Mapping[str, Any]]:
    """The schema and the metadata in the JSON of a header. Raises CorruptError, UnsupportedError."""
    header = ShardHeader.decode(ShardHeader.encode_text(bytes(16), 0, text))
    return header.schema, header.metadata
