"""Batches by length and packed rows of several datasets: what holds of one, and how they are mixed."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, DataLoader, Mixture, ShardDataset
from tests.reader.loading.test_binning import (  # noqa: F401 - the same tests, with the `ds` of this file
    BINS,
    LENGTHS,
    SMALL,
    documents,
    epoch,
    every_kind,
    loader_of,
    test_a_copy_goes_on_by_itself,
    test_a_run_goes_on_with_other_ranks_and_rows_a_batch,
    test_each_sample_comes_once,
    test_epochs_differ,
    test_ranks_share_the_bins_of_one,
    test_resuming_is_exact_at_every_batch,
    test_state_of_other_bins_is_refused,
    test_workers_change_nothing,
    write,
)

PARTS = (0, 400, 430, len(LENGTHS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("documents")
    write(folder, LENGTHS)
    return ShardDataset(folder)


@pytest.fixture(scope="module")
def ds(whole: ShardDataset) -> ConcatDataset:
    return ConcatDataset([whole[begin:end] for begin, end in itertools.pairwise(PARTS)])


def part_of(bins: list[list[tuple[int, int]]]) -> list[set[int]]:
    """The datasets of the documents of each row or batch."""
    return [{int(np.searchsorted(PARTS, number, "right")) for number, _ in one} for one in bins]


@every_kind
def test_a_bin_is_of_one_dataset_and_the_datasets_take_turns(ds: Any, kind: str) -> None:
    parts = part_of([row for batch in epoch(loader_of(ds, kind)) for row in batch])
    assert {len(one) for one in parts if one} == {1}
    order = [next(iter(one)) for one in parts if one]
    assert sum(a != b for a, b in itertools.pairwise(order)) > len(order) / 5
    in_order = part_of([row for batch in epoch(loader_of(ds, kind, shuffle=False)) for row in batch])
    found = [next(iter(one)) for one in in_order if one]
    assert found == sorted(found)


@every_kind
@pytest.mark.parametrize("stop", ["first_exhausted", "all_exhausted"])
def test_a_mixture_takes_as_many_of_each_dataset_as_it_says(whole: ShardDataset, kind: str, stop: Any) -> None:
    mixed = Mixture([(whole[:300], 2), (whole[300:], 1)], stopping_strategy=stop)
    loader = loader_of(mixed, kind)  # type: ignore[arg-type]
    rows = [row for batch in epoch(loader) for row in batch]
    count = [0, 0]
    for number, length in (one for row in rows for one in row):
        count[number >= 300] += length if kind in ("split", "truncated") else 1
    want: Any = np.array(mixed.draws)
    if kind in ("split", "truncated"):
        lengths = LENGTHS if kind == "split" else np.minimum(LENGTHS, 64)
        want = want * [lengths[:300].mean(), lengths[300:].mean()]
    assert np.array(count) == pytest.approx(want, rel=0.12)
    bins = loader.bins
    assert bins is not None
    assert loader._total() == bins.bins
    assert bins.samples == pytest.approx(sum(mixed.draws), rel=0.12)


def test_a_smaller_dataset_begins_again_in_another_order(whole: ShardDataset) -> None:
    mixed = Mixture([(whole[:30], 1), (whole[30:], 1)], stopping_strategy="all_exhausted")
    loader = DataLoader(mixed, batch_size=10, bucket_by="tokens", shuffle=True, **SMALL)
    batches = [batch["number"].tolist() for batch in loader if batch["number"][0] < 30]
    passes = [sorted(functools.reduce(operator.iadd, batches[k : k + 3], [])) for k in range(0, len(batches) - 3, 3)]
    assert all(one == list(range(30)) for one in passes)
    assert len({str(batches[k : k + 3]) for k in range(0, len(batches) - 3, 3)}) > 1


def test_ranks_of_a_mixture_get_as_many_batches(whole: ShardDataset) -> None:
    mixed = Mixture([(whole[:300], 2), (whole[300:], 1)])
    counts = {len(list(loader_of(mixed, "padded", rank=rank, world_size=3))) for rank in range(3)}  # type: ignore[arg-type]
    assert len(counts) == 1


def test_weights_draw_of_several_datasets(ds: Any) -> None:
    weights = np.ones(len(ds))
    weights[:400] = 0
    found = epoch(DataLoader(ds, weights=weights, shuffle=True, **(SMALL | BINS["padded"])))
    numbers = [number for batch in found for row in batch for number, _ in row]
    assert len(numbers) == len(ds)
    assert min(numbers) >= 400
    assert all(LENGTHS[number] == length for batch in found for row in batch for number, length in row)


def test_rows_of_several_datasets_lie_in_one_batch(ds: Any) -> None:
    batches = list(loader_of(ds, "rows", batch_size=8))
    assert any(len(set.union(*part_of(documents(batch)))) > 1 for batch in batches)
    for batch in batches:
        position, owner = batch["position_ids"], batch["document_ids"]
        assert ((position == 0) | (owner[:, :] >= 0)).all()
        for row in documents(batch):
            assert all(LENGTHS[number] == length for number, length in row)
