"""A dataset in a bucket gives what the same dataset on disk gives."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, DatasetError, SchemaError, ShardDataset
from recordio.remote.remote_stats import remote_stats
from recordio.remote.remote_storage import RemoteStorage
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import same

COUNT = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "data"
    schema = {"x": recordio.Array("float32", (20,)), "text": recordio.Text(), "number": recordio.Scalar("int64")}
    with recordio.DatasetWriter(folder, schema, shard_bytes=1 << 14, block_bytes=1 << 12) as writer:
        for n in range(COUNT):
            writer.write({"x": np.full(20, n / 7, np.float32), "text": f"text {n}" * (n % 5), "number": n})
    return folder


@pytest.fixture(params=["memory", "disk", "full"])
def options(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> dict[str, Any]:
    cache = {"memory": None}.get(request.param, tmp_path / "cache")
    return {"storage": bucket.storage, "cache": cache, "cache_bytes": 40_000 if request.param == "full" else None}


def test_samples_columns_and_batches_are_those_of_the_folder(url: str, folder: Path, options: dict[str, Any]) -> None:
    ds, local = ShardDataset(url, **options), ShardDataset(folder)
    assert len(ds) == COUNT
    for n in (0, 7, COUNT - 1):
        assert same(ds[n], local[n])
    assert ds.column("number").tolist() == list(range(COUNT))
    some = np.random.default_rng(0).permutation(COUNT)
    assert same(ds.take(some), local.take(some))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_are_those_of_the_folder(url: str, folder: Path, options: dict[str, Any], num_workers: int) -> None:
    loader = DataLoader(ShardDataset(url, **options), 32, shuffle=True, num_workers=num_workers, window_bytes=1 << 14)
    local = DataLoader(ShardDataset(folder), 32, shuffle=True, window_bytes=1 << 14)
    for _ in range(2):
        for batch, expected in zip(loader, local, strict=True):
            assert same(batch, expected)


@pytest.mark.parametrize("field", ["text", "number"])
def test_batches_by_length_are_those_of_the_folder(url: str, folder: Path, options: dict[str, Any], field: str) -> None:
    given: dict[str, Any] = {"batch_tokens": COUNT, "bucket_by": field, "shuffle": True, "window_bytes": 1 << 14}
    loader, local = DataLoader(ShardDataset(url, **options), **given), DataLoader(ShardDataset(folder), **given)
    for _ in range(2):
        for batch, expected in zip(loader, local, strict=True):
            assert loader.state_dict() == local.state_dict()
            assert same(batch, expected)


def test_what_is_decoded_is_not_fetched_again(url: str, bucket: Bucket) -> None:
    ds = ShardDataset(url, storage=bucket.storage, cache=None)
    stats, rows = [], [0, 100, 300, COUNT - 1]
    for _ in range(3):
        ds.take(rows)
        stats.append(remote_stats())
    requests = [one.requests for one in stats if one is not None]
    assert requests[0] == requests[1] == requests[2]
    assert isinstance(ds.store.storage, RemoteStorage)
    assert ds.store.storage.arena is not None
    assert ds.store.storage.arena.live_nbytes == 0  # nothing waits that nobody reads


def test_the_blocks_of_one_shard_are_asked_for_at_once(bucket: Bucket, tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "one", {"x": recordio.Bytes()}, block_bytes=1 << 12) as writer:
        for n in range(40):
            writer.write({"x": bytes([n]) * (1 << 11)})
    ds = ShardDataset(bucket.upload(tmp_path / "one", "one"), storage=bucket.storage, cache=None)
    assert len(ds.store.manifest.shards) == 1
    ds[0]
    before = remote_stats()
    assert ds.take([5, 15, 25, 35])["x"] == [bytes([n]) * (1 << 11) for n in (5, 15, 25, 35)]
    after = remote_stats()
    assert before is not None
    assert after is not None
    assert after.requests - before.requests == 1  # gaps of so few bytes are cheaper than requests


def test_a_pickled_dataset_asks_for_no_manifest(url: str, bucket: Bucket, folder: Path) -> None:
    ds = ShardDataset(url, storage=bucket.storage, cache=None)
    data = pickle.dumps(ds)
    assert b"secret-of-the-test" not in data
    assert same(pickle.loads(data)[3], ShardDataset(folder)[3])


def test_no_dataset_at_a_url(bucket: Bucket) -> None:
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        ShardDataset(bucket.url("nothing"), storage=bucket.storage, cache=None)


def test_verify_reads_in_place_and_finds_a_flipped_bit(url: str, bucket: Bucket, folder: Path) -> None:
    whole = recordio.verify(url, storage=bucket.storage)
    other = {"path": "", "proven": ()}  # nothing says whether an object was replaced
    assert whole.to_json() | other == recordio.verify(folder).to_json() | other
    with pytest.raises(SchemaError, match="since is for a folder"):
        recordio.verify(url, since=whole, storage=bucket.storage)
    assert recordio.verify(url, sample=20, storage=bucket.storage).ok
    with pytest.raises(DatasetError, match="verify a copy here"):
        recordio.verify(url, quarantine=True, storage=bucket.storage)
    for level in ("full", "quick"):
        assert recordio.verify(url, level, storage=bucket.storage).ok
    data = bytearray((folder / "shard-00001.rio").read_bytes())
    data[len(data) // 2] ^= 1
    damaged = bucket.upload(folder, "damaged")
    bucket.client.put_object(Bucket=bucket.name, Key="damaged/shard-00001.rio", Body=bytes(data))
    [problem] = recordio.verify(damaged, storage=bucket.storage).problems
    assert problem.place.file == "shard-00001.rio"
    assert problem.place.block is not None
    assert problem.place.field is not None


def test_commands_take_urls(
    url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key-of-the-test", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}
    for name, value in {**keys, "RECORDIO_CACHE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    options = ["--storage", f"endpoint={bucket.endpoint}", "--storage", "region=us-east-1"]
    assert main(["verify", url, *options]) == 0
    assert main(["info", url, "--json", *options]) == 0
    assert main(["show", url, "--index", "7", *options]) == 0
    assert "text 7" in capsys.readouterr().out


def test_damaged_blocks_are_left_out_as_the_list_says(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    data = bytearray((damaged / "shard-00001.rio").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "shard-00001.rio").write_bytes(data)
    url = bucket.upload(damaged, "skipped")
    with pytest.raises(DatasetError, match="needs quarantine"):
        ShardDataset(url, storage=bucket.storage, cache=None, on_damage="skip")
    recordio.verify(damaged, quarantine=True)
    ds = ShardDataset(bucket.upload(damaged, "listed"), storage=bucket.storage, cache=None, on_damage="skip")
    local = ShardDataset(damaged, on_damage="skip")
    assert 0 < len(ds) == len(local) < COUNT
    assert ds.column("number").tolist() == local.column("number").tolist()


def test_a_repair_takes_what_is_missing_from_a_bucket(url: str, bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    data = bytearray((damaged / "shard-00001.rio").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "shard-00001.rio").write_bytes(data)
    (damaged / "shard-00000.rio").unlink()
    (damaged / "manifest.json").unlink()
    report = recordio.repair(damaged, tmp_path / "new", source=url, storage=bucket.storage)
    assert (report.lost, report.samples) == ((), COUNT)
    assert f"shard-00001.rio: 1 block from {url}/shard-00001.rio" in report.mended
    recordio.repair(damaged, in_place=True, source=url, storage=bucket.storage)
    assert recordio.diff(folder, damaged).ok
    assert recordio.diff(folder, tmp_path / "new").ok


def test_a_dataset_in_a_bucket_is_repaired_into_a_folder(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "shard-00000.rio").unlink()
    url = bucket.upload(damaged, "torn")
    here = recordio.repair(damaged, tmp_path / "here")
    there = recordio.repair(url, tmp_path / "there", storage=bucket.storage)
    assert there.lost == here.lost
    assert there.samples == here.samples > 0
    assert recordio.diff(tmp_path / "here", tmp_path / "there").ok
    found = [str(one) for one in recordio.diff(folder, url, storage=bucket.storage).differences]
    assert found == ["shard-00000.rio: in the second: the shard is missing"]
    assert recordio.repair(url, tmp_path / "there", storage=bucket.storage).done_before
    with pytest.raises(DatasetError, match="into a new one on this machine"):
        recordio.repair(url, in_place=True, storage=bucket.storage)
    bucket.client.delete_object(Bucket=bucket.name, Key="torn/manifest.json")
    with pytest.raises(DatasetError, match="repair a copy of it on this machine"):
        recordio.repair(url, storage=bucket.storage)
