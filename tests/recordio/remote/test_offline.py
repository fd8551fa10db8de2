"""Datasets are brought to the cache, and read from it without a network."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

import recordio
from recordio import DataLoader, SchemaError, ShardDataset, StorageError
from recordio.remote import helper_process
from tests.open_files import open_files
from tests.recordio.remote.buckets import s3_bucket
from tests.recordio.remote.datasets import COUNT, fetched_nbytes, same

Opened = Callable[..., ShardDataset]


def test_a_predownloaded_dataset_is_read_offline(opened: Opened, folder: Path) -> None:
    ds = opened()
    assert ds.cached == 0.0
    steps: list[tuple[int, int]] = []
    ds.predownload(progress=lambda done, total: steps.append((done, total)))
    assert ds.cached == 1.0
    assert steps[-1] == (ds.store.nbytes, ds.store.nbytes)
    assert sorted(steps) == steps
    before = fetched_nbytes()
    offline, local = opened(offline=True), ShardDataset(folder)
    assert offline.cached == 1.0
    assert same(offline[3], local[3])
    loaders = [DataLoader(one, 32, shuffle=True, window_bytes=1 << 14) for one in (offline, local)]
    for batch, expected in zip(*loaders, strict=True):
        assert same(batch, expected)
    assert fetched_nbytes() == before


def test_offline_starts_no_helper(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened().predownload()
    monkeypatch.setattr(helper_process, "helper", lambda: pytest.fail("a helper was asked for"))
    assert opened(offline=True)[5]["number"] == 5


def test_a_second_predownload_goes_on_where_the_first_stopped(opened: Opened) -> None:
    ds = opened()
    ds.predownload(0.5)
    assert 0.5 <= ds.cached < 0.8
    before = fetched_nbytes()
    opened().predownload(0.5)
    assert fetched_nbytes() == before
    opened().predownload()
    assert ds.cached == 1.0
    assert fetched_nbytes() - before < 0.5 * ds.store.nbytes


def test_predownload_reads_every_byte_once(opened: Opened) -> None:
    ds = opened()
    before = fetched_nbytes()
    ds.predownload()
    assert fetched_nbytes() - before == ds.store.nbytes


def test_predownload_says_that_the_cache_is_full(opened: Opened, tmp_path: Path) -> None:
    ds = opened(cache_bytes=40_000)
    with pytest.raises(StorageError, match="takes nothing more"):
        ds.predownload()
    assert 0 < ds.cached < 0.7
    assert ds.store.storage.arena.live_nbytes == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_wrong_fraction(opened: Opened, fraction: float) -> None:
    with pytest.raises(SchemaError, match="fraction"):
        opened().predownload(fraction)


def test_without_a_cache_there_is_nothing_to_bring_data_to(opened: Opened, folder: Path) -> None:
    ds = opened(cache=None)
    assert ds.cached == 0.0
    with pytest.raises(SchemaError, match="no cache"):
        ds.predownload()
    with pytest.raises(SchemaError, match="offline"):
        opened(cache=None, offline=True)
    local = ShardDataset(folder)
    local.predownload()
    assert local.cached == 1.0


def test_a_mixture_is_brought_as_a_whole(opened: Opened, folder: Path) -> None:
    ds = opened()
    both = recordio.ConcatDataset([ds, ds, ShardDataset(folder)])
    assert both.cached == 0.5
    both.predownload()
    assert both.cached == 1.0


def test_offline_counts_what_is_missing(opened: Opened) -> None:
    with pytest.raises(StorageError, match="not in the cache"):
        opened(offline=True)
    opened()[0]
    offline = opened(offline=True)
    assert offline[0]["number"] == 0
    with pytest.raises(StorageError, match=r"\d+ of \d+ pages are not in the cache.*offline=True"):
        offline[COUNT // 10]
    with pytest.raises(StorageError, match="index is not in the cache"):
        offline[COUNT - 1]
    with pytest.raises(StorageError, match="offline=True"):
        list(DataLoader(offline, 32, shuffle=True))
    with pytest.raises(StorageError, match="offline=True"):
        offline.predownload()


@pytest.fixture
def lost(tmp_path: Path, folder: Path) -> tuple[str, dict[str, object]]:
    """A dataset in a store that has gone."""
    options: dict[str, object] = {"cache": tmp_path / "lost"}
    with s3_bucket() as bucket:
        url = bucket.upload(folder, "lost")
        options["storage"] = {**bucket.storage, "retry_seconds": 0.2}
        ShardDataset(url, **options)[0]
    return url, options


def test_without_a_network_the_way_offline_is_told(lost: tuple[str, dict[str, object]]) -> None:
    url, options = lost
    with pytest.raises(StorageError) as caught:
        ShardDataset(url, **options)  # type: ignore[arg-type]
    assert any("offline=True" in note for note in caught.value.__notes__)
    assert ShardDataset(url, offline=True, **options)[0]["number"] == 0  # type: ignore[arg-type]
    with pytest.raises(StorageError) as caught:
        ShardDataset(url, **{**options, "cache": None})  # type: ignore[arg-type]
    assert not hasattr(caught.value, "__notes__")


def test_no_descriptor_outlives_its_dataset(opened: Opened, tmp_path: Path) -> None:
    for options in ({}, {"cache_bytes": 0}):
        ds = opened(**options)
        ds.take(range(COUNT))
        del ds
    gc.collect()
    assert open_files(tmp_path / "cache") == []
