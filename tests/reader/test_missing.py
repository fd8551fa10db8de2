"""Missing values in columns: masked, and no number under the mask that could be a value, however they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, DataLoader, DatasetWriter, Image, Mixture, Scalar, Schema, ShardDataset
from recordio.format.masks import missing_value
from tests.strategies import cells

COUNT = 60
DTYPES = "bool i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()


def gone(n: int) -> bool:
    return n % 3 == 0


def written(folder: Path, schema: dict[str, Any], compression: Any = "auto") -> ShardDataset:
    with DatasetWriter(folder, Schema(schema), block_bytes=300, shard_samples=25, compression=compression) as writer:
        for n in range(COUNT):
            writer.write({name: value(kind, n) for name, kind in schema.items()})
    return ShardDataset(folder)


def value(kind: Any, n: int) -> Any:
    if kind.optional and gone(n):
        return None
    return np.full(kind.shape, n % 2 if kind.dtype.kind == "b" else n, kind.dtype)[()]


@pytest.fixture(scope="module", params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    schema: dict[str, Any] = {"number": Scalar("int64")}
    for dtype in DTYPES:
        schema[dtype] = Scalar(dtype, optional=True)
        schema[f"{dtype} array"] = Array(dtype, (2, 3), optional=True)
    schema["pixels"] = Image(shape=(2, 2, 1), optional=True)
    return written(tmp_path_factory.mktemp("missing"), schema, request.param)


def loaded(ds: ShardDataset, **options: Any) -> Iterator[Any]:
    return iter(DataLoader(ds, 7, shuffle=True, seed=1, **options))


WAYS: dict[str, Callable[[ShardDataset], Iterator[Any]]] = {
    "take": lambda ds: iter([ds.take(range(COUNT)), ds.take([3, 3, 1]), ds.take([])]),
    "view": lambda ds: iter([ds[::-2].take(range(COUNT // 2))]),
    "column": lambda ds: iter([{name: ds.column(name) for name in ds.schema}]),
    "loader": loaded,
    "tiny windows": lambda ds: loaded(ds, window_bytes=1),
    "threads": lambda ds: loaded(ds, num_workers=2),
    "processes": lambda ds: loaded(ds, num_workers=2, worker_type="process", multiprocessing_context="fork"),
    "sampler": lambda ds: iter(DataLoader(ds, 7, sampler=range(COUNT))),
    "pread": lambda ds: loaded(ShardDataset(ds._path, io="pread")),
    "concatenated": lambda ds: iter(DataLoader(ds + ds[5:], 7)),
    "mixed": lambda ds: iter(DataLoader(Mixture([(ds, 1), (ds, 2)]), 7, True)),
    "combined take": lambda ds: iter([(ds + ds).take([0, COUNT, 3, 4])]),
}


def check(column: Any, numbers: list[int]) -> None:
    """Masked where a sample has no value, and there the number that stands for it."""
    assert isinstance(column, np.ma.MaskedArray)
    assert np.ma.getmaskarray(column).shape == column.shape
    want = np.full(column.shape[1:], missing_value(column.dtype), column.dtype)
    for row, mask, n in zip(column.data, np.ma.getmaskarray(column), numbers, strict=True):
        assert (mask == gone(n)).all()
        np.testing.assert_array_equal(row, want if gone(n) else value_of(n, row), strict=True)


def value_of(n: int, row: Any) -> Any:
    return np.full(np.shape(row), n % 2 if row.dtype.kind == "b" else n, row.dtype)[()]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_missing_value_is_masked_and_nothing_plausible_is_below(ds: ShardDataset, way: str) -> None:
    for batch in WAYS[way](ds):
        numbers = batch["number"].tolist()
        for name, column in batch.items():
            if name != "number":
                check(column, numbers)


@pytest.mark.parametrize(("narrow", "wide"), [("i1", "i8"), ("u1", "u4"), ("u1", "i2"), ("f4", "f8"), ("c8", "c16")])
@pytest.mark.parametrize("combine", ["take", "loader", "mixed", "column"])
def test_a_cast_to_a_wider_type_leaves_nothing_plausible(tmp_path: Path, narrow: str, wide: str, combine: str) -> None:
    a, b = (
        written(tmp_path / name, {"number": Scalar("int64"), "x": Scalar(dtype, optional=optional)})
        for name, dtype, optional in (("narrow", narrow, True), ("wide", wide, False))
    )
    whole = Mixture([(a, 1), (b, 1)]) if combine == "mixed" else a + b
    batches: Any = {
        "take": lambda: [whole.take(range(2 * COUNT))],
        "column": lambda: [{"x": whole.column("x")}],
    }.get(combine, lambda: DataLoader(whole, 7, combine == "mixed"))()
    columns = [batch["x"] for batch in batches]
    assert {column.dtype for column in columns} == {np.dtype(wide)}
    assert sum(int(np.ma.count_masked(column)) for column in columns) == COUNT // 3
    for column in columns:
        hidden = column.data[np.ma.getmaskarray(column)]
        np.testing.assert_array_equal(hidden, np.full(len(hidden), missing_value(column.dtype), column.dtype))


def test_maps_get_none_and_their_batches_list_it(tmp_path: Path) -> None:
    ds = written(tmp_path, {"x": Scalar("float32", optional=True), "y": Array("u1", (2,), optional=True)})
    for view in (ds.map(dict), ds.transform(x=lambda x: x, y=lambda y: y)):
        for batch in (view.take(range(4)), next(iter(DataLoader(view, 4)))):
            assert [x is None for x in batch["x"]] == [y is None for y in batch["y"]] == [True, False, False, True]


def test_a_missing_label_stays_missing_among_the_classes_of_all(tmp_path: Path) -> None:
    parts = []
    for name, classes in (("a", ["x", "y"]), ("b", ["z", "x"])):
        schema = Schema({"label": Scalar("uint8", optional=True)})
        with DatasetWriter(tmp_path / name, schema, metadata={"classes": classes}) as writer:
            for label in (0, None, 1):
                writer.write({"label": label})
        parts.append(ShardDataset(tmp_path / name))
    whole = Mixture([(part, 1) for part in parts], relabel=True)[:]
    column = whole.column("label")
    assert sorted(cells(column), key=str) == [0, 0, 1, 2, None, None]
    assert set(column.data[column.mask].tolist()) == {255}
