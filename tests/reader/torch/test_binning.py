"""Batches by length and packed rows of torch's loader: those of ours, as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recordio
from recordio.torch import DataLoader


@pytest.fixture
def ds(tmp_path: Path) -> recordio.ShardDataset:
    with recordio.DatasetWriter(tmp_path, {"tokens": recordio.Array("int64", (None,))}, block_bytes=2000) as writer:
        for n in range(300):
            writer.write({"tokens": np.full(n % 40, n)})
    return recordio.ShardDataset(tmp_path)


@pytest.mark.parametrize("options", [{"batch_tokens": 200, "pad_value": 0}, {"sequence_length": 64, "batch_size": 4}])
def test_batches_are_those_of_recordios(ds: recordio.ShardDataset, options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    loader, ours = DataLoader(ds, shuffle=True, **options), recordio.DataLoader(ds, shuffle=True, seed=3, **options)
    assert len(loader) == len(ours)
    assert loader.bins == ours.bins
    for batch, want in zip(loader, ours, strict=True):
        for name, column in want.items():
            assert isinstance(batch[name], torch.Tensor)
            assert np.array_equal(batch[name], column)
    state = loader.state_dict()
    assert (state["epoch"], state["bins"]["size"]) == (1, next(iter(options.values())))


def test_a_tool_that_takes_the_loader_apart_is_told(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds, batch_tokens=200)
    with pytest.raises(recordio.SchemaError, match="cannot be made of indices"):
        next(iter(loader.batch_sampler))
    with pytest.raises(recordio.SchemaError, match="batch_tokens: only for the datasets of recordio"):
        DataLoader([1, 2], batch_tokens=9)
