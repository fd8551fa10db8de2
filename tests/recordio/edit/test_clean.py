"""Cleaning finds what the manifest does not name, by our own names alone, and removes it only when asked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, DatasetWriter, ShardDataset
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket

FOREIGN = ["notes.txt", "shard-1.rio.bak", "ashard-00001.rio", "deep/shard-00009.rio", ".convert/x/1.json"]
LEFT = ["shard-00007.rio", ".recordio-probe-12", f".convert/{'0' * 32}/3.json"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"cleaned/{tmp_path.name}"


@pytest.fixture
def url(bucket: Bucket, path: str) -> str:
    """A dataset that was replaced once, with what writers and others have left."""
    for mode in ("create", "overwrite"):
        with DatasetWriter(bucket.url(path), {"n": recordio.Scalar("int64")}, mode=mode, storage=bucket.storage) as w:  # type: ignore[arg-type]
            w.write({"n": len(mode)})
    for name in (*FOREIGN, *LEFT):
        bucket.client.put_object(Bucket=bucket.name, Key=f"{path}/{name}", Body=b"left")
    return bucket.url(path)


def names(bucket: Bucket, path: str) -> set[str]:
    return {name.removeprefix(f"{path}/") for name in bucket.files(path)}


def test_what_is_left_is_listed_and_removed_on_request(bucket: Bucket, path: str, url: str) -> None:
    before = names(bucket, path)
    report = recordio.clean(url, hours=1e-9, storage=bucket.storage)
    assert {one.name for one in report.leftovers} == {"shard-00000.rio", *LEFT}
    assert not report.removed
    assert names(bucket, path) == before
    assert recordio.clean(url, hours=1e-9, remove=True, storage=bucket.storage).removed
    assert names(bucket, path) == {"manifest.json", "shard-00001.rio", *FOREIGN}
    assert ShardDataset(url, storage=bucket.storage, cache=None)[0]["n"] == len("overwrite")


def test_what_is_new_stays(bucket: Bucket, path: str, url: str) -> None:
    report = recordio.clean(url, remove=True, storage=bucket.storage)
    assert (report.leftovers, report.newer) == ((), 4)
    assert "shard-00000.rio" in names(bucket, path)


def test_without_a_manifest_nothing_is_left_over(bucket: Bucket, path: str, url: str) -> None:
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{path}/manifest.json")
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        recordio.clean(url, hours=1e-9, remove=True, storage=bucket.storage)


def test_a_folder_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    with DatasetWriter(folder, {"n": recordio.Scalar("int64")}) as writer:
        writer.write({"n": 1})
    for name in ("shard-00005.rio", "shard-00006.rio", "other"):
        (folder / name).write_bytes(b"1234")
    os.utime(folder / "shard-00005.rio", (0, 0))
    assert main(["clean", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "shard-00005.rio" in out
    assert "1 file, 4 B that nothing refers to; 1 newer ones stay; --yes removes them" in out
    assert main(["clean", str(folder), "--yes", "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (facts["removed"], facts["nbytes"]) == (True, 4)
    assert {one.name for one in folder.iterdir()} == {"manifest.json", "shard-00000.rio", "shard-00006.rio", "other"}
    assert main(["clean", str(folder)]) == 0
    assert "nothing to remove" in capsys.readouterr().out
