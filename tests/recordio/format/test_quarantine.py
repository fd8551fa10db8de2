"""The list of damaged blocks: checked as a manifest is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recordio import CorruptError, Scalar, Schema, UnsupportedError
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.quarantine import DamagedBlocks, Quarantine, damaged_blocks
from recordio.format.seal import sealed

ENTRIES = [ShardEntry(k, 640, 4, 8, bytes([k]) * 16, ((2, 2),)) for k in range(3)]
MANIFEST = Manifest(bytes(16), Schema({"a": Scalar("int8")}), {}, ENTRIES)
DAMAGED = [DamagedBlocks(1, 0, 1, "rust"), DamagedBlocks(2, 0, 2, "\x1b lost")]


def resealed(**changes: Any) -> bytes:
    value = json.loads(Quarantine.of(MANIFEST, DAMAGED).encode()) | changes
    del value["checksum"]
    return sealed(json.dumps(value)[:-1].encode() + b",\n")


def test_what_is_written_is_read() -> None:
    data = Quarantine.of(MANIFEST, DAMAGED).encode()
    assert Quarantine.decode(data) == Quarantine.of(MANIFEST, DAMAGED) == Quarantine.decode(resealed())
    assert Quarantine.decode(Quarantine.of(MANIFEST, []).encode()).damaged == ()


def test_every_flipped_bit_is_noticed() -> None:
    data = Quarantine.of(MANIFEST, DAMAGED).encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            Quarantine.decode(bytes(changed))
    for length in range(len(data)):
        with pytest.raises(CorruptError):
            Quarantine.decode(data[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "recordio"},
        {"version": 2},
        {"dataset_id": "x"},
        {"shards": -1},
        {"shards": 1 << 63},
        {"digest": None},
        {"damaged": {}},
        {"damaged": [1]},
        {"damaged": [{"number": 0, "first": 0, "blocks": 0, "fault": ""}]},
        {"damaged": [{"number": 0, "first": -1, "blocks": 1, "fault": ""}]},
        {"damaged": [{"number": 0.5, "first": 0, "blocks": 1, "fault": ""}]},
        {"damaged": [{"number": 0, "first": 0, "blocks": 1, "fault": None}]},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((CorruptError, UnsupportedError)):
        Quarantine.decode(resealed(**changes))


def test_it_is_of_a_dataset_also_after_shards_were_added() -> None:
    first = Quarantine.of(MANIFEST, DAMAGED)
    more = Manifest(bytes(16), MANIFEST.schema, {}, [*ENTRIES, ShardEntry(3, 640, 4, 8, bytes(16), ((2, 2),))])
    assert first.is_of(MANIFEST)
    assert first.is_of(more)
    assert not Quarantine.of(more, DAMAGED).is_of(MANIFEST)
    assert not first.is_of(Manifest(bytes(16), MANIFEST.schema, {}, ENTRIES[1:]))
    assert not first.is_of(Manifest(b"1" * 16, MANIFEST.schema, {}, ENTRIES))


def test_problems_become_blocks_each_with_its_first_fault() -> None:
    problems = [
        CorruptError("second").at(file="shard-00001.rio", block=1, field="a"),
        CorruptError("again").at(file="shard-00001.rio", block=1),
        CorruptError("gone").at(file="shard-00002.rio"),
        CorruptError("first").at(file="shard-00000.rio", block=0),
        CorruptError("elsewhere").at(file="x"),
    ]
    assert damaged_blocks(MANIFEST, problems) == [
        DamagedBlocks(0, 0, 1, "first"),
        DamagedBlocks(1, 1, 1, "second, field 'a'"),
        DamagedBlocks(2, 0, 2, "gone"),
    ]
