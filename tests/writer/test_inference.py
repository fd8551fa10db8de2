"""The schema inferred from the first samples: what it widens to, what it refuses, and that no sample is lost."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, Bytes, DatasetError, DatasetWriter, Object, Scalar, Schema, SchemaError, ShardDataset, Text
from recordio.format.fields import Field
from recordio.writer import inference, taken
from recordio.writer.inference import SchemaInference, infer_schema
from recordio.writer.taken import samples_of
from tests.effort import examples
from tests.strategies import columns, samples, schemas

I8, F8 = Scalar("int64"), Scalar("float64")
WIDENED: dict[str, tuple[list[Any], Field]] = {
    "int, then float": ([1, 2.5], F8),
    "float, then int": ([2.5, 1], F8),
    "float, then an exact large int": ([2.5, 2**60], F8),
    "int, then float32": ([5, np.float32(0.5)], Scalar("float32")),
    "int that float32 would round, then float32": ([2**25 + 1, np.float32(0.5)], F8),
    "float32, then int that it would round": ([np.float32(0.5), 2**25 + 1], F8),
    "int8, then int": ([np.int8(1), 300], I8),
    "int8, then a small int": ([np.int8(1), 3], Scalar("int8")),
    "int8 and uint8": ([np.int8(-1), np.uint8(200)], Scalar("int16")),
    "float32 and float64": ([np.float32(1), np.float64(0.1)], F8),
    "bool, then int": ([True, 3], I8),
    "int, then bool": ([3, True], I8),
    "bool, then float": ([True, 0.5], F8),
    "int and complex": ([1, 2j], Scalar("complex128")),
    "None, then int": ([None, 1], Scalar("int64", optional=True)),
    "text, then None": (["a", None], Text(optional=True)),
    "masked": ([1, np.ma.masked], Scalar("int64", optional=True)),
    "lengths": ([np.zeros(3, "i4"), np.zeros(5, "i4")], Array("int32", (None,))),
    "lengths and a list": ([np.zeros(3, "i4"), [1, 2]], Array("int32", (None,))),
    "one of two lengths": ([np.zeros((3, 2)), np.zeros((4, 2))], Array("float64", (None, 2))),
    "lengths and dtypes": ([np.zeros(3, "i4"), np.zeros(4, "i8")], Array("int64", (None,))),
    "no elements, then None": ([np.zeros((0, 2)), None], Array("float64", (None, 2), optional=True)),
    "null is a value of an object": ([[1], None, 3], Object()),
    "None before an object": ([None, [1]], Object(optional=True)),
    "bytes": ([b"a", bytearray(b"b")], Bytes()),
}


def write(writer: DatasetWriter, values: list[Any], batch: bool) -> None:
    if batch:
        writer.write_batch({"a": values})
    else:
        for value in values:
            writer.write({"a": value})


def answer(function: Callable[..., Any], *given: Any) -> str:
    """What a call gives, or the words of its error."""
    try:
        return repr(function(*given))
    except SchemaError as error:
        return str(error)


def files(folder: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("case", WIDENED)
def test_a_field_holds_all_of_the_first_samples(tmp_path: Path, case: str, batch: bool) -> None:
    values, field = WIDENED[case]
    with DatasetWriter(tmp_path / "a") as writer:
        assert writer.schema is None
        write(writer, values, batch)
    assert writer.schema == Schema({"a": field}) == infer_schema({"a": value} for value in values)
    with DatasetWriter(tmp_path / "b", {"a": field}) as writer:
        write(writer, values, False)
    assert files(tmp_path / "a") == files(tmp_path / "b")


REFUSED: dict[str, list[Any]] = {
    "text, then bytes": ["a", b"a"],
    "bytes, then text": [b"a", "a"],
    "int, then text": [1, "a"],
    "text, then int": ["a", 1],
    "int, then an object": [1, {"b": 1}],
    "an int that a float would round": [2**60 + 1, 0.5],
    "int64, then uint64": [1, np.uint64(1)],
    "a number, then an array": [1.0, np.zeros(3)],
    "two ranks": [np.zeros(3), np.zeros((3, 3))],
}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_type_holds_is_refused_with_both_samples(tmp_path: Path, case: str, batch: bool) -> None:
    first, second = REFUSED[case]
    with DatasetWriter(tmp_path / "a") as writer:
        write(writer, [first, first], batch)
        with pytest.raises(SchemaError, match=r"no type holds both: sample 0 has .*; give schema=") as caught:
            write(writer, [second], batch)
        assert (caught.value.place.field, caught.value.place.sample) == ("a", 2)
        assert str(caught.value).count("schema") == 1
        assert writer.samples == 2
        write(writer, [first], batch)
    with DatasetWriter(tmp_path / "b", Schema.infer({"a": first})) as writer:
        write(writer, [first] * 3, batch)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@examples(60)
@given(schemas(4), st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data(), st.integers(0, 2**32))
def test_samples_that_fit_the_first_are_written_as_its_schema_says(
    schema: Schema, parts: list[int], data: st.DataObject, seed: int
) -> None:
    rows = samples(schema, sum(parts), Random(seed))
    try:
        first = Schema.infer(rows[0])
        with TemporaryDirectory() as folder:
            with DatasetWriter(folder, first) as writer:
                for row in rows:
                    writer.write(row)
            expected = files(folder)
    except (SchemaError, IndexError):
        return  # nothing to compare with: the first sample alone does not say enough
    with TemporaryDirectory() as folder:
        with DatasetWriter(folder) as writer:
            start = 0
            for count in parts:
                part, start = rows[start : start + count], start + count
                if part and start > count and data.draw(st.booleans()):
                    writer.write_batch(columns(first, part))
                else:
                    for row in part:
                        writer.write(row)
        assert writer.schema == first
        assert files(folder) == expected


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.integers(-128, 127).map(np.int8),
    st.integers(0, 2**32 - 1).map(np.uint32),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.integers(-9, 9), max_size=3).map(lambda one: np.array(one, "i2")),
    st.lists(st.floats(width=32), max_size=3).map(lambda one: np.array(one, "f4")),
)


def same(found: Any, given: Any) -> bool:
    """Whether a value was read as it was written. A float32 field rounds Python's floats, as ever."""
    if given is None or isinstance(given, (str, bytes)):
        return type(found) is type(given) and bool(found == given)
    if type(given) is float and getattr(found, "dtype", None) == np.float32:
        given = np.float32(given)
    return bool(np.array_equal(np.asarray(found), np.asarray(given), equal_nan=True))


@examples(200)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), min_size=1, max_size=8))
def test_every_sample_that_is_taken_is_read_as_it_was(rows: list[dict[str, Any]]) -> None:
    taken = []
    with TemporaryDirectory() as folder:
        writer = DatasetWriter(folder)
        for row in rows:
            try:
                writer.write(row)
            except SchemaError:
                continue
            taken.append(row)
        assert taken
        names = {name for row in taken for name in row}
        if any(all(row.get(name) is None for row in taken) for name in names):
            with pytest.raises(SchemaError, match="no value in the first"):
                writer.close()
            assert files(folder) == {}
            return
        writer.close()
        found = list(ShardDataset(folder))
    assert len(found) == len(taken)
    for read, row in zip(found, taken, strict=True):
        assert all(same(value, row.get(name)) for name, value in read.items())
        assert set(row) <= set(read)


def test_a_field_that_some_samples_lack_is_optional(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.write({"a": 1, "b": "x"})
        writer.write({"a": 2})
        writer.write_batch({"b": ["y", "z"], "c": [0.5, 1.5]})
    optional = {"a": Scalar("int64", optional=True), "b": Text(optional=True), "c": Scalar("float64", optional=True)}
    assert writer.schema == Schema(optional)
    assert [sample["c"] for sample in ShardDataset(tmp_path)] == [None, None, 0.5, 1.5]


def test_the_schema_is_decided_after_the_first_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MOST_SAMPLES", 3)
    with DatasetWriter(tmp_path) as writer:
        for number in (1, 2):
            writer.write({"a": number})
            assert writer.schema is None
        writer.write({"a": 0.5})
        assert writer.schema == Schema({"a": F8})
        with pytest.raises(SchemaError, match=r"that of the first 3 samples: give one .* sample 3"):
            writer.write({"a": "x"})
        writer.write({"a": 4})
    assert ShardDataset(tmp_path).column("a").tolist() == [1, 2, 0.5, 4]


def test_the_first_samples_are_few_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MOST_NBYTES", 2000)
    with DatasetWriter(tmp_path) as writer:
        writer.write({"a": bytes(1000)})
        assert writer.schema is None
        writer.write({"a": bytes(1000)})
        assert writer.schema is not None


MANY = [0, 2**40, True, 1.5, "x", "", b"y", None, np.int8(3), np.float32(0.5), [1, 2], [0.5, 2], {"k": [1]}]
MANY += [
    np.arange(2),
    np.arange(3),
    np.arange(2, dtype="i4"),
    np.zeros((2, 2), bool),
    np.float64([1, 2**60]),
    np.ma.masked,
]


@given(st.lists(st.lists(st.sampled_from(range(len(MANY))), min_size=1, max_size=2), min_size=2, max_size=7))
@examples(300)
def test_samples_are_taken_the_same_whether_they_were_packed_before_the_schema_was_known(
    picks: list[list[int]],
) -> None:
    """With a dict that changes afterwards, and with one that is not packed at once; arrays change too."""
    found = []
    for kind in (dict, OrderedDict):
        inference, said = SchemaInference(), []
        for pick in picks:
            sample = kind(zip("ab", (deepcopy(MANY[k]) for k in pick), strict=False))
            said.append(answer(inference.add, sample))
            for value in sample.values():
                if type(value) is np.ndarray:
                    value[...] = 0
            sample.clear()
        samples = chain.from_iterable(map(samples_of, inference.parts))
        kept = [[repr(sample.get(name)) for name in "ab"] for sample in samples]
        found.append((said, answer(inference.schema), kept))
    (said, schema, kept), (want_said, want_schema, want_kept) = found
    assert (said, schema) == (want_said, want_schema)
    assert kept == want_kept


def test_an_object_that_a_sample_lacks_is_missing_there(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        for sample in ({"c": {"k": 1}, "a": b"x"}, {"c": {"k": 1}}, {"a": b"y"}):
            writer.write(sample)
    assert writer.schema == Schema({"c": Object(optional=True), "a": Bytes(optional=True)})
    with DatasetWriter(tmp_path / "given", {"c": Object(), "a": Bytes(optional=True)}) as writer:
        with pytest.raises(SchemaError, match="missing 'c'"):
            writer.write({"a": b"y"})
        writer.write({"c": None})
    assert list(ShardDataset(tmp_path / "given")) == [{"c": None, "a": None}]


def test_a_first_sample_that_could_not_be_kept_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    inference, own = SchemaInference(), SchemaInference._owned
    monkeypatch.setattr(SchemaInference, "_owned", lambda *args: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        inference.add({"a": 1})
    monkeypatch.setattr(SchemaInference, "_owned", own)
    inference.add({"a": 2})
    assert [*chain.from_iterable(map(samples_of, inference.parts))] == [{"a": 2}]


def test_a_large_batch_is_written_at_once_and_may_change_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "MOST_SAMPLES", 5)
    numbers, texts, arrays = np.arange(10), ["a"] * 10, [np.arange(2)] * 10
    with DatasetWriter(tmp_path) as writer:
        for _ in range(2):
            writer.write_batch({"n": numbers[:3], "t": texts[:3], "x": arrays[:3]})
            writer.write_batch({"n": numbers, "t": texts, "x": arrays})
            numbers += 100
            texts[:] = ["b"] * 10
            arrays[0][:] = 7
    ds = ShardDataset(tmp_path)
    once = [*range(3), *range(10)]
    assert ds.column("n").tolist() == once + [n + 100 for n in once]
    assert ds.column("t") == ["a"] * 13 + ["b"] * 13
    assert ds.column("x").tolist() == [[0, 1]] * 13 + [[7, 7]] * 13


@pytest.mark.parametrize("kind", [list, deque])
def test_a_large_first_batch_is_written_in_pieces_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """A deque cannot be cut, so it is written as a whole."""
    monkeypatch.setattr(inference, "MOST_SAMPLES", 5)
    monkeypatch.setattr(taken, "_PIECE", 3)
    masked = np.ma.MaskedArray(np.arange(10), np.arange(10) % 4 == 0)
    batch = {"t": kind("abcdefghij"), "n": np.arange(10), "m": masked, "x": [np.arange(n) for n in range(10)]}
    options: dict[str, Any] = {"block_bytes": 100, "shard_samples": 7}
    with DatasetWriter(tmp_path / "batch", **options) as writer:
        writer.write_batch(batch)
    with DatasetWriter(tmp_path / "samples", ShardDataset(tmp_path / "batch").schema, **options) as writer:
        for sample in zip(*batch.values(), strict=True):
            writer.write(dict(zip(batch, sample, strict=True)))
    assert files(tmp_path / "batch") == files(tmp_path / "samples")


def test_a_field_without_any_value_fails_the_writer_and_leaves_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    writer.write({"a": 1, "b": None})
    with pytest.raises(SchemaError, match=r"no value in the first 1 samples, .* field 'b'"):
        writer.close()
    with pytest.raises(DatasetError, match="the writer is failed"):
        writer.write({"a": 1, "b": 2})
    assert files(tmp_path) == {}


@pytest.mark.parametrize("batch", [False, True])
def test_a_refused_sample_widens_nothing(tmp_path: Path, batch: bool) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.write({"a": 1, "b": "x"})
        with pytest.raises(SchemaError):
            writer.write_batch({"a": [0.5], "b": [b"x"]}) if batch else writer.write({"a": 0.5, "b": b"x"})
        with pytest.raises(SchemaError):
            writer.write_batch({"a": [0.5, "x"], "b": ["x", "y"]}) if batch else writer.write([0.5])  # type: ignore[arg-type]
        with pytest.raises(SchemaError):
            writer.write({"a": 1, "b": "x", "": 1})
    assert writer.schema == Schema({"a": I8, "b": Text()})


def test_an_aborted_writer_leaves_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    writer.write({"a": 1})
    writer.abort()
    assert files(tmp_path) == {}


def test_infer_schema_names_the_sample_that_does_not_fit() -> None:
    with pytest.raises(SchemaError, match=r"sample 0 has text; give schema=.*field 'a', sample 1"):
        infer_schema([{"a": "x"}, {"a": 1}])
    with pytest.raises(SchemaError):
        infer_schema([])
