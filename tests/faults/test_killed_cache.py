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
@pytest.mark.parametrize("how", ["before", "after", "torn"])
@pytest.mark.parametrize("killed", [filling.killed_helper, filling.killed_trainer])
def test_a_fill_that_is_killed_leaves_nothing_wrong(
    bucket: Bucket, folder: Path, tmp_path: Path, killed: Killed, how: str
) -> None:
    columns = ShardDataset(folder).take(range(40))
    expected = [columns["number"].tolist(), columns["text"]]
    calls, faults = killed(bucket.upload(folder, "killed"), bucket.storage, tmp_path, how, expected)
    assert faults == []
    assert calls > 8
