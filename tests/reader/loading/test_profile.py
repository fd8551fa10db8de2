"""`loader.profile()`: the headspace, the rate, the stages of a loader, and which one holds the rest back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import (
    ConcatDataset,
    DataLoader,
    DatasetError,
    DatasetWriter,
    Image,
    Scalar,
    SchemaError,
    ShardDataset,
)
from recordio.reader.loading import stages_alone
from recordio.reader.loading.pace import Pace, Stretch, ideal_pace, samples_in
from recordio.reader.loading.profile import Profile, of_step
from recordio.reader.loading.stages_alone import split, views_by_step
from recordio.transforms import Compose, RandomHorizontalFlip, Resize
from tests.epochs import write_rows
from tests.photos import encode, photo

COUNT, BATCH = 64, 4


@pytest.fixture(autouse=True)
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_alone, "_SECONDS", 0.05)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("profile") / "numbers", COUNT)


@pytest.fixture
def ds(numbers: Path) -> ShardDataset:
    return ShardDataset(numbers)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "data"
    with DatasetWriter(folder, {"image": Image(), "label": Scalar("int64")}) as writer:
        for n in range(24):
            writer.write({"image": encode(photo(400, 320, n)), "label": n})
    return folder


def slow(sample: Any) -> Any:
    time.sleep(0.002)
    return sample


def plain(sample: Any) -> Any:
    return sample


def names(found: Profile) -> list[str]:
    return [one.name for one in found.stages]


def test_stages_come_in_the_order_of_a_sample(ds: ShardDataset) -> None:
    found = DataLoader(ds.transform(x=plain).map(slow), BATCH, shuffle=True).profile(0.2)
    expected = ["storage", "checksum", "decompression", "gathering", "transform plain", "map slow", "collation"]
    assert names(found) == expected
    assert sum(one.share for one in found.stages) == pytest.approx(1)
    assert found.bottleneck == "map slow"
    assert 20 < (found.stages[5].alone or 0) < 500  # a sample in 2 ms and what a busy machine adds
    assert found.headspace is None
    assert "headspace   not known" in str(found)


def test_a_step_gives_the_headspace(ds: ShardDataset) -> None:
    loader = DataLoader(ds.map(slow), BATCH)
    found = loader.profile(0.3, step=lambda batch: time.sleep(0.008))
    assert 1.2 < (found.headspace or 0) < 8  # 2, if sleeps take no longer, as they do on a busy machine
    assert (found.step_seconds or 0) >= 0.008
    assert 0.2 < found.starved < 0.9
    assert found.bottleneck == "map slow"
    assert "1 thread" not in found.workers


def test_processes_hand_batches_over(ds: ShardDataset) -> None:
    found = DataLoader(ds.map(slow), BATCH, num_workers=2, worker_type="process").profile(0.3)
    assert found.workers == "2 processes"
    assert names(found)[-1] == "hand-over"
    assert found.bottleneck == "map slow"


def test_the_largest_of_several_datasets_is_measured_alone(ds: ShardDataset) -> None:
    found = DataLoader(ConcatDataset([ds[:8], ds]), BATCH).profile(0.1)
    assert found.notes == ("stages alone are those of the largest of several datasets",)
    assert names(found) == ["storage", "checksum", "decompression", "gathering"]


def test_a_batch_of_any_loader_says_how_many_samples_it_has() -> None:
    assert samples_in({"a": np.zeros((3, 2))}) == 3
    assert samples_in((["x", "y"], np.zeros(2))) == 2
    assert samples_in([1, 2, 3]) == 3
    assert samples_in(["one", "two"]) == 2
    assert samples_in(np.zeros(5)) == 5
    assert samples_in(7) == samples_in(np.float32(1)) == samples_in("text") == 1


def test_a_stretch_does_not_count_its_warm_up() -> None:
    seen: list[int] = []
    pace = Stretch([[0] * 2] * 10, 0.05, lambda batch: (seen.append(1), time.sleep(0.005)), warm_up=3).run()
    assert pace.batches == len(seen) - 3
    assert pace.samples == 2 * pace.batches
    assert pace.step_seconds <= pace.seconds
    assert pace.epochs == (len(seen) - 1) // 10 - (3 - 1) // 10


def test_an_ideal_loader_gives_the_same_batches_again() -> None:
    seen: list[int] = []
    pace = ideal_pace([([1], 1), ([2, 3], 2)], lambda batch: (seen.append(len(batch)), time.sleep(0.002)), 0.03)
    assert seen[:5] == [1, 1, 2, 1, 2]
    assert pace.batches == len(seen) - 1


@pytest.mark.parametrize(("ideal", "named"), [(105, "training step"), (95, "training step"), (115, None)])
def test_with_little_headspace_the_step_is_the_bottleneck(ideal: int, named: str | None) -> None:
    found = of_step(Pace(100, 10, 1.0), Pace(ideal, 10, 1.0))
    assert (found and found[0]) == named
    assert of_step(Pace(100, 10, 1.0), None) is None


def test_a_step_that_does_not_wait_is_the_bottleneck_though_workers_slow_it_down() -> None:
    found = of_step(Pace(100, 10, 1.0, step_seconds=0.98), Pace(150, 10, 1.0))
    assert found is not None
    assert found[0] == "training step"
    assert "waits for batches 2% of the time" in found[1]


@pytest.mark.parametrize("seconds", [0, -1, "1", True, 1e9])
def test_other_times_are_refused(ds: ShardDataset, seconds: Any) -> None:
    with pytest.raises(SchemaError, match="a profile takes more than 0"):
        DataLoader(ds).profile(seconds)


def test_an_empty_dataset_is_refused(ds: ShardDataset) -> None:
    with pytest.raises(DatasetError, match="the dataset is empty"):
        DataLoader(ds[:0]).profile(0.1)


def test_a_loader_without_batches_is_refused(ds: ShardDataset) -> None:
    with pytest.raises(DatasetError, match="the loader has no batches"):
        DataLoader(ds, COUNT + 1, drop_last=True).profile(0.1)


def test_seconds_are_shared_out_by_what_stages_cost_alone() -> None:
    assert split(6.0, {"a": 1.0, "b": 2.0}) == {"a": 2.0, "b": 4.0}
    assert split(6.0, {"a": 0.0, "b": 0.0}) == {"a": 6.0}
    assert split(6.0, {}) == {}


class TestPictures:
    def test_decoding_is_a_stage_of_its_own_or_one_with_the_transform_that_does_it(self, photos: Path) -> None:
        ds = ShardDataset(photos)
        assert [name for name, _ in views_by_step(ds)] == ["image decoding"]
        own = ds.transform(image=plain)
        assert [name for name, _ in views_by_step(own)] == ["image decoding", "transform plain"]
        built_in = ds.transform(image=Compose([Resize(64), RandomHorizontalFlip()])).transform(label=plain)
        assert [name for name, _ in views_by_step(built_in)] == ["image decoding with Compose", "transform plain"]

    def test_decoding_is_named(self, photos: Path) -> None:
        found = DataLoader(ShardDataset(photos), BATCH, shuffle=True).profile(0.2)
        assert found.bottleneck == "image decoding"


@pytest.mark.torch
class TestTorch:
    def test_of_our_datasets_it_is_the_same(self, ds: ShardDataset) -> None:
        from recordio.torch import DataLoader as TorchLoader

        found = TorchLoader(ds.map(slow), BATCH, num_workers=2).profile(0.2)
        assert found.workers == "2 threads"
        assert found.bottleneck == "map slow"

    def test_of_other_datasets_it_is_the_rate_and_the_headspace(self) -> None:
        import torch
        from torch.utils.data import DataLoader as Torchs, TensorDataset

        from recordio.reader.loading.profile import profile_of

        found = profile_of(Torchs(TensorDataset(torch.zeros(40, 3)), 4), 0.2, lambda batch: time.sleep(0.01))
        assert 20 < found.rate < 400
        assert found.stages == ()
        assert 1 <= (found.headspace or 0) < 2
        assert found.notes == ("the stages of a loader that is not recordio's cannot be told apart",)
