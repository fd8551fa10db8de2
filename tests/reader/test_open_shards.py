"""The open shards of all datasets of a process: within one limit, the oldest closed first, nobody left with none."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, DataLoader, DatasetWriter, ShardDataset
from recordio.reader import open_shards
from recordio.reader.loading import joint_access as joint
from recordio.reader.open_shards import OpenShards
from recordio.reader.page_table import MAX_MAPS
from tests.open_files import open_files

SHARDS, MOST = 5, 6


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six shards may be open; those that other tests have left open do not count."""
    monkeypatch.setattr(open_shards, "share_of_files", lambda part: MOST)
    monkeypatch.setattr("recordio.reader.open_dataset._open_shards", OpenShards())
    monkeypatch.setattr("recordio.reader.open_dataset._open_datasets", weakref.WeakSet())


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for k in range(4):
        with DatasetWriter(tmp_path / str(k), shard_samples=2) as writer:
            for n in range(2 * SHARDS):
                writer.write({"number": 100 * k + n, "row": np.full(500, n, np.float32)})
    return [tmp_path / str(k) for k in range(4)]


@pytest.fixture
def several(folders: list[Path]) -> list[ShardDataset]:
    return [ShardDataset(folder) for folder in folders]


def opened(datasets: list[ShardDataset]) -> list[list[int]]:
    return [list(ds.store.shards) for ds in datasets]


def test_the_oldest_shard_of_any_dataset_is_closed_for_a_new_one(
    several: list[ShardDataset], folders: list[Path]
) -> None:
    for ds in several:
        assert ds.take(range(2 * SHARDS))["number"].tolist() == ds.column("number").tolist()
        assert sum(len(open_files(folder)) for folder in folders) <= 2 * MOST  # the file and its map
    assert sum(map(len, opened(several))) == MOST
    assert opened(several)[:2] == [[], []]
    assert opened(several)[3] == list(range(SHARDS))


def test_a_dataset_that_is_dropped_leaves_its_room_to_others(several: list[ShardDataset]) -> None:
    several[0].take(range(2 * SHARDS))
    assert opened(several)[0] == list(range(SHARDS))
    del several[0]
    gc.collect()
    for i in range(2 * SHARDS):
        several[0][i]
    assert opened(several)[0] == list(range(SHARDS))
    several[1][0]
    assert opened(several)[0] == list(range(SHARDS))


def test_single_samples_close_nothing_but_for_the_share_of_their_dataset(several: list[ShardDataset]) -> None:
    first, second, third, _ = several
    for ds in (first, second):
        for i in range(2 * SHARDS):
            assert ds[i]["number"] == ds.take([i])["number"][0]
    first.take(range(2 * SHARDS))
    assert sum(map(len, opened(several))) == MOST
    before = opened(several)
    assert [int(third[i]["number"]) for i in range(2 * SHARDS)] == list(range(200, 210))
    after = opened(several)
    assert len(after[2]) == 1  # a fourth of six
    assert sum(len(set(a) - set(b)) for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_begins_without_open_shards(several: list[ShardDataset]) -> None:
    several[0].take(range(2 * SHARDS))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert opened(several)[0] == []
            assert len(several[1].take(range(2 * SHARDS))["number"]) == 2 * SHARDS
            assert len(opened(several)[1]) == SHARDS
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_windows_of_more_datasets_keep_fewer_maps(several: list[ShardDataset], monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(count: int, share: int) -> set[int]:
        monkeypatch.setattr(joint, "share_of_files", lambda part: share)
        accesses, _ = joint.joint_access([ds.store for ds in several[:count]])
        return {access.maps for access in accesses.values()}

    assert maps(1, 1) == {MAX_MAPS}  # all its shards may stay open
    assert maps(2, 100) == {MAX_MAPS}
    assert maps(2, 6) == {3}
    assert maps(4, 3) == {0}


@pytest.mark.parametrize("workers", [0, 2])
def test_many_datasets_deliver_the_same_batches_with_few_files(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def epoch() -> list[Any]:
        ds = ConcatDataset([ShardDataset(folder) for folder in folders])
        return [{k: v.tolist() for k, v in b.items()} for b in DataLoader(ds, 7, True, num_workers=workers)]

    monkeypatch.setattr(joint, "share_of_files", lambda part: 1)
    found = epoch()
    monkeypatch.undo()
    assert found == epoch()
