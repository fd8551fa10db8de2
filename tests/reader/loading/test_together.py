"""Batches made together: those that would be made one by one, errors in their place, with far fewer gathers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, CorruptError, DataLoader, DatasetWriter, Mixture, ShardDataset, WorkerError
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchRequest, BatchResult
from recordio.reader.combined import Combined
from recordio.reader.loading import epoch_run, prefetch, together
from recordio.reader.loading.together import SeveralBatches, batches_together
from recordio.reader.page_table import PageTable
from tests.reader.loading.by_hand import ManualTask

DATASETS, SAMPLES, SIZE = 12, 100, 8
BAD = 6  # the dataset with a damaged page


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fields of every kind of column: arrays, masked arrays and lists, some of other types than in their neighbours."""
    top = tmp_path_factory.mktemp("together")
    for d in range(DATASETS):
        with DatasetWriter(top / str(d), compression="zstd" if d % 3 == 0 else None, block_bytes=150) as writer:
            for n in range(d * SAMPLES, (d + 1) * SAMPLES):
                number = np.int32(n) if d % 2 else np.int64(n)
                writer.write({"number": number, "row": np.full(3, n, np.float32), "text": str(n)})
    return [top / str(d) for d in range(DATASETS)]


@pytest.fixture(autouse=True)
def several_requests_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_LEAST", 0)


@pytest.fixture
def damaged(folders: list[Path], tmp_path: Path) -> list[Path]:
    """The same datasets, one of which has lost the middle of its shard."""
    bad = shutil.copytree(folders[BAD], tmp_path / "bad")
    (shard,) = bad.glob("*.rio")
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(16)
    shard.write_bytes(content)
    return [*folders[:BAD], bad, *folders[BAD + 1 :]]


def concatenated(folders: Sequence[Path], **options: Any) -> ConcatDataset:
    return ConcatDataset([ShardDataset(folder, **options) for folder in folders])


def mixed(folders: Sequence[Path], **options: Any) -> Mixture:
    return Mixture([(ShardDataset(folder, **options), 1 + k % 3) for k, folder in enumerate(folders)], "all_exhausted")


def epoch(dataset: Combined, patch: pytest.MonkeyPatch, one_by_one: bool = False, **options: Any) -> list[Any]:
    """The batches, an error as its text, and what was skipped."""
    out: list[Any] = []
    with patch.context() as patched:
        if one_by_one:
            patched.setattr(epoch_run, "batches_together", lambda *_: 1)
        loader = DataLoader(dataset, SIZE, True, **options)
        try:
            for batch in loader:
                assert batch["text"] == [str(n) for n in batch["number"].tolist()]
                assert (batch["row"] == batch["number"][:, None]).all()
                out.append((batch["number"].dtype, batch["number"].tolist(), loader.state_dict()["position"]))
        except CorruptError as error:
            out.append(str(error))
    return [*out, loader.stats.skipped, loader.stats.errors]


@pytest.mark.parametrize("combine", [concatenated, mixed])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_samples": 150},
        {"window_samples": 150, "num_workers": 2},
        {"rank": 1, "world_size": 3, "drop_last": True},
        {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
    ],
    ids=lambda options: "-".join(map(str, options)) or "default",
)
class TestBatches:
    def test_batches_are_those_made_one_by_one(
        self,
        folders: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        combine: Callable[..., Combined],
        options: dict[str, Any],
    ) -> None:
        dataset = combine(folders)
        assert epoch(dataset, monkeypatch, **options) == epoch(dataset, monkeypatch, one_by_one=True, **options)

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_errors_are_raised_and_skipped_in_their_place(
        self,
        damaged: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        combine: Callable[..., Combined],
        options: dict[str, Any],
        on_error: Any,
    ) -> None:
        found, want = (
            epoch(combine(damaged), monkeypatch, one_by_one, on_error=on_error, even_batches=False, **options)
            for one_by_one in (False, True)
        )
        assert found == want
        assert (want[-2] > 0) == (on_error == "skip")
        assert len(want) > 5 or on_error == "raise"


def test_errors_of_reading_early_stay_with_their_batches(damaged: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read early for several batches has good samples before its bad ones."""
    dataset = concatenated(damaged)
    for seed in range(6):
        found, want = (
            epoch(dataset, monkeypatch, one_by_one, seed=seed, window_samples=300) for one_by_one in (False, True)
        )
        assert found == want


def test_out_of_order_epoch_is_exactly_once(folders: list[Path]) -> None:
    loader = DataLoader(concatenated(folders), SIZE, True, num_workers=2, in_order=False)
    found = [n for batch in loader for n in batch["number"].tolist()]
    assert sorted(found) == list(range(DATASETS * SAMPLES))


def test_the_first_batch_loads_no_window_that_it_takes_nothing_of(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = []
    real = prefetch.FetchPlan
    monkeypatch.setattr(prefetch, "FetchPlan", lambda *args: planned.append(args[0]) or real(*args))
    batches = iter(DataLoader(concatenated(folders), 3, shuffle=True))
    first = next(batches)
    assert len(planned) == len(np.unique(first["number"] // SAMPLES)) <= 3
    rest = np.concatenate([batch["number"] for batch in batches])
    assert sorted([*first["number"], *rest]) == list(range(DATASETS * SAMPLES))
    assert len(set(map(id, planned))) == DATASETS


def test_gathers_follow_the_samples_not_the_batches(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One for every 64 samples of a dataset after the first batch, though each has samples of nearly all datasets."""
    gathers = []
    take = PageTable.take
    monkeypatch.setattr(PageTable, "take", lambda *at, **how: gathers.append(1) or take(*at, **how))
    assert len(epoch(concatenated(folders), monkeypatch)) == DATASETS * SAMPLES // SIZE + 2
    assert len(gathers) <= DATASETS * (SAMPLES // 64 + 2)


def test_a_delivered_batch_has_memory_of_its_own(folders: list[Path]) -> None:
    """A consumer that keeps one batch does not keep those that were made with it."""
    for batch in DataLoader(concatenated(folders), SIZE, True):
        assert batch["number"].base is None
        assert batch["row"].flags.owndata


class TestHowMany:
    def test_single_datasets_and_functions_make_one_batch_at_a_time(self, folders: list[Path]) -> None:
        parts = concatenated(folders).parts
        assert batches_together(BatchMaker(parts), SIZE, 0) == DATASETS * 64 // SIZE
        assert batches_together(BatchMaker(parts[:1]), SIZE, 0) == 1
        for one in parts[0].map(dict), parts[0].transform(row=abs):
            assert batches_together(BatchMaker([one, *parts[1:]]), SIZE, 0) == 1
        assert batches_together(BatchMaker(parts, collate_fn=list), SIZE, 0) == 1
        assert batches_together(BatchMaker(parts, unbatched=True), SIZE, 0) == 1

    def test_batches_made_together_and_ahead_stay_within_the_limit(
        self, folders: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = concatenated(folders).parts
        nbytes = max(part.store.content_nbytes // SAMPLES for part in parts)
        monkeypatch.setattr(together, "_NBYTES", 40 * SIZE * nbytes)
        assert [batches_together(BatchMaker(parts), SIZE, ahead) for ahead in (0, 3, 19, 100)] == [40, 10, 2, 1]


class Slice:
    """So many samples of a request."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples


class Submitted:
    """A request of seven samples for three batches, and its tasks: first the one of all batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: list[ManualTask] = []
        self.refused: Exception | None = None
        monkeypatch.setattr(BatchRequest, "only", lambda self, rows: ("rows", *rows))
        self.task = SeveralBatches(self.submit, 3, BatchRequest([Slice(7)], several=True))  # type: ignore[list-item]

    def submit(self, request: Any) -> ManualTask:
        if self.refused is not None:
            raise self.refused
        self.tasks.append(ManualTask(request))
        return self.tasks[-1]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Submitted:
    return Submitted(monkeypatch)


class TestTask:
    def test_the_result_is_cut_into_batches(self, submitted: Submitted) -> None:
        assert not submitted.task.done()
        submitted.tasks[0].finish(BatchResult({"n": np.arange(7), "text": list("abcdefg")}, 7))
        assert submitted.task.done()
        found = [(one.samples, one.batch["n"].tolist(), "".join(one.batch["text"])) for one in submitted.task.result()]
        assert found == [(3, [0, 1, 2], "abc"), (3, [3, 4, 5], "def"), (1, [6], "g")]
        assert len(submitted.tasks) == 1

    def test_batches_are_made_one_by_one_after_a_failure(self, submitted: Submitted) -> None:
        submitted.tasks[0].fail(CorruptError("somewhere"))
        assert not submitted.task.done(), "its windows are still read"
        each = submitted.tasks[1:]
        assert [one.value for one in each] == [("rows", 0, 1, 2), ("rows", 3, 4, 5), ("rows", 6)]
        each[1].fail(CorruptError("here"))
        each[0].finish()
        assert not submitted.task.done()
        each[2].finish()
        assert submitted.task.done()
        results: Iterator[Any] = submitted.task.result()
        assert next(results) == ("rows", 0, 1, 2)
        with pytest.raises(CorruptError, match="here"):
            next(results)

    def test_a_request_that_is_refused_fails_in_its_place(self, submitted: Submitted) -> None:
        submitted.refused = CorruptError("no window")
        submitted.tasks[0].fail(CorruptError("somewhere"))
        assert submitted.task.done()
        with pytest.raises(CorruptError, match="no window"):
            next(submitted.task.result())

    def test_waiting_ends_with_the_last_of_its_batches(self, submitted: Submitted) -> None:
        submitted.tasks[0].fail(CorruptError("somewhere"))
        submitted.task.wait()
        assert submitted.task.done()
        assert [task.has_ended for task in submitted.tasks] == [True] * 4

    def test_waiting_ends_when_another_task_is_done(
        self, submitted: Submitted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = Submitted(monkeypatch)
        other.tasks[0].finish(BatchResult({"n": np.arange(7)}, 7))
        submitted.task.wait([submitted.task, other.task])
        assert not submitted.task.done()

    def test_a_task_may_end_between_two_looks_at_it(
        self, submitted: Submitted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task, looks = submitted.tasks[0], iter([False, True])
        task.finish(BatchResult({"n": np.arange(7)}, 7))
        monkeypatch.setattr(task, "done", lambda: next(looks, True))
        submitted.task.wait()
        assert submitted.task.done()

    def test_workers_that_have_ended_make_no_more_batches(self, submitted: Submitted) -> None:
        submitted.tasks[0].fail(WorkerError("killed"))
        with pytest.raises(WorkerError, match="killed"):
            next(submitted.task.result())
        assert len(submitted.tasks) == 1

    def test_a_task_keeps_no_batch_that_was_delivered(self, submitted: Submitted) -> None:
        submitted.tasks[0].finish(BatchResult({"n": np.arange(7)}, 7))
        results = submitted.task.result()
        next(results)
        assert len(submitted.task._each) == 2
        assert submitted.task._together is None
        list(results)
        assert submitted.task.done()
