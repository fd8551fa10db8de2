"""Datasets on disk, in a bucket, and at a server that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recordio import ShardDataset
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import write_dataset
from tests.recordio.remote.faulty_server import FaultyServer, faulty_server
from tests.recordio.remote.stored_dataset import Stored, small_dataset


@pytest.fixture(autouse=True)
def _no_small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards of tests are small, and stand for large ones: test_small_shards.py has those that come as a whole."""
    monkeypatch.setattr("recordio.remote.remote_shard.SMALL_NBYTES", 0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return small_dataset(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture
def server(stored: Stored) -> Iterator[FaultyServer]:
    with faulty_server(stored.below("data")) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("local") / "data")


@pytest.fixture(scope="module")
def url(bucket: Bucket, folder: Path, request: pytest.FixtureRequest) -> str:
    """Of the dataset of the folder, in a place of the bucket that only this file uses."""
    return bucket.upload(folder, request.module.__name__)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def opened(url: str, bucket: Bucket, cache: Path) -> Callable[..., ShardDataset]:
    """Opens the dataset in the bucket, with these options besides."""
    return lambda **options: ShardDataset(url, **{"storage": bucket.storage, "cache": cache, **options})
