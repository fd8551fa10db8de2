"""Tensors in a writer: stored exactly, or refused with field, sample and the call that helps; alike on every way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recordio import Array, DatasetWriter, Scalar, SchemaError, ShardDataset

COMPLEX = torch.tensor([1 + 2j, 3 - 4j])
STORED = {
    "plain": (torch.tensor([0.5, 2.0]), [0.5, 2.0]),
    "with a gradient": (torch.tensor([0.5, 2.0], requires_grad=True), [0.5, 2.0]),
    "a parameter": (torch.nn.Parameter(torch.tensor([0.5, 2.0])), [0.5, 2.0]),
    "computed": (torch.tensor([0.5, 2.0], requires_grad=True) * 2, [1.0, 4.0]),
    "conjugated": (COMPLEX.conj(), [1 - 2j, 3 + 4j]),
    "negated": (COMPLEX.conj().imag, [-2.0, 4.0]),
    "a view by steps": (torch.arange(4)[::2], [0, 2]),
    "unsigned above 2^63": (torch.tensor([2**63 + 1, 1], dtype=torch.uint64), [2**63 + 1, 1]),
}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "bfloat16": (lambda: torch.ones(2, dtype=torch.bfloat16), r"bfloat16.*tensor\.float\(\)"),
    "float8": (lambda: torch.ones(2).to(torch.float8_e5m2), r"float8_e5m2.*tensor\.float\(\)"),
    "sparse": (lambda: torch.eye(2).to_sparse(), r"sparse_coo.*tensor\.to_dense\(\)"),
    "compressed rows": (lambda: torch.eye(2).to_sparse_csr(), r"sparse_csr.*tensor\.to_dense\(\)"),
    "meta": (lambda: torch.ones(2, device="meta"), "on meta.*holds no numbers"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), r"tensor\.unbind\(\)"),
}
pytestmark = pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors)")

Write = Callable[[DatasetWriter, Any], None]
WAYS: dict[str, Write] = {
    "write": lambda writer, value: writer.write({"a": value}),
    "write_batch of a list": lambda writer, value: writer.write_batch({"a": [value]}),
}
EVERY_WAY: dict[str, Write] = {
    **WAYS,
    "write_batch of the tensor": lambda writer, value: writer.write_batch({"a": value}),
    "write of a list": lambda writer, value: writer.write({"a": [value, value]}),
}
by_way = pytest.mark.parametrize("way", WAYS)


@pytest.mark.parametrize("case", STORED)
@pytest.mark.parametrize("declared", [False, True])
@by_way
def test_its_numbers_are_stored(tmp_path: Path, case: str, declared: bool, way: str) -> None:
    value, expected = STORED[case]
    schema = {"a": Array("uint64" if value.dtype is torch.uint64 else "complex128", (2,))}
    with DatasetWriter(tmp_path, schema if declared else None) as writer:
        WAYS[way](writer, value)
    assert ShardDataset(tmp_path)[0]["a"].tolist() == expected


@pytest.mark.parametrize("case", STORED)
def test_a_column_of_numbers_is_stored(tmp_path: Path, case: str) -> None:
    value, expected = STORED[case]
    with DatasetWriter(tmp_path) as writer:
        writer.write_batch({"a": value})
    assert ShardDataset(tmp_path).column("a").tolist() == expected


def test_a_list_of_tensors_is_an_array(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Array("float32", (2,))}) as writer:
        writer.write({"a": [torch.tensor(1.5, requires_grad=True), torch.tensor(2.5)]})
    assert ShardDataset(tmp_path)[0]["a"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("schema", [None, {"a": Array("float32", (2,))}, {"a": Scalar("float32", optional=True)}])
@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_numpy_cannot_hold_is_refused_with_the_way(tmp_path: Path, case: str, schema: Any, way: str) -> None:
    make, advice = REFUSED[case]
    writer = DatasetWriter(tmp_path, schema)
    if schema is None and way == "write of a list":
        advice = "not serialize"  # no schema: a list is an object
    with pytest.raises(SchemaError, match=advice) as caught:
        EVERY_WAY[way](writer, make())
    assert (caught.value.place.field, caught.value.place.sample) == ("a", 0)
    writer.abort()


def test_the_sample_is_named_where_others_came_before(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, {"a": Scalar("float32")})
    writer.write({"a": 1.0})
    with pytest.raises(SchemaError, match="bfloat16") as caught:
        writer.write_batch({"a": torch.ones(3, dtype=torch.bfloat16)})
    assert caught.value.place.sample == 1
    writer.write({"a": 2.0})
    writer.close()
    assert ShardDataset(tmp_path).column("a").tolist() == [1.0, 2.0]


class Stubborn:
    """An array of another library that will not be one of NumPy."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")


@by_way
@pytest.mark.parametrize("schema", [None, {"a": Array("float32", (2,))}])
def test_what_another_library_raises_is_our_error(tmp_path: Path, way: str, schema: Any) -> None:
    writer = DatasetWriter(tmp_path, schema)
    with pytest.raises(SchemaError, match="Stubborn") as caught:
        WAYS[way](writer, Stubborn())
    assert (caught.value.place.field, caught.value.place.sample) == ("a", 0)
    writer.abort()
