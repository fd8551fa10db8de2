"""The quick look at pages leaves to the careful one whatever is not sound, and hardly anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.reader import value_checks
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_checks import doubtful
from tests.faults.forging import Block, forge, plain, variable
from tests.faults.reading import verify_files
from tests.recordio.images.pictures import PICTURES

SCHEMA = {
    "scalar": recordio.Scalar("int64"),
    "maybe": recordio.Scalar("float32", optional=True),
    "array": recordio.Array("int32", (70,)),
    "ragged": recordio.Array("int16", (None,)),
    "text": recordio.Text(optional=True),
    "bytes": recordio.Bytes(),
    "image": recordio.Image(),
    "object": recordio.Object(),
}


def sample(n: int) -> dict[str, Any]:
    return {
        "scalar": n,
        "maybe": None if n % 3 else n / 7,
        "array": np.arange(n, n + 70, dtype="int32"),
        "ragged": np.arange(n % 5, dtype="int16"),
        "text": None if n % 4 == 0 else f"größer {n}",
        "bytes": b"\xff" * (n % 9),
        "image": PICTURES[("jpeg", "png", "webp")[n % 3]],
        "object": {"n": [n, None]},
    }


def opened(folder: Path, compression: str | None) -> tuple[OpenShard, memoryview]:
    with recordio.DatasetWriter(folder, SCHEMA, compression=compression, block_bytes=6000) as writer:
        for n in range(60):
            writer.write(sample(n))
    return recordio.ShardDataset(folder).store.shard(0), memoryview((folder / "shard-00000.rio").read_bytes())


@pytest.mark.parametrize("compression", [None, "narrow", "zstd"])
def test_only_coded_pages_are_in_doubt_where_all_is_sound(tmp_path: Path, compression: str | None) -> None:
    shard, data = opened(tmp_path / "it", compression)
    every = range(len(shard.index.samples))
    assert len(every) > 3
    codecs = shard.index.pages["codec"]
    assert (codecs != 0).any() == (compression is not None)
    coded = {(block, column) for block, column in np.argwhere(codecs % 2).tolist()}  # zstd, of narrow pages too
    assert set(doubtful(shard, every, data, 0, values=True)) == coded
    start = int(shard.index.block_offsets[2])
    found = set(doubtful(shard, every[2:], data[start:], start, values=False))
    assert found == {(block, column) for block, column in coded if block >= 2}


def test_a_flipped_byte_puts_just_the_page_or_header_in_doubt_that_it_is_in(tmp_path: Path) -> None:
    shard, whole = opened(tmp_path / "it", None)
    data, index = bytearray(whole), shard.index
    begins = [(int(at), block, None) for block, at in enumerate(index.block_offsets)]
    begins += [(int(index.page_offsets[block, k]), block, k) for block, k in np.ndindex(index.page_offsets.shape)]
    begins.sort(key=lambda one: one[0])
    end = int(index.block_offsets[3])
    for byte in range(begins[0][0], end, 7):
        _, block, column = next(one for one in reversed(begins) if one[0] <= byte)
        data[byte] ^= 0x04
        assert list(doubtful(shard, range(3), memoryview(data), 0, values=True)) == [(block, column)]
        data[byte] ^= 0x04


def test_damage_is_told_alike_whatever_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, data = opened(tmp_path / "it", None)
    damaged = bytearray(data)
    for block, column in ((0, 4), (1, 1), (1, 6), (len(shard.index.samples) - 1, 7)):
        damaged[int(shard.index.page_offsets[block, column])] ^= 1
    (tmp_path / "it" / "shard-00000.rio").write_bytes(damaged)
    reports = []
    for nbytes in (1, 10_000, 1 << 30):
        monkeypatch.setattr("recordio.reader.page_checks._READ_NBYTES", nbytes)
        reports.append(recordio.verify(tmp_path / "it").to_json())
    assert len(reports[0]["problems"]) == 4
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("limit", [16 << 20, 1])
def test_text_that_is_whole_only_together_is_refused(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_checks, "_MAX_TEXT_NBYTES", limit)
    character = "é".encode()
    field = {"name": "x", "type": "text"}
    files = forge([field], [Block(3, [variable(b"a", character[:1], character[1:])])])
    (problem,) = verify_files(files).problems
    assert "text is not UTF-8" in problem.fault
    assert "(sample 1 of the block)" in problem.fault
    assert verify_files(forge([field], [Block(4, [variable(b"", character, b"", b"")])])).ok
    missing = plain(b"\x01" + bytes(63) + variable(b"a", character[:1]).stored)
    assert verify_files(forge([field | {"optional": True}], [Block(2, [missing])])).ok
