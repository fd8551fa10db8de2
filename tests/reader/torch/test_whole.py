"""All samples as tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import recordio
import recordio.torch
from recordio import Array, Scalar, SchemaError, ShardDataset, Text

FIELDS = {"x": Array("float32", (2,)), "n": Scalar("int64", optional=True), "text": Text()}


@pytest.fixture
def dataset(tmp_path: Path) -> ShardDataset:
    with recordio.DatasetWriter(tmp_path / "it", FIELDS, shard_samples=4) as writer:
        for i in range(10):
            writer.write({"x": [i, i + 0.5], "n": None if i == 3 else i, "text": "t"})
    return ShardDataset(tmp_path / "it", fields=["x", "n"])


def test_each_field_is_a_tensor_of_all_samples(dataset: ShardDataset) -> None:
    found = recordio.torch.tensors(dataset.select([9, 3]))
    assert torch.equal(found["x"], torch.tensor([[9, 9.5], [3, 3.5]]))
    assert found["n"][0] == 9
    assert found["n_mask"].tolist() == [False, True]
    assert recordio.torch.tensors(dataset)["x"].shape == (10, 2)
    assert recordio.torch.tensors(dataset + dataset)["x"].shape == (20, 2)


def test_no_samples_make_empty_tensors(dataset: ShardDataset) -> None:
    assert recordio.torch.tensors(dataset[:0])["x"].shape == (0, 2)


def test_what_is_no_number_is_named(dataset: ShardDataset) -> None:
    with pytest.raises(SchemaError, match=r"no tensors hold text \(text\)"):
        recordio.torch.tensors(ShardDataset(dataset.store.storage.folder))  # type: ignore[attr-defined]


def test_what_functions_make_is_refused(dataset: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="transforms or maps"):
        recordio.torch.tensors(dataset.map(dict))
