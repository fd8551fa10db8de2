"""Processes share a cache: what one has fetched the others do not; batches are the same wherever bytes come from."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, ShardDataset
from recordio.remote import helper_process
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import COUNT, fetched_nbytes, in_children, same
from tests.small_disk import needs_small_disk, on_small_disk

Opened = Callable[..., ShardDataset]
RANKS = 8


def test_eight_ranks_fetch_each_byte_once(opened: Opened) -> None:
    def read(rank: int) -> int:
        loader = DataLoader(opened(), 8, shuffle=True, rank=rank, world_size=RANKS, window_bytes=1 << 13)
        assert sum(len(batch["number"]) for batch in loader) > 0
        return fetched_nbytes()

    assert sum(in_children(read, RANKS)) <= 1.02 * opened().store.nbytes


def test_processes_that_read_the_same_fetch_it_once(opened: Opened) -> None:
    def read(rank: int) -> int:
        opened().predownload()
        return fetched_nbytes()

    assert sum(in_children(read, 4)) <= 1.02 * opened().store.nbytes


def large(bucket: Bucket, folder: Path) -> str:
    """The URL of a dataset with pages larger than the gaps that are fetched with what lies around them."""
    schema = {"x": recordio.Array("float32", (1 << 13,))}
    with recordio.DatasetWriter(folder, schema, shard_bytes=1 << 20, block_bytes=1 << 17) as writer:
        for n in range(192):
            writer.write({"x": np.random.default_rng(n).random(1 << 13, np.float32)})
    return bucket.upload(folder, "large")


def test_processes_with_orders_of_their_own_fetch_each_byte_once(bucket: Bucket, tmp_path: Path) -> None:
    """Their ranges overlap: a process that has waited for another fetches what is still missing."""
    url, nbytes = large(bucket, tmp_path / "large"), ShardDataset(tmp_path / "large").store.nbytes

    def read(seed: int) -> int:
        ds = ShardDataset(url, storage=bucket.storage, cache=tmp_path / "cache")
        loader = DataLoader(ds, 16, shuffle=True, seed=seed, window_bytes=1 << 21, prefetch_bytes=1 << 21)
        assert sum(len(batch["x"]) for batch in loader) == 192
        return fetched_nbytes()

    assert sum(in_children(read, 4)) <= 1.02 * nbytes


def test_half_a_cache_serves_half_of_an_epoch(bucket: Bucket, tmp_path: Path) -> None:
    url, nbytes = large(bucket, tmp_path / "large"), ShardDataset(tmp_path / "large").store.nbytes
    ds = ShardDataset(url, storage=bucket.storage, cache=tmp_path / "cache", cache_bytes=nbytes // 2)
    loader = DataLoader(ds, 16, shuffle=True, window_bytes=1 << 20, prefetch_bytes=0)  # nothing of the next epoch
    fetched = []
    for _ in range(3):
        before = fetched_nbytes()
        assert sum(len(batch["x"]) for batch in loader) == 192
        fetched.append(fetched_nbytes() - before)
    assert fetched[0] >= 0.95 * nbytes
    # Of so few bytes the last run of neighbours that does not fit is a large part.
    assert max(fetched[1:]) <= 0.56 * nbytes


ON_A_FULL_DISK = """
import json, sys, warnings
import numpy as np
from recordio import DataLoader, ShardDataset
from tests.recordio.remote.buckets import credentials
from tests.recordio.remote.datasets import fetched_nbytes
url, storage, cache = sys.argv[1], json.loads(sys.argv[2]) | {"credentials": credentials}, sys.argv[3]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        ds = ShardDataset(url, storage=storage, cache=cache, cache_bytes=int(sys.argv[4]) or None)
        batches = list(DataLoader(ds, 16, window_bytes=1 << 20, prefetch_bytes=0))
        print(float(np.concatenate([batch["x"] for batch in batches]).sum(dtype=np.float64)), fetched_nbytes())
print(json.dumps([str(one.message) for one in said]))
"""


@needs_small_disk
@pytest.mark.parametrize("cache_bytes", [0, 1 << 30], ids=["what is free", "more than there is"])
def test_a_cache_on_a_full_disk_is_read_past(bucket: Bucket, tmp_path: Path, cache_bytes: int) -> None:
    url = large(bucket, tmp_path / "large")
    cache = tmp_path / "cache"
    cache.mkdir()
    ds = ShardDataset(tmp_path / "large")
    storage = json.dumps({name: value for name, value in bucket.storage.items() if name != "credentials"})
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CODE": ON_A_FULL_DISK}
    script = f"{sys.executable} -c \"$CODE\" {url} '{storage}' {cache} {cache_bytes}"
    *epochs, said = on_small_disk(cache, 2048, script, env)
    assert {float(one.split()[0]) for one in epochs} == {float(ds["x"].sum(dtype=np.float64))}
    first, both = (int(one.split()[1]) for one in epochs)
    # What was on its way when the disk was full is fetched again, into memory.
    assert both - first <= first <= 2 * ds.store.nbytes
    assert ("takes nothing more" in said) or not cache_bytes


WORKERS: dict[str, dict[str, Any]] = {
    "this thread": {},
    "threads": {"num_workers": 2},
    "fork": {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
    "forkserver": {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "forkserver"},
    "spawn": {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "spawn"},
}


def batches(ds: ShardDataset, **options: Any) -> list[Any]:
    return list(DataLoader(ds, 32, shuffle=True, window_bytes=1 << 14, **options))


def all_same(found: list[Any], expected: list[Any]) -> bool:
    return len(found) == len(expected) and all(map(same, found, expected))


@pytest.mark.parametrize(
    "workers", [pytest.param(w, marks=pytest.mark.slow if "server" in w or w == "spawn" else ()) for w in WORKERS]
)
def test_batches_are_the_same_cold_warm_half_cached_and_offline(
    opened: Opened, folder: Path, workers: str, tmp_path: Path
) -> None:
    expected = batches(ShardDataset(folder))
    for options in ({}, {}, {"offline": True}, *[{"cache": tmp_path / "half", "cache_bytes": 60_000}] * 2):
        assert all_same(batches(opened(**options), **WORKERS[workers]), expected), options


def test_an_epoch_is_resumed_from_an_empty_cache(opened: Opened, folder: Path, tmp_path: Path) -> None:
    expected = batches(ShardDataset(folder))
    loader = DataLoader(opened(), 32, shuffle=True, window_bytes=1 << 14)
    iterator = iter(loader)
    first = [next(iterator) for _ in range(4)]
    state = loader.state_dict()
    other = DataLoader(opened(cache=tmp_path / "empty"), 32, shuffle=True, window_bytes=1 << 14, num_workers=2)
    other.load_state_dict(state)
    assert all_same([*first, *other], expected)


def test_a_helper_that_is_killed_is_started_again(opened: Opened, folder: Path) -> None:
    found = []
    for number, batch in enumerate(DataLoader(opened(), 32, shuffle=True, window_bytes=1 << 13)):
        found.append(batch)
        if number in (1, 4):
            os.kill(helper_process.helper().pid, signal.SIGKILL)
    assert all_same(found, list(DataLoader(ShardDataset(folder), 32, shuffle=True, window_bytes=1 << 13)))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_of_torch_read_through_the_cache(opened: Opened, folder: Path) -> None:
    import torch.utils.data

    from recordio.torch import IterableShards

    for _ in range(2):
        ds = opened()
        mapped = torch.utils.data.DataLoader(ds, batch_size=32, num_workers=2, multiprocessing_context="fork")
        assert torch.cat([batch["number"] for batch in mapped]).tolist() == list(range(COUNT))
        shards = IterableShards(ds, shuffle=True)
        several = torch.utils.data.DataLoader(shards, batch_size=32, num_workers=2, multiprocessing_context="fork")
        assert sorted(torch.cat([batch["number"] for batch in several]).tolist()) == list(range(COUNT))
