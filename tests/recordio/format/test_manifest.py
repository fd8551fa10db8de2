"""The manifest: it round-trips, and any other text is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from recordio import CorruptError, Scalar, Schema, SchemaError, UnsupportedError
from recordio.format.checksum import checksum
from recordio.format.manifest import Manifest, ShardEntry, shard_name
from tests.strategies import schemas

ID = bytes(range(16))
SCHEMA = Schema({"number": Scalar("int32")})


def entry(number: int, runs: tuple[tuple[int, int], ...] = ((10, 3), (4, 1))) -> ShardEntry:
    return ShardEntry(number, 64 * 50, sum(n * times for n, times in runs), 1000, bytes([number]) * 16, runs)


MANIFEST = Manifest(ID, SCHEMA, {"classes": ["ä", "b"]}, (entry(0), entry(7)))


def sealed(body: dict[str, Any] | str) -> bytes:
    """A manifest of this JSON with the right checksum."""
    text = (json.dumps(body)[:-1] + ",\n") if isinstance(body, dict) else body
    data = text.encode()
    return data + f'"checksum": "{checksum(data):016x}"}}\n'.encode()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    body = json.loads(MANIFEST.encode())
    del body["checksum"]
    change(body)
    return sealed(body)


@given(st.lists(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 9)), max_size=3), max_size=4), schemas())
def test_manifest_round_trips(shards: list[list[tuple[int, int]]], schema: Schema) -> None:
    entries = tuple(entry(number, tuple(runs)) for number, runs in enumerate(shards))
    manifest = Manifest(ID, schema, {"a": [1, None, "ä"]}, entries)
    data = manifest.encode()
    assert Manifest.decode(data) == manifest
    assert json.loads(data)["samples"] == manifest.samples
    assert data.isascii()


def test_shard_entry_expands_runs_to_block_samples() -> None:
    assert entry(0).blocks == 4
    assert entry(0).block_samples().tolist() == [10, 10, 10, 4]
    assert entry(0, ()).block_samples().tolist() == []


@pytest.mark.parametrize(("number", "name"), [(0, "shard-00000.rio"), (123456, "shard-123456.rio")])
def test_shard_name_follows_from_its_number(number: int, name: str) -> None:
    assert shard_name(number) == name == ShardEntry.from_json(entry(1).to_json() | {"number": number}).name


def test_every_flipped_bit_of_a_manifest_is_detected() -> None:
    data = MANIFEST.encode()
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            Manifest.decode(bytes(bad))


def test_truncated_or_extended_manifest_is_corrupt() -> None:
    data = MANIFEST.encode()
    for nbytes in range(len(data)):
        with pytest.raises(CorruptError):
            Manifest.decode(data[:nbytes])
    for more in (b"\n", b" ", b"\0", data):
        with pytest.raises(CorruptError):
            Manifest.decode(data + more)


def test_unknown_members_are_passed_over() -> None:
    def grow(body: dict[str, Any]) -> None:
        body["mood"] = "good"
        body["shards"][0]["mood"] = [1]

    assert Manifest.decode(changed(grow)) == MANIFEST


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(version=2),
        lambda b: b.update(version="1"),
        lambda b: b.update(required_features=1),
        lambda b: b["schema"][0].update(type="video"),
    ],
    ids=["version", "version as a text", "features", "field type"],
)
def test_newer_manifest_is_unsupported(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(UnsupportedError):
        Manifest.decode(changed(change))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda b: b.update(format="other"),
    "no dataset id": lambda b: b.pop("dataset_id"),
    "a short dataset id": lambda b: b.update(dataset_id="00"),
    "an upper-case dataset id": lambda b: b.update(dataset_id="AB" * 16),
    "a dataset id that is not hex": lambda b: b.update(dataset_id="zz" * 16),
    "another sum of samples": lambda b: b.update(samples=1),
    "samples as a float": lambda b: b.update(samples=68.0),
    "negative features": lambda b: b.update(required_features=-1),
    "no metadata": lambda b: b.pop("metadata"),
    "metadata as a list": lambda b: b.update(metadata=[]),
    "no schema": lambda b: b.pop("schema"),
    "shards as a dict": lambda b: b.update(shards={}),
    "a shard twice": lambda b: b["shards"][1].update(number=0),
    "a shard as a number": lambda b: b["shards"].append(3),
    "a negative number": lambda b: b["shards"][0].update(number=-1),
    "a number as a path": lambda b: b["shards"][0].update(number="../../x"),
    "a number as a bool": lambda b: b["shards"][1].update(number=True),
    "a size that is not a multiple of 64": lambda b: b["shards"][0].update(bytes=65),
    "a huge size": lambda b: b["shards"][0].update(bytes=1 << 62),
    "no digest": lambda b: b["shards"][0].pop("digest"),
    "blocks that are no pairs": lambda b: b["shards"][0].update(blocks=[[1, 2, 3]]),
    "a block of no samples": lambda b: b["shards"][0].update(blocks=[[34, 1], [0, 1]]),
    "a run of no blocks": lambda b: b["shards"][0].update(blocks=[[34, 1], [5, 0]]),
    "blocks with another sum": lambda b: b["shards"][0].update(blocks=[[33, 1]]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_inconsistent_manifest_with_a_right_checksum_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptError):
        Manifest.decode(changed(CHANGES[name]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1,\n",
        '{"a": NaN,\n',
        '{"a": 1, "a": 2,\n',
        '{"a": ' + "[" * 99_999,
        '{"a": ' + "9" * 5000 + ",\n",
        '{"a": \x01,\n',
    ],
    ids=["nothing", "a list", "NaN", "a key twice", "depth", "digits", "no JSON"],
)
def test_invalid_json_with_a_right_checksum_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptError):
        Manifest.decode(sealed(text))


@pytest.mark.parametrize("metadata", [{"a": float("inf")}, {"a": object()}, {"a": b"x"}])
def test_manifest_metadata_must_be_json(metadata: Any) -> None:
    with pytest.raises(SchemaError, match="not JSON"):
        Manifest(ID, SCHEMA, metadata, ()).encode()


def test_a_manifest_over_the_limit_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MANIFEST.encode()
    monkeypatch.setattr("recordio.format.manifest.MAX_MANIFEST_NBYTES", len(data) - 1)
    with pytest.raises(CorruptError, match="over the limit"):
        Manifest.decode(data)


@pytest.mark.parametrize("statistics", [[], "text", 1, True])
def test_statistics_that_are_no_object_are_refused(statistics: Any) -> None:
    with pytest.raises(CorruptError, match="statistics"):
        Manifest.decode(changed(lambda body: body.update(statistics=statistics)))


def test_a_shard_too_short_for_an_index_of_its_blocks_is_refused() -> None:
    """Else the sizes of arrays over all blocks would be the manifest's to choose."""
    lie = ShardEntry(0, 64 * 50, 50, 1000, bytes(16), ((1, 50),))
    data = Manifest(bytes(16), Schema(dict.fromkeys("ab", Scalar("int64"))), {}, (lie,)).encode()
    with pytest.raises(CorruptError, match="too short for an index"):
        Manifest.decode(data)
