"""Four planted bottlenecks: each is named, and advice that is taken gains what it promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DataLoader, ShardDataset
from recordio.reader.loading import stages_alone
from recordio.reader.loading.pace import Stretch, ideal_pace
from recordio.reader.loading.profile import Profile
from recordio.tuning.copies import Copies
from recordio.tuning.tune import Trial, Tuning
from tests.effort import LONG
from tests.photos import encode, photo
from tests.recordio.tuning import plants

SECONDS, ROUNDS = (2.0, 3) if LONG else (0.2, 1)
PROMISE = 0.2  # how far the gain of advice that is taken may be from what was promised


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names need less time than figures."""
    if not LONG:
        monkeypatch.setattr(stages_alone, "_SECONDS", 0.05)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plants.write_numbers(tmp_path_factory.mktemp("tune") / "numbers")


@pytest.fixture
def ds(path: Path) -> ShardDataset:
    return ShardDataset(path)


def tuned(loader: Any, **options: Any) -> Tuning:
    return recordio.tune(loader, seconds=SECONDS, rounds=ROUNDS, **options)


def trial_of(found: Tuning, name: str) -> Trial:
    return next(one for one in found.advice if one.name.startswith(name))


def gain_of(before: DataLoader, after: DataLoader, step: Any = None) -> float:
    """The gain of one loader over another, the median of rounds in turn."""
    gains = []
    for _ in range(ROUNDS):
        rates = [Stretch(one, SECONDS, step, warm_up=one.options.ahead + 1).run().rate for one in (before, after)]
        gains.append(rates[1] / rates[0])
    return sorted(gains)[len(gains) // 2]


def check_promise(what: str, promised: float | None, measure: Callable[[], float]) -> None:
    """In long runs alone: a fifth of a second says too little."""
    assert promised is not None
    if not LONG:
        return
    got = measure()
    print(f"{what}: promised {promised:.2f}, got {got:.2f} times")
    assert got == pytest.approx(promised, rel=PROMISE)


def test_too_few_workers_are_named_and_more_bring_what_was_promised(ds: ShardDataset) -> None:
    loader = plants.too_few_workers(ds)
    options, dataset = loader.options, loader.dataset
    found = tuned(loader)
    assert loader.options is options
    assert loader.dataset is dataset
    assert found.profile.bottleneck == "map quick"
    assert found.bottleneck == "workers"
    best = next(one for one in found.advice if one.kind == "workers" and "process" not in one.name)
    count = int(best.name.removeprefix("num_workers="))
    assert count >= (4 if LONG else 2)
    assert best.how == f"DataLoader(..., num_workers={count})"
    assert (best.gain or 0) > 1.3
    after = DataLoader(loader.dataset, plants.BATCH, shuffle=True, num_workers=count)
    check_promise("workers", best.gain, lambda: gain_of(loader, after))


def test_a_heavy_map_is_named_and_leaving_it_out_brings_what_was_promised(ds: ShardDataset) -> None:
    loader = plants.heavy_transform(ds)
    found = tuned(loader)
    assert found.profile.bottleneck == "map heavy"
    if LONG:  # else a single short round says nothing of workers
        assert found.bottleneck == "map heavy"
    best = found.trials[0]
    assert best.name == "without map heavy"
    assert (best.gain or 0) > 1.3
    check_promise("heavy map", best.gain, lambda: gain_of(loader, plants.without_heavy(ds)))


def test_a_slow_disk_is_named_and_a_codec_brings_what_was_promised(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plants.throttle(monkeypatch)
    loader = plants.slow_disk(path)
    before = sorted(path.iterdir())
    found = tuned(loader, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.iterdir()) == before
    assert found.bottleneck == "storage"
    best = trial_of(found, "compression")
    assert best.how == "recordio reshard SRC DST --compression narrow+zstd"
    assert (best.gain or 0) > 1.2
    recordio.reshard(path, tmp_path / "coded", compression="narrow+zstd")
    check_promise("slow disk", best.gain, lambda: gain_of(loader, plants.slow_disk(tmp_path / "coded")))


def test_a_slow_step_is_named_and_the_loader_left_alone(ds: ShardDataset) -> None:
    loader = DataLoader(ds, plants.BATCH, shuffle=True, num_workers=1)
    found = recordio.tune(loader, step=plants.slow_step, seconds=1.0)
    assert found.bottleneck == "training step"
    assert found.trials == ()
    assert "leave the loader as it is" in str(found)
    batches = [(batch, plants.BATCH) for batch, _ in zip(loader, range(2), strict=False)]

    def with_ideal_loader() -> float:
        own = Stretch(loader, SECONDS, plants.slow_step, warm_up=3).run()
        return ideal_pace(batches, plants.slow_step, SECONDS).rate / own.rate

    check_promise("slow step", found.profile.headspace, with_ideal_loader)


def test_a_step_limits_what_workers_gain(ds: ShardDataset) -> None:
    """A step of 16 ms beside a loader that needs 16: in one thread 32, with workers 16."""
    loader = DataLoader(ds.map(plants.quick), plants.BATCH, shuffle=True)
    found = tuned(loader, step=plants.step)
    assert found.profile.bottleneck == "map quick"
    assert 1.3 < (found.profile.headspace or 0) < 4
    gains = [one.gain or 0 for one in found.trials if one.kind == "workers"]
    assert 0.5 < max(gains) < 4  # without the step it would be 8


def test_a_change_that_fails_is_told_with_its_reason(ds: ShardDataset) -> None:
    def doubled(sample: Any) -> Any:
        plants.quick(sample)
        return {"twice": sample["x"] * 2}

    def summed(sample: Any) -> Any:
        return {"sum": sample["twice"].sum()}

    found = tuned(DataLoader(ds.map(doubled).map(summed), plants.BATCH))
    (failed,) = [one for one in found.trials if one.gain is None]
    assert failed.name == "without map doubled"
    assert "KeyError" in failed.failed
    assert "failed" in str(found)


@pytest.mark.parametrize("kind", ["several datasets", "a sampler"])
def test_where_copies_say_nothing_the_note_says_why(ds: ShardDataset, tmp_path: Path, kind: str) -> None:
    dataset = recordio.ConcatDataset([ds, ds]) if kind == "several datasets" else ds
    loader = DataLoader(dataset, sampler=range(10) if kind == "a sampler" else None)
    copies = Copies(loader, Profile(1.0, 1.0, 0.0, None, None, 1.0, bottleneck="storage"), tmp_path)
    assert list(copies.changes()) == []
    (note,) = copies.notes
    assert kind in note
    assert "compression narrow+zstd, blocks of 1 MiB" in note


def test_slow_pictures_are_tried_smaller_and_decoded(tmp_path: Path) -> None:
    with recordio.DatasetWriter(
        tmp_path / "photos", {"image": recordio.Image(), "label": recordio.Scalar("int64")}
    ) as w:
        for n in range(24):
            w.write({"image": encode(photo(700, 800, n)), "label": n})
    found = tuned(DataLoader(ShardDataset(tmp_path / "photos").tuples("image", "label"), 4))
    assert found.profile.bottleneck == "image decoding"
    tried = {one.name: one for one in found.trials}
    for name in ("pictures of 256 pixels", "pictures decoded once"):
        assert (tried[name].gain or 0) > 1.1, tried[name]
    assert tried["pictures of 256 pixels"].how == "recordio convert SRC DST --resize 256"
