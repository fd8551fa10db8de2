"""A writer into a bucket gives the files of a writer into a folder; of two writers one wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DatasetError, DatasetWriter, ShardDataset
from recordio.format.manifest import FILE_NAME
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.racing_writers import LAYOUT, SCHEMA, add, one_wins


def write(path: Any, start: int = 0, count: int = 200, **given: Any) -> None:
    add(DatasetWriter(path, SCHEMA, **LAYOUT, **given), range(start, start + count))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def objects(bucket: Bucket, path: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{path}/"): data for name, data in bucket.files(path).items()}


def numbers(bucket: Bucket, url: str) -> list[int]:
    found: list[int] = ShardDataset(url, storage=bucket.storage, cache=None).column("n").tolist()
    assert recordio.ShardDataset(url, storage=bucket.storage, cache=None)[-1]["n"] == found[-1]
    return found


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"writers/{tmp_path.name}"


def test_the_objects_are_the_files_of_a_folder(bucket: Bucket, path: str, tmp_path: Path) -> None:
    write(tmp_path / "local")
    write(bucket.url(path), storage=bucket.storage)
    assert objects(bucket, path) == files_of(tmp_path / "local")
    assert len(files_of(tmp_path / "local")) > 4


def test_create_refuses_a_dataset_that_is_there(bucket: Bucket, path: str) -> None:
    write(bucket.url(path), storage=bucket.storage)
    before = objects(bucket, path)
    with pytest.raises(DatasetError, match="there is a dataset here already"):
        write(bucket.url(path), storage=bucket.storage)
    assert objects(bucket, path) == before


def test_append_adds_and_overwrite_replaces(bucket: Bucket, path: str) -> None:
    url, storage = bucket.url(path), bucket.storage
    write(url, storage=storage)
    write(url, 200, 50, mode="append", storage=storage)
    assert numbers(bucket, url) == list(range(250))
    before = set(objects(bucket, path))
    write(url, 1000, 10, mode="overwrite", storage=storage)
    assert numbers(bucket, url) == list(range(1000, 1010))
    assert before < set(objects(bucket, path))  # readers of the old dataset may be at work


def test_a_damaged_manifest_can_be_overwritten(bucket: Bucket, path: str) -> None:
    url = bucket.url(path)
    bucket.client.put_object(Bucket=bucket.name, Key=f"{path}/{FILE_NAME}", Body=b"{}")
    write(url, mode="overwrite", storage=bucket.storage)
    assert len(numbers(bucket, url)) == 200


def test_an_abort_publishes_nothing_and_the_next_run_uses_what_was_sent(bucket: Bucket, path: str) -> None:
    url = bucket.url(path)
    writer = DatasetWriter(url, SCHEMA, **LAYOUT, storage=bucket.storage)
    for n in range(150):
        writer.write({"x": np.full(100, n, np.float32), "n": n})
    writer.abort()
    sent = objects(bucket, path)
    assert sent
    assert FILE_NAME not in sent
    write(url, storage=bucket.storage)
    now = objects(bucket, path)
    assert sent.items() <= now.items()
    assert len(now) == len({*now} | {f"shard-{n:05}.rio" for n in range(len(now) - 1)})


def test_a_shard_of_another_keeps_its_name(bucket: Bucket, path: str) -> None:
    url = bucket.url(path)
    bucket.client.put_object(Bucket=bucket.name, Key=f"{path}/shard-00001.rio", Body=b"another's")
    write(url, storage=bucket.storage)
    assert objects(bucket, path)["shard-00001.rio"] == b"another's"
    assert numbers(bucket, url) == list(range(200))


def test_nothing_is_left_on_this_machine(
    bucket: Bucket, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    most = 0
    with DatasetWriter(bucket.url(path), SCHEMA, **LAYOUT, storage=bucket.storage) as writer:
        for n in range(400):
            writer.write({"x": np.full(100, n, np.float32), "n": n})
            most = max(most, len([*tmp_path.glob("*/.shard*")]))
    assert 1 < most <= 4
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_of_two_writers_one_wins_and_its_dataset_is_whole(bucket: Bucket, path: str, times: int) -> None:
    one_wins(bucket.url(path), bucket.storage, times)
