"""The maker: the same batch whoever asks for it, and what becomes of samples that fail."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import CorruptError, DatasetWriter, ShardDataset, StorageError
from recordio.reader.batches.fetch_plan import FetchPlan
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchRequest, BatchResult, IndexRequest, WindowSlice
from recordio.reader.joining import Cast
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of
from recordio.reader.page_table import PageTable
from recordio.storage.memory import new_memory

SAMPLES = 12


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("maker"), 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("other"), 100)


def write(folder: Path, first: int) -> ShardDataset:
    with DatasetWriter(folder, block_bytes=40) as writer:
        for n in range(first, first + SAMPLES):
            writer.write({"number": n, "text": str(n)})
    return ShardDataset(folder)


class LoadedWindow:
    """A window in memory."""

    def __init__(self, table: PageTable) -> None:
        self.table = table


class LostWindow:
    """A window that could not be loaded."""

    @property
    def table(self) -> PageTable:
        raise StorageError("the disk is gone")


def slices_of(ds: ShardDataset, *bounds: tuple[int, int], source: int = 0, window: Any = None) -> list[WindowSlice]:
    """Slices [begin, end) of a window with all samples in order."""
    order = order_of(ds.store.blocks, ds.numbers, OrderOptions(), 7)
    (plan,) = window_plans(order, RankShare(rank=0, world=1, start=0, stop=len(ds)))
    if window is None:
        fetch = FetchPlan(ds.store, ds.fields, plan.blocks)
        window = LoadedWindow(fetch.load(new_memory(fetch.layout.nbytes), run=run_all))
    return [WindowSlice(source, window, plan, begin, end) for begin, end in bounds]


def run_all(work: Any) -> None:
    for piece in work:
        piece()


def failing(*numbers: int) -> Callable[[Any], Any]:
    """A map that fails for these samples."""

    def function(sample: Any) -> Any:
        if sample["number"] in numbers:
            raise LookupError(f"not {sample['number']}")
        return sample

    return function


def numbers(result: BatchResult) -> list[int]:
    assert result.batch["text"] == [str(n) for n in result.batch["number"].tolist()]
    return result.batch["number"].tolist()  # type: ignore[no-any-return]


def test_columns_of_one_slice_or_several(ds: ShardDataset) -> None:
    make = BatchMaker([ds])
    assert numbers(make(BatchRequest(slices_of(ds, (2, 6))))) == [2, 3, 4, 5]
    assert numbers(make(BatchRequest(slices_of(ds, (2, 4), (9, 12))))) == [2, 3, 9, 10, 11]


def test_a_batch_by_index(ds: ShardDataset) -> None:
    result = BatchMaker([ds])(IndexRequest([3, -1, 3], epoch_key=7))
    assert (numbers(result), result.samples) == ([3, 11, 3], 3)


def test_a_batch_of_several_datasets_takes_turns(ds: ShardDataset, other: ShardDataset) -> None:
    slices = [*slices_of(ds, (0, 2), (5, 6)), *slices_of(other, (0, 2), source=1)]
    request = BatchRequest(slices, np.array([1, 0, 0, 1, 0]))
    for datasets in [ds, other], [ds.map(dict), other.map(dict)]:
        assert numbers(BatchMaker(datasets)(request)) == [100, 0, 1, 101, 5]


def test_a_collate_fn_gets_a_list_of_samples(ds: ShardDataset) -> None:
    make = BatchMaker([ds], collate_fn=lambda samples: [sample["text"] for sample in samples])
    assert make(BatchRequest(slices_of(ds, (2, 4)))).batch == ["2", "3"]


def test_an_unbatched_collate_fn_gets_each_sample(ds: ShardDataset) -> None:
    make = BatchMaker([ds], collate_fn=lambda sample: sample["text"], unbatched=True)
    assert make(BatchRequest(slices_of(ds, (2, 4)))).batch == ["2", "3"]
    samples = BatchMaker([ds], unbatched=True)(BatchRequest(slices_of(ds, (2, 4)))).batch
    assert [sample["text"] for sample in samples] == ["2", "3"]


def test_random_maps_depend_on_the_epoch_and_the_sample_only(ds: ShardDataset) -> None:
    drawing = ds.map(lambda sample, rng: {**sample, "drawn": rng.integers(1 << 60)})
    make = BatchMaker([drawing])
    whole = make(BatchRequest(slices_of(ds, (0, SAMPLES)))).batch["drawn"].tolist()
    halves = [make(BatchRequest(slices_of(ds, bounds))).batch["drawn"].tolist() for bounds in ((0, 5), (5, SAMPLES))]
    assert list(chain(*halves)) == whole
    assert make(IndexRequest(range(SAMPLES), epoch_key=7)).batch["drawn"].tolist() == whole
    assert make(IndexRequest(range(SAMPLES), epoch_key=8)).batch["drawn"].tolist() != whole


class TestSkipping:
    def test_first_error_is_raised_without_skipping(self, ds: ShardDataset) -> None:
        with pytest.raises(LookupError, match="not 3"):
            BatchMaker([ds.map(failing(3, 5))])(BatchRequest(slices_of(ds, (2, 8))))

    def test_skipping_leaves_out_failing_samples_with_reasons(self, ds: ShardDataset) -> None:
        make = BatchMaker([ds.map(failing(3, 5))], skip=True)
        for request in BatchRequest(slices_of(ds, (2, 6), (6, 8))), IndexRequest(range(2, 8), epoch_key=7):
            result = make(request)
            assert numbers(result) == [2, 4, 6, 7]
            assert (result.samples, result.skipped) == (4, 2)
            assert [error.split(" - ")[0] for error in result.errors] == ["LookupError: not 3", "LookupError: not 5"]
            assert "sample 3" in result.errors[0]

    def test_skipping_keeps_the_turns_of_several_datasets(self, ds: ShardDataset, other: ShardDataset) -> None:
        slices = [*slices_of(ds, (0, 3)), *slices_of(other, (0, 3), source=1)]
        make = BatchMaker([ds.map(failing(1)), other.map(failing(100))], skip=True)
        assert numbers(make(BatchRequest(slices, np.array([1, 0, 0, 1, 0, 1])))) == [0, 101, 2, 102]

    def test_skipping_every_sample_leaves_no_batch(self, ds: ShardDataset) -> None:
        result = BatchMaker([ds.map(failing(*range(SAMPLES)))], skip=True)(BatchRequest(slices_of(ds, (0, SAMPLES))))
        assert result.batch is None
        assert (result.samples, result.skipped, len(result.errors)) == (0, SAMPLES, 10)

    def test_error_of_no_single_sample_is_not_skipped(self, ds: ShardDataset) -> None:
        def collate(samples: list[Any]) -> int:
            if len(samples) > 1:
                raise LookupError("too many")
            return len(samples)

        with pytest.raises(LookupError, match="too many"):
            BatchMaker([ds], collate_fn=collate, skip=True)(BatchRequest(slices_of(ds, (0, 2))))

    def test_samples_of_a_window_that_could_not_be_loaded_are_skipped(self, ds: ShardDataset) -> None:
        slices = [*slices_of(ds, (0, 2), window=LostWindow()), *slices_of(ds, (2, 4))]
        result = BatchMaker([ds], skip=True)(BatchRequest(slices))
        assert (numbers(result), result.skipped) == ([2, 3], 2)
        assert set(result.errors) == {"StorageError: the disk is gone"}

    def test_second_try_gets_samples_as_stored(self, tmp_path: Path) -> None:
        """Even when it was read early, and a map changed it in place before another sample failed."""
        seen: list[int] = []

        def function(sample: Any) -> Any:
            seen.append(int(sample["array"][0]))
            sample["array"] += 1000
            return failing(1)({"number": seen[-1]})

        with DatasetWriter(tmp_path) as writer:
            for n in range(3):
                writer.write({"array": np.full(2, n)})
        arrays = ShardDataset(tmp_path)
        make = BatchMaker([arrays.map(function)], skip=True)
        result = make(BatchRequest(make.read_early(slices_of(arrays, (0, 3))[0])))
        assert result.skipped == 1
        assert set(seen) == {0, 1, 2}


class TestReadingEarly:
    def test_slice_read_early_gives_the_same_batch(self, ds: ShardDataset) -> None:
        make = BatchMaker([ds])
        (late,) = slices_of(ds, (2, 6))
        (early,) = make.read_early(late)
        assert early.columns is not None
        early.window = LostWindow()
        assert numbers(make(BatchRequest([early]))) == [2, 3, 4, 5]

    def test_error_of_reading_early_is_raised_by_the_batch(self, ds: ShardDataset) -> None:
        make = BatchMaker([ds])
        early = make.read_early(slices_of(ds, (2, 6), window=LostWindow())[0])
        with pytest.raises(StorageError, match="the disk is gone"):
            make(BatchRequest(early))

    @pytest.mark.parametrize("skip", [False, True])
    def test_reading_early_loses_only_failing_samples(self, ds: ShardDataset, skip: bool) -> None:
        make = BatchMaker([ds], skip=skip)
        slices = slices_of(ds, (0, SAMPLES))
        bad = int(slices[0].slot[5])
        slices[0].window.table.failed[bad] = CorruptError("damaged")
        lost = [int(n) for n, slot in enumerate(slices[0].slot) if slot == bad]
        assert 0 < len(lost) < SAMPLES
        early = make.read_early(slices[0])
        assert len(early) == SAMPLES
        good = [n for n in range(SAMPLES) if n not in lost]
        assert numbers(make(BatchRequest([early[n] for n in good]))) == good
        if skip:
            assert (numbers(result := make(BatchRequest(early))), result.skipped) == (good, len(lost))
        else:
            with pytest.raises(CorruptError, match="damaged"):
                make(BatchRequest(early))

    def test_second_try_of_what_was_read_early_is_cast_once(self, tmp_path: Path) -> None:
        """A cast puts other columns into a batch, not into the slice."""
        with DatasetWriter(tmp_path, metadata={"classes": ["a", "b", "c"]}) as writer:
            writer.write_batch({"label": np.array([0, 1, 2])})
        labels = ShardDataset(tmp_path)
        mapped = labels.as_part(
            {"label": Cast(labels.schema["label"], labels.schema["label"], np.array([1, 2, 0]))}, labels.class_map
        )
        make = BatchMaker([mapped])
        early = make.read_early(slices_of(labels, (0, 3))[0])
        for _ in range(2):
            assert make(BatchRequest(early)).batch["label"].tolist() == [1, 2, 0]


def test_an_error_that_cannot_describe_itself_is_named_by_its_class(ds: ShardDataset) -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def function(sample: Any) -> Any:
        raise Speechless

    result = BatchMaker([ds.map(function)], skip=True)(BatchRequest(slices_of(ds, (0, 1))))
    assert result.errors == ["Speechless"]
