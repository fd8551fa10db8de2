"""Epochs through loaders are those of docs/order.md, batch by batch, however often they are broken off."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio import DataLoader, DatasetError, SchemaError, ShardDataset
from recordio.determinism import key
from recordio.reader.order.shuffle import OrderOptions
from tests.effort import examples
from tests.epochs import NO_WORKERS, any_workers, numbers_of, plain_blocks, plain_options, write_numbers

COUNT = 150
VIEWS: dict[str, Any] = {
    "all": slice(None),
    "a run": slice(13, 131),
    "backwards": slice(None, None, -2),
    "some twice": [5, 149, 5, 0, 77, 78, 79, 5, 141, 3, 149],
    "one": slice(70, 71),
    "none": slice(0, 0),
}


@pytest.fixture(scope="module", params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    """150 samples in three shards, ten or so to a block."""
    return write_numbers(tmp_path_factory.mktemp("resume"), range(COUNT), compression=request.param)


def view_of(ds: ShardDataset, name: str) -> ShardDataset:
    asked = VIEWS[name]
    return ds[asked] if isinstance(asked, slice) else ds.select(asked)


def flat(batches: Iterable[Iterable[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


ORDERS = st.builds(
    OrderOptions,
    shuffle=st.sampled_from([True, True, False]),
    window_bytes=st.sampled_from([1, 700, 3000, None]),
    window_samples=st.sampled_from([None, None, 40]),
    unit_bytes=st.sampled_from([1, 900]),
    pool_bytes=st.sampled_from([0, 0, 2500]),
    lanes=st.sampled_from([1, 4, 6, 64]),
    lane_affinity=st.sampled_from([False, False, True]),
)


def given_to(order: OrderOptions) -> dict[str, Any]:
    """The options as a loader takes them."""
    return {name: getattr(order, name) for name in OrderOptions.__slots__}


class Document:
    """What the document says of the epochs of a view."""

    def __init__(self, view: ShardDataset, order: OrderOptions, seed: int) -> None:
        self.numbers = [int(n) for n in view.numbers]
        self.blocks, self.order, self.seed = plain_blocks(view), order, seed
        self.epoch = cache(self._epoch)

    def _epoch(self, epoch: int) -> list[int]:
        """The samples by position."""
        if not self.order.shuffle:
            return self.numbers
        indices = plain.shuffled(self.blocks, self.numbers, key(self.seed, epoch), plain_options(self.order))
        return [self.numbers[index] for index in indices]

    def batches(self, epoch: int, start: int, *share: Any, **options: bool) -> list[list[int]]:
        """The batches of a rank from a position on; `share` is its rank, the number of ranks and the batch size."""
        sequence = self.epoch(epoch)
        return [[sequence[p] for p in batch] for batch in plain.dealt(len(sequence), start, *share, **options)]


Run = tuple[int, int, int, dict[str, Any], int, str]
RUNS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 2, 3, 4]),  # ranks
        st.integers(1, 40),  # the batch size
        st.integers(0, 9),  # batches before the interruption
        any_workers,
        st.integers(1, 4),  # the prefetch factor
        st.sampled_from(["even", "even", "uneven", "drop"]),
    ),
    min_size=1,
    max_size=5,
)
TAILS: dict[str, dict[str, bool]] = {
    "even": {"drop_last": False, "even_batches": True},
    "uneven": {"drop_last": False, "even_batches": False},
    "drop": {"drop_last": True, "even_batches": True},
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@examples(75)
@given(st.sampled_from([*VIEWS, "all"]), ORDERS, st.integers(0, 2**64 - 1), RUNS)
def test_batches_of_all_ranks_follow_the_document_over_any_interruptions(
    ds: ShardDataset, name: str, order: OrderOptions, seed: int, runs: Sequence[Run]
) -> None:
    """Each run goes on where the one before was broken off, into the next epoch where that one ended."""
    view = view_of(ds, name)
    document, total = Document(view, order, seed), len(view)
    state: Any = None
    epoch = position = 0
    for world, size, count, workers, prefetch, tail in [*runs, (2, 7, 10**6, NO_WORKERS, 1, "uneven")]:
        options, states = given_to(order) | TAILS[tail], []
        for rank in range(world):
            loader = DataLoader(
                view, size, seed=seed, rank=rank, world_size=world, prefetch_factor=prefetch, **options, **workers
            )
            if state is not None:
                loader.load_state_dict(json.loads(json.dumps(state)))
            want = document.batches(epoch, position, rank, world, size, drop_last=tail == "drop", even=tail == "even")
            found = [numbers_of(batch) for batch in islice(loader, count)]
            assert found == want[:count]
            if position == 0:
                assert len(loader) == len(want)
            states.append(loader.state_dict())
        assert all(one == states[0] for one in states)
        state = states[0]
        assert len(json.dumps(state)) < 1024
        least = size * world if tail == "drop" else 1
        position = min(total, position + count * size * world)
        if total - position < least:
            epoch, position = epoch + (position > 0 or count > 0), 0
        assert (state["epoch"], state["position"]) == (epoch, position)


def test_positions_of_ranks_agree_after_batches_of_unequal_size(ds: ShardDataset) -> None:
    for total, world, size in ((5, 2, 3), (7, 3, 2), (10, 4, 3), (23, 4, 5)):
        for count in range(1, 9):
            states = []
            for rank in range(world):
                loader = DataLoader(ds[:total], size, rank=rank, world_size=world, even_batches=False)
                for _ in islice(loader, count):
                    pass
                states.append(loader.state_dict())
            assert all(one == states[0] for one in states), (total, world, size, count)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 12)),
        st.tuples(st.just("set_epoch"), st.integers(0, 3)),
        st.tuples(st.just("save"), st.integers(0, 2)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.timeout(120)
@examples(100)
@given(st.sampled_from([*VIEWS, "all"]), ORDERS, st.integers(10, 40), ACTIONS)
def test_epochs_follow_one_another_by_default(
    ds: ShardDataset, name: str, order: OrderOptions, size: int, actions: Sequence[tuple[str, int]]
) -> None:
    """Every iter() is the next epoch, or the rest of a loaded one; breaking off ends an epoch."""
    view = view_of(ds, name)
    document = Document(view, order, 5)
    loader = DataLoader(view, size, seed=5, **given_to(order))
    epoch, position, begun = 0, 0, False
    for action, number in actions:
        if action == "take":
            if begun:
                epoch, position = epoch + 1, 0
            want = document.batches(epoch, position, 0, 1, size)
            assert [numbers_of(batch) for batch in islice(loader, number)] == want[:number]
            begun = number <= len(want)
            epoch, position = (epoch, min(len(view), position + number * size)) if begun else (epoch + 1, 0)
        elif action == "set_epoch":
            loader.set_epoch(number)
            if begun or epoch != number:
                epoch, position, begun = number, 0, False
        else:
            state = loader.state_dict()
            loader = DataLoader(view, size, seed=5, num_workers=number, **given_to(order))
            loader.load_state_dict(state)
            if position == len(view) > 0:
                epoch, position = epoch + 1, 0
            begun = False
            assert loader.state_dict() == state
        current = loader.state_dict()
        ended = position == len(view) > 0
        assert (current["epoch"], current["position"]) == ((epoch + 1, 0) if ended else (epoch, position))


@pytest.mark.timeout(120)
@examples(30)
@given(ORDERS, st.lists(st.tuples(st.integers(1, 3), st.integers(0, 70), any_workers), max_size=4))
def test_single_samples_resume_as_batches_do(ds: ShardDataset, order: OrderOptions, runs: Any) -> None:
    document, state, position = Document(ds, order, 9), None, 0
    for world, count, workers in [*runs, (2, 10**6, NO_WORKERS)]:
        for rank in range(world):
            loader = DataLoader(ds, None, seed=9, rank=rank, world_size=world, **workers, **given_to(order))
            if state is not None:
                loader.load_state_dict(state)
            found = [int(sample["number"]) for sample in islice(loader, count)]
            assert found == flat(document.batches(0, position, rank, world, 1)[:count])
            last = loader.state_dict()
        state, position = last, min(COUNT, position + count * world)
        if position == COUNT:
            break
        assert (state["epoch"], state["position"]) == (0, position)
    assert (last["epoch"], last["position"]) == (1, 0)


@pytest.mark.timeout(120)
@examples(30)
@given(
    ORDERS,
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(0, 5), any_workers), max_size=4),
)
def test_random_maps_and_transforms_do_not_depend_on_batches_workers_or_ranks(
    ds: ShardDataset, order: OrderOptions, runs: Any
) -> None:
    def noisy(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return sample | {"noise": [*sample.get("noise", []), int(rng.integers(2**62))]}

    def numbered(text: str, rng: np.random.Generator) -> str:
        return f"{text} {rng.random()}"

    use = xxhash.xxh3_128_digest(f"{numbered.__qualname__} 1".encode())
    streams = [1 << 63 | int.from_bytes(use[:7], "little"), 1, 2]  # a field's function, and two maps
    view = ds.transform(text=numbered).map(noisy).map(noisy)
    word, seen, state, position = key(5, 0), [], None, 0
    for world, size, count, workers in [*runs, (1, 16, 10**6, NO_WORKERS)]:
        for rank in range(world):
            loader = DataLoader(view, size, seed=5, rank=rank, world_size=world, **workers, **given_to(order))
            if state is not None:
                loader.load_state_dict(state)
            for batch in islice(loader, count):
                seen += zip(batch["number"].tolist(), batch["text"], batch["noise"], strict=True)
            last = loader.state_dict()
        state, position = last, min(COUNT, position + count * size * world)
        if position == COUNT:
            break
    assert {n for n, *_ in seen} == set(range(COUNT))
    for number, text, noise in seen:
        first = plain.key(number, after=word)
        generators = [np.random.Generator(np.random.Philox(key=np.array([first, m], np.uint64))) for m in streams]
        assert text == f"{number} {generators[0].random()}"
        assert noise == [generator.integers(2**62) for generator in generators[1:]]


SHUFFLED: dict[str, Any] = {"shuffle": True, "seed": 3, "window_bytes": 3000, "unit_bytes": 1, "lanes": 4}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 4}, "seed: 3, this loader has 4"),
        ({"shuffle": False}, r"shuffle: \{'window_bytes': 3000, 'unit_bytes': 1, 'lanes': 4\}, this loader has None"),
        ({"window_bytes": 3001}, "shuffle: .*3001"),
        ({"window_samples": 3000}, "shuffle: .*window_samples"),
        ({"unit_bytes": 2}, "shuffle: .*'unit_bytes': 2"),
        ({"pool_bytes": 900}, "shuffle: .*'pool_bytes': 900"),
        ({"lanes": 8}, "shuffle: .*'lanes': 8"),
        ({"lane_affinity": True}, "shuffle: .*'lane_affinity': True"),
        ({"weights": np.ones(COUNT)}, "weights: None, this loader has '[0-9a-f]{32}'"),
    ],
    ids=str,
)
def test_state_of_another_order_is_refused_with_the_difference(
    ds: ShardDataset, change: dict[str, Any], what: str
) -> None:
    state = DataLoader(ds, 10, **SHUFFLED).state_dict()
    loader = DataLoader(ds, 10, **SHUFFLED | change)
    with pytest.raises(SchemaError, match=f"the state is of another {what}"):
        loader.load_state_dict(state)
    DataLoader(ds, 7, num_workers=2, rank=1, world_size=3, drop_last=True, **SHUFFLED).load_state_dict(state)


def test_the_state_of_another_dataset_is_refused(ds: ShardDataset, tmp_path_factory: pytest.TempPathFactory) -> None:
    state = DataLoader(ds, 10).state_dict()
    other = write_numbers(tmp_path_factory.mktemp("other"), range(1, COUNT + 1))
    for dataset in (other, ds[:-1], ds[1:], ds[::-1], ds.select(range(COUNT - 1)), ds + ds):
        with pytest.raises(DatasetError, match="the state is of another dataset"):
            DataLoader(dataset, 10).load_state_dict(state)
    again = ShardDataset(ds.store.storage.folder, fields=["number"], io="pread")  # type: ignore[attr-defined]
    DataLoader(again.map(dict), 10).load_state_dict(state)


def test_views_of_the_same_samples_accept_each_others_state(ds: ShardDataset) -> None:
    state = DataLoader(ds[::4], 10).state_dict()
    for view in (ds[::2][::2], ds[: COUNT - 1 : 4], ds[0 : COUNT + 9 : 4], ds[::4][:]):
        DataLoader(view, 10).load_state_dict(state)


def test_copy_of_a_loader_keeps_its_position(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 10)
    batches = iter(loader)
    next(batches)
    copied, state = copy.copy(loader), loader.state_dict()
    next(batches)
    assert copied.state_dict() == state != loader.state_dict()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 200), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@examples(200)
@given(
    st.sampled_from(["version", "dataset", "samples", "seed", "shuffle", "sampler", "epoch", "position", None]), JSON
)
def test_arbitrary_state_is_refused_or_resumes(ds: ShardDataset, name: str | None, value: Any) -> None:
    loader = DataLoader(ds, 10, True)
    state: Any = value if name is None else loader.state_dict() | {name: value}
    try:
        loader.load_state_dict(state)
    except (SchemaError, DatasetError):
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 0)
    else:
        left = COUNT - state["position"]
        assert len(flat(numbers_of(batch) for batch in loader)) == left
        assert name in ("epoch", "position", "seed") or state == DataLoader(ds, 10, True).state_dict()


def test_loader_without_a_state_raises(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="in_order"):
        DataLoader(ds, 10, num_workers=2, in_order=False).state_dict()
    for wrong in (-1, 1.0, True, "1"):
        with pytest.raises(SchemaError, match="epoch"):
            DataLoader(ds, 10).set_epoch(wrong)  # type: ignore[arg-type]
