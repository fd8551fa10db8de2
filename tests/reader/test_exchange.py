"""What a dataset becomes in Arrow, Polars and Hugging Face: value by value."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import Array, Bytes, Image, MissingPackageError, Object, Scalar, Schema, SchemaError, ShardDataset, Text
from recordio.reader.stored import chunk_indices, stored_chunks
from tests.photos import encode, photo

SCHEMA = Schema(
    {
        "flag": Scalar("bool"),
        "count": Scalar("int16", optional=True),
        "half": Scalar("float16"),
        "grid": Array("float32", (2, 3)),
        "maybe": Array("int64", (2, 3), optional=True),
        "run": Array("int8", (None,)),
        "free": Array("float64", (None, 2, None), optional=True),
        "rows": Array("int32", (2, None), optional=True),
        "bits": Array("bool", (3,)),
        "text": Text(optional=True),
        "data": Bytes(),
        "tree": Object(optional=True),
        "picture": Image(optional=True),
        "label": Scalar("uint8"),
    }
)
JPEG = encode(photo(6, 9), "JPEG")
CLASSES = ["cat", "dog"]


def sample(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    there = i % 3 != 1
    return {
        "flag": i % 2 == 0,
        "count": i if there else None,
        "half": np.float16(i / 4),
        "grid": rng.random((2, 3), "f4"),
        "maybe": rng.integers(0, 9, (2, 3)) if there else None,
        "run": rng.integers(0, 9, i % 4).astype("i1"),
        "free": rng.random((i % 3, 2, i % 2 + 1)) if there else None,
        "rows": rng.integers(0, 9, (2, i % 3)).astype("i4") if there else None,
        "bits": np.array([True, False, i % 2], bool),
        "text": f"é{i}" if there else None,
        "data": bytes([i]),
        "tree": {"a": [i, None, 1.5, "x"]} if there else None,
        "picture": JPEG if there else None,
        "label": i % 2,
    }


@pytest.fixture
def dataset(tmp_path: Path) -> ShardDataset:
    with recordio.DatasetWriter(
        tmp_path / "it", SCHEMA, shard_samples=7, block_bytes=512, metadata={"classes": CLASSES}
    ) as writer:
        for i in range(20):
            writer.write(sample(i))
    return ShardDataset(tmp_path / "it")


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def rows_of(numbers: Any) -> list[dict[str, Any]]:
    rows = [{name: plain(value) for name, value in sample(i).items()} for i in numbers]
    for row in rows:
        row["tree"] = row["tree"] and json.dumps(row["tree"])
    return rows


@pytest.mark.parametrize(
    ("view", "numbers"),
    [
        (lambda ds: ds, range(20)),
        (lambda ds: ds.filter(label=1), range(1, 20, 2)),
        (lambda ds: ds.select([5, 3, 5]), [5, 3, 5]),
        (lambda ds: ds[:4] + ds[::-1], [0, 1, 2, 3, *range(19, -1, -1)]),
        (lambda ds: ds[:0], []),
        (lambda ds: ds.tuples(*ds.schema), range(20)),
    ],
)
def test_arrow_holds_every_value_of_a_view_in_its_order(dataset: ShardDataset, view: Any, numbers: Any) -> None:
    pytest.importorskip("pyarrow")
    table = view(dataset).to_arrow()
    table.validate(full=True)
    assert table.to_pylist() == rows_of(numbers)


def test_the_types_of_arrow_follow_the_fields(dataset: ShardDataset) -> None:
    pa = pytest.importorskip("pyarrow")
    schema = dataset.to_arrow().schema
    assert schema.field("count").nullable
    assert not schema.field("flag").nullable
    assert schema.field("grid").type == pa.list_(pa.list_(pa.float32(), 3), 2)
    assert schema.field("free").type == pa.list_(pa.list_(pa.list_(pa.float64()), 2))
    assert schema.field("picture").type == pa.binary()


def test_numbers_are_not_copied_into_arrow() -> None:
    pytest.importorskip("pyarrow")
    from recordio.reader.arrow import arrow_table

    column = np.arange(12.0).reshape(4, 3)
    table = arrow_table({"x": column}, Schema({"x": Array("float64", (3,))}))
    values = table["x"].chunk(0).flatten()
    assert values.buffers()[1].address == column.ctypes.data


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Scalar("complex64"), "complex64"), (Array("int8", (0, 2)), "dimension"), (Array("complex128", (2,)), "complex")],
)
def test_what_arrow_has_no_type_for_is_refused_by_name(kind: Any, words: str) -> None:
    pytest.importorskip("pyarrow")
    from recordio.reader.arrow import arrow_schema

    with pytest.raises(SchemaError, match=f"{words}.*field 'odd'"):
        arrow_schema(Schema({"odd": kind}))


def test_polars_holds_every_value(dataset: ShardDataset) -> None:
    pytest.importorskip("polars")
    frame = dataset.to_polars()
    assert frame.drop("grid", "maybe", "rows", "free", "bits").to_dicts() == [
        {name: value for name, value in row.items() if name not in ("grid", "maybe", "rows", "free", "bits")}
        for row in rows_of(range(20))
    ]
    assert frame["grid"].to_numpy().tolist() == [row["grid"] for row in rows_of(range(20))]


def test_hugging_face_sees_pictures_and_classes(dataset: ShardDataset) -> None:
    pytest.importorskip("datasets")
    found = dataset.to_hf()
    assert found.features["label"].names == CLASSES
    assert type(found.features["picture"]).__name__ == "Image"
    assert found[0]["picture"].size == (9, 6)
    assert found[1]["picture"] is None
    expected = rows_of(range(20))
    for got, row in zip(found.remove_columns("picture"), expected, strict=True):
        assert got == {name: value for name, value in row.items() if name != "picture"}


@pytest.mark.parametrize("view", [lambda ds: ds.map(dict), lambda ds: ds.transform(count=abs)])
def test_what_functions_make_is_not_stored(dataset: ShardDataset, view: Any) -> None:
    with pytest.raises(SchemaError, match="transforms or maps"):
        next(stored_chunks(view(dataset)))


def test_chunks_are_cut_by_bytes(dataset: ShardDataset) -> None:
    chunks = list(chunk_indices(dataset, 2000))
    assert len(chunks) > 3
    assert np.concatenate(chunks).tolist() == list(range(20))


@pytest.mark.parametrize(
    ("method", "package"), [("to_arrow", "pyarrow"), ("to_polars", "polars"), ("to_hf", "datasets")]
)
def test_a_missing_package_is_named(
    dataset: ShardDataset, monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=package):
        getattr(dataset, method)()
