"""A pool on disk fills by whole units: few large requests, and the samples of the same order on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, ShardDataset
from recordio.reader.loading.epoch_requests import epoch_requests
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import helper_counts, same

COUNT, NBYTES = 128, 80_000  # blocks of a sample each, too far apart to be fetched together
POOLS: dict[str, Any] = {"unit_bytes": 8 * NBYTES, "pool_bytes": 64 * NBYTES, "window_bytes": 24 * NBYTES, "lanes": 4}
SHARDS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "data"
    schema = {"x": recordio.Array("uint8", (NBYTES,)), "n": recordio.Scalar("int64")}
    options: dict[str, Any] = {"block_bytes": 1, "shard_bytes": COUNT // SHARDS * NBYTES, "compression": "none"}
    with recordio.DatasetWriter(folder, schema, **options) as writer:
        for n in range(COUNT):
            writer.write({"x": np.full(NBYTES, n, np.uint8), "n": n})
    return folder


def epoch_of(ds: ShardDataset, folder: Path, **options: Any) -> int:
    """The requests of an epoch over `ds`, of which the samples are those of the folder."""
    ds = ds[:]
    before = helper_counts()
    loader, local = (DataLoader(one, 8, shuffle=True, **options) for one in (ds, ShardDataset(folder)))
    count = 0
    for batch, expected in zip(loader, local, strict=True):
        assert same(batch, expected)
        count += len(batch["n"])
    assert count == COUNT // options.get("world_size", 1)
    found: int = helper_counts()["requests"] - before["requests"]
    return found


def test_units_are_requested_as_a_whole(opened: Any, folder: Path, tmp_path: Path) -> None:
    few = epoch_of(opened(cache=tmp_path / "pools"), folder, **POOLS)
    many = epoch_of(opened(cache=tmp_path / "none"), folder, window_bytes=POOLS["window_bytes"])
    units = -(-COUNT // 8) + SHARDS  # the last one of a shard may be shorter
    assert few <= units + 2 * SHARDS
    assert many > 3 * few


def test_blocks_due_soon_are_requested_with_their_neighbours(opened: Any, folder: Path, tmp_path: Path) -> None:
    window, ahead = {"window_bytes": 16 * NBYTES}, {"prefetch_bytes": 64 * NBYTES}
    alone = epoch_of(opened(cache=tmp_path / "alone"), folder, **window, prefetch_bytes=0)
    ds = opened(cache=tmp_path / "together")
    expected = epoch_requests(DataLoader(ds, 8, shuffle=True, **window, **ahead))
    together = epoch_of(ds, folder, **window, **ahead)
    assert together < 0.7 * alone
    assert abs(together - expected.requests - 2 * SHARDS) <= 0.1 * together


def test_without_room_only_what_is_needed_is_asked_for(opened: Any, folder: Path, tmp_path: Path) -> None:
    ds = opened(cache=None)
    epoch_of(ds, folder, prefetch_bytes=0, **POOLS)
    assert ds.store.storage.arena.live_nbytes == 0
    full = opened(cache=tmp_path / "full", cache_bytes=10 * NBYTES)
    epoch_of(full, folder, **POOLS)
    assert full.store.storage.cache.is_full


@pytest.mark.parametrize(
    "options",
    [
        {"window_bytes": 24 * NBYTES},
        POOLS,
        {"window_bytes": 24 * NBYTES, "ranks": 4},
        {"window_bytes": 24 * NBYTES, "fields": "n"},
        POOLS | {"fields": "n"},
    ],
    ids=["blocks", "pools", "ranks", "fields", "fields in pools"],
)
def test_a_plan_says_what_an_epoch_asks_for(
    options: dict[str, Any], opened: Any, url: str, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {name: value for name, value in options.items() if name not in ("ranks", "fields")}
    fields, ranks = options.get("fields"), options.get("ranks", 1)
    ds = opened(cache=tmp_path / "new", fields=None if fields is None else [fields])
    before = helper_counts()
    share: dict[str, Any] = {"rank": 0, "world_size": ranks}
    share |= {} if "pool_bytes" in rest else {"prefetch_bytes": 0}  # else the next epoch is asked for, too
    samples = sum(len(batch["n"]) for batch in DataLoader(ds, 8, shuffle=True, **rest, **share))
    after = helper_counts()
    words = [f"--{name.replace('_', '-')}={value}" for name, value in rest.items()]
    words += [f"--ranks={ranks}", *([] if fields is None else [f"--fields={fields}"])]
    keys = bucket.storage["credentials"]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
        patched.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
        storage = [f"--storage=endpoint={bucket.endpoint}", "--storage=region=us-east-1"]
        assert main(["plan", url, "--batch-size=8", *words, *storage, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["is_exact"] == (fields is None)  # else some windows stand for all
    assert facts["rank"]["samples"] == samples
    seen = after["requests"] - before["requests"]
    assert abs(seen - facts["rank"]["requests"] - 2 * SHARDS) <= 0.1 * seen
    nbytes = after["bytes_fetched"] - before["bytes_fetched"]
    assert facts["rank"]["nbytes"] == pytest.approx(nbytes, rel=0.05, abs=20_000)
