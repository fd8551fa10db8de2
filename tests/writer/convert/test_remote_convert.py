"""A conversion into a bucket gives the shards and the manifest of one into a folder, also after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, ShardDataset
from recordio.format.manifest import FILE_NAME
from tests.effort import LONG
from tests.recordio.remote.buckets import Bucket, credentials

LAYOUT: dict[str, Any] = {"compression": None, "shard_bytes": 1 << 11, "block_bytes": 1 << 10}
ROWS = 400
KILLED = """
import os, signal, sys
from recordio.remote.write_target import RemoteTarget

def ask(self, *args, ask=RemoteTarget._ask, calls=[]):
    calls.append(args)
    number = len(calls)
    if number == {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        return ask(self, *args)
    finally:
        if number == {after}:
            os.kill(os.getpid(), signal.SIGKILL)

RemoteTarget._ask = ask
from tests.writer.convert.test_remote_convert import converted
if __name__ == "__main__":
    converted({source!r}, {url!r}, {endpoint!r}, {workers})
"""


def storage(endpoint: str) -> dict[str, Any]:
    return {"endpoint": endpoint, "region": "us-east-1", "credentials": credentials, "retry_seconds": 5.0}


def converted(source: str, url: str, endpoint: str, workers: int) -> Any:
    return recordio.convert(source, url, **LAYOUT, workers=workers, storage=storage(endpoint))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    path.write_text("number,text\n" + "".join(f"{n},{'word ' * (n % 9)}{n}\n" for n in range(ROWS)))
    return path


@pytest.fixture(scope="module")
def local(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a conversion into a folder."""
    folder = tmp_path_factory.mktemp("local") / "data"
    recordio.convert(table, folder, **LAYOUT, workers=1)
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"converted/{tmp_path.name}"


def objects(bucket: Bucket, path: str) -> dict[str, bytes]:
    """But for those that say what the dataset was made of, and those that try whether the store keeps conditions."""
    found = {name.removeprefix(f"{path}/"): data for name, data in bucket.files(path).items()}
    return {name: data for name, data in found.items() if not name.startswith((".source.", ".recordio-probe-"))}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_objects_are_the_files_of_a_folder(
    bucket: Bucket, path: str, table: Path, local: dict[str, bytes], workers: int
) -> None:
    url = bucket.url(path)
    report = converted(str(table), url, bucket.endpoint, workers)
    assert objects(bucket, path) == local
    assert len(local) > 4
    assert (report.destination, report.samples, report.done_before) == (url, ROWS, False)
    assert converted(str(table), url, bucket.endpoint, workers).done_before
    assert ShardDataset(url, storage=bucket.storage, cache=None)[ROWS - 1]["number"] == ROWS - 1


def test_a_dataset_of_another_source_is_replaced_on_request(bucket: Bucket, path: str, tmp_path: Path) -> None:
    url = bucket.url(path)
    for name, count in (("a", 5), ("b", 7)):
        (tmp_path / f"{name}.csv").write_text("number\n" + "".join(f"{n}\n" for n in range(count)))
    recordio.convert(tmp_path / "a.csv", url, storage=bucket.storage)
    with pytest.raises(DatasetError, match="made from another source"):
        recordio.convert(tmp_path / "b.csv", url, storage=bucket.storage)
    recordio.convert(tmp_path / "b.csv", url, overwrite=True, storage=bucket.storage)
    assert len(ShardDataset(url, storage=bucket.storage, cache=None)) == 7


class Numbers:
    """A split."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, n: int) -> dict[str, int]:
        if n >= self.count:
            raise IndexError
        return {"n": n}


def test_splits_and_iterables(bucket: Bucket, path: str) -> None:
    url, given = bucket.url(path), {"storage": bucket.storage}
    recordio.convert({"train": Numbers(3), "test": Numbers(1)}, url, **given)
    assert len(ShardDataset(f"{url}/train", storage=bucket.storage, cache=None)) == 3
    with pytest.raises(DatasetError, match="there are datasets in this folder"):
        recordio.convert(Numbers(1), url, **given)
    recordio.convert(iter([{"n": 1}, {"n": 2}]), f"{url}/stream", **given)
    assert len(ShardDataset(f"{url}/stream", storage=bucket.storage, cache=None)) == 2


def test_the_command(bucket: Bucket, path: str, table: Path) -> None:
    keys = credentials()
    names = {"AWS_ACCESS_KEY_ID": keys["access_key_id"], "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"]}
    store = ["--storage", f"endpoint={bucket.endpoint}", "--storage", "region=us-east-1"]
    words = [sys.executable, "-m", "recordio", "convert", str(table), bucket.url(path), "--json", *store]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **names}, check=True)
    assert f'"samples": {ROWS}' in done.stdout
    assert FILE_NAME in objects(bucket, path)


def killed(bucket: Bucket, url: str, table: Path, before: int, after: int) -> bool:
    """A conversion that is killed before or after it asks the store for the nth time. Whether it was."""
    code = KILLED.format(before=before, after=after, source=str(table), url=url, endpoint=bucket.endpoint, workers=1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_conversion_killed_at_any_step_goes_on_to_the_same_bytes(
    bucket: Bucket, path: str, table: Path, local: dict[str, bytes]
) -> None:
    step, going = 1, True  # an ordinary run tries every third step after the first ones
    while going:
        for k, (before, after) in enumerate(((step, 0), (0, step))):
            here = f"{path}/{step}-{k}"
            going = killed(bucket, bucket.url(here), table, before, after)
            converted(str(table), bucket.url(here), bucket.endpoint, 1)
            assert objects(bucket, here) == local
        step += 1 if LONG or step < 5 else 3
    assert step > 2 * len(local) + 10  # two requests a shard, and what comes before and after


@pytest.mark.parametrize("step", [8, 13])
def test_a_killed_conversion_makes_what_is_missing_alone(
    bucket: Bucket, path: str, table: Path, local: dict[str, bytes], step: int
) -> None:
    assert killed(bucket, bucket.url(path), table, step, 0)
    sent = objects(bucket, path)
    assert FILE_NAME not in sent
    report = converted(str(table), bucket.url(path), bucket.endpoint, 1)
    assert report.reused == sum(name.endswith(".json") for name in sent)
    assert objects(bucket, path) == local
