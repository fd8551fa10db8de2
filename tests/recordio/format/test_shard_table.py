"""The table of a manifest's shards: read in bulk or entry by entry, it is the same, or the same error."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import RecordIOError, Scalar, Schema
from recordio.format.checksum import checksum
from recordio.format.manifest import Manifest
from recordio.format.shard_table import ShardEntry, ShardTable
from tests.recordio.format.test_manifest import CHANGES

SCHEMA = Schema({"number": Scalar("int32")})
ENTRIES = (
    ShardEntry(0, 6400, 34, 1000, bytes(range(16)), ((10, 3), (4, 1))),
    ShardEntry(7, 192, 0, 0, bytes(range(240, 256)), ()),
    ShardEntry(12, 1280, 5, 20, b"0123456789abcdef", ((5, 1),)),
)
MANIFEST = Manifest(bytes(range(16)), SCHEMA, {"classes": ["ä"]}, ENTRIES)
EDITS = ["", *'07\n"[}-a', '"shards": [\n', "9" * 19]


def sealed(text: str) -> bytes:
    """A manifest of this text up to its checksum, with the right one."""
    return text.encode() + f'"checksum": "{checksum(text.encode()):016x}"}}\n'.encode()


def as_written(body: dict[str, Any]) -> str:
    """The text of a manifest in the layout of `Manifest.encode`, up to its checksum."""
    shards = body["shards"]
    listed = "[\n" + ",\n".join(map(json.dumps, shards)) + "]" if isinstance(shards, list) else json.dumps(shards)
    lines = [f'"{key}": {listed if key == "shards" else json.dumps(value)}' for key, value in body.items()]
    return "{" + ",\n".join(lines) + ",\n"


def body() -> dict[str, Any]:
    out: dict[str, Any] = json.loads(MANIFEST.encode())
    del out["checksum"]
    return out


def outcome(data: bytes) -> object:
    try:
        return Manifest.decode(data)
    except RecordIOError as error:
        return type(error), str(error)


def both_ways(data: bytes) -> tuple[object, object]:
    """What comes of a manifest, and what if all of it is read entry by entry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardTable, "decode", lambda _: None)
        slowly = outcome(data)
    return outcome(data), slowly


@pytest.fixture
def no_entry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> ShardEntry:
        raise AssertionError("read entry by entry")

    monkeypatch.setattr(ShardEntry, "from_json", refuse)


counts = st.integers(0, 2**62 - 1)
runs = st.lists(st.tuples(st.integers(1, 2**40), st.integers(1, 2**20)), max_size=3).map(tuple)
entries = st.builds(ShardEntry, counts, counts, counts, counts, st.binary(min_size=16, max_size=16), runs)


@given(st.lists(entries, max_size=5))
def test_table_is_the_sequence_of_its_entries(listed: list[ShardEntry]) -> None:
    table = ShardTable.of(listed)
    assert list(table) == listed
    assert (len(table), table[:], table[1::2]) == (len(listed), listed, listed[1::2])
    assert [table[k] for k in range(-len(listed), 0)] == listed
    assert table.blocks.tolist() == [entry.blocks for entry in listed]
    assert table == listed
    assert table == ShardTable.of(tuple(listed))
    assert table != [*listed, *ENTRIES]
    assert ShardTable.of(table) is table


def test_columns_of_a_table() -> None:
    table = Manifest.decode(MANIFEST.encode()).table
    assert table.numbers.tolist() == [0, 7, 12]
    assert table.nbytes.tolist() == [6400, 192, 1280]
    assert table.samples.tolist() == [34, 0, 5]
    assert table.content_nbytes.tolist() == [1000, 0, 20]
    assert [row.tobytes() for row in table.digests] == [entry.digest for entry in ENTRIES]
    assert table.runs.tolist() == [[10, 3], [4, 1], [5, 1]]
    assert table.first_run.tolist() == [0, 2, 2, 3]
    assert table.block_samples().tolist() == [10, 10, 10, 4, 5]


def test_columns_are_read_only() -> None:
    for table in (ShardTable.of(ENTRIES), Manifest.decode(MANIFEST.encode()).table):
        for column in (table.numbers, table.nbytes, table.samples, table.digests, table.runs, table.first_run):
            with pytest.raises(ValueError, match="read-only"):
                column[:1] = 0


def test_entry_beyond_the_table_is_an_index_error() -> None:
    for index in (3, -4):
        with pytest.raises(IndexError):
            ShardTable.of(ENTRIES)[index]


@pytest.mark.usefixtures("no_entry_alone")
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_manifest_as_written_is_read_in_bulk(count: int) -> None:
    listed = tuple(
        ShardEntry(k, (64 << 10) + k % 3, 2 * blocks, k, bytes(16), ((2, blocks),) if blocks else ())
        for k, blocks in zip(range(count), itertools.cycle(range(3)), strict=False)
    )
    manifest = Manifest(bytes(16), SCHEMA, {"note": ',\n"shards": [\n'}, listed)
    assert Manifest.decode(manifest.encode()) == manifest


def test_manifest_written_otherwise_is_read_entry_by_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (json.dumps(body())[:-1] + ",\n", json.dumps(body(), indent=1)[:-1] + ",\n"):
        assert Manifest.decode(sealed(text)) == MANIFEST


@pytest.mark.parametrize("name", CHANGES)
def test_inconsistent_manifest_is_the_same_error_both_ways(name: str) -> None:
    value = body()
    CHANGES[name](value)
    quickly, slowly = both_ways(sealed(as_written(value)))
    assert quickly == slowly
    assert isinstance(quickly, tuple)


def _edited(text: str) -> Iterator[str]:
    for at in range(len(text)):
        for edit in EDITS:
            yield text[:at] + edit + text[at + 1 :]
            yield text[:at] + edit + text[at:]


def test_edited_manifest_is_the_same_both_ways() -> None:
    text = as_written(body())
    assert sealed(text) == MANIFEST.encode()
    for start, end in ((0, 40), (text.index('"metadata"'), len(text))):
        for edited in _edited(text[start:end]):
            quickly, slowly = both_ways(sealed(text[:start] + edited + text[end:]))
            assert quickly == slowly, edited


@pytest.mark.parametrize(
    "text",
    [
        '{"metadata": {"a": 1,\n"shards": [\n],\n',
        '{"metadata": {"a": 1,\n"shards": [\n],\n"shards": [\n],\n',
        '{"a": ",\n"shards": [\n],\n',
        ',\n"shards": [\n],\n',
        ',\n"shards": [\n',
        ',\n"shards": [\n,\n',
        "],\n",
    ],
)
def test_list_of_shards_in_the_wrong_place_is_the_same_error_both_ways(text: str) -> None:
    quickly, slowly = both_ways(sealed(text))
    assert quickly == slowly
    assert isinstance(quickly, tuple)


def test_counts_that_overflow_are_refused_both_ways() -> None:
    for samples, pairs in (
        (0, [[2**58, 64]]),
        (0, [[2**50, 1]] * 2**14),
        (2**63, [[2**59, 16]]),
        (1, [[10**18, 10**18]]),
    ):
        value = body() | {"samples": samples}
        value["shards"] = [value["shards"][0] | {"blocks": pairs, "samples": samples, "bytes": 10**18}]
        quickly, slowly = both_ways(sealed(as_written(value)))
        assert quickly == slowly
        assert isinstance(quickly, tuple)


def test_equal_manifests_share_their_table_while_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MANIFEST.encode()
    decoded: list[bytes] = []
    real = ShardTable.decode

    def decode(text: bytes) -> ShardTable | None:
        decoded.append(text)
        return real(text)

    monkeypatch.setattr(ShardTable, "decode", decode)
    first, other = Manifest.decode(data), Manifest.decode(data)
    assert other.table is first.table
    assert other.metadata is not first.metadata
    assert len(decoded) == 1
    del first, other
    gc.collect()
    Manifest.decode(data)
    assert len(decoded) == 2


def test_table_takes_little_memory() -> None:
    listed = [ShardEntry(k, 6400, 1, 8, bytes(16), ((1, 1),)) for k in range(10_000)]
    table = Manifest.decode(Manifest(bytes(16), SCHEMA, {}, listed).encode()).table
    held = sum(column.nbytes for column in vars(table).values() if isinstance(column, np.ndarray))
    assert held < 100 * len(listed)
