"""The quarantine: a list of the damaged blocks of a dataset, beside its manifest.

    quarantine.json := {"format", "version", "dataset_id", "shards", "digest", "damaged", "checksum"}

`shards` says how many shards were checked, the first of the manifest, and `digest` which ones: so the list stays true
when shards are added, and is none for a dataset that was replaced. `damaged` has an object for each run of damaged
blocks. The text ends as that of the manifest. Readers may ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from recordio.errors import CorruptError, DecodeError, RecordIOError
from recordio.format import strict_json
from recordio.format.checksum import digest
from recordio.format.manifest import Manifest
from recordio.format.seal import check_seal, require_format, sealed
from recordio.format.shard_table import require_count, require_hex, shard_name

FILE_NAME = "quarantine.json"
_FORMAT, _VERSION = "recordio quarantine", 1


@dataclass(frozen=True, slots=True)
class DamagedBlocks:
    """Blocks of a shard that cannot be read.

    Attributes:
        number: the shard's number.
        first: their first block within the shard.
        blocks: how many.
        fault: why not.
    """

    number: int
    first: int
    blocks: int
    fault: str

    @property
    def file(self) -> str:
        """The shard's file."""
        return shard_name(self.number)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises CorruptError."""
        if not isinstance(value, dict) or not isinstance(value.get("fault"), str):
            raise CorruptError("a damaged block is not an object with a fault")
        return cls(
            number=require_count(value.get("number"), "a shard's number"),
            first=require_count(value.get("first"), "a first block"),
            blocks=require_count(value.get("blocks"), "a number of blocks", 1),
            fault=value["fault"],
        )


@dataclass(frozen=True)
class Quarantine:
    """The damaged blocks among the first shards of a dataset.

    Attributes:
        dataset_id: the dataset.
        shards: how many of its shards were checked.
        shards_digest: of their digests, 16 bytes.
        damaged: the damaged blocks, in the order of the shards.
    """

    dataset_id: bytes
    shards: int
    shards_digest: bytes
    damaged: Sequence[DamagedBlocks]

    @classmethod
    def of(cls, manifest: Manifest, damaged: Sequence[DamagedBlocks]) -> Self:
        """Of all shards of a dataset."""
        return cls(manifest.dataset_id, len(manifest.table), _digest(manifest, len(manifest.table)), tuple(damaged))

    @property
    def digest(self) -> str:
        """32 hex digits that stand for what is damaged, wherever it was found."""
        places = [[one.number, one.first, one.blocks] for one in self.damaged]
        return digest([json.dumps(places).encode()]).hex()

    def is_of(self, manifest: Manifest) -> bool:
        """Whether it was made for this dataset, or for the same before shards were added."""
        fits = self.dataset_id == manifest.dataset_id and self.shards <= len(manifest.table)
        return fits and self.shards_digest == _digest(manifest, self.shards)

    def encode(self) -> bytes:
        """The bytes of quarantine.json."""
        head = {
            "format": _FORMAT,
            "version": _VERSION,
            "dataset_id": self.dataset_id.hex(),
            "shards": self.shards,
            "digest": self.shards_digest.hex(),
        }
        lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
        damaged = ",\n".join(json.dumps(asdict(one)) for one in self.damaged)
        return sealed(("{" + ",\n".join(lines) + f',\n"damaged": [\n{damaged}],\n').encode("ascii"))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Checks everything. Raises CorruptError, UnsupportedError."""
        check_seal(data, "quarantine")
        body = require_format(strict_json.loads(data, "quarantine"), "quarantine", _FORMAT, _VERSION)
        if not isinstance(body.get("damaged"), list):
            raise CorruptError("the quarantine has no list of damaged blocks")
        return cls(
            dataset_id=require_hex(body.get("dataset_id"), "the dataset id"),
            shards=require_count(body.get("shards"), "the number of shards"),
            shards_digest=require_hex(body.get("digest"), "the digest of the shards"),
            damaged=tuple(map(DamagedBlocks.from_json, body["damaged"])),
        )


def damaged_blocks(manifest: Manifest, problems: Iterable[RecordIOError]) -> list[DamagedBlocks]:
    """The damaged blocks that these problems are of, each once, with the first fault of it."""
    positions = {shard_name(number): k for k, number in enumerate(manifest.table.numbers.tolist())}
    faults: dict[int, dict[int, str]] = {}
    whole: dict[int, str] = {}
    for problem in problems:
        position = positions.get(problem.place.file or "")
        if position is None or isinstance(problem, DecodeError):  # a broken picture is what was written
            continue
        field = "" if problem.place.field is None else f", field {problem.place.field!r}"
        if problem.place.block is None:
            whole.setdefault(position, problem.fault)
        else:
            faults.setdefault(position, {}).setdefault(problem.place.block, problem.fault + field)
    out = []
    for position in sorted(faults.keys() | whole.keys()):
        number, blocks = manifest.table.numbers.item(position), manifest.table.blocks.item(position)
        if position in whole:
            out += [DamagedBlocks(number, 0, blocks, whole[position])] if blocks else []
        else:
            out += [DamagedBlocks(number, block, 1, fault) for block, fault in sorted(faults[position].items())]
    return out


def _digest(manifest: Manifest, shards: int) -> bytes:
    return digest([manifest.table.digests[:shards].tobytes()])
