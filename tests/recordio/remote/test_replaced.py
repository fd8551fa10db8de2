"""A dataset in a store that is replaced, cut or deleted while it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recordio import CorruptError, DatasetError, ShardDataset
from tests.recordio.remote.faulty_server import FaultyServer
from tests.recordio.remote.stored_dataset import COUNT, QUICK, SHARD, small_dataset

pytestmark = pytest.mark.timeout(20)
EVERY = np.arange(COUNT)


@pytest.fixture
def dataset(server: FaultyServer) -> ShardDataset:
    found = ShardDataset(server.dataset, storage=QUICK, cache=None)
    assert found[0]["number"] == 0
    return found


def test_another_dataset(dataset: ShardDataset, server: FaultyServer, tmp_path: Path) -> None:
    server.objects = small_dataset(tmp_path / "other", offset=1000).below("data")
    server.etags = dict.fromkeys(server.objects, '"second"')
    with pytest.raises(DatasetError, match="replaced since it was opened"):
        dataset.take(EVERY)


def test_only_the_bytes_of_a_shard(dataset: ShardDataset, server: FaultyServer) -> None:
    name = f"data/{SHARD}"
    server.objects[name] = server.objects[name][:1000] + bytes(len(server.objects[name]) - 1000)
    with pytest.raises(CorruptError, match=SHARD):
        dataset.take(EVERY)


def test_the_same_bytes_under_another_etag(dataset: ShardDataset, server: FaultyServer) -> None:
    server.etags = dict.fromkeys(server.objects, '"copied"')
    assert dataset.take(EVERY)["number"].tolist() == EVERY.tolist()


def test_what_is_read_is_pinned_by_its_etag(server: FaultyServer) -> None:
    ShardDataset(server.dataset, storage=QUICK, cache=None).take(EVERY)
    pins = [request.headers.get("if-match") for request in server.asked(f"data/{SHARD}")]
    assert pins[0] is None
    assert pins[-1] == '"first"'


@pytest.mark.parametrize("left", [0, 1000])
def test_a_shard_that_is_deleted_or_cut(left: int, dataset: ShardDataset, server: FaultyServer) -> None:
    name = "data/shard-00001.rio"
    server.objects[name] = server.objects[name][:left]
    if not left:
        del server.objects[name]
    with pytest.raises(CorruptError, match="cut, or replaced" if left else "the shard is missing") as caught:
        dataset.take(EVERY)
    assert caught.value.place.file == "shard-00001.rio"
