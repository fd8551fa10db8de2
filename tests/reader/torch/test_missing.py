"""Missing values in torch's batches: tensors with a mask beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio import Array, Scalar, Schema
from recordio.reader.torch.tensors import to_tensors
from recordio.torch import DataLoader

SCHEMA = {
    "number": Scalar("int64"),
    "score": Scalar("float32", optional=True),
    "count": Scalar("uint8", optional=True),
    "box": Array("int16", (4,), optional=True),
    "full": Scalar("int32", optional=True),
}


@pytest.fixture
def ds(tmp_path: Path) -> recordio.ShardDataset:
    return written(tmp_path / "a", SCHEMA)


def written(folder: Path, schema: dict[str, Any]) -> recordio.ShardDataset:
    with recordio.DatasetWriter(folder, Schema(schema), block_bytes=200) as writer:
        for n in range(40):
            values = {"score": n / 2, "count": n, "box": np.full(4, n, np.int16)}
            writer.write({name: None if n % 4 == 0 and name in values else values.get(name, n) for name in schema})
    return recordio.ShardDataset(folder)


def masked(values: list[Any], dtype: str, mask: Any) -> Any:
    return np.ma.array(np.array(values, dtype), mask=mask)


WORKERS: dict[str, dict[str, Any]] = {
    "none": {},
    "threads": {"num_workers": 2},
    "processes": {"num_workers": 2, "multiprocessing_context": "fork"},
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", ["single", "concatenated", "sampler"])
def test_every_batch_has_a_mask_for_every_optional_field(ds: recordio.ShardDataset, kind: str, workers: str) -> None:
    options: dict[str, Any] = {"sampler": range(40)} if kind == "sampler" else {"shuffle": True}
    for batch in DataLoader(ds + ds if kind == "concatenated" else ds, 3, **options, **WORKERS[workers]):
        masks = [f"{name}_mask" for name in ("score", "count", "box", "full")]
        assert list(batch) == ["number", *(name for mask in masks for name in (mask.removesuffix("_mask"), mask))]
        gone = batch["number"] % 4 == 0
        assert all(torch.equal(batch[mask], gone) for mask in masks[:3])
        assert not batch["full_mask"].any()
        assert torch.equal(batch["full"].long(), batch["number"])
        assert torch.equal(batch["score"].isnan(), gone)
        assert torch.equal(batch["score"][~gone], batch["number"][~gone] / 2)
        assert torch.equal(batch["count"], batch["number"].where(~gone, 255).byte())
        assert torch.equal(batch["box"], batch["number"].where(~gone, -(2**15)).short()[:, None].expand(-1, 4))
        assert {one.dtype for one in batch.values()} >= {torch.float32, torch.uint8, torch.int16, torch.bool}


def test_a_field_with_the_name_of_a_mask_is_refused(tmp_path: Path) -> None:
    ds = written(tmp_path / "b", SCHEMA | {"score_mask": Scalar("int64")})
    with pytest.raises(recordio.SchemaError, match=r"called 'score_mask'.*fields=\[\.\.\.\].*field 'score'"):
        next(iter(DataLoader(ds, 3)))
    assert "score_mask" not in next(iter(DataLoader(recordio.ShardDataset(ds._path, fields=["number", "full"]), 3)))


def test_masks_lie_beside_their_values_in_nested_dicts() -> None:
    found = to_tensors({"a": {"b": masked([1, 2], "i4", [True, False])}})
    assert found["a"]["b"].tolist() == [-(2**31), 2]
    assert found["a"]["b_mask"].tolist() == [True, False]


def test_whatever_lies_under_a_mask_of_the_user_is_replaced() -> None:
    found = to_tensors({"a": masked([7.0, 2.0], "f8", [True, False]), "b": masked([[7], [2]], "u2", [[True], [False]])})
    assert found["a"].isnan().tolist() == found["a_mask"].tolist() == found["b_mask"].tolist() == [True, False]
    assert found["b"].tolist() == [[2**16 - 1], [2]]


def test_an_array_that_is_masked_in_part_is_refused() -> None:
    with pytest.raises(recordio.SchemaError, match=r"masked in part.*field 'a'"):
        to_tensors({"a": masked([[1, 2], [3, 4]], "i4", [[True, False], [False, False]])})


@pytest.mark.parametrize("wrap", [lambda one: (one, 1), lambda one: [one], lambda one: {"x": [one]}], ids=range(3))
def test_without_room_for_a_mask_floats_are_nan_and_the_rest_is_refused(wrap: Any) -> None:
    def only(value: Any) -> Any:
        while not isinstance(value, torch.Tensor):
            value = value["x"] if isinstance(value, dict) else value[0]
        return value

    for dtype in ("f2", "f4", "f8", "c8"):
        assert only(to_tensors(wrap(masked([7, 2], dtype, [True, False])))).isnan().tolist() == [True, False]
    for dtype in ("i4", "u1", "bool"):
        assert only(to_tensors(wrap(masked([1, 0], dtype, False)))).tolist() == [1, 0]
        with pytest.raises(recordio.SchemaError, match=r"no room for a mask: deliver dicts.*ds\.filter.*ds\.map"):
            to_tensors(wrap(masked([1, 0], dtype, [True, False])))


def test_code_that_ignores_masks_reads_no_plausible_value(ds: recordio.ShardDataset) -> None:
    for batch in (ds.take([0, 1]), next(iter(recordio.DataLoader(ds, 2)))):
        assert torch.as_tensor(batch["score"]).isnan().tolist() == [True, False]
        assert torch.as_tensor(np.asarray(batch["count"])).tolist() == [255, 1]


def test_single_samples_and_torchs_loader_have_none(ds: recordio.ShardDataset) -> None:
    samples = list(DataLoader(ds, None))
    assert [sample["score"] is None for sample in samples[:5]] == [True, False, False, False, True]
    assert "score_mask" not in samples[0]
    with pytest.raises(TypeError, match="NoneType"):
        next(iter(data.DataLoader(ds, 4)))
