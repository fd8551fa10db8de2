"""The changes that are tried: which follow from a profile, and what loaders they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, ShardDataset
from recordio.reader.loading.profile import Profile, Stage
from recordio.tuning import copies
from recordio.tuning.changes import loader_changes, more_workers, other_workers, rebuilt, worker_counts
from tests.recordio.tuning import plants


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plants.write_numbers(tmp_path_factory.mktemp("changes") / "numbers", 64)


@pytest.fixture
def ds(path: Path) -> ShardDataset:
    return ShardDataset(path)


def profile(bottleneck: str, *stages: Stage, epochs: int = 0) -> Profile:
    return Profile(1.0, 1.0, 0.0, None, None, 1.0, bottleneck=bottleneck, stages=stages, epochs=epochs)


def names(loader: DataLoader, found: Profile, batch_size_may_change: bool = False) -> list[str]:
    return [one.name for one in loader_changes(loader, found, batch_size_may_change)]


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True, "seed": 3, "rank": 1, "world_size": 2},
        {"shuffle": True, "ranks": "auto"},
        {"sampler": range(10)},
        {"batch_sampler": [[1, 2], [3]]},
        {"num_workers": 2, "multiprocessing_context": "fork"},
        {"batch_size": None},
    ],
)
def test_a_rebuilt_loader_delivers_the_same(ds: ShardDataset, options: Any) -> None:
    loader = DataLoader(ds, **options)
    again = rebuilt(loader, num_workers=1, worker_type="thread")
    assert again.options.num_workers == 1
    numbers = [[batch["number"].tolist() for batch in one] for one in (loader, again)]
    assert numbers[0] == numbers[1]


def test_workers_double_up_to_a_few_times_the_cores(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert list(worker_counts(DataLoader(ds))) == [1, 2, 4, 8]
    assert list(worker_counts(DataLoader(ds, num_workers=3))) == [6]
    assert list(worker_counts(DataLoader(ds, num_workers=20))) == []


def test_workers_of_the_other_kind_are_tried(ds: ShardDataset) -> None:
    assert other_workers(DataLoader(ds)) is None  # a gather is no work for processes
    slow = DataLoader(ds.map(plants.quick), num_workers=2)
    assert (other_workers(slow) or more_workers(slow, 99)).options == {"num_workers": 2, "worker_type": "process"}
    processes = DataLoader(ds.map(plants.quick), 32, num_workers=1, worker_type="process")
    assert sum(len(batch["number"]) for batch in processes) == 64
    change = other_workers(processes)
    assert change is not None
    assert change.how == "DataLoader(..., num_workers=1, worker_type='thread')"
    assert sum(len(batch["number"]) for batch in change.make()) == 64


def test_what_is_tried_follows_from_the_bottleneck(ds: ShardDataset) -> None:
    loader = DataLoader(ds.map(plants.quick), 4, shuffle=True, num_workers=1)
    slow = Stage("map quick", 1.0, 1.0, 0.9)
    assert names(loader, profile("map quick", slow)) == ["prefetch_factor=4", "without map quick"]
    assert names(loader, profile("gathering", epochs=3)) == ["prefetch_factor=4", "persistent_workers=True"]
    assert names(loader, profile("gathering"), True) == ["prefetch_factor=4", "batch_size=8"]
    found = names(loader, profile("storage"))
    assert found == ["window_bytes=536870912", "unit_bytes=8388608", "io='pread'", "io='direct'"]


def test_every_change_gives_a_loader_of_all_samples(ds: ShardDataset) -> None:
    loader = DataLoader(ds.map(plants.quick), 32, shuffle=True)
    slow = Stage("map quick", 1.0, 1.0, 0.9)
    changes = [*loader_changes(loader, profile("storage"), True), *loader_changes(loader, profile("x", slow), False)]
    assert len(changes) == 6
    for change in changes:
        assert sum(len(batch["number"]) for batch in change.make()) == 64, change.name


@pytest.mark.parametrize("compression", [None, "zstd", "narrow", "auto", "narrow+zstd"])
def test_a_copy_is_compressed_as_the_dataset_is(tmp_path: Path, compression: str | None) -> None:
    schema = {"ids": recordio.Array("int64", (512,)), "text": recordio.Text()}
    with recordio.DatasetWriter(tmp_path, schema, compression=compression) as writer:
        for n in range(8):
            writer.write({"ids": np.arange(512) % (n + 2), "text": f"text {n} " * 100})
    assert copies._compression_of(recordio.ShardDataset(tmp_path)) == compression
