"""Exports into a bucket: the files are those of a folder, and nothing is written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, StorageError
from recordio.remote.write_target import RemoteTarget
from tests.recordio.remote.buckets import Bucket


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with recordio.DatasetWriter(tmp_path / "data", {"text": recordio.Text(), "n": recordio.Scalar()}) as writer:
        for n in range(500):
            writer.write({"text": f"text {n}", "n": n})
    return tmp_path / "data"


@pytest.mark.parametrize("to", ["jsonl", "mds"])
def test_the_files_are_those_of_a_folder(to: str, folder: Path, bucket: Bucket, tmp_path: Path) -> None:
    url = bucket.url(f"exports-{to}")
    there = recordio.export(folder, url, to=to, shard_bytes=4000, storage=bucket.storage)
    here = recordio.export(folder, tmp_path / "here", to=to, shard_bytes=4000)
    found = bucket.files(f"exports-{to}/")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {name.rpartition("/")[2]: data for name, data in found.items()} == expected
    assert (there.destination, there.files, there.nbytes) == (url, here.files, here.nbytes)
    with pytest.raises(DatasetError, match="not empty"):
        recordio.export(folder, url, to=to, storage=bucket.storage)


def test_a_failed_export_leaves_nothing(folder: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    put_new, calls = RemoteTarget.put_new, []

    def fails(target: RemoteTarget, name: str, path: Path) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise StorageError("no more")
        return put_new(target, name, path)

    monkeypatch.setattr(RemoteTarget, "put_new", fails)
    with pytest.raises(StorageError, match="no more"):
        recordio.export(folder, bucket.url("failed"), to="mds", storage=bucket.storage)
    assert len(calls) == 2
    assert bucket.files("failed/") == {}
