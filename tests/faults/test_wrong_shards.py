"""Shards swapped, duplicated, missing, foreign or stale: all are named when the dataset is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import recordio
from recordio import CorruptError, ShardDataset, verify
from tests.faults import forging
from tests.faults.reading import open_files
from tests.faults.samples import some


def names(path: Path) -> list[Path]:
    return sorted(path.glob("shard-*.rio"))


def refused(path: Path, *shards: Path) -> None:
    """The dataset does not open, the error names exactly these shards, and verify reports the same."""
    with pytest.raises(CorruptError) as caught:
        ShardDataset(path)
    told = {shard.name for shard in names(path) if shard.name in str(caught.value)}
    told |= {shard.name for shard in shards if shard.name in str(caught.value)}
    assert told == {shard.name for shard in shards}, str(caught.value)
    for level in ("quick", "full"):
        assert {problem.place.file for problem in verify(path, level).problems} == told


def test_missing_shards_are_all_named(tmp_path: Path) -> None:
    shards = names(some(tmp_path))
    for shard in shards[1:]:
        shard.unlink()
    refused(tmp_path, *shards[1:])


def test_both_swapped_shards_are_named(tmp_path: Path) -> None:
    shards = names(some(tmp_path))
    shards[0].rename(tmp_path / "x")
    shards[2].rename(shards[0])
    (tmp_path / "x").rename(shards[2])
    refused(tmp_path, shards[0], shards[2])


def test_duplicated_shard_is_named(tmp_path: Path) -> None:
    shards = names(some(tmp_path))
    shutil.copy(shards[0], shards[1])
    refused(tmp_path, shards[1])


def test_shard_of_another_dataset_is_named(tmp_path: Path) -> None:
    shards, others = names(some(tmp_path / "a")), names(some(tmp_path / "b", start=30))
    shutil.copy(others[1], shards[1])
    refused(tmp_path / "a", shards[1])


def test_shard_of_the_same_length_with_other_values_is_named(tmp_path: Path) -> None:
    schema = {"x": recordio.Array("uint8", (200,))}
    for name, value in (("a", 1), ("b", 2)):
        with recordio.DatasetWriter(tmp_path / name, schema, compression=None) as writer:
            writer.write({"x": [value] * 200})
    good, other = names(tmp_path / "a")[0], names(tmp_path / "b")[0]
    assert good.stat().st_size == other.stat().st_size
    shutil.copy(other, good)
    refused(tmp_path / "a", good)


def test_shard_rewritten_under_the_manifest_is_named(tmp_path: Path) -> None:
    """Same dataset id and number: the id depends only on the schema and the first samples."""
    schema = {"x": recordio.Scalar("int64")}
    for name, last in (("a", 1), ("b", 2)):
        with recordio.DatasetWriter(
            tmp_path / name, schema, compression=None, shard_samples=4, block_bytes=16
        ) as writer:
            for value in (1, 2, 3, 4, 5, 6, 7, last):
                writer.write({"x": value})
    old, new = names(tmp_path / "a")[1], names(tmp_path / "b")[1]
    assert old.stat().st_size == new.stat().st_size
    shutil.copy(new, old)
    refused(tmp_path / "a", old)


def test_stale_manifest_names_all_new_shards(tmp_path: Path) -> None:
    old = (some(tmp_path / "old") / "manifest.json").read_bytes()
    path = some(tmp_path / "new", start=7)
    (path / "manifest.json").write_bytes(old)
    refused(path, *names(path))


def test_extra_shard_is_ignored(tmp_path: Path) -> None:
    """It may be the leftover of a killed append."""
    path = some(tmp_path)
    shutil.copy(names(path)[0], path / "shard-00077.rio")
    assert len(ShardDataset(path)) == 30


def test_all_wrong_shards_are_named_at_once(tmp_path: Path) -> None:
    path, other = some(tmp_path / "a", 60), some(tmp_path / "b", 60, start=1)
    shards = names(path)
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    shutil.copy(names(other)[2], shards[2])
    shutil.copy(shards[5], shards[4])
    refused(path, shards[0], shards[1], shards[2], shards[4])


def test_shard_exchanged_after_opening_is_detected_on_read(tmp_path: Path) -> None:
    path, other = some(tmp_path / "a"), some(tmp_path / "b", start=1)
    ds = ShardDataset(path)
    shutil.copy(names(other)[1], names(path)[1])
    assert ds[0]["number"] == 0
    with pytest.raises(CorruptError, match="shard-00001"):
        ds.take([15])


def test_a_shard_whose_header_has_another_schema_is_refused() -> None:
    """All its checksums fit, and its digest is the manifest's."""
    schemas = [[{"name": name, "type": "scalar", "dtype": "uint8"}] for name in "ab"]
    header = json.dumps({"metadata": {}, "schema": schemas[1]}).encode()
    data, entry = forging.shard(header, 1, [forging.Block(2, [forging.plain(b"xy")])])
    manifest = forging.manifest(forging.manifest_value(schemas[0], entry))
    with pytest.raises(CorruptError, match="another shard or another schema"):
        open_files({forging.MANIFEST: manifest, forging.SHARD: data})[0]
