"""Datasets of a bucket are merged, appended, resharded, split and exported as those of folders are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, DatasetWriter, ShardDataset
from recordio.format.manifest import FILE_NAME
from recordio.remote.write_target import RemoteTarget
from tests.recordio.remote.buckets import Bucket

LAYOUT: dict[str, Any] = {"compression": None, "shard_bytes": 1 << 12, "block_bytes": 1 << 10}


def dataset(path: Any, start: int, **given: Any) -> Any:
    schema = {"n": recordio.Scalar("int64"), "text": recordio.Text()}
    with DatasetWriter(path, schema, **LAYOUT, **given) as writer:
        for n in range(start, start + 100):
            writer.write({"n": n, "text": f"text {n} " * 10})
    return path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"edits/{tmp_path.name}"


@pytest.fixture
def pair(bucket: Bucket, path: str, tmp_path: Path) -> tuple[list[Any], list[str]]:
    """Two datasets in folders, and the same two in the bucket."""
    folders = [dataset(tmp_path / name, start) for name, start in (("a", 0), ("b", 100))]
    return folders, [bucket.upload(folder, f"{path}/{folder.name}") for folder in folders]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def objects(bucket: Bucket, path: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{path}/"): data for name, data in bucket.files(path + "/").items()}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_merge(bucket: Bucket, path: str, pair: Any, tmp_path: Path, workers: int) -> None:
    folders, urls = pair
    recordio.merge(tmp_path / "all", folders)
    given = {"storage": bucket.storage, "workers": workers}
    report = recordio.merge(bucket.url(f"{path}/all"), urls, **given)
    assert objects(bucket, f"{path}/all") == files(tmp_path / "all")
    assert report.copied == report.shards > 4
    assert recordio.merge(bucket.url(f"{path}/all"), urls, **given).done_before


def test_an_append_adds_nothing_twice(bucket: Bucket, path: str, pair: Any) -> None:
    (_, folder), (url, other) = pair
    before = objects(bucket, f"{path}/a")
    recordio.append(url, folder, storage=bucket.storage)
    report = recordio.append(url, other, storage=bucket.storage)
    assert report.done_before
    found = ShardDataset(url, storage=bucket.storage, cache=None)
    assert found.column("n").tolist() == list(range(200))
    assert before.items() - {FILE_NAME: before[FILE_NAME]}.items() <= objects(bucket, f"{path}/a").items()


def test_a_reshard_and_a_split(bucket: Bucket, path: str, pair: Any, tmp_path: Path) -> None:
    (folder, _), (url, _) = pair
    layout = {"compression": None, "shard_bytes": 1 << 13, "block_bytes": 1 << 11}
    recordio.reshard(folder, tmp_path / "new", shuffle=1, **layout)
    recordio.reshard(url, bucket.url(f"{path}/new"), shuffle=1, **layout, storage=bucket.storage)
    assert objects(bucket, f"{path}/new") == files(tmp_path / "new")
    recordio.split(folder, tmp_path / "parts", {"x": 0.5, "y": 0.5})
    recordio.split(url, bucket.url(f"{path}/parts"), {"x": 0.5, "y": 0.5}, storage=bucket.storage)
    for part in ("x", "y"):
        assert objects(bucket, f"{path}/parts/{part}") == files(tmp_path / "parts" / part)


def test_an_export_reads_from_a_bucket_and_writes_into_one(
    bucket: Bucket, path: str, pair: Any, tmp_path: Path
) -> None:
    (folder, _), (url, _) = pair
    recordio.export(folder, tmp_path / "here", to="jsonl")
    recordio.export(url, tmp_path / "there", to="jsonl", storage=bucket.storage)
    assert files(tmp_path / "here") == files(tmp_path / "there")
    recordio.export(url, bucket.url(f"{path}/files"), to="jsonl", storage=bucket.storage)
    assert objects(bucket, f"{path}/files") == files(tmp_path / "here")


def test_an_edit_that_was_stopped_goes_on(
    bucket: Bucket, path: str, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, urls = pair
    asked: list[str] = []

    def ask(target: RemoteTarget, what: str, *args: Any, ask: Any = RemoteTarget._ask) -> Any:
        asked.append(what)
        if asked.count("upload") > 3:
            raise KeyboardInterrupt
        return ask(target, what, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteTarget, "_ask", ask)
        with pytest.raises(KeyboardInterrupt):
            recordio.merge(bucket.url(f"{path}/all"), urls, storage=bucket.storage)
    recordio.merge(tmp_path / "all", folders)
    assert recordio.merge(bucket.url(f"{path}/all"), urls, storage=bucket.storage).reused == 3
    assert objects(bucket, f"{path}/all") == files(tmp_path / "all")


def test_a_destination_in_a_source_is_refused(bucket: Bucket, pair: Any) -> None:
    _, (url, other) = pair
    with pytest.raises(DatasetError, match="the source itself"):
        recordio.reshard(url, url + "/", storage=bucket.storage)
    with pytest.raises(DatasetError, match="lies in the source"):
        recordio.merge(f"{url}/all", [other, url], storage=bucket.storage)
