"""`DataLoader`: exactly the samples, in the order of the epoch, for any number of threads, and nothing left behind."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import (
    CorruptError,
    DataLoader,
    DatasetError,
    DatasetWriter,
    DecodeError,
    Image,
    Mixture,
    Schema,
    SchemaError,
    ShardDataset,
    WorkerError,
)
from recordio.reader.workers.thread_trial import ThreadTrial
from tests.effort import examples
from tests.open_files import descriptors
from tests.processes_seen import settled
from tests.strategies import cells, png, same_columns, samples, schemas


def write_numbers(folder: Path, count: int, **options: Any) -> ShardDataset:
    with DatasetWriter(folder, **options) as writer:
        for n in range(count):
            writer.write({"number": n, "text": "x" * (n % 7) + str(n), "row": np.full(5, n, np.int32)})
    return ShardDataset(folder)


@pytest.fixture(params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path: Path) -> ShardDataset:
    """1,000 samples in some fifty blocks and four shards."""
    ds = write_numbers(tmp_path / "it", 1000, compression=request.param, block_bytes=512, shard_samples=300)
    assert bool(ds.store.shard(0).index.pages["codec"].any()) == (request.param is not None)
    return ds


def order(loader: DataLoader) -> list[int]:
    """The numbers that an epoch delivers; every batch is compared with them in its other fields."""
    out: list[int] = []
    for batch in loader:
        numbers = batch["number"].tolist()
        assert batch["text"] == ["x" * (n % 7) + str(n) for n in numbers]
        assert (batch["row"] == batch["number"][:, None]).all()
        out += numbers
    return out


@examples(60)
@given(
    schema=schemas(3),
    count=st.integers(0, 50),
    seed=st.integers(0, 2**32),
    codec=st.sampled_from([None, "zstd"]),
    io=st.sampled_from(["mmap", "pread", "direct"]),
    batch_size=st.integers(1, 60),
    window=st.sampled_from([1, 200, 5000, None]),
    workers=st.sampled_from([0, 1, 3]),
    shuffle=st.booleans(),
    shard_samples=st.sampled_from([None, 5]),
)
def test_epoch_has_every_sample_once_and_batches_equal_take(
    schema: Schema,
    count: int,
    seed: int,
    codec: str | None,
    io: Any,
    batch_size: int,
    window: int | None,
    workers: int,
    shuffle: bool,
    shard_samples: int | None,
) -> None:
    fields = {"sample number": recordio_int(), **schema.fields}
    rows = [{"sample number": np.int64(n)} | row for n, row in enumerate(samples(schema, count, Random(seed)))]
    with TemporaryDirectory() as name:
        with DatasetWriter(
            name, Schema(fields), compression=codec, block_bytes=100, shard_samples=shard_samples
        ) as writer:
            for row in rows:
                writer.write(row)
        ds = ShardDataset(name, io=io, decode=None)
        loader = DataLoader(ds, batch_size, shuffle, num_workers=workers, window_bytes=window, seed=seed)
        kept = list(loader)
        seen = [int(n) for batch in kept for n in batch["sample number"]]
        assert sorted(seen) == list(range(count))
        assert shuffle or seen == list(range(count))
        assert [len(b["sample number"]) for b in kept] == [
            min(batch_size, count - k) for k in range(0, count, batch_size)
        ]
        assert len(loader) == len(kept)
        for batch in kept:
            assert same_columns(batch, [rows[int(n)] for n in batch["sample number"]], fields)


def recordio_int() -> Any:
    from recordio import Scalar

    return Scalar("int64")


class TestOrder:
    def test_order_does_not_depend_on_threads_batches_io_codec_or_fields(self, tmp_path: Path) -> None:
        plain = write_numbers(tmp_path / "plain", 500, compression=None, block_bytes=300)
        write_numbers(tmp_path / "coded", 500, compression="zstd", block_bytes=300)
        want = order(DataLoader(plain, 10, True, seed=5, window_bytes=4000))
        assert want != sorted(want)
        for workers in (0, 1, 4):
            for size in (1, 7, 1000):
                loader = DataLoader(plain, size, True, seed=5, window_bytes=4000, num_workers=workers)
                assert order(loader) == want
        coded = DataLoader(ShardDataset(tmp_path / "coded", io="pread"), 3, True, seed=5, window_bytes=4000)
        assert order(coded) == want
        only = DataLoader(ShardDataset(tmp_path / "plain", fields=["number"]), 3, True, seed=5, window_bytes=4000)
        assert [n for batch in only for n in batch["number"].tolist()] == want

    def test_each_iter_is_the_next_epoch_unless_set_epoch_is_called(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 100, True)
        first, second = order(loader), order(loader)
        assert first != second
        loader.set_epoch(0)
        assert order(loader) == first
        assert order(loader) == second
        assert order(DataLoader(ds, 100, True, seed=1)) != first

    def test_views_keep_their_samples_and_their_order(self, ds: ShardDataset) -> None:
        for view in (ds[100:900], ds[::-3], ds.select([5, 5, 999, 0, 5]), ds.filter(number=list(range(0, 1000, 9)))):
            want = view.column("number").tolist()
            assert order(DataLoader(view, 13)) == want
            shuffled = order(DataLoader(view, 13, True, window_bytes=3000, num_workers=2))
            assert sorted(shuffled) == sorted(want)
        assert order(DataLoader(ds[:0], 4, True)) == []

    def test_blocks_from_all_over_the_dataset_are_mixed(self, ds: ShardDataset) -> None:
        found = order(DataLoader(ds, 50, True, window_bytes=20_000))
        for start in range(0, 1000, 250):
            part = found[start : start + 250]
            assert max(part) - min(part) > 500
            assert np.abs(np.diff(part)).mean() > 100


class TestBatches:
    def test_last_batch_is_smaller_or_dropped(self, ds: ShardDataset) -> None:
        for drop, sizes in ((False, [300, 300, 300, 100]), (True, [300, 300, 300])):
            loader = DataLoader(ds, 300, drop_last=drop)
            assert [len(batch["number"]) for batch in loader] == sizes
            assert len(loader) == len(sizes)
        assert list(DataLoader(ds[:5], 6, drop_last=True)) == []

    def test_delivered_batches_do_not_change(self, ds: ShardDataset) -> None:
        for workers in (0, 2):
            loader = DataLoader(ds, 32, True, window_bytes=2000, num_workers=workers)
            kept = list(loader)
            for batch in kept:
                assert (batch["row"] == batch["number"][:, None]).all()
            first = kept[0]["row"].copy()
            list(loader)
            assert (kept[0]["row"] == first).all()

    def test_a_collate_fn_gets_samples(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 4, collate_fn=lambda rows: [row["number"] + 1 for row in rows], num_workers=1)
        assert next(iter(loader)) == [1, 2, 3, 4]

    def test_maps_are_applied(self, ds: ShardDataset) -> None:
        batches = DataLoader(ds.map(lambda s: {"n": s["number"] * 2, "t": s["text"]}), 500, num_workers=2)
        assert [n for b in batches for n in b["n"].tolist()] == list(range(0, 2000, 2))

    def test_error_of_a_map_keeps_its_traceback(self, ds: ShardDataset) -> None:
        def poisoned(sample: dict[str, Any]) -> dict[str, Any]:
            if sample["number"] == 700:
                raise ZeroDivisionError("sample 700")
            return sample

        for workers in (0, 2):
            with pytest.raises(ZeroDivisionError, match="sample 700") as caught:
                order(DataLoader(ds.map(poisoned), 10, num_workers=workers))
            assert "poisoned" in [entry.name for entry in caught.traceback]

    def test_error_that_takes_no_notes_is_raised_without_one(self, ds: ShardDataset) -> None:
        @dataclass(frozen=True)
        class Frozen(Exception):
            number: int

        def fail(sample: dict[str, Any]) -> dict[str, Any]:
            raise Frozen(int(sample["number"]))

        with pytest.raises(Frozen):
            list(DataLoader(ds.map(fail), 10))

    def test_samples_with_different_keys_are_refused(self, ds: ShardDataset) -> None:
        with pytest.raises(SchemaError, match="same keys"):
            list(DataLoader(ds.map(lambda s: {str(s["number"] % 2): 1}), 10))
        with pytest.raises(SchemaError, match="not a tuple of 1 and a tuple of 2"):
            list(DataLoader(ds.map(lambda s: (1,) * (1 + s["number"] % 2)), 10))
        with pytest.raises(SchemaError, match=r"dicts .* not NoneType: "):
            list(DataLoader(ds.map(lambda s: None), 10))

    def test_missing_values_stay_masked(self, tmp_path: Path) -> None:
        from recordio import Scalar

        with DatasetWriter(tmp_path, {"a": Scalar("int8", optional=True)}, block_bytes=8) as writer:
            for n in range(30):
                writer.write({"a": None if n % 3 else n})
        found = [value for batch in DataLoader(ShardDataset(tmp_path), 7) for value in cells(batch["a"])]
        assert found == [None if n % 3 else n for n in range(30)]


def test_wrong_options_are_refused_when_the_loader_is_made(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="window_bytes"):
        DataLoader(ds, window_bytes=0)


def test_integer_options_may_be_numpy_integers(ds: ShardDataset) -> None:
    loader = DataLoader(ds, np.int64(7), True, seed=np.uint8(3), window_samples=np.int32(50))
    loader.set_epoch(np.int64(2))
    same = DataLoader(ds, 7, True, seed=3, window_samples=50)
    same.set_epoch(2)
    assert json.dumps(loader.state_dict()) == json.dumps(same.state_dict())
    assert order(loader) == order(same)


def test_other_datasets_are_refused() -> None:
    with pytest.raises(SchemaError, match="ShardDataset"):
        DataLoader([1, 2, 3])  # type: ignore[arg-type]


class TestLeavingNothingBehind:
    def left(self) -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), descriptors()

    def test_early_break_error_or_dropped_iterator_leaves_nothing_behind(self, ds: ShardDataset) -> None:
        order(DataLoader(ds, 10, num_workers=2))
        before = settled(self.left)
        for round_ in range(50):
            loader = DataLoader(ds, 10, True, num_workers=round_ % 3)
            for _ in loader:
                break
            iterator = iter(loader)
            next(iterator)
            del iterator
            iter(loader)
        assert self.left() == before

    def test_two_live_iterators_do_not_interfere(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 64, num_workers=2, window_bytes=2000)
        pairs = list(zip(loader, loader, strict=True))
        assert all((a["number"] == b["number"]).all() for a, b in pairs)
        assert sum(len(a["number"]) for a, _ in pairs) == 1000

    @pytest.mark.parametrize("workers", [0, 2])
    def test_error_in_a_map_or_a_page_leaves_nothing_behind(self, ds: ShardDataset, workers: int) -> None:
        def fail(sample: dict[str, Any]) -> dict[str, Any]:
            raise ZeroDivisionError(sample["text"])

        order(DataLoader(ds, 10, num_workers=workers))
        _ = ds[0]  # whether `fail` draws is found out with the first samples, whose shard stays open
        store, before = ds.store, settled(self.left)
        folder = Path(store.storage.folder)  # type: ignore[attr-defined]
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                list(DataLoader(ds.map(fail), 10, num_workers=workers))
        at = int(store.shard(2).index.page_offsets[1, 0])
        with (folder / "shard-00002.rio").open("r+b") as file:
            file.seek(at)
            file.write(b"\xff\xff")
        for _ in range(5):
            damaged = ShardDataset(folder, io="pread")
            with pytest.raises(CorruptError, match="page checksum mismatch") as caught:
                list(DataLoader(damaged, 10, True, num_workers=workers, window_bytes=3000))
            assert (caught.value.place.file, caught.value.place.block) == ("shard-00002.rio", 1)
            assert (caught.value.place.field, caught.value.place.byte) == ("number", at)
            del damaged, caught
        assert self.left() == before

    def test_no_thread_outlives_the_epoch(self, ds: ShardDataset) -> None:
        for workers in (0, 3):
            order(DataLoader(ds, 10, True, num_workers=workers))
            assert [t.name for t in threading.enumerate() if t.name.startswith("recordio")] == []


class TestWindows:
    @pytest.mark.parametrize("window", [1, 700, 5000, 1 << 40])
    @pytest.mark.parametrize("most", [1, None])
    def test_any_window_and_any_number_of_open_shards_deliver_the_same_samples(
        self, ds: ShardDataset, window: int, most: int | None
    ) -> None:
        folder = ds.store.storage.folder  # type: ignore[attr-defined]
        few = ShardDataset(folder, max_open_shards=most, page_cache_bytes=0)
        for workers in (0, 2):
            loader = DataLoader(few, 90, True, window_bytes=window, num_workers=workers, seed=2)
            found = order(loader)
            assert sorted(found) == list(range(1000))
            assert found == order(DataLoader(ds, 7, True, window_bytes=window, seed=2))

    def test_batches_over_many_windows_never_mix_their_memory(self, ds: ShardDataset) -> None:
        """A batch larger than many windows holds on to parts of all of them while their arenas are used again."""
        for workers in (0, 1, 3):
            for size in (130, 999, 5000):
                loader = DataLoader(ds, size, True, window_bytes=1, num_workers=workers, prefetch_factor=3)
                for batch in loader:
                    want = ds.take(batch["number"])
                    assert batch["text"] == want["text"]
                    assert (batch["row"] == want["row"]).all()

    def test_a_slow_consumer_keeps_its_batches(self, ds: ShardDataset) -> None:
        """Batches that wait ahead read from windows that must not be loaded over."""
        loader = DataLoader(ds, 5, True, window_bytes=600, num_workers=3, prefetch_factor=8)
        iterator = iter(loader)
        kept = [next(iterator) for _ in range(3)]
        kept += list(iterator)
        assert sorted(n for batch in kept for n in batch["number"].tolist()) == list(range(1000))
        for batch in kept:
            assert (batch["row"] == batch["number"][:, None]).all()

    def test_consecutive_epochs_reuse_memory_without_mixing(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 64, True, window_bytes=3000, num_workers=2)
        first, second = list(loader), list(loader)
        for batch in (*first, *second):
            assert (batch["row"] == batch["number"][:, None]).all()


class TestSkipping:
    """What is left of a batch of which some samples fail is made in a second try."""

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_map_may_change_its_sample_in_place(self, tmp_path: Path, workers: int) -> None:
        def change(sample: dict[str, Any]) -> dict[str, Any]:
            assert sample["number"] % 100 != 42
            sample["object"]["times"] += 1
            sample["row"] += 1
            return sample

        with DatasetWriter(tmp_path, block_bytes=512) as writer:
            for n in range(500):
                writer.write({"number": n, "object": {"times": 0}, "row": np.full(5, n, np.int32)})
        ds = ShardDataset(tmp_path, io="pread").map(change)
        loader = DataLoader(ds, 100, True, window_bytes=1, num_workers=workers, on_error="skip")
        for batch in loader:
            assert set(batch["object"]["times"].tolist()) == {1}
            assert (batch["row"] == batch["number"][:, None] + 1).all()
        assert (loader.stats.samples, loader.stats.skipped) == (495, 5)

    def test_batch_with_every_sample_skipped_is_left_out(self, ds: ShardDataset) -> None:
        """It is left out, unless other ranks would then be a batch behind."""

        def fail(sample: dict[str, Any]) -> dict[str, Any]:
            if 40 <= sample["number"] < 60:
                raise ValueError("no good")
            return sample

        view = ds.map(fail)
        assert order(DataLoader(view, 10, on_error="skip")) == [*range(40), *range(60, 1000)]
        ranks: list[dict[str, Any]] = [{"rank": rank, "world_size": 2} for rank in range(2)]
        for rank in ranks:
            with pytest.raises(DatasetError, match=f"rank {rank['rank']} has nothing left of a batch.*no good"):
                list(DataLoader(view, 10, on_error="skip", **rank))
        found = [n for r in ranks for n in order(DataLoader(view, 10, on_error="skip", even_batches=False, **r))]
        assert sorted(found) == [*range(40), *range(60, 1000)]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_skipped_error_that_cannot_describe_itself(self, ds: ShardDataset, workers: int) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise TypeError("no")

        def fail(sample: dict[str, Any]) -> dict[str, Any]:
            if sample["number"] == 5:
                raise Mute
            return sample

        loader = DataLoader(ds.map(fail), 10, num_workers=workers, on_error="skip")
        assert sum(len(batch["number"]) for batch in loader) == 999
        assert loader.stats.errors == ["Mute"]

    def test_no_transform_is_applied_twice(self, tmp_path: Path) -> None:
        def refuse(text: str) -> str:
            assert text != "xxx3"
            return text

        few = write_numbers(tmp_path / "few", 8)
        many = write_numbers(tmp_path / "many", 400, block_bytes=512)
        views = [ShardDataset(path.store.storage.folder, io="pread") for path in (few, many)]  # type: ignore[attr-defined]
        changed = [view.transform(row=lambda row: row + 1).transform(text=refuse) for view in views]
        mixture = Mixture([(changed[0], 1), (changed[1], 1)], "all_exhausted")
        loader = DataLoader(mixture, 50, True, window_bytes=1, on_error="skip")
        for batch in loader:
            assert (batch["row"] == batch["number"][:, None] + 1).all()
        assert loader.stats.skipped > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_sampler_may_reuse_one_list(ds: ShardDataset, workers: int) -> None:
    class InOneList:
        def __iter__(self) -> Iterator[list[int]]:
            indices = [0] * 10
            for first in range(0, 1000, 10):
                indices[:] = range(first, first + 10)
                yield indices

        def __len__(self) -> int:
            return 100

    assert order(DataLoader(ds, batch_sampler=InOneList(), num_workers=workers)) == list(range(1000))


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("stop", [2, 1000])
def test_loader_does_not_wait_for_a_thread_past_the_timeout(ds: ShardDataset, keeps: bool, stop: int) -> None:
    def stuck(sample: dict[str, Any]) -> dict[str, Any]:
        assert sample["number"] != 51 or go_on.wait(60)
        return sample

    go_on, began = threading.Event(), time.monotonic()
    loader = DataLoader(ds.map(stuck), 10, num_workers=2, timeout=1, persistent_workers=keeps)
    with pytest.raises(WorkerError, match="within timeout=1 seconds") if stop > 5 else contextlib.nullcontext():
        for _ in itertools.islice(loader, stop):
            pass
    del loader
    assert time.monotonic() - began < 20
    go_on.set()
    assert order(DataLoader(ds, 10, num_workers=2)) == list(range(1000))


def test_persistent_workers_follow_a_change_of_the_dataset_attribute(ds: ShardDataset, tmp_path: Path) -> None:
    other = write_numbers(tmp_path / "other", 30).map(lambda sample: {"number": -sample["number"]})
    loader = DataLoader(ds, 10, num_workers=1, persistent_workers=True)
    assert len(list(loader)) == 100
    loader.dataset = other
    assert [n for batch in loader for n in batch["number"].tolist()] == [-n for n in range(30)]


def lost(trial: ThreadTrial) -> None:
    """Ends a trial as if threads had slowed each other down."""
    while not trial.ended:
        limit = trial.limit
        trial.add(limit, limit, limit * limit * 0.1, limit * 0.1)


class TestThreadTrial:
    def test_a_loader_says_in_the_callers_line_that_one_thread_goes_on_alone(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds.map(lambda sample: sample), 10, num_workers=2)
        numbers = order(loader)
        assert loader.runs.choice is not None
        lost(loader.runs.choice.trial)
        line = sys._getframe().f_lineno + 2
        with pytest.warns(RuntimeWarning, match="2 threads make .* one thread goes on alone") as told:
            batches = list(loader)
        assert [n for batch in batches for n in batch["number"].tolist()] == numbers
        assert [(one.filename, one.lineno) for one in told] == [(__file__, line)]
        assert order(loader) == numbers  # a second warning would be an error

    @pytest.mark.parametrize("keeps", [True, False])
    def test_a_trial_is_of_all_epochs_of_a_dataset(self, ds: ShardDataset, keeps: bool) -> None:
        loader = DataLoader(ds.map(lambda sample: sample), 10, num_workers=2, persistent_workers=keeps)
        trials = []
        for dataset in (loader.dataset, loader.dataset, ds):
            loader.dataset = dataset
            assert order(loader) == list(range(1000))
            assert loader.runs.choice is not None
            trials.append(loader.runs.choice.trial)
        assert trials[0] is trials[1] is not trials[2]

    def test_copies_of_a_loader_try_for_themselves(self, ds: ShardDataset) -> None:
        loader = DataLoader(ds, 10, num_workers=2)
        order(loader)
        assert copy.copy(loader).runs.choice is None

    def test_only_functions_of_the_user_are_tried(self, ds: ShardDataset) -> None:
        """All else lets go of the interpreter's lock, or is as quick as can be."""

        def is_tried(dataset: Any, **options: Any) -> bool:
            loader = DataLoader(dataset, 10, num_workers=2, **options)
            assert list(loader)
            assert loader.runs.choice is not None
            return not loader.runs.choice.trial.ended

        def same(value: Any) -> Any:
            return value

        assert not is_tried(ds)
        assert is_tried(ds, collate_fn=same)
        assert is_tried(ds.map(same))
        assert is_tried(ds.transform(number=same))
        assert is_tried(ds + ds.map(same))
        assert is_tried(ds.map(same), sampler=range(20))


def test_an_empty_dataset_has_no_batches(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, Schema({"number": recordio_int()})):
        pass
    for workers in (0, 2):
        loader = DataLoader(ShardDataset(tmp_path), 4, True, num_workers=workers)
        assert (len(loader), list(loader)) == (0, [])


def test_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"image": Image()}, shard_samples=2) as writer:
        for n in range(5):
            writer.write({"image": png(2, 3)[: -20 if n == 3 else None]})
    for workers in (0, 2):
        with pytest.raises(DecodeError) as caught:
            list(DataLoader(ShardDataset(tmp_path), 3, num_workers=workers))
        place = caught.value.place
        assert (place.file, place.block, place.field, place.sample) == ("shard-00001.rio", 0, "image", 3)
