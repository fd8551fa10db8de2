"""Concatenations and mixtures: steady shares, passes without repeats, exact resuming and sharding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio import ConcatDataset, DataLoader, DatasetError, Mixture, SchemaError, ShardDataset
from recordio.determinism import key
from recordio.reader.combined import Combined
from recordio.reader.order import mixing
from recordio.reader.order.mixing import Arranged, Consecutive, Interleaved, Schedule, draw_at
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import OrderOptions, WindowPlan
from tests.effort import examples
from tests.epochs import View, combined, numbers_of, orders, plain_blocks, plain_options, shapes, views, write_numbers

DRAWS = st.lists(st.integers(0, 3000), min_size=1, max_size=6)


def labels(schedule: Schedule, start: int = 0) -> list[int]:
    """The dataset of every position from `start` on."""
    out: list[int] = []
    for first, found in schedule.sources(start):
        assert first <= start or out
        assert first > start - 2048
        out += found.tolist()[max(0, start - first) :]
    return out


class TestSchedules:
    @examples(150)
    @given(DRAWS, st.integers(0, 2**64 - 1), st.data())
    def test_turns_match_the_document_from_any_position(
        self, draws: list[int], epoch_key: int, data: st.DataObject
    ) -> None:
        schedule, want = Interleaved(draws, epoch_key), plain.turns(draws, epoch_key)
        assert labels(schedule) == want
        start = data.draw(st.integers(0, max(0, sum(draws) - 1)))
        assert labels(schedule, start) == want[start:]

    @examples(150)
    @given(DRAWS, st.sampled_from([Interleaved, Consecutive, Arranged]), st.data())
    def test_draw_at_and_positions_are_inverse(self, draws: list[int], kind: type, data: st.DataObject) -> None:
        want = [d for d, n in enumerate(draws) for _ in range(n)] if kind is Consecutive else plain.turns(draws, 5)
        schedule: Schedule = Consecutive(draws) if kind is Consecutive else Interleaved(draws, 5)
        if kind is Arranged:
            schedule = Arranged(np.array(want, np.int64), draws)
        numbers, counts = [], [0] * len(draws)
        for source in want:
            numbers.append(counts[source])
            counts[source] += 1
        assert schedule.total == len(want)
        edges = [p + k for p in range(0, len(want), 1024) for k in range(-5, 6)]
        some = data.draw(st.lists(st.integers(0, max(0, len(want) - 1)), max_size=10))
        for position in [p for p in edges + some if 0 <= p < len(want)]:
            assert draw_at(schedule, position) == (want[position], numbers[position])
            assert schedule.drawn(position).tolist() == [want[:position].count(source) for source in range(len(draws))]
        for source, n in enumerate(draws):
            if n:
                a = data.draw(st.integers(0, n - 1))
                b = data.draw(st.integers(a + 1, min(n, a + 1500)))
                where = [p for p, one in enumerate(want) if one == source]
                assert schedule.positions(source, a, b).tolist() == where[a:b]
        with pytest.raises(IndexError):
            draw_at(schedule, len(want))

    def test_positions_at_the_end_of_a_chunk_are_located(self) -> None:
        """A chunk of [3000] * 6 holds 1,056 positions, though an even cut would give 1,058.8."""
        schedule = Interleaved([3000] * 6, 5)
        want = plain.turns([3000] * 6, 5)
        for position in range(1050, 1065):
            assert draw_at(schedule, position) == (want[position], want[:position].count(want[position]))

    def test_positions_over_several_runs_are_those_of_the_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mixing, "_RUN", 3)
        draws = [9000, 1, 4000, 0]
        schedule, want = Interleaved(draws, 5), np.array(plain.turns(draws, 5))
        for source, n in enumerate(draws):
            where = np.flatnonzero(want == source)
            for a, b in (0, n), (n // 3, n - n // 3), (n - 1, n):
                if 0 <= a < b:
                    assert schedule.positions(source, a, b).tolist() == where[a:b].tolist()

    @examples(60)
    @given(st.lists(st.floats(0.02, 1), min_size=2, max_size=6), st.integers(6_000, 40_000), st.data())
    def test_every_4096_positions_hold_the_share_of_each_dataset(
        self, weights: list[float], total: int, data: st.DataObject
    ) -> None:
        draws = [max(1, int(total * weight / sum(weights))) for weight in weights]
        found = np.array(labels(Interleaved(draws, 3)))
        for start in data.draw(st.lists(st.integers(0, len(found) - 4096), min_size=3, max_size=3)):
            counts = np.bincount(found[start : start + 4096], minlength=len(draws))
            for count, n in zip(counts.tolist(), draws, strict=True):
                share = n / len(found)
                assert abs(count - 4096 * share) < 8 + 5 * (2 * 1024 * share * (1 - share) / 4) ** 0.5


PARTS = st.lists(shapes(least=1, most=8), min_size=1, max_size=4)


def delivered(whole: Combined, options: OrderOptions, epoch_key: int, share: RankShare) -> list[plain.Drawn]:
    """The samples of a rank, in order."""
    streams, turns = whole.plan(options, epoch_key, share)
    drawn = [_samples_of(stream) for stream in streams]
    return [(source, *next(drawn[source])) for labels in turns for source in labels.tolist()]


def _samples_of(stream: Iterator[WindowPlan]) -> Iterator[tuple[int, int]]:
    """The key of the pass and the index of each sample."""
    for plan in stream:
        for index in plan.index.tolist():
            yield plan.epoch_key, index


class TestPlans:
    @pytest.mark.parametrize("world", [1, 2])
    def test_every_chunk_is_made_once_for_all_datasets(self, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """And without other ranks only when its turn comes: where a sample lies decides nothing then."""
        datasets, samples, made = 40, 500, []
        parts = [(plain.Blocks([[(50, 1)] * (samples // 50)]), range(samples))] * datasets
        whole = combined(ConcatDataset, parts)
        permuted = mixing.permutation
        monkeypatch.setattr(mixing, "permutation", lambda n, key: made.append(key) or permuted(n, key))
        total = datasets * samples
        streams, turns = whole.plan(OrderOptions(shuffle=True), 7, RankShare(rank=0, world=world, start=0, stop=total))
        assert sum(len(next(stream)) for stream in streams) == total // world
        assert len(set(made)) == (2 if world == 1 else total // 1024), "without other ranks the first and the last"
        assert sum(map(len, turns)) == total // world
        assert len(made) == len(set(made)) == total // 1024

    @examples(200)
    @given(st.data(), PARTS, st.one_of(orders(), orders(shuffle=False)), st.integers(1, 5), st.booleans())
    def test_mixture_matches_the_document_for_any_ranks_and_position(
        self, data: st.DataObject, given_shapes: list[plain.Blocks], options: OrderOptions, world: int, even: bool
    ) -> None:
        parts = [(shape, data.draw(views(shape.samples).filter(len))) for shape in given_shapes]
        draws = [data.draw(st.integers(0, 3 * len(view))) for _, view in parts]
        whole = combined(Mixture, parts, draws)
        shuffle = plain_options(options) if options.shuffle else None
        want = plain.mixed(parts, draws, 11, shuffle)
        check_dealt(whole, want, options, world, even, data.draw(st.integers(0, len(want))))

    @examples(200)
    @given(st.data(), PARTS, st.one_of(orders(), orders(shuffle=False)), st.integers(1, 5), st.booleans())
    def test_concatenation_matches_the_document_for_any_ranks_and_position(
        self, data: st.DataObject, given_shapes: list[plain.Blocks], options: OrderOptions, world: int, even: bool
    ) -> None:
        parts = [(shape, data.draw(views(shape.samples))) for shape in given_shapes]
        draws = [len(view) for _, view in parts]
        shuffle = plain_options(options) if options.shuffle else None
        want = plain.mixed(parts, draws, 11, shuffle, one_after_the_other=not options.shuffle)
        if not options.shuffle:
            assert [(d, index) for d, _, index in want] == [(d, k) for d, n in enumerate(draws) for k in range(n)]
        whole = combined(ConcatDataset, parts)
        check_dealt(whole, want, options, world, even, data.draw(st.integers(0, len(want))))

    @examples(20)
    @given(st.integers(0, 2**64 - 1), st.integers(1, 3), st.integers(0, 5000))
    def test_mixture_matches_the_document_over_many_chunks_and_passes(
        self, epoch_key: int, world: int, start: int
    ) -> None:
        large, small = plain.Blocks([[(50, 50)] * 40] * 2), plain.Blocks([[(7, 7)] * 3])
        parts: list[tuple[plain.Blocks, View]] = [(large, range(4000)), (small, range(20)), (small, [3, 3])]
        options = OrderOptions(True, window_bytes=1500)
        want = plain.mixed(parts, [4000, 900, 100], epoch_key, plain_options(options))
        whole = combined(Mixture, parts, [4000, 900, 100])
        for rank in range(world):
            share = RankShare.of(rank, world, start, 5000, 1, drop_last=False, even=True)
            found = delivered(whole, options, epoch_key, share)
            assert found == [want[p % 5000] for p in range(share.first, share.stop, world)]

    def test_no_sample_repeats_within_a_pass(self) -> None:
        parts: list[tuple[plain.Blocks, View]] = [(plain.Blocks([[(10, 10)] * 9]), range(n)) for n in (90, 31, 4)]
        draws = [500, 310, 87]
        options = OrderOptions(True, window_bytes=300)
        found = delivered(combined(Mixture, parts, draws), options, 9, RankShare(0, 1, 0, sum(draws)))
        for source, (_, view) in enumerate(parts):
            own = [(pass_key, index) for one, pass_key, index in found if one == source]
            passes = [own[k : k + len(view)] for k in range(0, draws[source], len(view))]
            for number, one in enumerate(passes):
                assert {pass_key for pass_key, _ in one} == {key(source, number, after=9)}
                assert len(set(one)) == len(one)
        assert len(found) == sum(draws)

    def test_many_passes_over_a_small_dataset_take_constant_memory(self) -> None:
        """10^6 draws from 3 samples: the state of a pass is dropped with the next."""
        import tracemalloc

        parts: list[tuple[plain.Blocks, View]] = [(plain.Blocks([[(3, 3)]]), range(3))]
        streams, _ = combined(Mixture, parts, [10**6]).plan(OrderOptions(True), 1, RankShare(0, 1, 0, 10**6))
        tracemalloc.start()
        try:
            for _, plan in zip(range(3000), streams[0], strict=False):
                assert len(plan) == 3
            assert tracemalloc.get_traced_memory()[0] < 200_000
        finally:
            tracemalloc.stop()


def check_dealt(
    whole: Combined, want: Sequence[plain.Drawn], options: OrderOptions, world: int, even: bool, start: int
) -> None:
    for rank in range(world):
        share = RankShare.of(rank, world, start, len(want), 1, drop_last=False, even=even)
        positions = chain.from_iterable(plain.dealt(len(want), start, rank, world, 1, even=even))
        assert delivered(whole, options, 11, share) == [want[p] for p in positions]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[ShardDataset]:
    """Three datasets with distinct numbers."""
    folder = tmp_path_factory.mktemp("parts")
    return [write_numbers(folder / str(k), range(1000 * k, 1000 * k + n)) for k, n in enumerate((230, 31, 120))]


def epoch_of(loader: DataLoader) -> list[list[int]]:
    return [numbers_of(batch) for batch in loader]


def flat(batches: Iterable[Iterable[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


OPTIONS = st.fixed_dictionaries(
    {
        "shuffle": st.booleans(),
        "window_bytes": st.sampled_from([1, 900, 4000, None]),
        "window_samples": st.sampled_from([None, None, 50]),
        "unit_bytes": st.sampled_from([1, 700]),
        "pool_bytes": st.sampled_from([0, 0, 2500]),
        "seed": st.integers(0, 9),
    }
)
RUNS = st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(0, 8), st.sampled_from([0, 0, 2]))


class TestLoaders:
    @pytest.mark.slow
    @examples(60)
    @given(
        OPTIONS,
        st.sampled_from(["concat", "first_exhausted", "all_exhausted"]),
        st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
        st.lists(RUNS, max_size=4),
    )
    def test_resumed_epochs_match_the_document(
        self, parts: list[ShardDataset], options: dict[str, Any], kind: str, weights: list[float], runs: list[Any]
    ) -> None:
        views = [parts[0], parts[1][::-1], parts[2][3:117]]
        whole: Any = ConcatDataset(views) if kind == "concat" else Mixture(zip(views, weights, strict=True), kind)  # type: ignore[arg-type]
        draws = list(map(len, views)) if kind == "concat" else plain.drawn(list(map(len, views)), weights, kind)
        assert (whole.draws, len(whole)) == (draws, sum(draws))
        want = self.numbers_by_position(whole, options, kind)
        state, position = None, 0
        for world, size, count, workers in [*runs, (2, 16, 10**6, 0)]:
            states = []
            for rank in range(world):
                loader = DataLoader(whole, size, rank=rank, world_size=world, num_workers=workers, **options)
                if state is not None:
                    loader.load_state_dict(state)
                found = [numbers_of(batch) for _, batch in zip(range(count), loader, strict=False)]
                expected = plain.dealt(len(want), position, rank, world, size)[:count]
                assert found == [[want[p] for p in batch] for batch in expected]
                states.append(loader.state_dict())
            position = min(len(want), position + count * size * world)
            assert all(one == states[0] for one in states)
            state = states[0]
            if position == len(want):
                assert (state["epoch"], state["position"]) == (1, 0)
                break
            assert (state["epoch"], state["position"]) == (0, position)

    def numbers_by_position(self, whole: Any, options: dict[str, Any], kind: str) -> list[int]:
        order = OrderOptions(**{name: value for name, value in options.items() if name != "seed"})
        expected = plain.mixed(
            [(plain_blocks(part), part.numbers) for part in whole.parts],
            whole.draws,
            key(options["seed"], 0),
            plain_options(order) if order.shuffle else None,
            one_after_the_other=kind == "concat" and not order.shuffle,
        )
        return [1000 * d + int(whole.parts[d].numbers[index]) for d, _, index in expected]

    def test_indexing_follows_the_unshuffled_epoch(self, parts: list[ShardDataset]) -> None:
        both = parts[0] + parts[1] + parts[2]
        mixture = Mixture([(parts[0], 1), (parts[1], 3)], "all_exhausted")
        for whole in (both, mixture):
            want = flat(epoch_of(DataLoader(whole, 50)))
            assert [int(sample["number"]) for sample in whole] == want
            for index in (0, len(want) - 1, -1, -len(want)):
                assert int(whole[index]["number"]) == want[index]
            for wrong in (len(want), -len(want) - 1):
                with pytest.raises(IndexError):
                    whole[wrong]
        assert [sample["number"] for sample in both.__getitems__([230, 0])] == [1000, 0]

    def test_stopping_strategies(self, parts: list[ShardDataset]) -> None:
        first = Mixture([(parts[0], 1), (parts[1], 1)])
        assert first.draws == [31, 31]
        counts = Counter(flat(epoch_of(DataLoader(first, 10, True))))
        assert max(counts.values()) == 1
        assert {n for n in counts if n >= 1000} == set(range(1000, 1031))
        every = Mixture([(parts[0], 1), (parts[1], 1)], "all_exhausted")
        assert every.draws == [230, 230]
        counts = Counter(flat(epoch_of(DataLoader(every, 10, True))))
        assert {counts[n] for n in range(230)} == {1}
        assert {counts[n] for n in range(1000, 1031)} == {7, 8}

    def test_epochs_and_passes_are_reshuffled(self, parts: list[ShardDataset]) -> None:
        loader = DataLoader(Mixture([(parts[0], 1), (parts[1], 1)], "all_exhausted"), 10, True)
        first, second = flat(epoch_of(loader)), flat(epoch_of(loader))
        assert first != second
        small = [n for n in first if n >= 1000]
        assert small[:31] != small[31:62]
        assert sorted(small[:31]) == sorted(small[31:62])

    def test_random_maps_do_not_depend_on_workers_or_batch_size(self, parts: list[ShardDataset]) -> None:
        def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
            return {"number": sample["number"], "noise": rng.random()}

        def noise(**options: Any) -> list[tuple[int, float]]:
            views = [part.map(noisy) for part in parts[:2]]
            loader = DataLoader(Mixture(zip(views, (1, 1), strict=True), "all_exhausted"), shuffle=True, **options)
            return [p for b in loader for p in zip(b["number"].tolist(), b["noise"].tolist(), strict=True)]

        want = noise(batch_size=7)
        assert noise(batch_size=50, num_workers=2) == want
        assert len({x for _, x in want}) == len(want)  # a repeated sample gets new noise

    def test_invalid_parts_are_refused(self, parts: list[ShardDataset]) -> None:
        for wrong, reason in (
            (lambda: Mixture([]), "at least one"),
            (lambda: ConcatDataset([]), "at least one"),
            (lambda: ConcatDataset([parts[0], [1, 2]]), "expected datasets of recordio, got list"),
            (lambda: Mixture([(parts[0], 0)]), "positive"),
            (lambda: Mixture([(parts[0], -1.0)]), "positive"),
            (lambda: Mixture([(parts[0], float("nan"))]), "positive"),
            (lambda: Mixture([(parts[0], float("inf"))]), "positive"),
            (lambda: Mixture([(parts[0][:0], 1)]), "with samples"),
            (lambda: Mixture([([1, 2], 1)]), "datasets with samples"),
            (lambda: Mixture([(parts[0], 1)], "never"), "stopping_strategy"),  # type: ignore[arg-type]
            (lambda: Mixture(parts), r"\(dataset, weight\) pairs"),  # type: ignore[arg-type]
        ):
            with pytest.raises(SchemaError, match=reason):
                wrong()

    def test_state_of_other_parts_or_weights_is_refused(self, parts: list[ShardDataset], tmp_path: Path) -> None:
        state = DataLoader(Mixture([(parts[0], 1), (parts[1], 1)]), 4).state_dict()
        for other in (
            Mixture([(parts[0], 2), (parts[1], 1)]),
            Mixture([(parts[1], 1), (parts[0], 1)]),
            Mixture([(parts[0], 1), (parts[1][:-1], 1)]),
            ConcatDataset([parts[0], parts[1]]),
        ):
            with pytest.raises(DatasetError, match="another dataset"):
                DataLoader(other, 4).load_state_dict(state)
        DataLoader(Mixture([(parts[0], 3), (parts[1], 3)]), 9).load_state_dict(state)


def test_conflicting_classes_are_refused(tmp_path: Path) -> None:
    a, b = (
        write_numbers(tmp_path / name, range(9), metadata={"classes": classes})
        for name, classes in (("a", ["cat", "dog"]), ("b", ["bird", "cat", "dog"]))
    )
    for combine in (lambda: a + b, lambda: Mixture([(a, 1), (b, 1)])):
        with pytest.raises(SchemaError, match=r"label 0 is 'cat' in .*/a.* and 'bird' in .*/b"):
            combine()
    assert len(a + a[:3]) == 12


def test_a_read_asks_only_the_datasets_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long all the others are is asked once."""
    both = ConcatDataset([write_numbers(tmp_path / str(k), range(10 * k, 10 * k + 10)) for k in range(9)])
    assert int(both[0]["number"]) == 0
    asked: list[int] = []
    monkeypatch.setattr(ShardDataset, "__len__", lambda self: asked.append(1) or len(self.numbers))
    assert int(both[85]["number"]) == 85
    assert both.take([17, 3, 12])["number"].tolist() == [17, 3, 12]
    assert asked == []
    part, row = both.select([88, 3, 85, 4]).locate(np.arange(4))
    assert (part.tolist(), row.tolist()) == ([8, 0, 8, 0], [0, 0, 1, 1])
