"""Who else chooses the samples: weights, each drawn as often as it asks, and samplers that the user brings."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio import DataLoader, DatasetError, DatasetWriter, SchemaError, ShardDataset, class_weights
from recordio.determinism import key
from recordio.reader.order.weights import drawn_by_weight
from tests.effort import examples
from tests.epochs import numbers_of, plain_blocks, write_numbers

COUNT = 230
WORDS = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("sampling"), range(COUNT))


def flat(loader: DataLoader) -> list[int]:
    return [n for batch in loader for n in numbers_of(batch)]


positive = st.floats(0, 1e300, allow_subnormal=True)
WEIGHTS = st.one_of(
    st.lists(st.integers(0, 5).map(float), min_size=1, max_size=60),
    st.lists(positive, min_size=1, max_size=30),
    st.integers(1, 60).flatmap(lambda n: st.lists(st.floats(0.5, 2), min_size=n, max_size=n)),
).filter(any)


class TestWeights:
    @examples(400)
    @given(WEIGHTS, WORDS)
    def test_weighted_draws_follow_the_document(self, weights: list[float], word: int) -> None:
        assert drawn_by_weight(np.array(weights), word).tolist() == plain.drawn_by_weight(weights, word)

    @examples(400)
    @given(WEIGHTS, WORDS)
    def test_draws_are_proportional_to_weights_rounded_up_or_down(self, weights: list[float], word: int) -> None:
        counts = Counter(drawn_by_weight(np.array(weights), word).tolist())
        assert sum(counts.values()) == len(weights)
        total = sum(map(Fraction, weights))
        for index, weight in enumerate(weights):
            expected = Fraction(weight) * len(weights) / total
            assert abs(counts[index] - expected) < 1 + Fraction(1, 2**40)
            assert weight or not counts[index]

    @pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3, 1e-300, 5e-324, 1e308])
    def test_equal_weights_draw_each_sample_once(self, weight: float) -> None:
        for n in (1, 2, 3, 1000, 300_000):
            for word in (0, 2**64 - 1, key(n)):
                assert (drawn_by_weight(np.full(n, weight), word) == np.arange(n)).all()

    def test_mean_draws_converge_to_the_weights(self) -> None:
        weights = np.array([0.05, 0.7, 0, 3, 1.21, 1, 1, 0.33])
        epochs = 4000
        counts = sum(np.bincount(drawn_by_weight(weights, key(5, e)), minlength=8) for e in range(epochs))
        expected = weights * 8 / weights.sum()
        assert np.abs(counts / epochs - expected).max() < 5 * 0.5 / epochs**0.5

    @examples(40)
    @given(
        st.lists(st.integers(0, 9), min_size=COUNT, max_size=COUNT).filter(any),
        st.integers(1, 4),
        st.sampled_from([0, 2]),
        st.integers(0, 12),
        st.sampled_from([None, 900, 4000]),
        st.sampled_from([0, 3000]),
        st.booleans(),
    )
    def test_weighted_epoch_is_shuffled_split_over_ranks_and_resumable(
        self,
        ds: ShardDataset,
        weights: list[int],
        world: int,
        workers: int,
        cut: int,
        window: int | None,
        pool: int,
        sticky: bool,
    ) -> None:
        view, blocks = ds[::-1], plain_blocks(ds)
        drawn = [COUNT - 1 - index for index in plain.drawn_by_weight(list(map(float, weights)), key(3, 1))]
        options = plain.Options(window or 256 << 20, pool_bytes=pool, lane_affinity=sticky)
        want = [drawn[index] for index in plain.shuffled(blocks, drawn, key(3, 1), options)]
        shared: dict[str, Any] = {"shuffle": True, "weights": weights, "seed": 3, "window_bytes": window}
        shared |= {"pool_bytes": pool, "lane_affinity": sticky}
        loader = DataLoader(view, 16, num_workers=workers, **shared)
        loader.set_epoch(1)
        found = [n for _, batch in zip(range(cut), loader, strict=False) for n in numbers_of(batch)]
        assert found == want[: 16 * cut]
        state = json.loads(json.dumps(loader.state_dict()))
        for rank in range(world):
            again = DataLoader(view, 5, rank=rank, world_size=world, **shared)
            again.load_state_dict(state)
            expected = plain.dealt(COUNT, len(found), rank, world, 5)
            assert [numbers_of(batch) for batch in again] == [[want[p] for p in batch] for batch in expected]

    def test_repeated_draws_get_different_random_transforms(self, ds: ShardDataset) -> None:
        def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
            return {"number": sample["number"], "noise": rng.random()}

        def noise(size: int, workers: int) -> list[tuple[int, float]]:
            weights = np.zeros(COUNT)
            weights[:23] = 1
            loader = DataLoader(ds.map(noisy), size, True, weights=weights, num_workers=workers)
            return [p for b in loader for p in zip(b["number"].tolist(), b["noise"].tolist(), strict=True)]

        found = noise(16, 0)
        assert Counter(n for n, _ in found) == Counter(dict.fromkeys(range(23), 10))
        assert len({x for _, x in found}) == COUNT
        assert noise(100, 2) == found

    def test_class_weights_balance_the_classes(self) -> None:
        labels = np.array([0] * 90 + [7] * 9 + [3])
        weights = class_weights(labels)
        assert [float(weights[labels == label].sum()) for label in (0, 7, 3)] == pytest.approx([1, 1, 1])
        drawn = labels[drawn_by_weight(weights, 1)]
        assert all(32 <= (drawn == label).sum() <= 34 for label in (0, 7, 3))
        assert class_weights(["b", "a", "b"]).tolist() == [0.5, 1, 0.5]
        for wrong in (["b", None], np.ma.masked_equal(labels, 7), labels[:, None]):
            with pytest.raises(SchemaError, match="one class a sample, none missing"):
                class_weights(wrong)

    def test_class_weights_by_the_statistics_are_the_same(self, tmp_path: Path) -> None:
        labels = np.array([4] * 5 + [-7] * 2 + [9])
        with DatasetWriter(tmp_path / "ds") as writer:
            writer.write_batch({"label": labels})
        ds = ShardDataset(tmp_path / "ds")
        assert ds.statistics is not None
        counts = ds.statistics["label"].values
        assert counts == {-7: 2, 4: 5, 9: 1}
        assert class_weights(ds.column("label"), counts).tolist() == class_weights(labels).tolist()
        with pytest.raises(SchemaError, match="none of the classes that were counted"):
            class_weights([4, 5], counts)
        with pytest.raises(SchemaError, match="leave the counts out"):
            class_weights(["a"], counts)

    def test_loader_copies_its_weights(self, ds: ShardDataset) -> None:
        weights: npt.NDArray[np.float64] = np.ones(COUNT)
        loader = DataLoader(ds, 16, True, weights=weights)
        state = loader.state_dict()
        weights[1:] = 0
        assert loader.state_dict() == state
        assert sorted(flat(loader)) == list(range(COUNT))

    def test_wrong_weights_are_refused(self, ds: ShardDataset) -> None:
        good: npt.NDArray[np.float64] = np.ones(COUNT)
        for wrong in (good[:-1], good[:, None], -good, good * 0, good * np.nan, good * np.inf):
            with pytest.raises(SchemaError, match="weights are not 230 finite numbers"):
                DataLoader(ds, 4, True, weights=wrong)
        with pytest.raises(SchemaError, match="shuffle=True"):
            DataLoader(ds, 4, weights=good)
        state = DataLoader(ds, 4, True, weights=good).state_dict()
        with pytest.raises(SchemaError, match="another weights"):
            DataLoader(ds, 4, True, weights=good * 2).load_state_dict(state)


class Shuffled:
    """A sampler like PyTorch's: a new order each time, or the order of the epoch that was set."""

    def __init__(self, n: int) -> None:
        self.n, self.epoch = n, 0

    def __iter__(self) -> Any:
        return iter(np.random.default_rng(self.epoch).permutation(self.n).tolist())

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class TestSamplers:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("drop", [False, True])
    def test_sampler_decides_samples_and_order(self, ds: ShardDataset, workers: int, drop: bool) -> None:
        view, chosen = ds[100:], [5, 5, 0, 129, -1, 77, 3]
        for size in (1, 2, 3, 7, 8):
            loader = DataLoader(view, size, sampler=chosen, num_workers=workers, drop_last=drop)
            want = [chosen[k : k + size] for k in range(0, len(chosen) // size * size if drop else 7, size)]
            found = [numbers_of(batch) for batch in loader]
            assert found == [[100 + n % 130 for n in batch] for batch in want]
            assert len(loader) == len(want)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batch_sampler_decides_the_batches(self, ds: ShardDataset, workers: int) -> None:
        batches = [[3, 1], [9], [200, 7, 7]]
        loader = DataLoader(ds, batch_sampler=batches, num_workers=workers)
        assert [numbers_of(batch) for batch in loader] == batches
        assert len(loader) == 3

    @pytest.mark.parametrize("cut", [0, 1, 13, 22])
    def test_sampled_epoch_resumes_from_a_state(self, ds: ShardDataset, cut: int) -> None:
        def loader(workers: int) -> DataLoader:
            return DataLoader(ds, 10, sampler=Shuffled(COUNT), num_workers=workers)

        first = loader(2)
        first.set_epoch(3)
        want = list(chain.from_iterable(numbers_of(batch) for batch in first))
        assert sorted(want) == list(range(COUNT))
        first.set_epoch(3)
        found = [n for _, batch in zip(range(cut), first, strict=False) for n in numbers_of(batch)]
        again = loader(0)
        again.set_epoch(3)
        again.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert found + flat(again) == want

    def test_random_maps_depend_on_the_sampled_index(self, ds: ShardDataset) -> None:
        def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
            return {"number": sample["number"], "noise": rng.random()}

        def noise(**options: Any) -> dict[int, float]:
            loader = DataLoader(ds.map(noisy), **options)
            return {n: x for b in loader for n, x in zip(b["number"].tolist(), b["noise"].tolist(), strict=True)}

        assert noise(batch_size=9, sampler=Shuffled(COUNT), num_workers=2) == noise(batch_size=50)

    def test_a_sampler_and_another_order_exclude_each_other(self, ds: ShardDataset) -> None:
        for wrong in (
            {"shuffle": True},
            {"batch_sampler": [[1]]},
            {"rank": 0, "world_size": 2},
            {"shuffle": True, "weights": np.ones(COUNT)},
        ):
            with pytest.raises(SchemaError, match="sampler"):
                DataLoader(ds, 4, sampler=range(10), **wrong)
        plain_state = DataLoader(ds, 4).state_dict()
        with pytest.raises(SchemaError, match="another sampler"):
            DataLoader(ds, 4, sampler=range(10)).load_state_dict(plain_state)

    def test_index_out_of_range_from_a_sampler_raises(self, ds: ShardDataset) -> None:
        for workers in (0, 2):
            with pytest.raises(IndexError, match="sample 230 of a dataset of 230"):
                flat(DataLoader(ds, 4, sampler=[0, 230], num_workers=workers))

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_resumed_sampler_gets_the_epoch_of_the_state(self, ds: ShardDataset, wrapped: bool) -> None:
        def loader() -> DataLoader:
            sampler = Shuffled(COUNT)
            return DataLoader(ds, batch_sampler=Batches(sampler)) if wrapped else DataLoader(ds, 10, sampler=sampler)

        first = loader()
        first.set_epoch(3)
        batches = iter(first)
        found = [numbers_of(next(batches)) for _ in range(2)]
        again = loader()
        again.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert found + list(map(numbers_of, again)) == list(map(numbers_of, epoch_of(loader(), 3)))
        assert list(map(numbers_of, again)) == list(map(numbers_of, epoch_of(loader(), 4)))

    def test_set_epoch_on_the_sampler_itself_is_kept(self, ds: ShardDataset) -> None:
        sampler = Shuffled(COUNT)
        loader = DataLoader(ds, 10, sampler=sampler)
        for epoch in (5, 7):
            sampler.set_epoch(epoch)
            assert flat(loader) == np.random.default_rng(epoch).permutation(COUNT).tolist()
        assert flat(loader) == np.random.default_rng(8).permutation(COUNT).tolist()

    def test_a_sampler_that_does_not_repeat_itself_cannot_be_resumed(self, ds: ShardDataset) -> None:
        first = DataLoader(ds, 10, sampler=Unseeded(COUNT))
        next(iter(first))
        again = DataLoader(ds, 10, sampler=Unseeded(COUNT))
        again.load_state_dict(first.state_dict())
        with pytest.raises(DatasetError, match="does not repeat the batches"):
            next(iter(again))

    def test_state_without_a_digest_is_accepted(self, ds: ShardDataset) -> None:
        first = DataLoader(ds, 10, sampler=range(40))
        batches = iter(first)
        next(batches)
        state = first.state_dict()
        del state["indices"]
        again = DataLoader(ds, 10, sampler=range(40))
        again.load_state_dict(state)
        assert flat(again) == list(range(10, 40))


class Batches:
    """As torch's BatchSampler, which passes no set_epoch on."""

    def __init__(self, sampler: Shuffled) -> None:
        self.sampler = sampler

    def __iter__(self) -> Any:
        indices = list(self.sampler)
        return iter([indices[k : k + 10] for k in range(0, len(indices), 10)])

    def __len__(self) -> int:
        return -(-len(self.sampler) // 10)


class Unseeded(Shuffled):
    """Another order each time."""

    set_epoch = None  # type: ignore[assignment]
    draws = 0

    def __iter__(self) -> Any:
        Unseeded.draws += 1
        return iter(np.random.default_rng(Unseeded.draws).permutation(self.n).tolist())


def epoch_of(loader: DataLoader, epoch: int) -> Any:
    loader.set_epoch(epoch)
    return iter(loader)
