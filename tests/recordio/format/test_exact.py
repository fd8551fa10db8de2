"""Integers given to float fields: stored exactly, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, DatasetWriter, Scalar, Schema, SchemaError, ShardDataset, SourceError, convert
from recordio.format.exact import require_exact

BIG = 2**53 + 1
ROUNDED: list[tuple[Any, Any]] = [
    (Scalar("float64"), BIG),
    (Scalar("float64"), -BIG),
    (Scalar("float64"), 2**64 - 1),
    (Scalar("float64"), np.int64(BIG)),
    (Scalar("float64"), np.uint64(BIG)),
    (Scalar("float64"), np.array(BIG)),
    (Scalar("float32"), 2**24 + 1),
    (Scalar("float16"), 2**11 + 1),
    (Scalar("complex64"), 2**24 + 1),
    (Scalar("complex128"), np.int64(BIG)),
    (Array("float64", (2,)), [1, BIG]),
    (Array("float64", (2,)), [0.5, BIG]),
    (Array("float64", (2,)), (BIG, np.float32(0.5))),
    (Array("float64", (2,)), [np.int64(BIG), 0.5]),
    (Array("float64", (2,)), [np.uint64(2**63 + 1), np.int64(1)]),
    (Array("float64", (2, 2)), [np.array([BIG, 1]), np.array([0.5, 1.0])]),
    (Array("float32", (2,)), [0.5, 2**24 + 1]),
    (Array("complex128", (2,)), [1j, BIG]),
    (Array("float64", (2,)), np.array([1, BIG])),
    (Array("float64", (None,)), np.array([1, BIG])),
    (Array("float64", (None,)), [1, BIG]),
]


@pytest.mark.parametrize(("field", "value"), ROUNDED, ids=[f"{f}-{i}" for i, (f, _) in enumerate(ROUNDED)])
def test_integer_rounded_by_a_float_field_is_refused(field: Any, value: Any) -> None:
    for pack in (field.pack, field.packer()):
        with pytest.raises(SchemaError, match=r"would round the integer -?\d+: "):
            pack(value)


EXACT: list[tuple[Any, Any]] = [
    (Scalar("float64"), 2**53),
    (Scalar("float64"), 2**53 + 2),
    (Scalar("float64"), np.int64(-(2**63))),
    (Scalar("float64"), float(BIG)),
    (Scalar("float32"), 2**24),
    (Scalar("float32"), 2**40),
    (Scalar("float32"), 16777217.0),
    (Scalar("float32"), True),
    (Scalar("float16"), np.int8(-128)),
    (Array("float32", (2,)), [-(2**15), 16777217.0]),
    (Array("float64", (3,)), [1e300, float("nan"), 3]),
    (Array("float64", (2,)), [float(BIG), float("inf")]),
    (Array("float64", (0,)), np.zeros(0, np.int64)),
]


@pytest.mark.parametrize(("field", "value"), EXACT, ids=[f"{f}-{i}" for i, (f, _) in enumerate(EXACT)])
def test_exact_integers_and_floats_are_accepted(field: Any, value: Any) -> None:
    assert field.pack(value) == field.packer()(value) == np.asarray(value, field.dtype).tobytes()


@given(st.integers(-(2**63), 2**64 - 1) | st.builds(lambda n, k: n << k, st.integers(0, 2**12), st.integers(0, 51)))
def test_require_exact_agrees_with_python(number: int) -> None:
    for dtype in map(np.dtype, ("float32", "float64")):
        try:
            require_exact(np.array([1, number]) if number < 2**63 else np.array([number], np.uint64), dtype)
            exact = True
        except SchemaError:
            exact = False
        assert exact == (int(dtype.type(number)) == number)


@pytest.mark.parametrize(
    "write",
    [
        lambda writer: writer.write({"id": np.int64(BIG)}),
        lambda writer: writer.write({"id": BIG}),
        lambda writer: writer.write_batch({"id": np.array([1, BIG])}),
        lambda writer: writer.write_batch({"id": np.array([1, BIG], np.uint64)}),
        lambda writer: writer.write_batch({"id": [0.5, BIG]}),
    ],
)
@pytest.mark.parametrize("given_schema", [True, False])
def test_every_write_method_refuses_rounded_integers(
    tmp_path: Path, write: Callable[[DatasetWriter], None], given_schema: bool
) -> None:
    with DatasetWriter(tmp_path, {"id": Scalar("float64")} if given_schema else None) as writer:
        writer.write({"id": 0.5})
        with pytest.raises(SchemaError, match=f"would round the integer {BIG}") as caught:
            write(writer)
        assert caught.value.place.field == "id"
        writer.write_batch({"id": np.array([1, 2**53])})
    assert ShardDataset(tmp_path).column("id").tolist() == [0.5, 1, 2**53]


def test_convert_does_not_round_integer_npy_files_beside_floats(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "1.npy", np.array([0.5]))
    np.save(tmp_path / "in" / "2.npy", np.array([7]))
    convert(tmp_path / "in", tmp_path / "good")
    assert [row["npy"].tolist() for row in ShardDataset(tmp_path / "good")] == [[0.5], [7.0]]
    np.save(tmp_path / "in" / "3.npy", np.array([BIG]))
    with pytest.raises(SourceError, match=rf"would round the integer {BIG}.*3\.npy"):
        convert(tmp_path / "in", tmp_path / "bad")


@pytest.mark.parametrize("value", [[2**63 + 1, 1], [[2**63 + 1], [1]], (2**64 - 1, 0)])
def test_a_list_may_mix_integers_above_and_below_half_of_uint64(value: Any) -> None:
    field = Array("uint64", np.asarray(value, object).shape)
    assert np.frombuffer(field.pack(value), "<u8").tolist() == np.asarray(value, object).ravel().tolist()


@pytest.mark.parametrize("value", [[2**63 + 1, -1], [2**64, 1], [2.0**63, 1], [2**63 + 1, 1.0]])
def test_a_list_that_uint64_does_not_hold_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError, match="expected uint64"):
        Array("uint64", (2,)).pack(value)


def test_an_integer_above_int64_asks_for_a_schema() -> None:
    with pytest.raises(SchemaError, match=r"Scalar\('uint64'\)"):
        Schema.infer({"a": 2**63})
