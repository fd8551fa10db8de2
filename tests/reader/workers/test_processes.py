"""A loader whose workers are processes: the batches of any other, its errors, and nothing left behind."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import (
    ConcatDataset,
    CorruptError,
    DataLoader,
    DatasetWriter,
    DecodeError,
    Image,
    Mixture,
    SchemaError,
    ShardDataset,
    WorkerError,
)
from recordio.reader.workers import pool, slots as shared
from recordio.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from tests.epochs import numbers_of, write_numbers
from tests.open_files import descriptors
from tests.processes_seen import children, left_as_found, soon
from tests.reader.workers import makers
from tests.strategies import png

COUNT = 400
METHODS = ["fork", "forkserver", "spawn"]
SHUFFLED = {"shuffle": True, "window_bytes": 4000}
every_method = pytest.mark.parametrize("method", METHODS)


def processes(method: str = "fork", count: int = 2) -> dict[str, Any]:
    return {"num_workers": count, "worker_type": "process", "multiprocessing_context": method}


def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return sample | {"noise": rng.random(3), "large": np.full(30_000, sample["number"])}


def global_noise(sample: dict[str, Any]) -> dict[str, Any]:
    return sample | {"pid": os.getpid(), "python": random.random(), "numpy": np.random.rand()}


def poisoned(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["number"] % 100 == 42:
        raise ZeroDivisionError(f"no {sample['number']}")
    return sample


def deadly(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["number"] == 123:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


def slow(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["number"] == 123:
        time.sleep(600)
    return sample


def in_environment(number: int) -> None:
    os.environ["WORKER"] = f"{number} {os.getpid()}"


def from_environment(sample: dict[str, Any]) -> dict[str, Any]:
    return {"number": sample["number"], "worker": os.environ["WORKER"]}


def first_numbers(samples: list[dict[str, Any]]) -> list[int]:
    return [int(sample["number"]) for sample in samples[:2]]


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("numbers"), range(COUNT), compression="zstd")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("others"), range(1000, 1060), compression=None)


def taken() -> tuple[int, int, set[int], int]:
    """Descriptors, threads, children, maps of shared memory."""
    maps = Path("/proc/self/maps").read_text().count("/memfd:recordio")
    return descriptors(), threading.active_count(), children(), maps


@pytest.fixture
def nothing_is_left(ds: ShardDataset, other: ShardDataset) -> Iterator[None]:
    assert len(list(DataLoader(ds, 64))) + len(list(DataLoader(other, 64))) == 8  # their shards stay open
    with left_as_found(taken):
        yield


pytestmark = pytest.mark.usefixtures("nothing_is_left")


def same(found: Any, wanted: Any) -> bool:
    """Whether two batches are equal, in types and all."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[k], v) for k, v in wanted.items())
    if isinstance(wanted, np.ndarray):
        return bool(found.dtype == wanted.dtype and np.array_equal(found, wanted))
    return bool(type(found) is type(wanted) and found == wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 7},
        {"batch_size": 16, **SHUFFLED},
        {"batch_size": 16, **SHUFFLED, "prefetch_factor": 1, "drop_last": True, "rank": 1, "world_size": 3},
        {"batch_size": 150, "shuffle": True, "window_bytes": 1},  # parts that are taken at once
        {"batch_size": None, **SHUFFLED},
        {"batch_size": 16, "sampler": [5, 3, 3, 399, 0] * 20},
        {"batch_sampler": [[1], [2, 3], [4, 5, 6, 399]] * 5},
        {"batch_size": 5, "collate_fn": first_numbers},
    ],
    ids=["ordered", "shuffled", "a rank", "tiny windows", "single", "sampler", "batch_sampler", "collate_fn"],
)
def test_processes_make_the_same_batches_as_the_callers_thread(ds: ShardDataset, options: Any) -> None:
    view = ds.map(noisy)
    found, wanted = list(DataLoader(view, **options, **processes())), list(DataLoader(view, **options))
    assert len(found) == len(wanted) > 0
    assert all(map(same, found, wanted))


@every_method
def test_every_start_method_makes_the_same_batches(other: ShardDataset, method: str) -> None:
    view = other.map(noisy)
    found, wanted = list(DataLoader(view, 7, **SHUFFLED, **processes(method))), DataLoader(view, 7, **SHUFFLED)
    assert len(found) == len(wanted) == 9
    assert all(map(same, found, wanted))


@pytest.mark.parametrize("kind", ["plain", "concatenated", "mixed", "selected", "filtered"])
def test_processes_make_batches_of_views_and_mixtures(ds: ShardDataset, other: ShardDataset, kind: str) -> None:
    whole: Any = {
        "plain": lambda: ds,
        "concatenated": lambda: ConcatDataset([ds.map(noisy), other.map(noisy), ds[100:].map(noisy)]),
        "mixed": lambda: Mixture([(ds, 3), (other, 1)], "all_exhausted"),
        "selected": lambda: ds.select([3, 1, 2, 399, 399, 0]),
        "filtered": lambda: ds.filter(lambda columns: columns["number"] % 3 == 0),
    }[kind]()
    for options in ({}, SHUFFLED):
        found = list(DataLoader(whole, 33, **options, **processes()))
        assert all(map(same, found, DataLoader(whole, 33, **options)))
        assert sum(len(batch["number"]) for batch in found) == len(whole)


@every_method
def test_hundreds_of_datasets_take_few_descriptors(ds: ShardDataset, method: str) -> None:
    """A forkserver passes on 250 at most."""
    many = ConcatDataset([ds[n : n + 2] for n in range(0, COUNT, 2)])
    before, numbers = descriptors(), []
    for batch in DataLoader(many, 16, **SHUFFLED, **processes(method)):
        numbers += numbers_of(batch)
        assert descriptors() < before + 80
    assert sorted(numbers) == list(range(COUNT))


def test_processes_crop_images_as_the_callers_thread_does(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"image": Image()}) as writer:
        for n in range(30):
            writer.write({"image": png(40 + n, 30)})
    view = ShardDataset(tmp_path).transform(image=Compose([RandomResizedCrop(16), RandomHorizontalFlip()]))
    for method in METHODS:
        found = list(DataLoader(view, 8, True, **processes(method)))
        assert all(map(same, found, DataLoader(view, 8, True)))
        assert found[0]["image"].shape == (8, 16, 16, 3)


def test_batch_lies_in_shared_memory_and_is_writeable(ds: ShardDataset) -> None:
    kept = list(DataLoader(ds.map(noisy), 20, **processes()))
    before = [batch["large"].copy() for batch in kept]
    list(DataLoader(ds.map(noisy), 20, True, **processes()))
    for batch, large in zip(kept, before, strict=True):
        assert same(batch["large"], large)
        assert (batch["large"] == batch["number"][:, None]).all()
        batch["large"][:] = 1
    first = next(iter(DataLoader(ds.map(noisy), 20, **processes())))
    assert "/memfd:recordio" in Path("/proc/self/maps").read_text()
    first["large"] += 1
    assert (first["large"] == first["number"][:, None] + 1).all()


def test_consumer_that_holds_two_batches_gets_no_copies(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []

    def note(contents: Any, copy: bool) -> Any:
        copied.append(copy)
        return shared.load(contents, copy)

    monkeypatch.setattr(pool, "load", note)
    held: list[Any] = []
    for batch in DataLoader(ds.map(noisy), 10, **processes()):
        held = [*held[-1:], batch]
    assert copied == [False] * 40


@every_method
def test_more_batches_ahead_than_slots(other: ShardDataset, method: str) -> None:
    loader = DataLoader(other, 1, **processes(method), prefetch_factor=200)
    assert [n for batch in loader for n in numbers_of(batch)] == list(range(1000, 1060))


@every_method
def test_init_is_called_first_with_the_workers_number(ds: ShardDataset, method: str) -> None:
    view = ds.map(from_environment)
    found = {w for b in DataLoader(view, 8, **processes(method), worker_init_fn=in_environment) for w in b["worker"]}
    assert {word.split()[0] for word in found} <= {"0", "1"}
    assert os.getpid() not in {int(word.split()[1]) for word in found}


def test_global_generators_differ_between_workers_and_epochs(ds: ShardDataset) -> None:
    loader = DataLoader(ds.map(global_noise), 4, **processes(count=3))
    found = [b for _ in range(2) for b in loader]
    for name in ("python", "numpy"):
        values = [value for batch in found for value in batch[name].tolist()]
        assert len(set(values)) == len(values)


class TestPersistentWorkers:
    @every_method
    def test_persistent_workers_survive_epochs_and_breaks(self, ds: ShardDataset, method: str) -> None:
        options: Any = {"batch_size": 16, **SHUFFLED}
        loader = DataLoader(ds.map(global_noise), **options, **processes(method), persistent_workers=True)
        alone, pids = DataLoader(ds, **options), set()
        for epoch, stop in enumerate([3, 10**6, 0, 1, 10**6]):
            loader.set_epoch(epoch)
            alone.set_epoch(epoch)
            for n, (batch, wanted) in enumerate(zip(loader, alone, strict=True)):
                if n == stop:
                    break
                assert numbers_of(batch) == numbers_of(wanted)
                pids |= set(batch["pid"].tolist())
        assert len(pids) == 2
        assert pids <= children() or method == "forkserver"
        del loader

    def test_persistent_workers_call_init_once(self, ds: ShardDataset, tmp_path: Path) -> None:
        def note(number: int) -> None:
            with (tmp_path / "begun").open("a") as file:
                file.write(f"{number}\n")

        for keeps, times in ((True, 1), (False, 3)):
            loader = DataLoader(
                ds,
                10,
                num_workers=2,
                multiprocessing_context="fork",
                persistent_workers=keeps,
                worker_init_fn=note,
            )
            for _ in range(3):
                assert len(list(loader)) == 40
            assert sorted((tmp_path / "begun").read_text().split()) == ["0"] * times + ["1"] * times
            (tmp_path / "begun").unlink()

    @pytest.mark.parametrize("options", [processes(count=3)])
    def test_init_is_called_in_idle_workers(self, ds: ShardDataset, options: Any, tmp_path: Path) -> None:
        loader = DataLoader(ds[:10], 10, **options, worker_init_fn=lambda number: (tmp_path / str(number)).touch())
        assert len(list(loader)) == 1
        assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2"}

    @pytest.mark.parametrize("options", [{"num_workers": 3}, processes(count=3)])
    def test_error_of_init_is_raised_by_the_epoch(self, ds: ShardDataset, options: Any) -> None:
        before = set(threading.enumerate())
        with pytest.raises(FileNotFoundError, match=r"worker \d finds nothing"):
            list(DataLoader(ds, 10, **options, worker_init_fn=makers.fail_to_begin))
        assert soon(lambda: set(threading.enumerate()) <= before)

    def test_two_live_iterators_have_workers_of_their_own(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 16, **SHUFFLED, **processes(), persistent_workers=True)
        one, two = iter(loader), iter(loader)
        pairs = list(zip(one, two, strict=True))
        for side in zip(*pairs, strict=True):
            assert sorted(n for batch in side for n in numbers_of(batch)) == list(range(COUNT))
        assert len(list(loader)) == 25

    @pytest.mark.parametrize("copied", [copy.copy, lambda loader: pickle.loads(pickle.dumps(loader))])
    @pytest.mark.parametrize("kind", [processes(), {"num_workers": 2}])
    def test_a_copy_of_the_loader_has_workers_of_its_own(self, ds: ShardDataset, kind: Any, copied: Any) -> None:
        loader = DataLoader(ds, 16, **SHUFFLED, **kind, persistent_workers=True)
        wanted = [numbers_of(batch) for _ in range(2) for batch in loader]
        other = copied(loader)
        loader.set_epoch(0)
        other.set_epoch(1)
        pairs = [(numbers_of(one), numbers_of(two)) for one, two in zip(loader, other, strict=True)]
        assert [numbers for side in zip(*pairs, strict=True) for numbers in side] == wanted

    def test_persistent_loader_recovers_from_an_error(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds.map(poisoned), 10, **processes(), persistent_workers=True)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                list(loader)
        assert next(iter(loader))["number"].tolist() == list(range(10))

    def test_persistent_loader_recovers_from_a_killed_worker(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds.map(global_noise), 10, **processes(), persistent_workers=True)
        (victim, *_) = {int(pid) for batch in loader for pid in batch["pid"]}
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(WorkerError, match="SIGKILL"):
            list(loader)
        assert len(list(loader)) == 40


UNGUARDED = """
from recordio import DataLoader, ShardDataset
def same(sample):
    return sample
list(DataLoader(ShardDataset({folder!r}).map(same), 16, **{options!r}))
"""


class TestErrors:
    @every_method
    def test_error_of_a_map_names_the_sample_and_has_the_workers_traceback(self, ds: ShardDataset, method: str) -> None:
        with pytest.raises(ZeroDivisionError, match="no 42") as caught:
            list(DataLoader(ds.map(poisoned), 10, **processes(method)))
        sample, trace = caught.value.__notes__
        assert "sample 42" in sample
        assert "in worker" in trace
        assert "in poisoned" in trace

    def test_failing_samples_are_skipped_and_counted(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds.map(poisoned), 10, **SHUFFLED, **processes(), on_error="skip")
        found = sorted(n for batch in loader for n in numbers_of(batch))
        assert found == [n for n in range(COUNT) if n % 100 != 42]
        assert (loader.stats.samples, loader.stats.skipped) == (COUNT - 4, 4)
        assert sorted(loader.stats.errors)[0].startswith("ZeroDivisionError: no 142")

    @pytest.mark.parametrize("window", [1, 4000])
    @pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
    def test_damage_is_found_and_named_or_skipped(self, tmp_path: Path, io: Any, window: int) -> None:
        damaged = write_numbers(tmp_path, range(200))
        index = damaged.store.shard(1).index
        at, samples = int(index.page_offsets[1, 0]), int(index.first[2] - index.first[1])
        with (tmp_path / "shard-00001.rio").open("r+b") as file:
            file.seek(at)
            file.write(b"\xff\xff")
        messages, shuffled = [], {"shuffle": True, "window_bytes": window}
        for workers in ({}, {"num_workers": 2}, processes()):
            with pytest.raises(CorruptError, match="checksum") as caught:
                list(DataLoader(ShardDataset(tmp_path, io=io), 16, **shuffled, **workers))
            messages.append(str(caught.value))
            loader = DataLoader(ShardDataset(tmp_path, io=io), 16, **shuffled, **workers, on_error="skip")
            found = [n for batch in loader for n in numbers_of(batch)]
            assert loader.stats.skipped == len(set(range(200)) - set(found)) == samples
        assert len(set(messages)) == 1

    def test_image_that_does_not_decode_is_named(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path, {"image": Image()}, shard_samples=2) as writer:
            for n in range(5):
                writer.write({"image": png(2, 3)[: -20 if n == 3 else None]})
        with pytest.raises(DecodeError) as caught:
            list(DataLoader(ShardDataset(tmp_path), 3, **processes()))
        place = caught.value.place
        assert (place.file, place.sample) == ("shard-00001.rio", 3)

    @every_method
    def test_a_killed_worker_is_an_error_within_seconds(self, ds: ShardDataset, method: str) -> None:
        began = time.monotonic()
        with pytest.raises(WorkerError, match=r"worker \d was killed by SIGKILL"):
            list(DataLoader(ds.map(deadly), 10, **processes(method)))
        assert time.monotonic() - began < 20

    def test_a_worker_that_takes_too_long_is_an_error(self, ds: ShardDataset) -> None:
        with pytest.raises(WorkerError, match=r"timeout=0\.5 seconds"):
            list(DataLoader(ds.map(slow), 10, **processes(), timeout=0.5))

    def test_maker_that_cannot_be_pickled_is_refused(self, ds: ShardDataset) -> None:
        with pytest.raises(WorkerError, match=r"worker processes cannot import .*lambda"):
            list(DataLoader(ds.map(lambda sample: sample), 10, **processes("spawn")))
        found = list(DataLoader(ds.map(lambda sample: sample), 10, **processes("fork")))
        assert len(found) == 40

    @pytest.mark.parametrize("method", ["forkserver", "spawn"])
    def test_missing_main_guard_is_reported(self, ds: ShardDataset, method: str, tmp_path: Path) -> None:
        folder = ds.store.storage.folder  # type: ignore[attr-defined]
        (tmp_path / "train.py").write_text(UNGUARDED.format(folder=str(folder), options=processes(method)))
        run = subprocess.run([sys.executable, tmp_path / "train.py"], capture_output=True, text=True, timeout=60)
        assert run.returncode == 1
        assert 'guarded by `if __name__ == "__main__":`?' in run.stderr.splitlines()[-2]

    def test_wrong_process_options_are_refused(self, ds: ShardDataset) -> None:
        with pytest.raises(SchemaError, match="worker_type"):
            DataLoader(ds, worker_type="fibre")  # type: ignore[arg-type]
        with pytest.raises(SchemaError, match="multiprocessing_context"):
            DataLoader(ds, num_workers=1, multiprocessing_context="fork", worker_type="thread")


LEFT_OPEN = """
from recordio import DataLoader, ShardDataset
loader = DataLoader(ShardDataset({folder!r}), 16, True, window_bytes=4000, **{options!r})
batches = [iter(loader), iter(loader)]
held = [next(each) for each in batches]
"""


class TestLeavingNothingBehind:
    """The fixture counts threads, descriptors, children and shared memory before and after each test."""

    def test_breaks_dropped_iterators_and_two_at_a_time_leave_nothing(self, ds: ShardDataset) -> None:
        for round_ in range(30):
            loader = DataLoader(
                ds, 10, **SHUFFLED, **processes(count=1 + round_ % 3), persistent_workers=round_ % 2 > 0
            )
            for _ in loader:
                break
            iterator = iter(loader)
            next(iterator)
            del iterator
            iter(loader)

    @pytest.mark.slow
    @pytest.mark.parametrize("keeps", [True, False])
    @pytest.mark.parametrize("kind", ["none", "thread", "process"])
    def test_hundreds_of_interrupted_epochs_leave_nothing(self, ds: ShardDataset, kind: str, keeps: bool) -> None:
        kinds: dict[str, dict[str, Any]] = {"none": {}, "thread": {"num_workers": 2}, "process": processes()}
        loader = DataLoader(ds, 10, **SHUFFLED, **kinds[kind], persistent_workers=keeps)
        for epoch in range(100 if kind == "process" and not keeps else 180):
            for n, batch in enumerate(loader):
                assert len(batch["number"]) == 10
                if n == epoch % 8:
                    break

    @pytest.mark.parametrize("keeps", [True, False])
    @every_method
    def test_process_exit_ends_live_iterators_silently(self, ds: ShardDataset, method: str, keeps: bool) -> None:
        folder = ds.store.storage.folder  # type: ignore[attr-defined]
        code = LEFT_OPEN.format(folder=str(folder), options={**processes(method), "persistent_workers": keeps})
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stderr) == (0, "")

    def test_a_fork_with_a_live_iterator_leaves_it_alone(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 10, **SHUFFLED, **processes(), persistent_workers=True)
        batches = iter(loader)
        seen = numbers_of(next(batches))
        if (child := os.fork()) == 0:
            code = 1
            try:
                del batches
                gc.collect()
                code = 0 if len(list(DataLoader(ds, 10, **processes()))) == 40 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        seen += [n for batch in batches for n in numbers_of(batch)]
        assert sorted(seen) == list(range(COUNT))
