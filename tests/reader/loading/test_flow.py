"""Threads time some of the batches that are made quickly, and these stand for the others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from recordio import DataLoader, ShardDataset
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchTimes
from recordio.reader.loading.flow import EVERY, QUICK_NS, TIMED, Flow, Sampling
from tests.epochs import write_rows


def runs_of(sampling: Sampling, batches: int) -> list[int | None]:
    """The run of each batch: 0 if all are timed, None if it is not timed."""
    make = BatchMaker([])
    found = [sampling.choose(make) for _ in range(batches)]
    return [None if one == make.finished else getattr(one, "keywords", {"run": 0})["run"] for one in found]


def test_runs_of_quick_batches_are_timed() -> None:
    sampling = Sampling()
    assert runs_of(sampling, 5) == [0] * 5
    sampling.is_quick = True
    passed = [None] * (EVERY - TIMED)
    assert runs_of(sampling, 2 * EVERY) == [1] * TIMED + passed + [2] * TIMED + passed


def test_a_timed_batch_stands_for_those_that_are_not() -> None:
    flow = Flow()
    for run in (1, 2):
        for number in range(TIMED):
            flow.submitted = 1_000 * run + 10 * number
            flow.handed = flow.submitted + 9
            flow.add(BatchTimes(flow.submitted, flow.submitted + 7, run=run))
    assert flow.making == 2 * EVERY * 7
    assert flow.ready == 2 * EVERY * 2
    assert flow.idle == 2 * EVERY * 3  # of the first one of a run it is unknown, and between two runs nothing is


def test_slow_batches_are_all_timed_again() -> None:
    flow = Flow()
    flow.add(BatchTimes(1, 2))
    assert flow.sampling.is_quick
    flow.handed = 10 * QUICK_NS
    flow.add(BatchTimes(3, 4))
    assert not flow.sampling.is_quick
    flow.submitted = flow.handed
    flow.add(BatchTimes(5, 6))
    assert flow.sampling.is_quick
    flow.add(BatchTimes(1, 1 + QUICK_NS, run=1))
    assert not flow.sampling.is_quick


@pytest.mark.parametrize("pause", [0.0, 0.0005])
def test_figures_of_quick_batches_are_about_those_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    loader = DataLoader(ShardDataset(write_rows(tmp_path / "data", 4_000)), 2, num_workers=2, worker_type="thread")
    made: list[int] = []

    def kept(self: Any, request: Any) -> Any:
        began = time.perf_counter_ns()
        result = finished(self, request)
        made.append(time.perf_counter_ns() - began)
        return result

    finished = BatchMaker.finished
    monkeypatch.setattr(BatchMaker, "finished", kept)
    for _ in loader:
        if pause:
            time.sleep(pause)
    found = loader.stats.counts()
    assert (found.samples, found.batches) == (4_000, 2_000)
    assert sum(made) * 1e-9 / 4 < found.making < sum(made) * 1e-9 * 4
    if pause:
        assert found.as_dict("")["blocked_share"] > 0.4
        assert found.as_dict("")["batches_ready"] > 1
