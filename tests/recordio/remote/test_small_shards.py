"""A shard of about a block comes into the cache in one request, and each of its pages is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DataLoader, RecordIOError, ShardDataset
from tests.recordio.remote.datasets import helper_counts, in_children, same
from tests.recordio.remote.faulty_server import FOREVER, MODES, FaultyServer
from tests.recordio.remote.stored_dataset import QUICK, SHARD, Stored
from tests.recordio.remote.test_faults import LASTING, RIGHT


@pytest.fixture(autouse=True)
def _small_shards(_no_small_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.remote.remote_shard.SMALL_NBYTES", 1 << 20)


def fetched(ds: ShardDataset, folder: Path) -> Any:
    """What is asked for in an epoch, of which the batches are those of the folder."""
    before = helper_counts()
    loaders = (DataLoader(one, 16, shuffle=True, num_workers=2) for one in (ds, ShardDataset(folder)))
    for batch, expected in zip(*loaders, strict=True):
        assert same(batch, expected)
    after = helper_counts()
    return {name: after[name] - before[name] for name in ("requests", "bytes_fetched")}


def test_each_shard_is_one_request(opened: Any, folder: Path, cache: Path) -> None:
    ds = opened()
    shards = ds.store.manifest.shards
    nbytes = sum(shard.nbytes for shard in shards)
    assert fetched(ds, folder) == {"requests": len(shards), "bytes_fetched": nbytes}
    assert fetched(opened(), folder) == {"requests": 0, "bytes_fetched": 0}
    assert fetched(opened(offline=True), folder)["requests"] == 0
    assert ds.cached == 1.0


def test_without_a_cache_only_what_is_needed_comes(opened: Any, folder: Path) -> None:
    ds = opened(cache=None)
    assert fetched(ds[:], folder)["requests"] > 2 * len(ds.store.manifest.shards)
    assert all(shard.is_idle for shard in ds.store.storage._shards.values())


def test_a_full_cache_costs_no_sample(opened: Any, folder: Path) -> None:
    ds = opened(cache_bytes=40_000)
    fetched(ds, folder)
    assert ds.store.storage.cache.is_full
    assert 0 < ds.cached < 1


def test_processes_share_one_fetch(opened: Any, folder: Path) -> None:
    ds = opened()
    size = sum(shard.nbytes for shard in ds.store.manifest.shards)
    nbytes = in_children(lambda rank: fetched(ds, folder)["bytes_fetched"], 3)
    assert sum(nbytes) <= 1.02 * size


@pytest.mark.parametrize("verify", ["first", "never"])
def test_a_page_that_arrives_damaged_is_fetched_again(
    server: FaultyServer, stored: Stored, cache: Path, verify: Any
) -> None:
    name, byte = stored.parts["page"]
    server.fail("corrupt", f"data/{name}", 1, byte)
    ds = ShardDataset(server.dataset, storage=QUICK, cache=cache, verify=verify)
    assert [sample["number"] for sample in ds] == RIGHT
    assert ds.cached == 1.0


def test_damage_that_stays_is_an_error(server: FaultyServer, stored: Stored, cache: Path) -> None:
    name, byte = stored.parts["page"]
    server.fail("corrupt", f"data/{name}", FOREVER, byte)
    with pytest.raises(CorruptError) as caught:
        list(ShardDataset(server.dataset, storage=QUICK, cache=cache))
    assert caught.value.place.file == SHARD


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_that_passes_gives_the_right_bytes_or_an_error(
    mode: str, server: FaultyServer, stored: Stored, cache: Path
) -> None:
    server.fail(mode, f"data/{SHARD}", 1)
    ds = ShardDataset(server.dataset, storage=QUICK, cache=cache)
    try:
        found = [sample["number"] for sample in ds]
    except RecordIOError:
        assert mode in LASTING
    else:
        assert found == RIGHT
