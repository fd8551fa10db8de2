"""Blocks are found by their own headers, and believed by what these say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

import recordio
from recordio import CorruptError, ShardDataset
from recordio.format.block import BlockHeader
from recordio.format.layout import BLOCK_MAGIC
from recordio.salvage.blocks import found_blocks, headers_of, read_block
from recordio.storage.memory import MemoryFile
from tests.recordio.salvage.damage import SCHEMA, shard, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "it", 60, shard_samples=60)


def test_a_scan_finds_what_the_index_says(folder: Path) -> None:
    store = ShardDataset(folder).store
    own = store.manifest.dataset_id, 0
    file = MemoryFile("it", shard(folder, 0).read_bytes())
    expected = headers_of(store.shard(0).index, own)
    assert list(found_blocks(file, own, SCHEMA)) == expected
    for header in expected:
        assert bytes(read_block(file, header, SCHEMA)[: header.nbytes]) == header.encode()
    assert list(found_blocks(file, (own[0], 1), SCHEMA)) == []
    assert list(found_blocks(file, (bytes(16), 0), SCHEMA)) == []
    assert list(found_blocks(file, own, recordio.Schema({"a": recordio.Text()}))) == []


def test_a_copy_of_a_block_elsewhere_is_none(folder: Path) -> None:
    own = ShardDataset(folder).store.manifest.dataset_id, 0
    data = shard(folder, 0).read_bytes()
    start = data.index(BLOCK_MAGIC)
    moved = MemoryFile("it", data[:start] + bytes(64) + data[start:])
    assert list(found_blocks(moved, own, SCHEMA)) == []


def test_headers_that_ask_for_too_much_are_none(folder: Path) -> None:
    own = ShardDataset(folder).store.manifest.dataset_id, 0
    data = shard(folder, 0).read_bytes()
    first = next(found_blocks(MemoryFile("it", data), own, SCHEMA))
    huge = first.pages[0]._replace(nbytes=1 << 62, stored_nbytes=1 << 62)
    for pages in ((huge, *first.pages[1:]), (first.pages[0]._replace(codec=9), *first.pages[1:])):
        forged = BlockHeader(*own, 0, first.offset, 0, first.samples, pages)
        changed = MemoryFile("it", data[: first.offset] + forged.encode() + data[first.offset + first.nbytes :])
        assert 0 not in [header.block for header in found_blocks(changed, own, SCHEMA)]


def test_a_damaged_block_is_refused_with_its_place(folder: Path) -> None:
    own = ShardDataset(folder).store.manifest.dataset_id, 0
    data = bytearray(shard(folder, 0).read_bytes())
    second = list(found_blocks(MemoryFile("it", bytes(data)), own, SCHEMA))[1]
    data[second.offset + second.nbytes] ^= 1
    with pytest.raises(CorruptError, match="page checksum mismatch") as raised:
        read_block(MemoryFile("it", bytes(data)), second, SCHEMA)
    assert (raised.value.place.block, raised.value.place.field) == (1, "number")
