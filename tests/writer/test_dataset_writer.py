"""`DatasetWriter`: accepted samples, cuts, and publishing everything or nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import (
    Array,
    Bytes,
    CorruptError,
    DatasetError,
    DatasetWriter,
    Image,
    Object,
    Scalar,
    Schema,
    SchemaError,
    ShardDataset,
    StorageError,
    Text,
)
from recordio.format import codec
from recordio.format.checksum import checksum
from recordio.writer import inference
from tests.effort import examples
from tests.strategies import Sample, columns, same_samples, samples, schemas

NUMBER = {"number": Scalar("int64")}


def files(folder: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def written(rows: list[Sample], schema: Any = None, **options: Any) -> dict[str, bytes]:
    """The files of a dataset of these samples, written one by one."""
    with TemporaryDirectory() as folder:
        with DatasetWriter(folder, schema, **options) as writer:
            for row in rows:
                writer.write(row)
        return files(folder)


def numbers(folder: Path | str) -> list[int]:
    found: list[int] = ShardDataset(folder).column("number").tolist()
    return found


def write_numbers(folder: Path, *values: int, **options: Any) -> None:
    with DatasetWriter(folder, NUMBER, **options) as writer:
        for value in values:
            writer.write({"number": value})


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from([None, "auto", "zstd:1"]),
        "block_bytes": st.sampled_from([1, 50, 400, 1 << 18]),
        "shard_bytes": st.sampled_from([1, 3000, 1 << 28]),
        "shard_samples": st.sampled_from([None, None, 1, 3, 10]),
    }
)


@pytest.fixture(autouse=True)
def tiny_pages_are_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compresses the small pages of these tests too, which a writer otherwise leaves plain."""
    monkeypatch.setattr(codec, "_MIN_CODED_NBYTES", 1)


# Rows and columns


@examples(150)
@given(schemas(3), st.lists(st.integers(0, 9), max_size=8), st.data(), OPTIONS, st.integers(0, 2**32))
def test_write_and_write_batch_give_the_same_bytes(
    schema: Schema, parts: list[int], data: st.DataObject, options: dict[str, Any], seed: int
) -> None:
    rows = samples(schema, sum(parts), Random(seed))
    with TemporaryDirectory() as folder:
        with DatasetWriter(folder, schema, **options) as writer:
            start = 0
            for count in parts:
                part = rows[start : start + count]
                if data.draw(st.booleans()):
                    writer.write_batch(columns(schema, part))
                else:
                    for row in part:
                        writer.write(row)
                start += count
                assert writer.samples == start
        mixed = files(folder)
        assert same_samples(ShardDataset(folder, decode=None), rows)
    assert mixed == written(rows, schema, **options)


def test_full_blocks_of_tiny_rows_are_cut_alike_by_write_and_write_batch(tmp_path: Path) -> None:
    # A block has at most 65,536 rows; each half has fewer.
    half = 40_000
    with DatasetWriter(tmp_path / "a", {"text": Text()}) as writer:
        for _ in range(2 * half):
            writer.write({"text": ""})
    with DatasetWriter(tmp_path / "b", {"text": Text()}) as writer:
        writer.write_batch({"text": [""] * half})
        for _ in range(half):
            writer.write({"text": ""})
    with DatasetWriter(tmp_path / "c", {"text": Text()}) as writer:
        writer.write_batch({"text": [""] * (2 * half)})
    assert files(tmp_path / "a") == files(tmp_path / "c")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_same_input_gives_the_same_bytes_twice() -> None:
    rows = samples(Schema({"a": Text(), "b": Array("f4", (3,)), "c": Object()}), 50, Random(0))
    schema, options = {"a": Text(), "b": Array("f4", (3,)), "c": Object()}, {"block_bytes": 300, "shard_samples": 20}
    assert written(rows, schema, **options) == written(rows, schema, **options)


def test_write_batch_accepts_the_result_of_take(tmp_path: Path) -> None:
    schema = Schema(
        {"a": Scalar("int8", optional=True), "b": Array("f4", (2,), optional=True), "c": Text(optional=True)}
    )
    rows = samples(schema, 40, Random(1))
    with DatasetWriter(tmp_path / "a", schema) as writer:
        writer.write_batch(columns(schema, rows))
    with DatasetWriter(tmp_path / "b", schema) as writer:
        writer.write_batch(ShardDataset(tmp_path / "a").take(range(40)))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_masked_value_of_a_required_field_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, NUMBER) as writer:
        with pytest.raises(SchemaError):
            writer.write_batch({"number": np.ma.MaskedArray([1, 2], [False, True])})
        writer.write_batch({"number": np.ma.MaskedArray([1, 2], [False, False])})
    assert numbers(tmp_path) == [1, 2]


def test_partly_masked_array_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Array("int8", (2,), optional=True)}) as writer:
        whole = np.ma.MaskedArray(np.zeros((2, 2), "i1"), [[True, True], [False, False]])
        writer.write_batch({"a": whole})
        with pytest.raises(SchemaError):
            writer.write_batch({"a": np.ma.MaskedArray(np.zeros((2, 2), "i1"), [[True, False], [False, False]])})
    assert [row["a"] is None for row in ShardDataset(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    "empty",
    [{"number": [], "maybe": []}, {"number": np.zeros(0, "i8"), "maybe": np.ma.MaskedArray([], [])}, {"number": []}],
    ids=["lists", "arrays", "the optional left out"],
)
def test_empty_batch_adds_no_samples(tmp_path: Path, empty: Any) -> None:
    with DatasetWriter(tmp_path, NUMBER | {"maybe": Scalar("float64", optional=True)}) as writer:
        writer.write_batch(empty)
        writer.write({"number": 3})
        writer.write_batch(empty)
    assert numbers(tmp_path) == [3]


# Where shards and blocks end


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize(("count", "sizes"), [(0, []), (9, [9]), (10, [10]), (11, [10, 1]), (30, [10, 10, 10])])
def test_shard_ends_at_exactly_shard_samples(tmp_path: Path, count: int, sizes: list[int], by_batch: bool) -> None:
    with DatasetWriter(tmp_path, NUMBER, shard_samples=10) as writer:
        if by_batch:
            writer.write_batch({"number": np.arange(count)})
        else:
            for i in range(count):
                writer.write({"number": i})
    ds = ShardDataset(tmp_path)
    assert [entry.samples for entry in ds.store.manifest.shards] == sizes
    assert ds.column("number").tolist() == list(range(count))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_shard_ends_with_the_block_that_reaches_shard_bytes(tmp_path: Path, compression: str | None) -> None:
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path, shard_bytes=5000, block_bytes=700, compression=compression) as writer:
        for i in range(500):
            writer.write({"a": rng.bytes(rng.integers(0, 200)), "b": "b" * (i % 50)})
    store = ShardDataset(tmp_path).store
    assert len(store.manifest.shards) > 5
    for number, entry in enumerate(store.manifest.shards):
        index = store.shard(number).index
        end = int(index.page_offsets[-1, -1] + -(-int(index.pages["stored_nbytes"][-1, -1]) // 64) * 64)
        assert int(index.block_offsets[-1]) < 5000
        assert end >= 5000 or number == len(store.manifest.shards) - 1
        assert entry.nbytes > end


def test_oversized_sample_has_its_own_block(tmp_path: Path) -> None:
    sizes = [10, 10, 5000, 10, 10, 10, 9000, 9000, 10]
    with DatasetWriter(tmp_path, block_bytes=100, compression=None) as writer:
        for size in sizes:
            writer.write({"a": bytes(size)})
    ds = ShardDataset(tmp_path)
    blocks = ds.store.shard(0).index.samples.tolist()
    first = np.cumsum([0, *blocks]).tolist()
    assert [len(value) for value in ds.column("a")] == sizes
    for large in (2, 6, 7):
        assert {large, large + 1} <= set(first)


def test_the_blocks_of_a_shard_hold_equally_many_samples(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, block_bytes=1000) as writer:
        for i in range(1003):
            writer.write({"a": i})
    entry = ShardDataset(tmp_path).store.manifest.shards[0]
    assert entry.runs == ((125, 8), (3, 1))


def test_zero_byte_values_are_samples(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Array("float32", (0,)), "b": Text(), "c": Array("int8", (None,))}) as writer:
        for _ in range(5):
            writer.write({"a": [], "b": "", "c": []})
        writer.write_batch({"a": np.zeros((3, 0), "f4"), "b": [""] * 3, "c": [[]] * 3})
    ds = ShardDataset(tmp_path)
    assert len(ds) == 8
    assert ds.take([0, 7])["a"].shape == (2, 0)
    assert ds[7]["b"] == ""
    assert ds[7]["c"].shape == (0,)


# Refused samples


BAD: list[tuple[Any, str | None]] = [
    ({"a": "x", "b": "b"}, "a"),
    ({"a": 1, "b": 2}, "b"),
    ({"a": 1}, None),
    ({}, None),
    ({"a": 1, "b": "b", "d": 1}, None),
    ({"a": 1, "b": "b", "c": 0.5, "d": 1}, None),
    ({"b": "b", "c": 0.5, "d": 1}, None),
    ({"a": None, "b": "b"}, "a"),
    ({"a": 1, "b": "b", "c": "x"}, "c"),
    ([1, "b"], None),
    ("ab", None),
    (None, None),
]


@pytest.mark.parametrize(("bad", "field"), BAD, ids=str)
def test_refused_sample_is_named_and_changes_nothing(tmp_path: Path, bad: Any, field: str | None) -> None:
    schema = {"a": Scalar("int64"), "b": Text(), "c": Scalar("float32", optional=True)}
    good = [{"a": i, "b": str(i)} for i in range(6)]
    with DatasetWriter(tmp_path, schema, shard_samples=4) as writer:
        for row in good[:3]:
            writer.write(row)
        with pytest.raises(SchemaError) as caught:
            writer.write(bad)
        assert caught.value.place.field == field
        assert caught.value.place.sample == 3
        assert writer.samples == 3
        for row in good[3:]:
            writer.write(row)
    assert files(tmp_path) == written(good, schema, shard_samples=4)


@pytest.mark.parametrize("field", [Scalar("int64"), Text(), Array("int8", (None,)), Scalar("int64", optional=True)])
def test_refused_value_of_a_batch_is_named(tmp_path: Path, field: Any) -> None:
    one = "a" if isinstance(field, Text) else [1] if isinstance(field, Array) else 1
    with DatasetWriter(tmp_path, {"a": field}) as writer:
        writer.write_batch({"a": [one] * 10})
        with pytest.raises(SchemaError) as caught:
            writer.write_batch({"a": [one, one, 0.5, one]})
        assert (caught.value.place.field, caught.value.place.sample) == ("a", 12)
        assert writer.samples == 10
        writer.write_batch({"a": [one] * 3})
    assert len(ShardDataset(tmp_path)) == 13


@pytest.mark.parametrize(
    "bad",
    [
        {"a": [1, 2], "b": ["x"]},
        {"a": [1, 2]},
        {"a": [1, 2], "b": ["x", "y"], "c": [1, 2]},
        {"a": np.zeros((2, 1), "i8"), "b": ["x", "y"]},
        {"a": np.zeros(2), "b": ["x", "y"]},
        {"a": 1, "b": ["x"]},
        {"a": [1, 2], "b": 5},
        [1, 2],
        None,
    ],
    ids=["lengths", "missing", "unknown", "shape", "dtype", "a number", "another number", "a list", "None"],
)
@pytest.mark.parametrize("known", [True, False], ids=["with a schema", "without one"])
def test_refused_batch_changes_nothing(tmp_path: Path, bad: Any, known: bool) -> None:
    schema = {"a": Scalar("int64"), "b": Text()}
    with DatasetWriter(tmp_path, schema) as writer:
        if known:
            writer.write({"a": 1, "b": "x"})
        with pytest.raises(SchemaError):
            writer.write_batch(bad)
        assert writer.samples == known
        writer.write_batch({"a": [2], "b": ["y"]})
    assert ShardDataset(tmp_path).column("b") == ["x", "y"][not known :]


@pytest.mark.parametrize(
    "bad",
    [{"a": []}, {"a": np.zeros((0, 2))}, {"a": 5}, {"a": [1, 2], "b": [1]}, {"a": {}}, {}, None, [1]],
    ids=str,
)
def test_no_schema_is_inferred_from_a_refused_batch(tmp_path: Path, bad: Any) -> None:
    with DatasetWriter(tmp_path) as writer:
        with pytest.raises(SchemaError):
            writer.write_batch(bad)
        writer.write_batch({"text": ["x"]})
    assert ShardDataset(tmp_path)[0] == {"text": "x"}


def test_no_schema_is_inferred_from_a_refused_sample(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        with pytest.raises(SchemaError):
            writer.write({"number": 2**63})
        writer.write({"text": "x"})
    assert ShardDataset(tmp_path)[0] == {"text": "x"}


@pytest.mark.parametrize("batch", [False, True])
def test_error_for_a_sample_unlike_the_first_suggests_a_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    monkeypatch.setattr(inference, "MOST_SAMPLES", 1)
    rows = [np.zeros(3, np.int32), np.zeros(5, np.int32)]
    with DatasetWriter(tmp_path) as writer:
        writer.write({"ids": rows[0]})
        with pytest.raises(SchemaError, match=r"got int32\[5\]; the schema is that of the first sample: .* sample 2"):
            writer.write_batch({"ids": rows}) if batch else [writer.write({"ids": row}) for row in rows]
        writer.write({"ids": rows[0]})


def test_an_optional_field_may_be_left_out_or_none(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Scalar("int8"), "b": Text(optional=True)}) as writer:
        writer.write({"a": 1})
        writer.write({"a": 2, "b": None})
        writer.write({"b": "x", "a": 3})
        writer.write_batch({"a": [4]})
        writer.write_batch({"a": [5, 6], "b": [None, "y"]})
    assert ShardDataset(tmp_path).column("b") == [None, None, "x", None, None, "y"]


def test_any_mapping_is_a_sample(tmp_path: Path) -> None:
    class Lazy(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            return {"a": 1, "b": "x"}[name]

        def __iter__(self) -> Iterator[str]:
            return iter("ab")

        def __len__(self) -> int:
            return 2

    with DatasetWriter(tmp_path) as writer:
        writer.write(Lazy())
        writer.write({"b": "y", "a": 2})
    assert ShardDataset(tmp_path).column("b") == ["x", "y"]


# The writer owns its bytes


def test_buffers_may_change_after_write(tmp_path: Path) -> None:
    array, raw, deep = np.arange(4), bytearray(b"abc"), {"a": [1]}
    with DatasetWriter(tmp_path) as writer:
        writer.write({"array": array, "raw": raw, "deep": deep})
        array[:], raw[:], deep["a"] = 99, b"xyz", [99]
        writer.write({"array": array, "raw": raw, "deep": deep})
    first, second = ShardDataset(tmp_path)
    assert (first["array"].tolist(), first["raw"], first["deep"]) == ([0, 1, 2, 3], b"abc", {"a": [1]})
    assert (second["array"].tolist(), second["raw"], second["deep"]) == ([99] * 4, b"xyz", {"a": [99]})


@pytest.mark.parametrize("options", [{}, {"block_bytes": 64}, {"shard_samples": 3}], ids=str)
def test_columns_may_change_after_write_batch(tmp_path: Path, options: Any) -> None:
    fixed, listed, texts = np.arange(10), [np.arange(2), np.arange(2)] * 5, ["a"] * 10
    with DatasetWriter(tmp_path, {"a": Scalar("i8"), "b": Array("i8", (2,)), "c": Text()}, **options) as writer:
        for _ in range(2):
            writer.write_batch({"a": fixed, "b": listed, "c": texts})
            fixed += 100
            for value in listed:
                value[:] = 7
            texts[:] = ["b"] * 10
    ds = ShardDataset(tmp_path)
    assert ds.column("a").tolist() == [*range(10), *range(100, 110)]
    assert ds.column("b").tolist() == [[0, 1]] * 10 + [[7, 7]] * 10
    assert ds.column("c") == ["a"] * 10 + ["b"] * 10


def test_columns_may_be_strided_big_endian_or_read_only(tmp_path: Path) -> None:
    table = np.arange(40, dtype=">i4").reshape(10, 4)
    table.flags.writeable = False
    with DatasetWriter(tmp_path, {"a": Array("int32", (2,)), "b": Scalar("int64"), "c": Array("i4", (4,))}) as writer:
        writer.write_batch({"a": table[::-1, ::2], "b": table[:, 1], "c": table})
    ds = ShardDataset(tmp_path)
    assert np.array_equal(ds.column("a"), table[::-1, ::2])
    assert np.array_equal(ds.column("b"), table[:, 1])
    assert np.array_equal(ds.column("c"), table)


# The folder


def test_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a" / "b", 1)
    assert numbers(tmp_path / "a" / "b") == [1]


def test_relative_path_is_resolved_when_the_writer_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with DatasetWriter("data", NUMBER, shard_samples=1) as writer:
        writer.write({"number": 1})
        monkeypatch.chdir(tmp_path / "there")
        writer.write({"number": 2})
    assert numbers(tmp_path / "here" / "data") == [1, 2]
    assert not list((tmp_path / "there").iterdir())


def test_nothing_is_visible_before_close(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, NUMBER, shard_samples=1)
    writer.write({"number": 1})
    assert all(name.startswith(".") for name in files(tmp_path))
    with pytest.raises(DatasetError):
        ShardDataset(tmp_path)
    writer.close()
    assert set(files(tmp_path)) == {"manifest.json", "shard-00000.rio"}


def test_second_close_does_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, NUMBER)
    writer.close()
    before = files(tmp_path)
    writer.close()
    assert files(tmp_path) == before


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ended_writer_refuses_samples(tmp_path: Path, end: str) -> None:
    writer = DatasetWriter(tmp_path, NUMBER)
    getattr(writer, end)()
    with pytest.raises(DatasetError, match="closed"):
        writer.write({"number": 1})
    with pytest.raises(DatasetError, match="closed"):
        writer.write_batch({"number": [1]})


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_in_the_with_block_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with DatasetWriter(tmp_path, NUMBER, shard_samples=2) as writer:
            writer.write_batch({"number": np.arange(5)})
            raise error

    with pytest.raises(error):
        fail()
    assert files(tmp_path) == {}
    write_numbers(tmp_path, 1)


def test_abort_keeps_the_old_dataset(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, 2)
    before = files(tmp_path)
    for mode in ("append", "overwrite"):
        writer = DatasetWriter(tmp_path, NUMBER, mode=mode, shard_samples=1)  # type: ignore[arg-type]
        writer.write_batch({"number": [3, 4, 5]})
        writer.abort()
        assert files(tmp_path) == before


def test_an_empty_dataset_with_a_schema_is_a_dataset(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, NUMBER, metadata={"a": 1}):
        pass
    ds = ShardDataset(tmp_path)
    assert (len(ds), list(ds), ds.metadata) == (0, [], {"a": 1})
    assert set(files(tmp_path)) == {"manifest.json"}


def test_an_empty_dataset_without_a_schema_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    with pytest.raises(SchemaError, match="schema"):
        writer.close()
    assert files(tmp_path) == {}


def test_create_refuses_a_folder_that_holds_a_dataset(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1)
    before = files(tmp_path)
    with pytest.raises(DatasetError, match=r"append.*overwrite"):
        DatasetWriter(tmp_path, NUMBER)
    assert files(tmp_path) == before


def test_create_refuses_a_folder_that_holds_shards_and_no_manifest(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"no manifest\.json"):
        DatasetWriter(tmp_path, NUMBER)
    assert set(files(tmp_path)) == {"shard-00000.rio"}


def test_create_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("mine")
    (tmp_path / "shard-x.rio").write_text("mine too")
    write_numbers(tmp_path, 1)
    assert files(tmp_path)["README.txt"] == b"mine"
    assert files(tmp_path)["shard-x.rio"] == b"mine too"


def test_file_as_destination_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises((DatasetError, StorageError)) as caught:
        DatasetWriter(tmp_path / "file", NUMBER)
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.parametrize("mode", ["create", "append", "overwrite"])
def test_second_writer_is_refused(tmp_path: Path, mode: Any) -> None:
    write_numbers(tmp_path, 1)
    with DatasetWriter(tmp_path, mode="append") as first:
        with pytest.raises(DatasetError, match="another writer"):
            DatasetWriter(tmp_path, NUMBER, mode=mode)
        first.write({"number": 2})
    assert numbers(tmp_path) == [1, 2]
    write_numbers(tmp_path, 3, mode="append")


def test_dropped_writer_releases_the_folder(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, NUMBER, shard_samples=1)
    writer.write({"number": 1})
    del writer
    write_numbers(tmp_path, 2)
    assert numbers(tmp_path) == [2]
    assert set(files(tmp_path)) == {"manifest.json", "shard-00000.rio"}


@pytest.mark.parametrize(
    "keyword",
    [
        {"shard_bytes": 0},
        {"block_bytes": -1},
        {"shard_samples": 0},
        {"shard_bytes": 1.5},
        {"block_bytes": True},
        {"compression": "zip"},
        {"mode": "x"},
    ],
    ids=str,
)
def test_invalid_option_is_refused_before_the_folder_is_created(tmp_path: Path, keyword: Any) -> None:
    with pytest.raises(SchemaError):
        DatasetWriter(tmp_path / "new", NUMBER, **keyword)
    assert not (tmp_path / "new").exists()


# Append and overwrite


def test_append_adds_after_the_old_samples(tmp_path: Path) -> None:
    write_numbers(tmp_path, 0, 1, 2, shard_samples=2)
    old = files(tmp_path)
    write_numbers(tmp_path, 3, 4, 5, mode="append", shard_samples=2)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert {name: data for name, data in files(tmp_path).items() if name in old and name != "manifest.json"} == {
        name: data for name, data in old.items() if name != "manifest.json"
    }


def test_append_uses_the_schema_of_the_dataset(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Scalar("int8"), "b": Text(optional=True)}) as writer:
        writer.write({"a": 1})
    with DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"a": 2, "b": "x"})
        with pytest.raises(SchemaError):
            writer.write({"a": 300})
    assert ShardDataset(tmp_path).column("a").tolist() == [1, 2]


@pytest.mark.parametrize(
    "schema",
    [
        {"number": Scalar("int32")},
        {"other": Scalar("int64")},
        NUMBER | {"more": Text()},
        {"number": Scalar("int64", optional=True)},
    ],
    ids=str,
)
def test_append_with_another_schema_is_refused_and_changes_nothing(tmp_path: Path, schema: Any) -> None:
    write_numbers(tmp_path, 1)
    before = files(tmp_path)
    with pytest.raises(SchemaError):
        DatasetWriter(tmp_path, schema, mode="append")
    assert files(tmp_path) == before
    write_numbers(tmp_path, 2, mode="append")


def test_append_with_the_fields_in_another_order_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, {"a": Scalar("int8"), "b": Scalar("int8")}) as writer:
        writer.write({"a": 1, "b": 2})
    with pytest.raises(SchemaError):
        DatasetWriter(tmp_path, {"b": Scalar("int8"), "a": Scalar("int8")}, mode="append")


def test_append_needs_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset"):
        DatasetWriter(tmp_path, NUMBER, mode="append")


def test_append_keeps_the_metadata_unless_new_is_given(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, metadata={"a": 1})
    write_numbers(tmp_path, 2, mode="append")
    assert ShardDataset(tmp_path).metadata == {"a": 1}
    write_numbers(tmp_path, 3, mode="append", metadata={"b": 2})
    assert ShardDataset(tmp_path).metadata == {"b": 2}
    write_numbers(tmp_path, mode="append", metadata={})
    assert ShardDataset(tmp_path).metadata == {}
    assert numbers(tmp_path) == [1, 2, 3]


def test_append_of_nothing_changes_nothing(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, metadata={"a": 1})
    before = files(tmp_path)
    write_numbers(tmp_path, mode="append")
    assert files(tmp_path) == before


def test_overwrite_replaces_the_whole_dataset(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, 2, 3, shard_samples=1, metadata={"a": 1})
    with DatasetWriter(tmp_path, {"text": Text()}, mode="overwrite") as writer:
        writer.write({"text": "x"})
    ds = ShardDataset(tmp_path)
    assert (list(ds), ds.metadata) == ([{"text": "x"}], {})
    assert len(files(tmp_path)) == 2


def test_overwrite_works_without_a_dataset(tmp_path: Path) -> None:
    write_numbers(tmp_path / "new", 1, mode="overwrite")
    assert numbers(tmp_path / "new") == [1]


def test_overwrite_replaces_a_dataset_whose_manifest_is_damaged(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CorruptError):
        DatasetWriter(tmp_path, mode="append")
    write_numbers(tmp_path, 2, mode="overwrite")
    assert numbers(tmp_path) == [2]


def test_open_reader_survives_append_and_overwrite(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, 2)
    ds = ShardDataset(tmp_path)
    assert ds[0]["number"] == 1
    write_numbers(tmp_path, 3, 4, 5, mode="append")
    assert ds.column("number").tolist() == [1, 2]
    write_numbers(tmp_path, 9, mode="overwrite")
    assert ds[1]["number"] == 2


# Metadata


def test_metadata_round_trips_as_json(tmp_path: Path) -> None:
    given_metadata = {"classes": ("ä", "b"), "n": 2**60, "f": 0.1, "none": None, "deep": {"a": [1, [True]]}, "": ""}
    with DatasetWriter(tmp_path, NUMBER, metadata=given_metadata):
        given_metadata["n"] = 0
    assert ShardDataset(tmp_path).metadata == json.loads(json.dumps(given_metadata | {"n": 2**60}))


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": float("nan")},
        {"a": float("-inf")},
        {"a": b"x"},
        {"a": np.int64(1)},
        {"a": {1}},
        {(1, 2): 3},
        ["a"],
        5,
        "ab",
        {"a": 10**50},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": int("1" * 4000)},
        {1: "a"},
        {"names": {0: "cat", 1: "dog"}},
        {"a": [({True: 1},)]},
        {"a": {None: 1}},
        {"1": "a", 1: "b"},
    ],
    ids=lambda v: ascii(v)[:20],
)
def test_non_json_metadata_is_refused_before_the_folder_is_created(tmp_path: Path, metadata: Any) -> None:
    with pytest.raises(SchemaError, match="metadata"):
        DatasetWriter(tmp_path / "new", NUMBER, metadata=metadata)
    assert not (tmp_path / "new").exists()


def test_deep_or_cyclic_metadata_is_refused(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    circle: dict[str, Any] = {}
    circle["a"] = circle
    for metadata in ({"a": deep}, circle, {"a": 10**5000}, {10**5000: 1}):
        with pytest.raises(SchemaError, match="metadata"):
            DatasetWriter(tmp_path / "new", NUMBER, metadata=metadata)
    assert not (tmp_path / "new").exists()


def test_metadata_over_the_header_limit_is_refused_before_the_folder_is_created(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"schema and metadata take \d+ bytes, over the limit of 67108864"):
        DatasetWriter(tmp_path / "new", metadata={"a": "x" * (1 << 26)})
    assert not (tmp_path / "new").exists()


def test_inferred_schema_that_exceeds_the_header_limit_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, metadata={"a": "x" * ((1 << 26) - 150)}) as writer:
        with pytest.raises(SchemaError, match="schema and metadata take"):
            writer.write({"n" * 200: 1})
        writer.write({"n": 1})
    assert list(ShardDataset(tmp_path)) == [{"n": 1}]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_oversized_manifest_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    write_numbers(tmp_path, 1, 2)
    before = files(tmp_path)
    monkeypatch.setattr("recordio.format.manifest.MAX_MANIFEST_NBYTES", len(before["manifest.json"]) + 10)
    with pytest.raises(SchemaError, match=r"the manifest takes .* bytes, over the limit of"):
        write_numbers(tmp_path, 1, 2, shard_samples=1, mode=mode)
    assert files(tmp_path) == before
    with pytest.raises(SchemaError, match=r"the manifest takes .* bytes, over the limit of"):
        DatasetWriter(tmp_path, mode=mode, metadata={"a": "x" * 1000}, schema=NUMBER)
    assert files(tmp_path) == before


def test_append_refuses_foreign_metadata_that_cannot_be_rewritten(tmp_path: Path) -> None:
    write_numbers(tmp_path, 1, metadata={"a": 12345678})
    body = (tmp_path / "manifest.json").read_bytes()[:-32].replace(b"12345678", b"1e400")
    (tmp_path / "manifest.json").write_bytes(body + b'"checksum": "%016x"}\n' % checksum(body))
    with pytest.raises(SchemaError, match="metadata is not JSON"):
        DatasetWriter(tmp_path, mode="append")


# System errors


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the system calls that fail."""
    failing: list[str] = []

    def breakable(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("writev", "fsync", "rename"):
        breakable(name)
    yield failing
    failing.clear()


@pytest.mark.parametrize("call", ["writev", "fsync"])
@pytest.mark.parametrize("by_batch", [False, True])
def test_nothing_is_published_after_a_storage_error(
    tmp_path: Path, broken: list[str], call: str, by_batch: bool
) -> None:
    writer = DatasetWriter(tmp_path, NUMBER, shard_samples=2)
    writer.write_batch({"number": [1, 2, 3]})
    broken.append(call)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.write_batch({"number": [4]}) if by_batch else writer.write({"number": 4})
    broken.clear()
    assert files(tmp_path) == {}
    for again in (lambda: writer.write({"number": 5}), lambda: writer.write_batch({"number": [5]}), writer.close):
        with pytest.raises(DatasetError, match="failed"):
            again()
    assert files(tmp_path) == {}
    write_numbers(tmp_path, 1)


@pytest.mark.parametrize("call", ["writev", "fsync", "rename"])
def test_failed_close_publishes_nothing(tmp_path: Path, broken: list[str], call: str) -> None:
    writer = DatasetWriter(tmp_path, NUMBER)
    writer.write({"number": 1})
    broken.append(call)
    with pytest.raises(StorageError):
        writer.close()
    broken.clear()
    assert files(tmp_path) == {}
    with pytest.raises(DatasetError, match="failed"):
        writer.close()


def test_caught_storage_error_still_prevents_publishing(tmp_path: Path, broken: list[str]) -> None:
    def survive() -> None:
        with DatasetWriter(tmp_path, NUMBER, shard_samples=1) as writer:
            writer.write({"number": 1})
            broken.append("fsync")
            with pytest.raises(StorageError):
                writer.write({"number": 2})
            broken.clear()

    with pytest.raises(DatasetError, match="failed"):
        survive()
    assert files(tmp_path) == {}


@pytest.mark.parametrize("value", [Image(), Bytes(), Text(), Object()], ids=str)
def test_every_variable_size_type_round_trips(tmp_path: Path, value: Any) -> None:
    schema = Schema({"a": value})
    rows = samples(schema, 7, Random(3))
    with DatasetWriter(tmp_path, schema, metadata={"type": str(value)}) as writer:
        for row in rows:
            writer.write(row)
    assert same_samples(ShardDataset(tmp_path, decode=None), rows)
