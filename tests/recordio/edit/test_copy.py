"""A copy has the bytes of its source, wherever either lies, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import CorruptError, DatasetError, ShardDataset
from recordio.edit import copy as copy_module
from recordio.edit.copy_ends import RemoteEnd
from recordio.format.manifest import FILE_NAME
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket

COUNT = 300


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "data"
    schema = {"x": recordio.Array("float32", (100,)), "text": recordio.Text()}
    with recordio.DatasetWriter(folder, schema, compression=None, shard_bytes=1 << 15, block_bytes=1 << 13) as writer:
        for n in range(COUNT):
            writer.write({"x": np.full(100, n, np.float32), "text": f"text {n}"})
    return folder


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"copies/{tmp_path.name}"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def objects(bucket: Bucket, path: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{path}/"): data for name, data in bucket.files(path).items()}


def test_between_any_two_places(bucket: Bucket, path: str, source: Path, tmp_path: Path) -> None:
    there, again, storage = bucket.url(f"{path}/a"), bucket.url(f"{path}/b"), bucket.storage
    report = recordio.copy(source, there, storage=storage)
    assert (report.samples, report.copied, report.reused) == (COUNT, len(files(source)) - 1, 0)
    recordio.copy(there, again, storage=storage)
    recordio.copy(again, tmp_path / "here", storage=storage)
    recordio.copy(tmp_path / "here", tmp_path / "there")
    assert files(source) == objects(bucket, f"{path}/a") == objects(bucket, f"{path}/b")
    assert files(source) == files(tmp_path / "here") == files(tmp_path / "there")
    assert len(files(source)) > 3


@pytest.mark.parametrize("remote", [False, True])
def test_a_copy_goes_on_where_it_was_stopped(
    bucket: Bucket, path: str, source: Path, tmp_path: Path, remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination: Any = bucket.url(path) if remote else tmp_path / "here"
    done = []

    def stop(*given: Any, prove: Any = copy_module.prove) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(prove(*given))

    with monkeypatch.context() as patch:
        patch.setattr(copy_module, "prove", stop)
        with pytest.raises(KeyboardInterrupt):
            recordio.copy(source, destination, storage=bucket.storage, workers=1)
    seen: list[tuple[int, int]] = []
    report = recordio.copy(
        source, destination, storage=bucket.storage, progress=lambda done, total: seen.append((done, total))
    )
    assert report.reused == 2
    assert seen[-1][0] == seen[-1][1] < report.nbytes
    assert recordio.copy(source, destination, storage=bucket.storage).done_before
    assert (objects(bucket, path) if remote else files(tmp_path / "here")) == files(source)


def test_a_lost_shard_is_copied_again(bucket: Bucket, path: str, source: Path) -> None:
    recordio.copy(source, bucket.url(path), storage=bucket.storage)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{path}/shard-00001.rio")
    report = recordio.copy(source, bucket.url(path), storage=bucket.storage)
    assert (report.copied, report.done_before) == (1, False)
    assert objects(bucket, path) == files(source)


@pytest.mark.parametrize("remote", [False, True])
def test_damage_is_not_copied(bucket: Bucket, path: str, source: Path, tmp_path: Path, remote: bool) -> None:
    recordio.copy(source, tmp_path / "damaged")
    shard = tmp_path / "damaged" / "shard-00001.rio"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    begin: Any = bucket.upload(tmp_path / "damaged", f"{path}/from") if remote else tmp_path / "damaged"
    for destination in (tmp_path / "to", bucket.url(f"{path}/to")):
        with pytest.raises(CorruptError, match=r"checksum .*shard-00001\.rio, block \d"):
            recordio.copy(begin, destination, storage=bucket.storage)
    assert "shard-00001.rio" not in {*files(tmp_path / "to"), *objects(bucket, f"{path}/to")}
    assert FILE_NAME not in {*files(tmp_path / "to"), *objects(bucket, f"{path}/to")}
    assert not [name for name in files(tmp_path / "to") if name.startswith(".")]


@pytest.mark.parametrize("remote", [False, True])
def test_another_dataset_is_not_replaced(bucket: Bucket, path: str, source: Path, tmp_path: Path, remote: bool) -> None:
    destination: Any = bucket.url(path) if remote else tmp_path / "here"
    given = {"storage": bucket.storage}
    with recordio.DatasetWriter(destination, {"n": recordio.Scalar("int64")}, **given) as writer:
        writer.write({"n": 1})
    with pytest.raises(DatasetError, match="another dataset here"):
        recordio.copy(source, destination, **given)
    with pytest.raises(DatasetError, match="another file under this name"):
        recordio.copy(source, destination, overwrite=True, **given)
    assert len(ShardDataset(destination, cache=None, **given)) == 1


@pytest.mark.parametrize("remote", [False, True])
def test_a_dataset_that_has_grown_is_copied_over(
    bucket: Bucket, path: str, source: Path, tmp_path: Path, remote: bool
) -> None:
    destination: Any = bucket.url(path) if remote else tmp_path / "here"
    recordio.copy(source, tmp_path / "grown")
    recordio.copy(source, destination, storage=bucket.storage)
    with recordio.DatasetWriter(tmp_path / "grown", mode="append") as writer:
        writer.write({"x": np.zeros(100, np.float32), "text": ""})
    report = recordio.copy(tmp_path / "grown", destination, overwrite=True, storage=bucket.storage)
    assert report.copied == 1
    assert len(ShardDataset(destination, storage=bucket.storage, cache=None)) == COUNT + 1


def test_a_lost_race_is_told(bucket: Bucket, path: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = bucket.url(path)

    def put(end: RemoteEnd, *given: Any, put: Any = RemoteEnd.put) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=f"{path}/{FILE_NAME}", Body=b"another's")
        put(end, *given)

    monkeypatch.setattr(RemoteEnd, "put", put)
    with pytest.raises(DatasetError, match="another writer has published there meanwhile"):
        recordio.copy(source, url, storage=bucket.storage)
    assert objects(bucket, path)[FILE_NAME] == b"another's"


def test_no_dataset_to_copy(bucket: Bucket, path: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        recordio.copy(tmp_path / "nothing", tmp_path / "to")
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        recordio.copy(bucket.url(path), tmp_path / "to", storage=bucket.storage)
    assert not (tmp_path / "to").exists()


def test_the_command_copies_splits(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        recordio.copy(source, tmp_path / "all" / split)
    assert main(["copy", str(tmp_path / "all"), str(tmp_path / "there"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["datasets"]
    assert [one["split"] for one in facts] == ["train", "val"]
    assert main(["copy", str(tmp_path / "all"), str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.count("was there already") == 2
    assert files(tmp_path / "there" / "val") == files(source)
