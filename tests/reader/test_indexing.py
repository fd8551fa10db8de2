"""What stands in the brackets of a dataset: one index, several, a mask, the name of a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import DatasetWriter, Mixture, Scalar, Schema, SchemaError, ShardDataset
from recordio.reader.view import DatasetView

COUNT = 30
EVEN = np.arange(COUNT) % 2 == 0


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder: Path = tmp_path_factory.mktemp("numbers")
    schema = Schema({"number": Scalar("int64"), "score": Scalar("float32", optional=True)})
    with DatasetWriter(folder, schema, block_bytes=100) as writer:
        for n in range(COUNT):
            writer.write({"number": n, "score": n / 2 if n % 3 else None})
    return ShardDataset(folder)


def every_kind(ds: ShardDataset) -> list[DatasetView]:
    """Datasets of COUNT samples in order: single, a view, concatenated, mixed."""
    return [ds, ds.select(range(COUNT)), ds[:9] + ds[9:], Mixture([(ds, 1)])]


def numbers(view: Any) -> list[int]:
    return [int(sample["number"]) for sample in view]


@pytest.mark.parametrize(
    "index",
    [[3, 1], np.array([3, 1], np.uint8), np.array([3, 1 - COUNT]), [np.int64(3), 1], np.ma.array([3, 1])],
    ids=str,
)
def test_a_list_or_an_array_of_integers_gives_a_view(ds: ShardDataset, index: Any) -> None:
    for view in every_kind(ds):
        found = view[index]
        assert isinstance(found, DatasetView)
        assert numbers(found) == [3, 1]


def test_an_empty_list_gives_an_empty_view(ds: ShardDataset) -> None:
    for view in every_kind(ds):
        assert len(view[[]]) == len(view[np.zeros(0, int)]) == 0


@pytest.mark.parametrize("mask", [EVEN, EVEN.tolist(), list(EVEN), np.ma.array(EVEN, mask=~EVEN)], ids=type)
def test_a_mask_gives_the_samples_where_it_is_true(ds: ShardDataset, mask: Any) -> None:
    for view in every_kind(ds):
        assert numbers(view[mask]) == list(range(0, COUNT, 2))


def test_a_missing_value_is_not_in_the_mask_of_a_comparison(ds: ShardDataset) -> None:
    for test in (ds["score"] > 10, ds["score"] != 10):
        assert not {n for n in numbers(ds[test]) if n % 3 == 0}


def test_a_name_gives_the_column(ds: ShardDataset) -> None:
    for view in every_kind(ds):
        np.testing.assert_array_equal(view["number"], view.column("number"), strict=True)
    with pytest.raises(SchemaError, match="nothing"):
        ds["nothing"]


@pytest.mark.parametrize("index", [np.array(3), np.int8(3), True + 2, np.array(3 - COUNT)], ids=repr)
def test_an_array_without_dimensions_is_one_index(ds: ShardDataset, index: Any) -> None:
    for view in every_kind(ds):
        assert view[index]["number"] == 3


@pytest.mark.parametrize(
    "index",
    [1.5, None, ..., (1,), (1, 2), {1}, b"number", np.float64(1), [1.5], ["number"], [[1, 2]], [[1], [2, 3]], [None],
     np.ones(3), np.zeros((2, 2), int), np.ma.array([1, 2], mask=[True, False]),
     True, np.True_, np.array(True), [True, 1], [np.True_, 1]],
    ids=str,
)  # fmt: skip
def test_any_other_index_is_a_type_error_that_helps(ds: ShardDataset, index: Any) -> None:
    for view in every_kind(ds):
        with pytest.raises(TypeError, match=r"an index is an integer, .*, not .*: ds\[\[3, 1\]\] and select"):
            view[index]


@pytest.mark.parametrize(
    "index", [[COUNT], [0, -COUNT - 1], [2**70], [2**63, -1], np.array([2**63], np.uint64)], ids=str
)
def test_an_index_out_of_range_is_an_index_error(ds: ShardDataset, index: Any) -> None:
    for view in every_kind(ds):
        with pytest.raises(IndexError, match=f"sample -?[0-9]+ of a dataset of {COUNT}"):
            view[index]


@pytest.mark.parametrize("mask", [EVEN[:-1], np.ones((COUNT, 1), bool), [True]], ids=np.shape)
def test_a_mask_of_another_length_is_an_index_error(ds: ShardDataset, mask: Any) -> None:
    for view in every_kind(ds):
        with pytest.raises(IndexError, match=f"a mask of .* for a dataset of {COUNT}"):
            view[mask]


@pytest.mark.torch
def test_tensors_of_bools_and_with_gradients_are_no_indices(ds: ShardDataset) -> None:
    torch = pytest.importorskip("torch")
    for index in (torch.tensor(True), torch.tensor([1.0], requires_grad=True)):
        with pytest.raises(TypeError, match="an index is an integer"):
            ds[index]
