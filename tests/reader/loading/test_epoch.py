"""An epoch through loaders: exactly once, the same global batches for any ranks, resumed anywhere, mixed by weight."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from recordio import (
    ConcatDataset,
    DataLoader,
    DatasetError,
    DatasetWriter,
    Mixture,
    SchemaError,
    ShardDataset,
    class_weights,
)
from recordio.reader.order.ranks import found_ranks
from recordio.reader.page_reads import PageReads, PlannedPage
from tests.effort import examples
from tests.epochs import NO_WORKERS, WORKERS, any_workers

COUNT = 230
BATCH = 24


def write(folder: Path, count: int, base: int = 0, **options: Any) -> ShardDataset:
    with DatasetWriter(folder, block_bytes=300, shard_samples=70, **options) as writer:
        for n in range(base, base + count):
            writer.write({"number": n, "text": f"{n}"})
    return ShardDataset(folder)


@pytest.fixture(scope="module", params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("epoch"), COUNT, compression=request.param)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write(tmp_path_factory.mktemp("other"), 31, 1000)


def numbers(batch: Any) -> list[int]:
    assert batch["text"] == [str(n) for n in batch["number"].tolist()]
    return batch["number"].tolist()  # type: ignore[no-any-return]


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


OPTIONS = st.fixed_dictionaries(
    {
        "shuffle": st.booleans(),
        "window_bytes": st.sampled_from([1, 900, 4000, None]),
        "lanes": st.sampled_from([1, 4, 6, 64]),
        "unit_bytes": st.sampled_from([1, 700]),
        "pool_bytes": st.sampled_from([0, 0, 2500]),
        "lane_affinity": st.sampled_from([False, False, True]),
        "seed": st.integers(0, 9),
    }
)
quick = settings(examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@quick
@given(OPTIONS, st.sampled_from([1, 2, 3, 4, 6, 8]), any_workers, st.booleans(), st.booleans())
def test_ranks_get_equal_batch_counts_and_the_same_global_batches(
    ds: ShardDataset, options: Any, world: int, workers: Any, drop: bool, even: bool
) -> None:
    def epoch(world: int) -> list[list[list[int]]]:
        loaders = [
            DataLoader(
                ds, BATCH // world, rank=rank, world_size=world, drop_last=drop, even_batches=even, **options, **workers
            )
            for rank in range(world)
        ]
        found = [[numbers(batch) for batch in loader] for loader in loaders]
        assert [len(batches) for batches in found] == [len(loader) for loader in loaders]
        return found

    found, alone = epoch(world), epoch(1)[0]
    if drop or even:
        assert len({tuple(map(len, batches)) for batches in found}) == 1
    whole = COUNT // BATCH
    for g in range(whole):
        assert sorted(n for batches in found for n in batches[g]) == sorted(alone[g])
    seen = Counter(n for batches in found for batch in batches for n in batch)
    repeated = -COUNT % world if even and not drop else 0
    assert sum(seen.values()) == (whole * BATCH if drop else COUNT + repeated)
    assert drop or set(seen) == set(range(COUNT))
    assert sum(n - 1 for n in seen.values()) == repeated
    assert options["shuffle"] or flat(alone) == list(range(whole * BATCH if drop else COUNT))


@pytest.mark.slow
@quick
@given(
    OPTIONS,
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([4, 8, 12]), st.integers(0, 5), any_workers),
        min_size=1,
        max_size=6,
    ),
)
def test_an_epoch_interrupted_and_resumed_by_other_ranks_is_exactly_once(
    ds: ShardDataset, options: Any, runs: list[tuple[int, int, int, Any]]
) -> None:
    seen: list[int] = []
    state: dict[str, Any] | None = None
    for world, size, batches, workers in [*runs, (2, 16, 10**6, NO_WORKERS)]:
        states = []
        for rank in range(world):
            loader = DataLoader(ds, size, rank=rank, world_size=world, even_batches=False, **options, **workers)
            if state is not None:
                loader.load_state_dict(json.loads(json.dumps(state)))
                assert state == loader.state_dict()
            for _, batch in zip(range(batches), loader, strict=False):
                seen += numbers(batch)
            states.append(loader.state_dict())
        assert len({json.dumps(s) for s in states}) == 1
        state = states[0]
        assert len(json.dumps(state)) < 1024
        if state["epoch"]:
            break
    assert sorted(seen) == list(range(COUNT))
    assert (state["epoch"], state["position"]) == (1, 0)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("workers", WORKERS, ids=str)
def test_a_rank_decodes_a_block_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: int, workers: Any
) -> None:
    ds, decoded = write(tmp_path, 2000, compression="zstd"), Counter[int]()
    finish = PageReads._finish

    def counted(reads: PageReads, page: PlannedPage, stored: memoryview, memory: memoryview | None) -> None:
        decoded[page.checksum] += 1
        finish(reads, page, stored, memory)

    monkeypatch.setattr(PageReads, "_finish", counted)
    everywhere: Counter[int] = Counter()
    for rank in range(world):
        decoded.clear()
        seen = flat(
            [numbers(b) for b in DataLoader(ds, 8, True, window_bytes=90_000, rank=rank, world_size=world, **workers)]
        )
        assert len(seen) == 2000 // world
        assert set(decoded.values()) == {1}
        everywhere += decoded
    blocks = 2 * len(ds.store.blocks.nbytes)
    windows = -(-int(ds.store.blocks.nbytes.sum()) // 45_000)
    assert blocks <= sum(everywhere.values()) <= blocks + 2 * 2 * windows * (world - 1)  # those that ranks share


def test_resumed_loader_gives_the_batches_of_an_uninterrupted_one(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 16, True, window_bytes=3000)
    whole = [[numbers(batch) for batch in loader] for _ in range(3)]
    for cut in (0, 1, 7, 14, 15):
        loader = DataLoader(ds, 16, True, window_bytes=3000, num_workers=2)
        loader.set_epoch(1)
        batches = iter(loader)
        assert [numbers(next(batches)) for _ in range(cut)] == whole[1][:cut]
        again = DataLoader(ds, 16, True, window_bytes=3000)
        again.load_state_dict(loader.state_dict())
        again.set_epoch(again.state_dict()["epoch"])  # what a loop over epochs does first
        rest = whole[1][cut:] or whole[2]
        assert [numbers(batch) for batch in again] == rest
        if rest is not whole[2]:
            assert [numbers(batch) for batch in again] == whole[2]


def test_interrupted_epoch_is_followed_by_the_next(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 10, True)
    first, second = [numbers(next(iter(loader))) for _ in range(2)]
    loader.set_epoch(0)
    assert numbers(next(iter(loader))) == first
    assert numbers(next(iter(loader))) == second


def test_foreign_state_is_refused_with_the_reason(ds: ShardDataset, other: ShardDataset) -> None:
    state = DataLoader(ds, 10, True).state_dict()
    for loader, error, reason in (
        (DataLoader(other, 10, True), DatasetError, "another dataset"),
        (DataLoader(ds[:-1], 10, True), DatasetError, "another dataset"),
        (DataLoader(ds, 10, True, seed=1), SchemaError, "another seed"),
        (DataLoader(ds, 10), SchemaError, "another shuffle"),
        (DataLoader(ds, 10, True, window_bytes=99), SchemaError, "another shuffle"),
        (DataLoader(ds, 10, True, weights=np.ones(COUNT)), SchemaError, "another weights"),
    ):
        with pytest.raises(error, match=reason):
            loader.load_state_dict(state)
    for wrong in (
        {},
        None,
        {"version": 7},
        state | {"position": -1},
        state | {"epoch": "1"},
        state | {"position": 999},
    ):
        with pytest.raises(SchemaError, match=r"state|position"):
            DataLoader(ds, 10, True).load_state_dict(wrong)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="in_order"):
        DataLoader(ds, 10, in_order=False).state_dict()


@pytest.mark.parametrize("workers", [0, 3])
def test_out_of_order_epoch_is_exactly_once(ds: ShardDataset, workers: int) -> None:
    loader = DataLoader(ds, 7, True, num_workers=workers, in_order=False, window_bytes=2000)
    assert sorted(n for batch in loader for n in numbers(batch)) == list(range(COUNT))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_out_of_order_batches_do_not_wait_for_slower_ones(ds: ShardDataset, kind: Any, tmp_path: Path) -> None:
    def held(sample: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while sample["number"] == 0 and not go_on.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return sample

    go_on, context = tmp_path / "go on", "fork" if kind == "process" else None
    loader = DataLoader(
        ds.map(held), 7, num_workers=2, in_order=False, worker_type=kind, multiprocessing_context=context
    )
    batches = iter(loader)
    found = numbers(next(batches))
    assert 0 not in found
    go_on.touch()
    assert sorted(found + [n for batch in batches for n in numbers(batch)]) == list(range(COUNT))


def test_splits_partition_the_samples(ds: ShardDataset) -> None:
    splits = ds.split([0.5, 0.3, 0.2], seed=4)
    assert [len(split) for split in splits] == [115, 69, 46]
    chosen = [split.column("number").tolist() for split in splits]
    assert sorted(flat(chosen)) == list(range(COUNT))
    assert all(split == sorted(split) for split in chosen)
    assert ds.split([0.5], 4)[0].column("number").tolist() == chosen[0]
    assert ds.split([0.5], 5)[0].column("number").tolist() != chosen[0]
    assert ds.split([0.5], np.int64(4))[0].fingerprint == splits[0].fingerprint  # type: ignore[arg-type]
    for wrong in ([], [0.9, 0.2], [-0.1], [float("nan")], [0.5, float("nan"), 0.5], 0.9):
        with pytest.raises(SchemaError, match="fractions"):
            ds.split(wrong)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="seed"):
        ds.split([0.5], seed=-1)


@pytest.mark.parametrize("world", [1, 3])
def test_a_concatenation_is_every_sample_once(ds: ShardDataset, other: ShardDataset, world: int) -> None:
    both = ds + other[5:] + other[:5]
    want = [*range(COUNT), *range(1005, 1031), *range(1000, 1005)]
    assert isinstance(both, ConcatDataset)
    assert [int(both[k]["number"]) for k in (0, COUNT, -1)] == [0, 1005, 1004]
    for shuffle in (False, True):
        found: list[int] = []
        for rank in range(world):
            for batch in DataLoader(both, 10, shuffle, rank=rank, world_size=world, even_batches=False):
                found += numbers(batch)
        assert sorted(found) == sorted(want)
        assert shuffle or world > 1 or found == want
    padded = [numbers(b) for rank in range(world) for b in DataLoader(both, 10, True, rank=rank, world_size=world)]
    assert set(flat(padded)) == set(want)
    with pytest.raises(SchemaError, match="differ in their fields"):
        ConcatDataset([ds, other._only(["text"])])


def test_combined_datasets_keep_their_own_maps_and_codecs(ds: ShardDataset, other: ShardDataset) -> None:
    both = ds.map(lambda s: {"n": int(s["number"])}) + other.map(lambda s: {"n": -int(s["number"])})
    found = [n for batch in DataLoader(both, 16, True, num_workers=2) for n in batch["n"].tolist()]
    assert sorted(found) == sorted([*range(COUNT), *(-n for n in range(1000, 1031))])


def test_mixture_keeps_its_proportions_throughout(tmp_path: Path, other: ShardDataset) -> None:
    large = write(tmp_path / "large", 9000)
    mixture = Mixture([(large, 0.9), (other, 0.1)], "all_exhausted")
    assert (mixture.draws, len(mixture)) == ([9000, 1000], 10_000)
    order = [n for batch in DataLoader(mixture, 100, True, window_bytes=50_000) for n in numbers(batch)]
    shares = [sum(n >= 1000 + 31 or n < 1000 for n in order[k : k + 2000]) for k in range(0, 10_000, 2000)]
    small = Counter(n for n in order if 1000 <= n < 1031)
    assert sum(small.values()) == 1000 + 31  # the large one has these numbers too
    assert max(small.values()) - min(small.values()) <= 1
    assert all(1700 < share < 1900 for share in shares)
    first = Mixture([(large, 0.9), (other, 0.1)])
    assert first.draws == [279, 31]
    assert Counter(n for b in DataLoader(first, 9, True) for n in numbers(b)).most_common(1)[0][1] <= 2


@pytest.mark.slow
@quick
@given(st.integers(1, 90), st.sampled_from([1, 2, 3]), st.booleans())
def test_a_mixture_resumes_exactly(ds: ShardDataset, other: ShardDataset, cut: int, world: int, shuffle: bool) -> None:
    mixture = Mixture([(ds, 2), (other, 1)], "all_exhausted")
    whole = [n for batch in DataLoader(mixture, 4, shuffle, window_bytes=3000) for n in numbers(batch)]
    assert len(whole) == len(mixture) == 345
    loader = DataLoader(mixture, 4, shuffle, window_bytes=3000, num_workers=2)
    seen = [n for _, batch in zip(range(cut), loader, strict=False) for n in numbers(batch)]
    assert seen == whole[: 4 * cut]
    rest: list[int] = []
    for rank in range(world):
        again = DataLoader(mixture, 4, shuffle, window_bytes=3000, rank=rank, world_size=world, even_batches=False)
        again.load_state_dict(loader.state_dict())
        rest += [n for batch in again for n in numbers(batch)]
    assert sorted(rest) == sorted(whole[4 * cut :] or [n for b in _second(mixture, shuffle) for n in numbers(b)])


def _second(mixture: Mixture, shuffle: bool) -> DataLoader:
    loader = DataLoader(mixture, 4, shuffle, window_bytes=3000)
    loader.set_epoch(1)
    return loader


def test_weights_decide_how_often_a_sample_is_drawn(ds: ShardDataset) -> None:
    weights = np.ones(COUNT)
    weights[:30] = 6
    expected = weights * COUNT / weights.sum()
    loader = DataLoader(ds, 16, True, weights=weights)
    for _ in range(3):
        seen = Counter(n for batch in loader for n in numbers(batch))
        assert sum(seen.values()) == COUNT
        assert all(abs(seen[n] - expected[n]) < 1 for n in range(COUNT))
    equal = [n for batch in DataLoader(ds, 16, True, weights=np.full(COUNT, 0.1)) for n in numbers(batch)]
    assert sorted(equal) == list(range(COUNT))
    classes = (np.arange(COUNT) < 23).astype(int)
    drawn = [n for batch in DataLoader(ds, 16, True, weights=class_weights(classes)) for n in numbers(batch)]
    assert sum(n < 23 for n in drawn) == COUNT // 2
    for wrong in (np.ones(3), np.zeros(COUNT), np.full(COUNT, np.nan), -weights):
        with pytest.raises(SchemaError, match="weights"):
            DataLoader(ds, 16, True, weights=wrong)


def test_random_maps_do_not_depend_on_workers_or_batches(ds: ShardDataset) -> None:
    def jitter(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {"number": sample["number"], "noise": rng.random()}

    def noise(loader: DataLoader) -> dict[int, float]:
        return {n: x for b in loader for n, x in zip(b["number"].tolist(), b["noise"].tolist(), strict=True)}

    view = ds.map(jitter)
    want = noise(DataLoader(view, 7, True))
    assert len(set(want.values())) == COUNT
    assert noise(DataLoader(view, 50, True, num_workers=3, window_bytes=2000)) == want
    assert noise(DataLoader(view, 50, num_workers=2)) == want
    assert noise(DataLoader(view, 7, True, seed=1)) != want
    loader = DataLoader(view, 7, True)
    assert noise(loader) == want
    assert noise(loader) != want


def test_single_samples_resume(ds: ShardDataset) -> None:
    loader = DataLoader(ds, None, True)
    samples = iter(loader)
    seen = [int(next(samples)["number"]) for _ in range(100)]
    again = DataLoader(ds, None, True, num_workers=2)
    again.load_state_dict(loader.state_dict())
    assert sorted(seen + [int(sample["number"]) for sample in again]) == list(range(COUNT))
    assert len(loader) == COUNT


def test_samplers_resume_by_batches(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 4, sampler=range(40))
    batches = iter(loader)
    next(batches), next(batches)
    again = DataLoader(ds, 4, sampler=range(40), num_workers=2)
    again.load_state_dict(loader.state_dict())
    assert flat(map(numbers, again)) == list(range(8, 40))
    assert len(DataLoader(ds, 4, sampler=range(10), drop_last=True)) == 2
    for wrong in ({"shuffle": True}, {"batch_sampler": [[1]]}, {"rank": 0, "world_size": 2}):
        with pytest.raises(SchemaError, match="sampler"):
            DataLoader(ds, 4, sampler=range(10), **wrong)


@pytest.mark.parametrize("workers", [0, 2])
def test_failing_samples_are_skipped_and_counted(ds: ShardDataset, workers: int) -> None:
    def poisoned(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["number"] % 50 == 7 or sample["number"] < 4:
            raise ZeroDivisionError("bad")
        return sample

    loader = DataLoader(ds.map(poisoned), 2, num_workers=workers, on_error="skip")
    found = [n for batch in loader for n in numbers(batch)]
    assert found == [n for n in range(4, COUNT) if n % 50 != 7]
    assert (loader.stats.samples, loader.stats.skipped) == (len(found), 9)
    assert loader.stats.batches == COUNT // 2 - 2
    assert loader.stats.errors[0] == "ZeroDivisionError: bad - recordio: file shard-00000.rio, block 0, sample 0"
    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(ds.map(poisoned), 2, num_workers=workers))
    assert "sample 0" in caught.value.__notes__[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_sample_is_skipped_for_lack_of_memory(ds: ShardDataset, workers: int) -> None:
    def short(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["number"] == 5:
            raise MemoryError("short")
        return sample

    with pytest.raises(MemoryError, match="short"):
        list(DataLoader(ds.map(short), 2, num_workers=workers, on_error="skip"))


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_a_damaged_page_is_skipped_with_its_samples(tmp_path: Path, io: Any) -> None:
    whole = write(tmp_path, 60, compression="zstd")
    with (tmp_path / "shard-00000.rio").open("r+b") as file:
        file.seek(int(whole.store.shard(0).index.page_offsets[1, 0]))
        file.write(b"\xff\xff")
    lost = whole.store.shard(0).index.samples[1]
    loader = DataLoader(ShardDataset(tmp_path, io=io), 8, True, on_error="skip", num_workers=2)
    found = [n for batch in loader for n in numbers(batch)]
    assert len(found) == len(set(found)) == 60 - lost
    assert loader.stats.skipped == lost
    assert "page checksum mismatch" in loader.stats.errors[0]


def test_ranks_are_found(monkeypatch: pytest.MonkeyPatch, ds: ShardDataset) -> None:
    assert found_ranks() == (0, 1)
    for names in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), ("PMI_RANK", "PMI_SIZE")):
        with monkeypatch.context() as patch:
            for name, value in zip(names, ("2", "5"), strict=True):
                patch.setenv(name, value)
            assert found_ranks() == (2, 5)
            loader = DataLoader(ds, 10, ranks="auto")
            assert (loader.rank, loader.world_size, len(loader)) == (2, 5, 5)
            patch.setenv(names[0], "five")
            with pytest.raises(SchemaError, match=names[0]):
                found_ranks()
    for wrong in ({"rank": 1}, {"world_size": 2}, {"rank": 2, "world_size": 2}, {"ranks": "all"}):
        with pytest.raises(SchemaError, match="rank"):
            DataLoader(ds, 10, **wrong)  # type: ignore[arg-type]
