"""The run of an epoch: how many batches are made ahead, in which order they come, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, DataLoader, DatasetWriter, Scalar, Schema, ShardDataset, Text, WorkerError
from recordio.format.page import FixedPages, VariablePages
from recordio.reader.batches import memory
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchResult, Window
from recordio.reader.loading.epoch_run import EpochRun
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.workers.thread_trial import ThreadTrial
from tests.reader.loading.by_hand import BLOCK, ManualTask, plans_of, write_blocks

BLOCKS = 6
SAMPLES = BLOCKS * BLOCK


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return ShardDataset(write_blocks(tmp_path_factory.mktemp("run"), SAMPLES, "zstd"))


class ManualWorkers:
    """Workers whose tasks the test ends."""

    def __init__(self, all_end: bool = True) -> None:
        self.tasks: list[ManualTask] = []
        self.forgotten: list[int] = []
        self.all_end = all_end
        self.closed = 0

    def submit(self, request: Any) -> ManualTask:
        self.tasks.append(ManualTask(BatchResult(len(self.tasks), len(request))))
        return self.tasks[-1]

    def forget(self, window: Window) -> None:
        self.forgotten.append(window.number)  # type: ignore[attr-defined]

    def close(self) -> bool:
        self.closed += 1
        return self.all_end


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> ManualWorkers:
    found = ManualWorkers()
    monkeypatch.setattr(EpochRun, "_new_workers", lambda *_: found)
    return found


@pytest.fixture
def runs() -> Iterator[list[EpochRun]]:
    """Every run of a test, closed at its end."""
    made: list[EpochRun] = []
    yield made
    for run in made:
        run.close()


def run_of(ds: ShardDataset, runs: list[EpochRun], **options: Any) -> EpochRun:
    runs.append(EpochRun(BatchMaker([ds]), LoaderOptions(**options), 0, ThreadTrial(2, ended=True), LoaderStats()))
    return runs[-1]


def batches_of(run: EpochRun, ds: ShardDataset, window_samples: int = SAMPLES) -> Iterator[BatchResult]:
    return run.windowed([plans_of(ds.store, window_samples)], None, SAMPLES, batch_size=2, views=[ds])


@pytest.mark.parametrize(
    ("options", "ahead"), [({}, 0), ({"num_workers": 1}, 2), ({"num_workers": 2, "prefetch_factor": 3}, 6)]
)
def test_options_decide_how_many_batches_are_made_ahead(
    ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun], options: Any, ahead: int
) -> None:
    batches = batches_of(run_of(ds, runs, **options), ds)
    for k in range(SAMPLES // 2):
        assert next(batches).batch == k
        assert len(workers.tasks) == min(k + 1 + ahead, SAMPLES // 2)
    assert next(batches, None) is None


def test_no_batch_is_made_before_the_first_is_asked_for(
    ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
) -> None:
    batches_of(run_of(ds, runs, num_workers=2), ds)
    assert workers.tasks == []


class TestOutOfOrder:
    def test_out_of_order_yields_the_oldest_finished_batch(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
    ) -> None:
        batches = batches_of(run_of(ds, runs, num_workers=2, in_order=False), ds)
        waited: list[int] = []

        def submit(request: Any) -> ManualTask:
            number = len(workers.tasks)
            task = ManualTask(BatchResult(number, len(request)), on_wait=lambda: waited.append(number))
            task.has_ended = number in (2, 3)
            workers.tasks.append(task)
            return task

        workers.submit = submit  # type: ignore[method-assign]
        assert [next(batches).batch for _ in range(2)] == [2, 3]
        assert waited == [2, 3], "only for the results"

    def test_out_of_order_waits_for_any_batch_when_none_is_done(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
    ) -> None:
        batches = batches_of(run_of(ds, runs, num_workers=1, in_order=False), ds)
        waited_for: list[int] = []
        submit = workers.submit

        def noting(request: Any) -> ManualTask:
            task = submit(request)

            def wait(others: Any = ()) -> None:
                waited_for.extend([workers.tasks.index(one) for one in others])
                workers.tasks[1].has_ended = True

            task.wait = wait  # type: ignore[method-assign]
            return task

        workers.submit = noting  # type: ignore[method-assign]
        assert next(batches).batch == 1
        assert waited_for == [0, 1, 2]


def test_error_is_raised_in_place_of_its_batch(ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]) -> None:
    batches = batches_of(run_of(ds, runs, num_workers=1), ds)
    next(batches)
    workers.tasks[2].fail(LookupError("a map's"))
    assert next(batches).batch == 1
    with pytest.raises(LookupError, match="a map's"):
        next(batches)


class TestRest:
    def test_rest_waits_for_batches_ahead_and_allows_another_epoch(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
    ) -> None:
        run = run_of(ds, runs, num_workers=1)
        batches = batches_of(run, ds)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        assert run.rest()
        assert all(task.done() for task in workers.tasks)
        assert workers.closed == 0
        assert [result.batch for result in batches_of(run, ds)] == list(range(3, 3 + SAMPLES // 2))

    def test_rest_forgets_every_window_once(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
    ) -> None:
        run = run_of(ds, runs)
        for _ in range(2):
            list(batches_of(run, ds, window_samples=BLOCK))
            assert run.rest()
        assert workers.forgotten == list(range(2 * BLOCKS))

    def test_rest_is_refused_when_a_batch_does_not_end(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun]
    ) -> None:
        run = run_of(ds, runs, num_workers=1)
        next(batches_of(run, ds))

        def no_batch() -> None:
            raise WorkerError("no batch")

        workers.tasks[-1].on_wait = no_batch
        assert not run.rest()

    def test_rest_is_refused_in_a_fork(
        self, ds: ShardDataset, workers: ManualWorkers, runs: list[EpochRun], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = run_of(ds, runs)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            assert not run.is_ours
            assert not run.rest()
            run.close()
        assert workers.closed == 0


class TestClose:
    @pytest.mark.parametrize("all_end", [True, False])
    def test_close_keeps_memory_that_may_still_be_read(
        self, ds: ShardDataset, workers: ManualWorkers, all_end: bool
    ) -> None:
        pool = memory.arenas_of(ds.store)
        while pool._free:
            pool.take()
        workers.all_end = all_end
        run = EpochRun(BatchMaker([ds]), LoaderOptions(), 0, ThreadTrial(0), LoaderStats())
        list(batches_of(run, ds))
        assert len(pool._free) == 0
        run.close()
        assert workers.closed == 1
        assert len(pool._free) == (2 if all_end else 0)


FRAMES = 8


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("shard_samples", [None, 40])
def test_a_batch_passes_at_most_8_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None, shard_samples: int | None
) -> None:
    """From the generator that the caller iterates over to the function that calls NumPy, both counted."""
    schema = Schema(
        {
            "number": Scalar("int64"),
            "text": Text(),
            "array": Array("float32", (3,)),
            "large": Array("uint8", (2000,)),
            "maybe": Scalar("int16", optional=True),
        }
    )
    large = np.zeros(2000, np.uint8)
    options: dict[str, Any] = {} if shard_samples is None else {"shard_samples": shard_samples}
    with DatasetWriter(tmp_path / "ds", schema, compression=compression, block_bytes=20000, **options) as writer:
        for n in range(100):
            writer.write({"number": n, "text": str(n), "array": np.full(3, n, np.float32), "large": large, "maybe": n})
    seen: dict[str, list[str]] = {}
    for pages in FixedPages, VariablePages:

        def watched(self: Any, *args: Any, take: Any = pages.take) -> Any:
            frame, names = sys._getframe().f_back, []
            while frame is not None and frame.f_code is not caller:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            path = [*reversed(names), "take"]
            seen["/".join(path)] = path
            return take(self, *args)

        monkeypatch.setattr(pages, "take", watched)
    caller = sys._getframe().f_code
    for batch in DataLoader(ShardDataset(tmp_path / "ds"), 16, shuffle=True):
        assert batch["array"][:, 0].tolist() == batch["number"].tolist()
    assert seen
    for path in seen.values():
        assert path[0] == "_delivered"
        assert len(path) <= FRAMES, " -> ".join(path)
