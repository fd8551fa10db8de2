"""Threads never touch the generators of the training: what is random, or wants a worker of its own, gets processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recordio
from recordio import DataLoader, ShardDataset
from recordio.reader.loading.loader import DataLoader as Loader
from recordio.transforms import Compose, RandomHorizontalFlip

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
WORKERS: dict[str, Any] = {"batch_size": 10, "num_workers": 2}


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("choice")
    schema = {"number": recordio.Scalar("int64"), "image": recordio.Image(shape=(4, 6, 3))}
    with recordio.DatasetWriter(folder, schema, block_bytes=512) as writer:
        for n in range(120):
            writer.write({"number": n, "image": np.full((4, 6, 3), n, np.uint8)})
    return ShardDataset(folder)


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system that forks by default: functions of a test cannot be pickled."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "fork")
    context = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind=None: context(kind or "fork"))


def with_python(sample: dict[str, Any]) -> dict[str, Any]:
    return {"number": sample["number"], "drawn": random.random(), "pid": os.getpid()}


def with_numpy(sample: dict[str, Any]) -> dict[str, Any]:
    return {"number": sample["number"], "drawn": np.random.random(), "pid": os.getpid()}


def with_torch(sample: dict[str, Any]) -> dict[str, Any]:
    return {"number": sample["number"], "drawn": float(torch.rand(())), "pid": os.getpid()}


def with_pid(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"number": sample["number"], "drawn": rng.random(), "pid": os.getpid()}


def states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()  # type: ignore[union-attr, index]


def columns(loader: Any) -> dict[str, list[Any]]:
    batches = list(loader)
    return {name: [value for batch in batches for value in batch[name].tolist()] for name in batches[0]}


@pytest.mark.parametrize("function", [with_python, with_numpy, with_torch])
def test_random_functions_get_processes_and_repeat(ds: ShardDataset, function: Callable[..., Any]) -> None:
    before = states()
    found = [columns(DataLoader(ds.map(function), shuffle=True, seed=seed, **WORKERS)) for seed in (1, 1, 2)]
    assert states() == before
    assert all(os.getpid() not in one.pop("pid") for one in found)
    assert found[0] == found[1]
    assert found[0]["drawn"] != found[2]["drawn"]
    assert len(set(found[0]["drawn"])) == 120
    more = columns(DataLoader(ds.map(function), 10, True, seed=1, num_workers=3))
    assert more["drawn"] == found[0]["drawn"]  # a batch draws the same, whichever worker makes it


def test_epochs_and_batches_of_a_sampler_draw_anew(ds: ShardDataset) -> None:
    loader = DataLoader(ds.map(with_numpy), sampler=[3] * 40, persistent_workers=True, **WORKERS)
    drawn = [columns(loader)["drawn"] for _ in range(2)]
    assert len({*drawn[0], *drawn[1]}) == 80


@pytest.mark.parametrize("function", [with_pid, dict])
def test_functions_that_draw_nothing_or_from_their_own_stay_in_threads(ds: ShardDataset, function: Any) -> None:
    loader = DataLoader(ds.map(function), **WORKERS)
    batch = next(iter(loader))
    assert loader.runs.choice.workers == "thread"
    assert set(batch.get("pid", [os.getpid()])) == {os.getpid()}


def test_our_transforms_are_not_tried(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.reader.loading.worker_choice._states", lambda: pytest.fail("no need"))
    flipped = ds.transform(image=Compose([RandomHorizontalFlip()]))
    assert len(list(DataLoader(flipped, **WORKERS))) == 12


def test_a_collate_fn_may_be_what_draws(ds: ShardDataset) -> None:
    def mixed(samples: list[dict[str, Any]]) -> tuple[float, int]:
        return np.random.beta(1, 1), os.getpid()

    found = [list(DataLoader(ds, collate_fn=mixed, **WORKERS)) for _ in range(2)]
    assert [drawn for drawn, _ in found[0]] == [drawn for drawn, _ in found[1]]
    assert os.getpid() not in {pid for _, pid in found[0]}


def test_each_part_of_a_combined_dataset_is_tried(ds: ShardDataset) -> None:
    loader = DataLoader(ds[:50].map(with_pid) + ds[50:].map(with_numpy), **WORKERS)
    assert os.getpid() not in columns(loader)["pid"]


def test_a_sample_that_fails_says_nothing(ds: ShardDataset) -> None:
    def failing(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["number"] < 2:
            raise ValueError("bad")
        return sample

    loader = DataLoader(ds.map(failing), on_error="skip", **WORKERS)
    assert columns(loader)["number"] == list(range(2, 120))
    assert loader.stats.skipped == 2


def test_a_worker_init_fn_gets_processes(ds: ShardDataset, tmp_path: Path) -> None:
    def init(number: int) -> None:
        (tmp_path / str(os.getpid())).touch()
        np.random.seed(0)

    before = states()
    assert columns(DataLoader(ds, worker_init_fn=init, **WORKERS))["number"] == list(range(120))
    assert states() == before
    assert str(os.getpid()) not in os.listdir(tmp_path)
    assert len(os.listdir(tmp_path)) == 2


def test_threads_that_were_asked_for_say_what_is_lost(ds: ShardDataset) -> None:
    loader = DataLoader(ds, worker_init_fn=pytest.fail, worker_type="thread", **WORKERS)
    with pytest.warns(RuntimeWarning, match="worker_init_fn is not called, for .* threads: worker_type is 'th") as told:
        assert len(list(loader)) == 12
    assert told[0].filename == __file__


def test_work_that_cannot_be_sent_to_processes_stays_in_threads(
    ds: ShardDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    loader = DataLoader(ds.map(lambda sample: {"drawn": random.random()}), **WORKERS)
    with pytest.warns(RuntimeWarning, match="in an order that is chance, for .* define functions in a module") as told:
        assert len(list(loader)) == 12
    assert told[0].filename == __file__


def test_without_workers_functions_draw_as_they_do_in_torch(ds: ShardDataset) -> None:
    np.random.seed(5)
    expected = [np.random.random() for _ in range(120)]
    np.random.seed(5)
    assert columns(DataLoader(ds.map(with_numpy), 10))["drawn"] == expected


def test_the_choice_is_made_once_for_a_dataset(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    choose = recordio.reader.loading.runs.choose_workers  # type: ignore[attr-defined]

    def counted(*given: Any) -> Any:
        calls.append(given)
        return choose(*given)

    monkeypatch.setattr("recordio.reader.loading.runs.choose_workers", counted)
    loader = Loader(ds.map(dict), **WORKERS)
    for _ in range(3):
        assert len(list(loader)) == 12
    assert len(calls) == 1


class Lazy:
    """Opens a file when it is first called, as people do with HDF5: forks would share where it is read."""

    def __init__(self) -> None:
        self.file: Any = None

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        if self.file is None:
            self.file = os.getpid()
        return {"number": sample["number"], "drawn": random.random(), "pid": self.file}


def test_what_functions_open_when_they_are_tried_is_not_handed_on(ds: ShardDataset) -> None:
    lazy = Lazy()
    assert os.getpid() not in columns(DataLoader(ds.map(lazy), **WORKERS))["pid"]
    assert lazy.file is None


def test_functions_that_are_set_later_are_tried_as_well(ds: ShardDataset) -> None:
    view = ds[:]
    loader = DataLoader(view, persistent_workers=True, collate_fn=None, **WORKERS)
    assert loader.runs.choice is None
    assert len(list(loader)) == 12
    assert loader.runs.choice.workers == "thread"
    view.transform = lambda image: np.array([np.random.random()])  # type: ignore[method-assign, assignment]
    before = states()
    drawn = [float(x) for batch in loader for x in batch["image"][:, 0]]
    assert loader.runs.choice.workers == "process"
    assert states() == before
    assert len(set(drawn)) == 120


def pids(sample: dict[str, Any]) -> dict[str, Any]:
    return {"number": sample["number"], "pid": os.getpid()}


def test_more_than_four_workers_that_process_samples_are_processes(ds: ShardDataset) -> None:
    for workers, are_processes in ((4, False), (5, True)):
        found = columns(DataLoader(ds.map(pids), 10, num_workers=workers))
        assert found["number"] == list(range(120))
        assert (os.getpid() not in found["pid"]) is are_processes
    asked = columns(DataLoader(ds.map(pids), 10, num_workers=5, worker_type="thread"))
    assert set(asked["pid"]) == {os.getpid()}


def test_any_number_of_workers_that_gather_columns_are_threads(ds: ShardDataset) -> None:
    folder = ds.store.storage.folder  # type: ignore[attr-defined]
    loader = DataLoader(ShardDataset(folder, fields=["number"]), 10, num_workers=6)
    before = set(multiprocessing.active_children())
    for _ in loader:
        assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("why", ["spawn", "jax"])
def test_many_workers_stay_threads_where_processes_should_not_fork_and_say_so(
    ds: ShardDataset, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "spawn":
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    else:
        monkeypatch.setitem(sys.modules, "jax", sys)
    with pytest.warns(RuntimeWarning, match="more than 4 threads gain little.*worker_type='process'") as told:
        found = columns(DataLoader(ds.map(pids), 10, num_workers=5))
    assert told[0].filename == __file__
    assert found["number"] == list(range(120))
    assert set(found["pid"]) == {os.getpid()}
