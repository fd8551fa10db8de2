"""What a block aims at, and what the pages of a shard share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from recordio import DatasetWriter, Scalar, Schema, ShardDataset
from recordio.format.codec import Compression, PageCoder
from recordio.writer.shard_writer import WriteOptions

WIDE = 4000


def schema_of(fields: int) -> Schema:
    return Schema({f"f{k}": Scalar("float32") for k in range(fields)})


def columns_of(fields: int, rows: int) -> dict[str, Any]:
    values = np.random.default_rng(0).random((fields, rows), np.float32)
    return {f"f{k}": values[k] for k in range(fields)}


def disk_nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize(
    ("fields", "options", "nbytes"),
    [
        (1, {}, 256 << 10),
        (128, {}, 256 << 10),
        (129, {}, 129 << 11),
        (4096, {}, 8 << 20),
        (4096, {"shard_bytes": 3 << 20}, 3 << 20),
        (4096, {"shard_bytes": 1000}, 256 << 10),
        (1, {"block_bytes": 1000}, 1000),
        (4096, {"block_bytes": 1000}, 1000),
        (4096, {"block_bytes": 256 << 10}, 256 << 10),
        (4096, {"block_bytes": 9 << 20, "shard_bytes": 1000}, 9 << 20),
    ],
)
def test_block_aims_at_what_was_asked_or_at_2_kib_a_field_from_256_kib_on(
    fields: int, options: dict[str, int], nbytes: int
) -> None:
    assert WriteOptions(**options).block_target(schema_of(fields)) == nbytes


def test_four_thousand_fields_take_at_most_an_eighth_more_than_their_values(tmp_path: Path) -> None:
    columns = columns_of(WIDE, 1000)
    with DatasetWriter(tmp_path, schema_of(WIDE), compression=None) as writer:
        writer.write_batch(columns)
    assert disk_nbytes(tmp_path) < 1.125 * 4 * WIDE * 1000  # statistics are a fifth of it
    assert ShardDataset(tmp_path).store.manifest.shards[0].runs == ((512, 1), (488, 1))  # 8,192,000 bytes a block


def test_asked_size_of_a_block_holds_for_many_fields_too(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, schema_of(WIDE), block_bytes=1 << 18) as writer:
        writer.write_batch(columns_of(WIDE, 34))
    assert ShardDataset(tmp_path).store.manifest.shards[0].runs == ((17, 2),)


def test_fields_share_the_memory_of_compressors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, int]] = []
    real = zstandard.ZstdCompressor
    monkeypatch.setattr(zstandard, "ZstdCompressor", lambda **options: made.append(options) or real(**options))
    with DatasetWriter(tmp_path, schema_of(50), shard_samples=10) as writer:
        writer.write_batch(columns_of(50, 30))
    assert sorted(one["level"] for one in made) == [-1] * 3 + [3] * 3  # two a shard


@pytest.mark.parametrize("level", ["zstd:1", "zstd", "zstd:9", "zstd:19", "auto"])
def test_shared_compressor_codes_each_page_as_one_of_its_own(level: str) -> None:
    compression = Compression.parse(level)
    shared = compression.compressors()
    random = np.random.default_rng(1)
    for nbytes in (2000, 300_000, 1500, 70_000, 5000, 1024):
        content = random.integers(0, 40, nbytes, np.uint8).tobytes()
        assert PageCoder(compression, shared).encode(content) == PageCoder(compression).encode(content)
