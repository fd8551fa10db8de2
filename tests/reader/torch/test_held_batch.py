"""Trainers whose wrapper holds a batch that the training loop has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recordio
import recordio.torch

SAMPLES, BATCH = 50, 8


# What fetches a batch ahead, as Ray Train's wrapper does, in a module of the same name.
SOURCE = """
class Wrapper:
    def __init__(self, loader):
        self.loader, self.next_batch = loader, None

    def __iter__(self):
        self.batches = iter(self.loader)
        self.next_batch = next(self.batches, None)
        return self

    def __next__(self):
        batch = self.next_batch
        if batch is None:
            raise StopIteration
        self.next_batch = next(self.batches, None)
        return batch
"""
RAY: dict[str, Any] = {"__name__": "ray.train.torch.train_loop_utils"}
exec(SOURCE, RAY)
Wrapper = RAY["Wrapper"]


@pytest.fixture
def loaders(tmp_path: Any) -> Any:
    with recordio.DatasetWriter(tmp_path / "ds", block_bytes=64) as writer:
        writer.write_batch({"id": np.arange(SAMPLES)})
    dataset = recordio.ShardDataset(tmp_path / "ds")
    return lambda: recordio.torch.DataLoader(dataset, BATCH, shuffle=True, seed=1)


def ids(batches: Any) -> list[int]:
    return [int(one) for batch in batches for one in batch["id"]]


@pytest.mark.parametrize("taken", range(1, 8))
def test_a_state_counts_what_the_loop_has_seen(loaders: Any, taken: int) -> None:
    loader = loaders()
    batches = iter(Wrapper(loader))
    seen = ids(next(batches) for _ in range(taken))
    resumed = loaders()
    resumed.load_state_dict(loader.state_dict())
    rest = [] if taken == 7 else ids(resumed)
    assert seen + rest == ids(loaders())


def test_after_the_epoch_the_next_one_follows(loaders: Any) -> None:
    loader, plain = loaders(), loaders()
    first = ids(Wrapper(loader))
    assert loader.state_dict() == {**plain.state_dict(), "epoch": 1}
    assert (first, ids(Wrapper(loader))) == (ids(plain), ids(plain))


def test_a_loaded_state_is_the_state(loaders: Any) -> None:
    loader = loaders()
    begun = loader.state_dict()
    next(iter(Wrapper(loader)))
    loader.load_state_dict(begun)
    assert loader.state_dict() == begun
