"""Parity: a file for each group of shards, from which any one of them is given back.

    parity file := header parity end
    header      := as that of a shard (header.py), its JSON the manifest entries of the group
    parity      := the XOR of the shards' files, each followed by zero bytes up to the length of the longest; padding
    end         := a checksum for each piece of the parity, zero bytes, digest, file_nbytes, checksum

The digest covers the header's checksum and those of the pieces, and so every byte before it. The manifest repeats it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from recordio.errors import CorruptError, SchemaError
from recordio.format import strict_json
from recordio.format.checksum import checksum, digest, require
from recordio.format.header import decode_header, encode_header
from recordio.format.layout import (
    CHECKSUM,
    MAX_HEADER_JSON_NBYTES,
    PARITY_END,
    PARITY_MAGIC,
    PARITY_PIECE_NBYTES,
    padded,
)
from recordio.format.shard_table import ShardEntry, require_count, require_hex

_NAME = re.compile(r"parity-([0-9]{5,18})\.xor")


def parity_name(number: int) -> str:
    """The name of parity file `number`."""
    return f"parity-{number:05d}.xor"


def parity_number(name: str) -> int | None:
    """The number of the parity file of this name; None if it is no parity file's."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found and parity_name(int(found[1])) == name else None


def groups_of(shards: Sequence[ShardEntry], group: int) -> list[tuple[ShardEntry, ...]]:
    """The shards of a dataset, `group` at a time."""
    return [tuple(shards[begin : begin + group]) for begin in range(0, len(shards), group)]


@dataclass(frozen=True, slots=True)
class ParityEntry:
    """The manifest's record of a parity file.

    Attributes:
        number: its number, from which its name follows.
        nbytes: its length.
        digest: its digest, 16 bytes.
        shards: the numbers of the shards of its group.
    """

    number: int
    nbytes: int
    digest: bytes
    shards: tuple[int, ...]

    @property
    def name(self) -> str:
        return parity_name(self.number)

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "bytes": self.nbytes, "digest": self.digest.hex(), "shards": list(self.shards)}

    @classmethod
    def from_json(cls, entry: Any) -> Self:
        """Whether there are such shards is not checked. Raises CorruptError."""
        if not isinstance(entry, dict) or not isinstance(entry.get("shards"), list):
            raise CorruptError("the entry of a parity file is not an object with a list of shards")
        if set(map(type, entry["shards"])) != {int}:
            raise CorruptError("the shards of a parity file are not numbers")
        return cls(
            number=require_count(entry.get("number"), "a parity file's number"),
            nbytes=require_count(entry.get("bytes"), "a parity file's length", 1),
            digest=require_hex(entry.get("digest"), "a parity file's digest"),
            shards=tuple(entry["shards"]),
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """The parity of a dataset: how many shards have a file in common, and the files."""

    group: int
    files: Sequence[ParityEntry] = ()

    def to_json(self) -> dict[str, Any]:
        return {"group": self.group, "files": [file.to_json() for file in self.files]}

    @classmethod
    def from_json(cls, value: Any, shards: Iterable[int]) -> Self:
        """`shards`: the numbers of those of the dataset. Raises CorruptError."""
        if not isinstance(value, dict) or not isinstance(value.get("files"), list):
            raise CorruptError("the manifest's parity is not an object with a list of files")
        files = tuple(map(ParityEntry.from_json, value["files"]))
        numbers = [number for file in files for number in file.shards]
        if len(set(numbers)) != len(numbers) or len({file.number for file in files}) != len(files):
            raise CorruptError("the manifest names a parity file twice, or two for one shard")
        if not set(numbers) <= set(shards):
            raise CorruptError("the manifest names the parity of a shard that it does not name")
        return cls(require_count(value.get("group"), "a parity group", 1), files)


class ParityEnd(NamedTuple):
    """The end of a parity file: the checksum of each piece, the file's digest and its length."""

    checksums: Sequence[int]
    digest: bytes
    file_nbytes: int

    def encode(self) -> bytes:
        table = b"".join(map(CHECKSUM.pack, self.checksums))
        out = table.ljust(_end_nbytes(len(self.checksums)) - PARITY_END.size, b"\0")
        out += PARITY_END.pack(self.digest, self.file_nbytes, 0)[: -CHECKSUM.size]
        return out + CHECKSUM.pack(checksum(out))

    @classmethod
    def decode(cls, data: bytes, pieces: int) -> Self:
        """From all its bytes. Raises CorruptError."""
        found, file_nbytes, stored = PARITY_END.unpack(data[-PARITY_END.size :])
        require("parity end", stored, checksum(data[: -CHECKSUM.size]))
        return cls([one for (one,) in CHECKSUM.iter_unpack(data[: pieces * CHECKSUM.size])], found, file_nbytes)


def stated_digest(tail: bytes, nbytes: int) -> bytes | None:
    """The digest that the last bytes of a parity file of this length say it has; None if they say another length."""
    found, stated, _ = PARITY_END.unpack(tail[-PARITY_END.size :])
    return bytes(found) if stated == nbytes else None


def _end_nbytes(pieces: int) -> int:
    return int(padded(pieces * CHECKSUM.size + PARITY_END.size))


@dataclass(frozen=True)
class ParityHeader:
    """The header of a parity file: the dataset, the file's number, and the shards of the group."""

    dataset_id: bytes
    number: int
    shards: tuple[ShardEntry, ...]

    def encode(self) -> bytes:
        """Raises SchemaError."""
        text = json.dumps({"shards": [shard.to_json() for shard in self.shards]}, separators=(",", ":")).encode("ascii")
        if len(text) > MAX_HEADER_JSON_NBYTES:
            raise SchemaError(f"what parity says of its shards takes {len(text)} bytes: group fewer of them")
        return encode_header(PARITY_MAGIC, self.dataset_id, self.number, text)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From the header's bytes. Raises CorruptError, UnsupportedError."""
        dataset_id, number, text = decode_header(PARITY_MAGIC, data)
        body = strict_json.loads(text, "parity header")
        if not isinstance(body, dict) or not isinstance(body.get("shards"), list) or not body["shards"]:
            raise CorruptError("the parity header's JSON has no list of shards")
        return cls(dataset_id, number, tuple(map(ShardEntry.from_json, body["shards"])))

    @property
    def nbytes(self) -> int:
        """The length of the parity, with its padding."""
        return int(padded(max(shard.nbytes for shard in self.shards)))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(begin, end) of each piece of the parity that has a checksum."""
        for begin in range(0, self.nbytes, PARITY_PIECE_NBYTES):
            yield begin, min(begin + PARITY_PIECE_NBYTES, self.nbytes)

    @property
    def end_nbytes(self) -> int:
        return _end_nbytes(self.count)

    @property
    def count(self) -> int:
        """How many pieces the parity has."""
        return -(-self.nbytes // PARITY_PIECE_NBYTES)

    def entry(self, end: ParityEnd) -> ParityEntry:
        """What the manifest says of a file with this end."""
        return ParityEntry(self.number, end.file_nbytes, end.digest, tuple(shard.number for shard in self.shards))

    def end(self, header: bytes, checksums: Sequence[int]) -> ParityEnd:
        """The end of a file whose pieces have these checksums; `header`: the bytes of its header."""
        found = digest([header[-CHECKSUM.size :], *map(CHECKSUM.pack, checksums)])
        return ParityEnd(checksums, found, len(header) + self.nbytes + self.end_nbytes)
