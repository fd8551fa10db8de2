"""Of several writers in a folder exactly one commits. A reader sees the old dataset or the new one, no mixture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
import recordio.reader.opening
from recordio import ShardDataset
from tests.faults.bounded import bounded
from tests.faults.samples import some


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "attack", ["eight_at_once", "reading_during_appends", "reading_during_overwrites", "locked_out"]
)
def test_concurrent_processes_share_a_folder_safely(attack: str) -> None:
    assert bounded("racing", attack, 0) == []


def test_overwrite_during_open_gives_the_new_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overwrite happens after the manifest is read and before the shards are."""
    some(tmp_path, 30)
    real, calls = recordio.reader.opening.read_manifest, []

    def overtaken(*args: Any) -> Any:
        out = real(*args)
        if not calls:
            calls.append(1)
            some(tmp_path, 50, mode="overwrite")
        return out

    monkeypatch.setattr(recordio.reader.opening, "read_manifest", overtaken)
    assert len(ShardDataset(tmp_path)) == 50


def test_missing_shard_is_reported_at_every_open(tmp_path: Path) -> None:
    some(tmp_path, 30)
    (tmp_path / "shard-00001.rio").unlink()
    for _ in range(3):
        with pytest.raises(recordio.CorruptError, match="shard-00001"):
            ShardDataset(tmp_path)


def test_dataset_overwritten_before_its_first_read_raises(tmp_path: Path) -> None:
    some(tmp_path, 30)
    read, unread = ShardDataset(tmp_path), ShardDataset(tmp_path)
    read.take(range(30))
    some(tmp_path, 50, mode="overwrite")
    assert read.take(range(30))["number"].tolist() == list(range(30))
    with pytest.raises(recordio.RecordIOError):
        unread.take(range(30))


def test_open_dataset_is_unchanged_by_an_append(tmp_path: Path) -> None:
    some(tmp_path, 30)
    ds = ShardDataset(tmp_path)
    some(tmp_path, 50, mode="append")
    assert len(ds) == 30
    assert ds.column("number").tolist() == list(range(30))
    assert len(ShardDataset(tmp_path)) == 80
