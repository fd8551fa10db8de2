"""NumPy masked arrays: a masked value is missing or refused, and the number under it is never stored."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from recordio import Array, DatasetWriter, Image, Object, Scalar, SchemaError, Text
from recordio.format.fields import Field


def files(folder: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def written(rows: list[dict[str, Any]], schema: Any = None) -> dict[str, bytes]:
    """The files of a dataset of these samples, written one by one."""
    with TemporaryDirectory() as folder:
        with DatasetWriter(folder, schema) as writer:
            for row in rows:
                writer.write(row)
        return files(folder)


FIRST_MASKED = np.ma.MaskedArray([9.5, 1.5], [True, False])


class Variable:
    """Turns into a masked array when read, as a netCDF4 variable does."""

    def __repr__(self) -> str:
        return "Variable"

    def __init__(self, values: Any) -> None:
        self.values = values
        self.dtype, self.shape, self.ndim = values.dtype, values.shape, values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values


NUMBER_FIELD, FIXED, FREE, DEEP = Scalar("f8"), Array("f8", (2,)), Array("f8", (None,)), Array("f8", (None, None))
MASKED: list[tuple[Field, Any]] = [
    (NUMBER_FIELD, np.ma.masked),
    (NUMBER_FIELD, np.ma.MaskedArray(9.5, True)),
    *((field, FIRST_MASKED) for field in (FIXED, FREE, Object())),
    *((field, Variable(FIRST_MASKED)) for field in (FIXED, FREE)),
    *((field, value) for field in (FIXED, FREE, Object()) for value in ([np.ma.masked, 1.5], (1.5, np.ma.masked))),
    *((DEEP, [[1.5, 2.5], row]) for row in ([np.ma.masked, 1.5], FIRST_MASKED, Variable(FIRST_MASKED))),
    (Array("i8", (2,)), deque([1, np.ma.MaskedArray(9, True)])),
    (Object(), {"a": [{"b": np.ma.masked}]}),
    (Object(), np.ma.masked),
    (Text(), np.ma.masked),
    (Image(shape=(1, 2)), np.ma.MaskedArray([[9, 1]], [[True, False]], "u1")),
]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("field", "value"), MASKED, ids=[f"{f}-{i}" for i, (f, _) in enumerate(MASKED)])
def test_masked_number_is_never_stored(tmp_path: Path, field: Field, value: Any, batch: bool) -> None:
    with DatasetWriter(tmp_path, {"a": field}) as writer:
        with pytest.raises(SchemaError) as caught:
            writer.write_batch({"a": [value]}) if batch else writer.write({"a": value})
        assert (caught.value.place.field, caught.value.place.sample) == ("a", 0)


@pytest.mark.parametrize(
    "column",
    [FIRST_MASKED, Variable(FIRST_MASKED), [np.ma.masked, 1.5], [np.ma.MaskedArray(9.5, True), 1.5]],
    ids=["array", "variable", "list", "list of arrays"],
)
@pytest.mark.parametrize("field", [partial(Scalar, "f8"), Object])
def test_masked_column_value_is_refused_or_missing(tmp_path: Path, column: Any, field: Any) -> None:
    with pytest.raises(SchemaError), DatasetWriter(tmp_path / "plain", {"a": field()}) as writer:
        writer.write_batch({"a": column})
    optional = {"a": field(optional=True)}
    with DatasetWriter(tmp_path / "batch", optional) as writer:
        writer.write_batch({"a": column})
    assert files(tmp_path / "batch") == written([{"a": None}, {"a": 1.5}], optional)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Scalar("f8", optional=True), np.ma.masked),
        (Array("f8", (2,), optional=True), np.ma.MaskedArray([9.5, 8.5], True)),
        (Array("f8", (None,), optional=True), np.ma.MaskedArray([9.5, 8.5], True)),
        (Text(optional=True), np.ma.masked),
        (Object(optional=True), np.ma.masked),
        (Image(shape=(1, 1), optional=True), np.ma.MaskedArray([[9]], True, "u1")),
    ],
    ids=str,
)
def test_fully_masked_optional_value_is_missing(field: Field, value: Any) -> None:
    assert written([{"a": value}], {"a": field}) == written([{"a": None}], {"a": field})


@pytest.mark.parametrize("value", [FIRST_MASKED, [np.ma.masked], Variable(FIRST_MASKED)], ids=str)
@pytest.mark.parametrize("batch", [False, True])
def test_no_schema_is_inferred_from_a_value_that_is_masked_in_part(tmp_path: Path, value: Any, batch: bool) -> None:
    with DatasetWriter(tmp_path) as writer:
        with pytest.raises(SchemaError):
            writer.write_batch({"a": [value]}) if batch else writer.write({"a": value})
        writer.write({"text": "x"})


@pytest.mark.parametrize("batch", [False, True])
def test_a_masked_value_is_missing_where_the_schema_is_inferred(tmp_path: Path, batch: bool) -> None:
    with DatasetWriter(tmp_path / "a") as writer:
        if batch:
            writer.write_batch({"a": FIRST_MASKED})
        else:
            writer.write({"a": np.ma.masked})
            writer.write({"a": np.float64(1.5)})
    assert files(tmp_path / "a") == written([{"a": None}, {"a": 1.5}], {"a": Scalar("f8", optional=True)})


def test_masked_array_without_masked_values_is_an_array() -> None:
    plain = np.array([1.5, 2.5])
    for mask in (np.ma.nomask, [False, False]):
        value = np.ma.MaskedArray(plain, mask)
        for field in (FIXED, FREE):
            assert written([{"a": value}], {"a": field}) == written([{"a": plain}], {"a": field})
        assert written([{"a": [value, value]}], {"a": DEEP}) == written([{"a": [plain, plain]}], {"a": DEEP})
        assert written([{"a": value}]) == written([{"a": plain}])
    empty = np.ma.MaskedArray([], [])
    optional = Array("f8", (None,), optional=True)
    assert written([{"a": empty}], {"a": optional}) == written([{"a": []}], {"a": optional})


def test_masked_records_are_refused_like_records(tmp_path: Path) -> None:
    records = np.ma.MaskedArray([(1, 2)], [(True, False)], [("x", "i4"), ("y", "i4")])
    with DatasetWriter(tmp_path, {"a": Scalar("i4", optional=True)}) as writer:
        for write in (lambda: writer.write({"a": records[0]}), lambda: writer.write_batch({"a": records})):
            with pytest.raises(SchemaError):
                write()
