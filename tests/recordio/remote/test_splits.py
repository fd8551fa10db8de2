"""Splits below a URL: those of the usual names, without a listing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import DatasetError, ShardDataset
from recordio.tools.splits import Split, find_splits
from tests.recordio.remote.buckets import Bucket


def test_splits_of_the_usual_names_are_found(bucket: Bucket, folder: Path) -> None:
    for name in ("validation", "train", "other"):
        url = bucket.upload(folder, f"splits/{name}")
    root = url.rpartition("/")[0]
    storage: Any = bucket.storage
    found = find_splits(root, storage)
    assert [(split.name, split.path) for split in found] == [
        (name, f"{root}/{name}") for name in ("train", "validation")
    ]
    for split in found:
        assert len(ShardDataset(split.path, storage=split.storage, cache=None)) > 0
    with pytest.raises(DatasetError, match=r"there is one in each of train, validation"):
        ShardDataset(root, storage=storage, cache=None)
    assert find_splits(found[0].path, storage) == [Split(None, found[0].path, storage)]


def test_a_url_without_datasets_is_left_to_the_library(bucket: Bucket) -> None:
    url = f"s3://{bucket.name}/nothing"
    assert find_splits(url, bucket.storage) == [Split(None, url, bucket.storage)]
