"""What `loader.stats` says while a loader runs: waiting on either side, queues, stages, rates."""

from __future__ import annotations

import math
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, DataLoader, SchemaError, ShardDataset
from recordio.reader.batches.requests import BatchTimes
from recordio.reader.loading.stats import Counts, Flow, LoaderStats
from tests.epochs import write_rows

COUNT, BATCH = 240, 8
STAGES = ("storage", "unpack", "gather", "transform", "collate", "handover")
WORKERS: Any = pytest.mark.parametrize(
    "workers", [{}, {"num_workers": 2, "worker_type": "thread"}, {"num_workers": 2, "worker_type": "process"}]
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("stats") / "data", COUNT, block_bytes=1 << 14)


@pytest.fixture
def ds(path: Path) -> ShardDataset:
    return ShardDataset(path)


def slow(sample: Any) -> Any:
    time.sleep(0.002)
    return sample


class TestEpochs:
    @WORKERS
    def test_a_slow_map_starves_the_consumer(self, ds: ShardDataset, workers: Any) -> None:
        loader = DataLoader(ds.map(slow), BATCH, shuffle=True, **workers)
        began = time.perf_counter()
        for _ in loader:
            pass
        wall = time.perf_counter() - began
        found = loader.stats.counts()
        assert (found.samples, found.batches, found.skipped) == (COUNT, COUNT // BATCH, 0)
        assert found.loaded_samples == COUNT
        assert found.transform >= COUNT * 0.002
        assert found.transform == max(getattr(found, stage) for stage in STAGES)
        assert 0.5 * found.seconds < found.starved <= found.seconds <= wall
        assert found.making >= found.transform
        assert found.collate > 0
        assert (found.handover > 0) == (workers.get("worker_type") == "process")

    @WORKERS
    def test_a_slow_consumer_blocks_the_loader(self, ds: ShardDataset, workers: Any) -> None:
        loader = DataLoader(ds, BATCH, shuffle=True, **workers)
        batches = iter(loader)
        next(batches)
        before = loader.stats.counts()  # the start of processes takes a while
        for _ in batches:
            time.sleep(0.004)
        found = loader.stats.as_dict(before, prefix="")
        assert found["blocked_share"] > 0.5
        assert found["starved_share"] < 0.5
        assert found["seconds"] >= (COUNT // BATCH - 1) * 0.004
        if workers:
            assert 1 < found["batches_ready"] <= 4

    def test_time_between_epochs_is_nobodys(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH, num_workers=2)
        for _ in range(2):
            for _ in loader:
                pass
            time.sleep(0.5)
        assert loader.stats.counts().seconds < 0.5
        assert loader.stats.counts().blocked < 0.5

    def test_windows_count_their_bytes(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH, shuffle=True, window_samples=COUNT // 4)
        for _ in loader:
            pass
        found = loader.stats.counts()
        assert found.windows == 4
        assert found.nbytes == COUNT * (8 + 4 * 256)
        entries, _ = ds.store.entries(np.arange(len(ds.store.blocks.first) - 1), ds.fields.columns)
        assert found.stored_nbytes == entries.stored_nbytes.sum()
        assert found.storage > 0
        assert found.unpack > 0
        rates = found.as_dict("")
        assert rates["bytes_per_second"] == pytest.approx(rates["samples_per_second"] * (8 + 4 * 256))

    @pytest.mark.parametrize("workers", [{}, {"num_workers": 2, "worker_type": "thread"}])
    def test_indexes_of_shards_are_waited_for_as_storage(
        self, ds: ShardDataset, monkeypatch: pytest.MonkeyPatch, workers: Any
    ) -> None:
        read = ds.store.indexes._files.read_indexes

        def slowly(*given: Any) -> Any:
            time.sleep(0.3)
            return read(*given)

        monkeypatch.setattr(ds.store.indexes._files, "read_indexes", slowly)
        loader = DataLoader(ds, BATCH, shuffle=True, **workers)
        assert sum(len(batch["number"]) for batch in loader) == COUNT
        found = loader.stats.counts()
        assert found.storage >= 0.3
        assert loader.stats.stalls.planning >= 0.3
        assert found.stalled >= 0.3
        assert found.gather < 0.2

    def test_windows_are_added_up_as_they_come(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH, shuffle=True, window_samples=COUNT // 8)
        for _ in loader:
            assert len(loader.stats.loads) <= 2

    def test_combined_datasets_count_all_windows(self, ds: ShardDataset) -> None:
        loader = DataLoader(ConcatDataset([ds, ds, ds]), BATCH, shuffle=True)
        assert sum(len(batch["number"]) for batch in loader) == 3 * COUNT
        found = loader.stats.counts()
        assert (found.samples, found.loaded_samples) == (3 * COUNT, 3 * COUNT)
        assert 0 < found.starved <= found.seconds

    def test_reads_by_index_count_hits_of_the_page_cache(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH, sampler=range(COUNT))
        for _ in loader:
            pass
        first = loader.stats.counts()
        assert first.cache_misses > 0
        for _ in loader:
            pass
        second = loader.stats.counts().since(first)
        assert second.cache_misses == 0
        assert second.cache_hits > 0
        assert second.as_dict("")["cache_hit_rate"] == 1

    @pytest.mark.parametrize("options", [{"batch_size": None}, {"in_order": False, "num_workers": 2}])
    def test_single_samples_and_batches_out_of_order_are_counted(self, ds: ShardDataset, options: Any) -> None:
        loader = DataLoader(ds, **{"batch_size": BATCH, **options})
        for _ in loader:
            pass
        assert loader.stats.samples == COUNT
        assert loader.stats.counts().starved > 0


@pytest.mark.torch
def test_torchs_loader_has_the_same_stats(ds: ShardDataset) -> None:
    from recordio.torch import DataLoader as TorchLoader

    loader: Any = TorchLoader(ds.map(slow), BATCH, shuffle=True, num_workers=2)
    for _ in loader:
        pass
    found = loader.stats.as_dict()
    assert found["loader/samples"] == COUNT
    assert found["loader/transform_seconds"] >= COUNT * 0.002


class TestNumbers:
    def test_flat_numbers_for_boards(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH)
        assert all(math.isfinite(one) for one in loader.stats.as_dict().values())
        for _ in loader:
            pass
        found = loader.stats.as_dict()
        assert all(name.startswith("loader/") and isinstance(one, int | float) for name, one in found.items())
        assert found["loader/samples_per_second"] == pytest.approx(COUNT / found["loader/seconds"])

    def test_an_interval_counts_what_it_has_added(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH)
        batches = iter(loader)
        for _ in range(10):
            next(batches)
        before = loader.stats.counts()
        for _ in range(5):
            next(batches)
        assert loader.stats.as_dict(since=before, prefix="")["samples"] == 5 * BATCH
        assert loader.stats.as_dict(prefix="")["samples"] == 15 * BATCH

    def test_stats_can_be_pickled_and_stay_numbers(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, BATCH)
        loader.stats.log_every(60)
        for _ in loader:
            pass
        copied: LoaderStats = pickle.loads(pickle.dumps(loader.stats))
        assert copied.samples == COUNT
        assert copied.counts().windows == loader.stats.counts().windows

    def test_idle_is_the_time_from_the_last_batch_made_to_the_next_request(self) -> None:
        flow = Flow()
        for began, ended, submitted, handed in [(0, 10, 0, 12), (3, 30, 0, 31), (40, 50, 38, 60)]:
            flow.submitted, flow.handed = submitted, handed
            flow.add(BatchTimes(began, ended, transform=2, collate=1))
        assert flow.idle == 8  # all was made at 30, and the third batch was asked for at 38
        assert flow.making == 10 + 27 + 10
        assert flow.ready == 2 + 1 + 10
        assert (flow.transform, flow.collate) == (6, 3)


class TestLines:
    def test_a_line_is_reported_every_few_seconds(self, ds: ShardDataset) -> None:
        loader, lines = DataLoader(ds.map(slow), BATCH), []
        loader.stats.log_every(0.05, lines.append)
        for _ in loader:
            pass
        assert 3 <= len(lines) < COUNT // BATCH
        assert all("samples/s" in line and "starved" in line for line in lines)
        assert "transform" in lines[0]
        loader.stats.log_every(None)
        count = len(lines)
        for _ in loader:
            pass
        assert len(lines) == count

    def test_lines_go_to_standard_error(self, ds: ShardDataset, capsys: pytest.CaptureFixture[str]) -> None:
        loader = DataLoader(ds, BATCH)
        loader.stats.log_every(1e-6)
        for _ in loader:
            pass
        assert capsys.readouterr().err.startswith("recordio: ")

    @pytest.mark.parametrize("seconds", [0, -1, "10", True, math.nan])
    def test_other_intervals_are_refused(self, ds: ShardDataset, seconds: Any) -> None:
        with pytest.raises(SchemaError, match="log_every takes a number of seconds above 0"):
            DataLoader(ds).stats.log_every(seconds)


def test_counts_of_nothing_are_zero(ds: ShardDataset) -> None:
    found = DataLoader(ds).stats.counts()
    assert {getattr(found, name) for name in Counts.__slots__} == {0}
