"""The manifest: the shards of a dataset, in order, with the size, content and digest of each.

A JSON text whose last 32 bytes are `"checksum": "<16 hex digits>"}` and a newline: XXH3-64 of everything before them.
The file name of a shard follows from its number, so a manifest cannot name a path.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np

from recordio.errors import CorruptError, SchemaError, UnsupportedError
from recordio.format import strict_json
from recordio.format.checksum import digest
from recordio.format.layout import (
    ALIGNMENT,
    FOOTER,
    KNOWN_REQUIRED_FEATURES,
    MAX_MANIFEST_NBYTES,
    PARITY_FEATURE,
    VERSION,
    index_dtype,
)
from recordio.format.parity import Parity, ParityEntry, ParityHeader
from recordio.format.schema import Schema
from recordio.format.seal import SEAL_NBYTES, check_seal, require_format, sealed
from recordio.format.shard_table import (
    ShardEntry as ShardEntry,
    ShardTable,
    require_count,
    require_hex,
    shard_name as shard_name,
)
from recordio.lazy import lazy

FILE_NAME = "manifest.json"
_FORMAT = "recordio"
_SHARDS, _SHARDS_END = b',\n"shards": [\n', b"],\n"  # not within a string: no string of JSON holds a newline
# The tables that are in use, by the digest of their text: whoever opens a dataset again shares its table.
_tables: WeakValueDictionary[bytes, ShardTable] = WeakValueDictionary()


@dataclass(frozen=True)
class Manifest:
    """A dataset: its identity, its schema, and its shards in order."""

    dataset_id: bytes
    schema: Schema
    metadata: Mapping[str, Any]
    shards: Sequence[ShardEntry]
    statistics: Mapping[str, Any] | None = None  # as JSON, see recordio.statistics; None if there are none
    parity: Parity | None = None

    @lazy
    def table(self) -> ShardTable:
        """The shards as columns."""
        return ShardTable.of(self.shards)

    @lazy
    def samples(self) -> int:
        return sum(self.table.samples.tolist())  # exact: an int64 could overflow

    @property
    def files(self) -> dict[str, int]:
        """The length of each file beside it that it names, shards and parity."""
        shards = zip(map(shard_name, self.table.numbers.tolist()), self.table.nbytes.tolist(), strict=True)
        return dict(shards) | {file.name: file.nbytes for file in (self.parity.files if self.parity else ())}

    @property
    def parity_files(self) -> list[tuple[ParityHeader, ParityEntry]]:
        """The header that each file of parity has, and its entry."""
        files = self.parity.files if self.parity else ()
        shards = {shard.number: shard for shard in self.shards} if files else {}
        groups = [(file, tuple(shards[number] for number in file.shards)) for file in files]
        return [(ParityHeader(self.dataset_id, file.number, group), file) for file, group in groups]

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
        if self.statistics is not None:
            head["statistics"] = self.statistics
        if self.parity is not None:
            head |= {"compatible_features": PARITY_FEATURE, "parity": self.parity.to_json()}
        try:
            lines = [f'"{key}": {json.dumps(value, allow_nan=False)}' for key, value in head.items()]
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the metadata is not JSON: {error}") from error
        shards = ",\n".join(json.dumps(shard.to_json()) for shard in self.shards)
        body = ("{" + ",\n".join(lines) + f',\n"shards": [\n{shards}],\n').encode("ascii")
        if (nbytes := len(body) + SEAL_NBYTES) > MAX_MANIFEST_NBYTES:
            raise SchemaError(
                f"the manifest takes {nbytes} bytes, over the limit of {MAX_MANIFEST_NBYTES}; "
                "use less metadata, or larger shards and blocks"
            )
        return sealed(body)

    @staticmethod
    def digest(data: bytes) -> bytes:
        """The digest of an encoded manifest, 16 bytes."""
        return digest([data])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Checks everything. Raises CorruptError, UnsupportedError."""
        if len(data) > MAX_MANIFEST_NBYTES:
            raise CorruptError(f"a manifest of {len(data)} bytes is over the limit of {MAX_MANIFEST_NBYTES}")
        check_seal(data, "manifest")
        parsed, table = _parse(data)
        body = require_format(parsed, "manifest", _FORMAT, VERSION)
        if require_count(body.get("required_features"), "required_features") & ~KNOWN_REQUIRED_FEATURES:
            raise UnsupportedError("the dataset needs features that this reader does not have")
        if not isinstance(body.get("shards"), list) or not isinstance(body.get("metadata"), dict):
            raise CorruptError("the manifest has no list of shards or no metadata")
        compatible = require_count(body.get("compatible_features", 0), "compatible_features")
        statistics = body.get("statistics")
        if not isinstance(statistics, dict | None):
            raise CorruptError("the manifest's statistics are no object")
        if table is None:
            table = ShardTable.of(list(map(ShardEntry.from_json, body["shards"])))
        out = cls(
            dataset_id=require_hex(body.get("dataset_id"), "the dataset id"),
            schema=Schema.from_json(body.get("schema")),
            metadata=body["metadata"],
            shards=table,
            statistics=statistics,
            parity=Parity.from_json(body.get("parity"), table.numbers.tolist())
            if compatible & PARITY_FEATURE
            else None,
        )
        if len(np.unique(table.numbers)) != len(table):
            raise CorruptError("the manifest names a shard twice")
        row = index_dtype(len(out.schema)).itemsize
        if (table.blocks > (table.nbytes - FOOTER.size) // ALIGNMENT * ALIGNMENT // row).any():
            raise CorruptError("a shard of the manifest is too short for an index of its blocks")
        if require_count(body.get("samples"), "samples") != out.samples:
            raise CorruptError(f"the manifest says {body['samples']} samples, its shards hold {out.samples}")
        return out


def _parse(data: bytes) -> tuple[Any, ShardTable | None]:
    """The JSON of a manifest; and its shards, if `encode` has written them: then the list of them in the JSON is empty.

    The text with and without shards is valid JSON or not alike, and means the same but for the list: that is followed
    by the checksum and the end of the text, so it is a member of the outermost object.
    """
    start, end = data.find(_SHARDS) + len(_SHARDS), len(data) - SEAL_NBYTES - len(_SHARDS_END)
    if len(_SHARDS) <= start <= end and data.startswith(_SHARDS_END, end):
        table = _table(data[start:end])
        if table is not None:
            with contextlib.suppress(CorruptError):  # raised again for the whole text, with the right location
                return strict_json.loads(data[:start] + data[end:], "manifest"), table
    return strict_json.loads(data, "manifest"), None


def _table(text: bytes) -> ShardTable | None:
    key = digest([text])
    table = _tables.get(key) or ShardTable.decode(text)
    if table is not None:
        _tables[key] = table
    return table
