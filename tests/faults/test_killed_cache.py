"""SIGKILL at every call of a cache's fill, in the helper and in the trainer: what is in the cache stays right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordio import ShardDataset
from tests.faults import filling
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import write_dataset

Killed = Callable[[str, Any, Path, str, list[Any]], tuple[int, list[str]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("killed") / "data", 40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("how", "small"), [("before", 0), ("after", 0), ("torn", 0), ("torn", 1 << 20)])
@pytest.mark.parametrize("killed", [filling.killed_helper, filling.killed_trainer])
def test_a_fill_that_is_killed_leaves_nothing_wrong(
    bucket: Bucket, folder: Path, tmp_path: Path, killed: Killed, how: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordio.remote.remote_shard.SMALL_NBYTES", small)  # shards up to this size come as a whole
    columns = ShardDataset(folder).take(range(40))
    expected = [columns["number"].tolist(), columns["text"]]
    calls, faults = killed(bucket.upload(folder, "killed"), bucket.storage, tmp_path, how, expected)
    assert faults == []
    assert calls > (5 if small else 8)
