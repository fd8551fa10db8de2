"""The manifest: the shards of a dataset, in order, with the size, content and digest of each.

A JSON text whose last 32 bytes are `"checksum": "<16 hex digits>"}` and a newline: XXH3-64 of everything before them.
The file name of a shard follows from its number, so a manifest cannot name a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import numpy as np

from recordio.errors import CorruptError, SchemaError, UnsupportedError
from recordio.format import strict_json
from recordio.format.checksum import checksum, digest, require
from recordio.format.layout import ALIGNMENT, KNOWN_REQUIRED_FEATURES, MAX_MANIFEST_NBYTES, VERSION
from recordio.format.schema import Schema
from recordio.format.shard import Counts, Footer

FILE_NAME = "manifest.json"
_FORMAT = "recordio"
_SEAL = '"checksum": "{:016x}"}}\n'
_SEAL_NBYTES = 32
_MAX_INT = 1 << 62


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"shard-{number:05d}.rio"


def _count(value: Any, name: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value < _MAX_INT:
        raise CorruptError(f"{name} is {value!r}: expected an integer >= {least}")
    return value


def _hex(value: Any, name: str) -> bytes:
    if not isinstance(value, str) or len(value) != 32 or value != value.lower():
        raise CorruptError(f"{name} is {value!r}: expected 32 hex digits")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise CorruptError(f"{name} is {value!r}: expected 32 hex digits") from error


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """The manifest's record of a shard.

    Attributes:
        number: the shard's number, from which its file name follows.
        nbytes: the length of the file.
        samples: the number of samples.
        content_nbytes: the bytes of its pages before coding, or in memory when all are read.
        digest: the digest of the shard, 16 bytes.
        runs: (samples, blocks) pairs: `blocks` consecutive blocks of `samples` samples each.
    """

    number: int
    nbytes: int
    samples: int
    content_nbytes: int
    digest: bytes
    runs: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        return shard_name(self.number)

    @property
    def blocks(self) -> int:
        return sum(blocks for _, blocks in self.runs)

    def block_samples(self) -> Counts:
        """int64 (blocks,): the number of samples in each block."""
        runs = np.array(self.runs, np.int64).reshape(-1, 2)
        return np.repeat(runs[:, 0], runs[:, 1])

    @classmethod
    def of(cls, footer: Footer, content_nbytes: int, block_samples: Iterable[int]) -> Self:
        """The entry of a finished shard."""
        runs = tuple((samples, sum(1 for _ in run)) for samples, run in groupby(block_samples))
        return cls(footer.number, footer.file_nbytes, footer.samples, content_nbytes, footer.digest, runs)

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "bytes": self.nbytes,
            "samples": self.samples,
            "content_bytes": self.content_nbytes,
            "digest": self.digest.hex(),
            "blocks": [list(run) for run in self.runs],
        }

    @classmethod
    def from_json(cls, entry: Any) -> Self:
        """Raises CorruptError."""
        if not isinstance(entry, dict) or not isinstance(entry.get("blocks"), list):
            raise CorruptError("a shard's entry is not an object with a list of blocks")
        if not all(isinstance(run, list) and len(run) == 2 for run in entry["blocks"]):
            raise CorruptError("a shard's blocks are not pairs of samples and blocks")
        runs = tuple((_count(n, "a block's samples", 1), _count(k, "a run of blocks", 1)) for n, k in entry["blocks"])
        out = cls(
            number=_count(entry.get("number"), "a shard's number"),
            nbytes=_count(entry.get("bytes"), "a shard's length", 1),
            samples=_count(entry.get("samples"), "a shard's samples"),
            content_nbytes=_count(entry.get("content_bytes"), "a shard's content"),
            digest=_hex(entry.get("digest"), "a shard's digest"),
            runs=runs,
        )
        if sum(n * k for n, k in runs) != out.samples or out.blocks * ALIGNMENT > out.nbytes:
            raise CorruptError(f"the blocks of {out.name} do not hold its {out.samples} samples")
        return out


@dataclass(frozen=True)
class Manifest:
    """A dataset: its identity, its schema, and its shards in order."""

    dataset_id: bytes
    schema: Schema
    metadata: Mapping[str, Any]
    shards: Sequence[ShardEntry]

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    def encode(self) -> bytes:
        """The bytes of manifest.json. Raises SchemaError if the metadata is not JSON or the manifest is too large."""
        head = {
            "format": _FORMAT,
            "version": VERSION,
            "required_features": 0,
            "dataset_id": self.dataset_id.hex(),
            "samples": self.samples,
            "schema": self.schema.to_json(),
            "metadata": self.metadata,
        }
        try:
            lines = [f'"{key}": {json.dumps(value, allow_nan=False)}' for key, value in head.items()]
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the metadata is not JSON: {error}") from error
        shards = ",\n".join(json.dumps(shard.to_json()) for shard in self.shards)
        body = ("{" + ",\n".join(lines) + f',\n"shards": [\n{shards}],\n').encode("ascii")
        if (nbytes := len(body) + _SEAL_NBYTES) > MAX_MANIFEST_NBYTES:
            raise SchemaError(
                f"the manifest takes {nbytes} bytes, over the limit of {MAX_MANIFEST_NBYTES}; "
                "use less metadata, or larger shards and blocks"
            )
        return body + _SEAL.format(checksum(body)).encode("ascii")

    @staticmethod
    def digest(data: bytes) -> bytes:
        """The digest of an encoded manifest, 16 bytes."""
        return digest([data])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Checks everything. Raises CorruptError, UnsupportedError."""
        if len(data) > MAX_MANIFEST_NBYTES:
            raise CorruptError(f"a manifest of {len(data)} bytes is over the limit of {MAX_MANIFEST_NBYTES}")
        _check_seal(data)
        body = strict_json.loads(data, "manifest")
        if not isinstance(body, dict) or body.get("format") != _FORMAT:
            raise CorruptError('the manifest does not say "format": "recordio"')
        if body.get("version") != VERSION:
            raise UnsupportedError(f"manifest version {body.get('version')!r}: this reader knows version {VERSION}")
        if _count(body.get("required_features"), "required_features") & ~KNOWN_REQUIRED_FEATURES:
            raise UnsupportedError("the dataset needs features that this reader does not have")
        if not isinstance(body.get("shards"), list) or not isinstance(body.get("metadata"), dict):
            raise CorruptError("the manifest has no list of shards or no metadata")
        shards = tuple(map(ShardEntry.from_json, body["shards"]))
        out = cls(
            dataset_id=_hex(body.get("dataset_id"), "the dataset id"),
            schema=Schema.from_json(body.get("schema")),
            metadata=body["metadata"],
            shards=shards,
        )
        if len({shard.number for shard in shards}) != len(shards):
            raise CorruptError("the manifest names a shard twice")
        if _count(body.get("samples"), "samples") != out.samples:
            raise CorruptError(f"the manifest says {body['samples']} samples, its shards hold {out.samples}")
        return out


def _check_seal(data: bytes) -> None:
    body, seal = data[:-_SEAL_NBYTES], data[-_SEAL_NBYTES:]
    expected = _SEAL.format(checksum(body)).encode("ascii")
    if seal[:13] != expected[:13] or seal[-3:] != expected[-3:]:
        raise CorruptError("the manifest does not end in its checksum: it was cut, or edited")
    try:
        stored = int(seal[13:29].decode("ascii"), 16)
    except ValueError as error:
        raise CorruptError("the manifest's checksum is not 16 hex digits") from error
    require("manifest", stored, checksum(body))
    if seal != expected:
        raise CorruptError("the manifest's checksum is not 16 lower-case hex digits")
