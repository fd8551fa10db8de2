"""Batches for other people's loaders come from the loader's own workers wherever they can."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, ShardDataset
from recordio.reader.batches.index_batch import IndexBatch
from recordio.reader.loading import relay


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("relay")
    with recordio.DatasetWriter(folder, block_bytes=500, compression="zstd") as writer:
        for n in range(203):
            writer.write({"label": n, "x": np.full(3, n, np.float32)})
    return ShardDataset(folder)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of batches that are made by their indices."""
    found: list[int] = []
    request = IndexBatch.request

    def noted(batch: IndexBatch, number: int) -> Any:
        found.append(len(batch))
        return request(batch, number)

    monkeypatch.setattr(IndexBatch, "request", noted)
    return found


def labels(dataset: Any, batch: Any) -> list[int]:
    return [int(sample["label"]) for sample in dataset.__getitems__(batch)]


def every(loader: DataLoader, first: int, step: int) -> Iterator[IndexBatch]:
    return itertools.islice(loader.indices(), first, None, step)


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 1, "multiprocessing_context": "fork"}])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_batches_in_order_are_made_ahead(ds: ShardDataset, made: list[int], options: dict[str, Any]) -> None:
    loader = DataLoader(ds, 16, True, seed=2, persistent_workers=True, **options)
    expected = [[batch["label"].tolist() for batch in loader] for _ in range(2)]
    again = DataLoader(ds, 16, True, seed=2, persistent_workers=True, **options)
    for epoch in range(2):
        assert [labels(ds, batch) for batch in again.indices()] == expected[epoch]
    assert made == []


def test_skipped_batches_are_not_made(ds: ShardDataset, made: list[int]) -> None:
    expected = [batch["label"].tolist() for batch in DataLoader(ds, 16, True)]
    assert [labels(ds, batch) for batch in every(DataLoader(ds, 16, True), 5, 1)] == expected[5:]
    assert made == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("first", "step"), [(0, 2), (1, 2), (2, 3), (4, 4)])
def test_every_nth_batch_is_made_ahead(
    ds: ShardDataset, made: list[int], monkeypatch: pytest.MonkeyPatch, first: int, step: int, known: bool
) -> None:
    """As accelerate shares batches out to processes."""
    if known:
        monkeypatch.setattr(relay, "distributed_ranks", lambda: (first % step, step))
    expected = [batch["label"].tolist() for batch in DataLoader(ds, 16, True)]
    assert [labels(ds, batch) for batch in every(DataLoader(ds, 16, True), first, step)] == expected[first::step]
    assert made == []


def test_ranks_and_states_begin_where_they_are(ds: ShardDataset, made: list[int]) -> None:
    options: dict[str, Any] = {"shuffle": True, "rank": 1, "world_size": 2}
    loader, again = DataLoader(ds, 16, **options), DataLoader(ds, 16, **options)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    again.load_state_dict(loader.state_dict())
    expected = [batch["label"].tolist() for batch in batches]
    assert [labels(ds, batch) for batch in again.indices()] == expected
    assert made == []


def test_batches_in_any_order_are_made_by_their_indices(ds: ShardDataset, made: list[int]) -> None:
    loader = DataLoader(ds, 16, True)
    expected = [batch["label"].tolist() for batch in DataLoader(ds, 16, True)]
    indices = loader.indices()
    found = [next(indices) for _ in range(13)]
    for k in (3, 2, 9, 9, 0, 12, 1, 7, 3, 4, 5, 6):
        assert labels(ds, found[k]) == expected[k]
    assert made
    indices.close()  # type: ignore[attr-defined]
    made.clear()
    assert labels(ds, found[2]) == expected[2]
    assert labels(ds[:], found[3]) == expected[3]
    assert made == [16, 16]


def test_an_epoch_that_is_left_leaves_nothing_behind(ds: ShardDataset) -> None:
    before = set(threading.enumerate())
    loader = DataLoader(ds, 16, True, num_workers=2)
    for batch in loader.indices():
        labels(ds, batch)
        assert set(threading.enumerate()) - before
        break
    del batch
    assert set(threading.enumerate()) <= before
    for batch in loader.indices():
        labels(ds, batch)
    assert set(threading.enumerate()) <= before


def test_an_error_is_the_samples_own(ds: ShardDataset) -> None:
    def failing(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["label"] == 40:
            raise ValueError("bad")
        return sample

    before = set(threading.enumerate())
    view, found = ds.map(failing), []
    epoch = (labels(view, batch) for batch in DataLoader(view, 16, num_workers=2).indices())
    with pytest.raises(ValueError, match="bad") as caught:
        found.extend(epoch)
    assert found == [list(range(16)), list(range(16, 32))]
    assert "sample 40" in str(caught.value.__notes__)
    del caught
    assert set(threading.enumerate()) <= before
