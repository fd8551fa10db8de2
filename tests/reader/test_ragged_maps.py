"""Ragged columns keep maps of files, and so files, open: never more of them than a share of the process's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from recordio import DataLoader, DatasetWriter, ShardDataset
from recordio.reader import ragged_column
from tests.faults.bounded import python

COUNT = 150
WAYS = """
import gc, os, resource, sys
import recordio
count = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
ds = recordio.ShardDataset(sys.argv[1], io="mmap").ragged()
indices = [(k * 67) % count for k in range(count)]
every = lambda loader: [value for batch in loader for value in batch["data"]]
ways = {
    "take": lambda: list(ds.take(indices)["data"]),
    "column of a view": lambda: list(ds[indices].column("data")),
    "column": lambda: list(ds[::-1].column("data"))[::-1],
    "one at a time": lambda: [ds.take([k])["data"][0] for k in indices],
    "sampler": lambda: every(recordio.DataLoader(ds, sampler=indices, batch_size=count)),
    "loader": lambda: every(recordio.DataLoader(ds, batch_size=3, window_samples=6)),
    "threads": lambda: every(recordio.DataLoader(ds, batch_size=3, window_samples=6, num_workers=3)),
}
orders = {name: indices for name in ("take", "column of a view", "one at a time", "sampler")}
kept = []
for way, read in ways.items():
    values = read()
    kept.append(values)
    assert [bytes(one[:1])[0] for one in values] == orders.get(way, list(range(count))), way
    assert [len(one) for one in values] == [5000] * count, way
    assert len(os.listdir("/proc/self/fd")) < 112, way
views = sum(one.readonly for values in kept for one in values)
assert 0 < views < len(ways) * count, views
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard for each large value."""
    path = tmp_path_factory.mktemp("maps") / "dataset"
    with DatasetWriter(path, compression=None, shard_samples=1) as writer:
        for number in range(COUNT):
            writer.write({"data": bytes([number]) * 5000})
    return path


def test_columns_that_are_kept_leave_files_to_read_others(folder: Path) -> None:
    python("-c", WAYS, str(folder), str(COUNT))


def maps_of(batches: Iterable[Any]) -> set[int]:
    return {id(value.obj) for batch in batches for value in batch["data"] if value.readonly}


def test_values_are_copied_while_columns_hold_too_many_maps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged_column, "share_of_files", lambda part: len(before) + 48 // part)
    before = list(ragged_column._held.values())  # of other tests
    ds = ShardDataset(folder, io="mmap", max_open_shards=1).ragged()
    kept = list(DataLoader(ds[:20], batch_size=2, window_samples=4))
    assert [bytes(value[:1])[0] for batch in kept for value in batch["data"]] == list(range(20))
    assert 0 < len(maps_of(kept)) <= 3
    assert not maps_of([ds.take([30, 31, 32])])
    kept.clear()
    assert len(ragged_column._held) == len(before)
    assert len(maps_of([ds.take([30, 31])])) == 2
