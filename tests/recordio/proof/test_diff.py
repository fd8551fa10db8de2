"""`diff`: two copies of a dataset, by their digests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import recordio
from recordio import DatasetError, diff
from recordio.format.manifest import FILE_NAME
from tests.recordio.salvage.damage import flip, sample, shard, write


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write(tmp_path / "first")


def words(first: Path, second: Path) -> list[str]:
    return [str(difference) for difference in diff(first, second).differences]


def test_copies_are_the_same(first: Path, tmp_path: Path) -> None:
    report = diff(first, shutil.copytree(first, tmp_path / "second"))
    assert report.ok
    assert (report.shards, report.samples) == (3, 60)


def test_other_values_are_named_by_shard_block_and_field(first: Path, tmp_path: Path) -> None:
    with recordio.DatasetWriter(
        tmp_path / "second",
        recordio.ShardDataset(first).schema,
        shard_samples=20,
        block_bytes=400,
        metadata={"classes": ["a", "b"]},
    ) as writer:
        for n in range(60):
            writer.write(sample(n) | ({"number": 7} if n == 30 else {}))
    report = diff(first, tmp_path / "second")
    (block,) = [one for one in report.differences if one.file is not None]
    assert (block.file, block.field) == ("shard-00001.rio", "number")
    assert json.loads(json.dumps(report.to_json()))["ok"] is False
    assert report.shards == 2


def test_lost_blocks_and_shards_are_only_in_the_first(first: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(first, tmp_path / "broken")
    index = recordio.ShardDataset(first).store.shard(1).index
    flip(shard(broken, 1), int(index.page_offsets[1, 0]))
    shard(broken, 2).unlink()
    recordio.repair(broken, tmp_path / "second")
    assert words(first, tmp_path / "second") == [
        "the statistics differ",
        f"shard-00001.rio, block 1: only the first has these {index.samples[1]} samples",
        "shard-00002.rio: only the first has it, with 20 samples",
    ]


def test_what_is_missing_or_cut_in_one_is_named(first: Path, tmp_path: Path) -> None:
    second = shutil.copytree(first, tmp_path / "second")
    shard(first, 0).unlink()
    shard(second, 2).write_bytes(b"")
    assert words(first, second) == [
        "shard-00000.rio: in the first: the shard is missing",
        f"shard-00002.rio: in the second: the shard has 0 bytes, the manifest says {shard(first, 2).stat().st_size}",
    ]


def test_a_merged_copy_has_the_same_pages(first: Path, tmp_path: Path) -> None:
    recordio.merge(tmp_path / "second", [first])
    found = words(first, tmp_path / "second")
    assert found[0].startswith("the dataset ids are ")
    assert [line for line in found if "pages are the same" in line] == [
        f"shard-0000{k}.rio: the pages are the same, the identity or the metadata in the header is not"
        for k in range(3)
    ]


def test_other_fields_and_metadata_are_named(first: Path, tmp_path: Path) -> None:
    schema = recordio.Schema({"number": recordio.Scalar("int32"), "text": recordio.Text()})
    with recordio.DatasetWriter(tmp_path / "second", schema, metadata={"other": 1}) as writer:
        writer.write({"number": 1, "text": ""})
    found = words(first, tmp_path / "second")
    assert "field 'number': int64 in the first, int32 in the second" in found
    assert any(line.startswith("field 'bytes': ") and line.endswith(", missing in the second") for line in found)
    assert "the metadata 'classes' differs" in found


def test_no_dataset_is_an_error(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        diff(first, tmp_path)
    (first / FILE_NAME).write_bytes(b"{}")
    with pytest.raises(recordio.CorruptError):
        diff(first, first)
