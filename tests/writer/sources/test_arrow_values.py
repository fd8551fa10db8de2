"""Every type of Arrow, in Parquet, in an Arrow file and in a stream: value by value, one by one and as columns."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Schema
from recordio.writer.packing import Packer
from recordio.writer.sources import Source, open_source

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FORMS = ("t.parquet", "t.arrow", "stream.arrow")
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DAY = datetime.date(2024, 2, 29)
MOMENT = datetime.datetime(2024, 2, 29, 12, 30)
MICROSECONDS = 1_709_209_800_000_000


def write(path: Path, table: Any, rows: int = 2) -> str:
    """Writes a table with so many rows in a group."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=rows)
        return str(path)
    new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, rows)
    return str(path)


def values(source: Source, indices: Any = None) -> list[Any]:
    """What stands in the column `x` of the samples."""
    indices = range(len(source)) if indices is None else indices
    return [sample if isinstance(sample, Exception) else sample["x"] for _, sample in source.read(indices)]


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def packed(source: Source) -> list[list[bytes | None]]:
    """The bytes of each column, from the samples."""
    packer = Packer(source.schema)
    return [
        list(column) for column in zip(*(packer.pack(one) for _, one in source.read(range(len(source)))), strict=True)
    ]


def packed_columns(source: Source) -> list[list[bytes | None]]:
    """The same from batches."""
    packer, out = Packer(source.schema), [[] for _ in source.schema]
    for batch in source.batches(np.arange(len(source))) or ():
        rows, columns = packer.pack_columns(batch)
        for found, column in zip(out, columns, strict=True):
            size = len(column) // rows
            cut = isinstance(column, memoryview)
            found += [bytes(column[k * size : (k + 1) * size]) for k in range(rows)] if cut else column
    return out


CASES: list[tuple[Any, Field, list[Any]]] = [
    *((pa.array([0, 1, 100], name), Scalar(name), [0, 1, 100]) for name in INTS),
    *(
        (pa.array(np.array([0.5, -1, 2], name)), Scalar(name), [0.5, -1.0, 2.0])
        for name in ("float16", "float32", "float64")
    ),
    (pa.array([1, None, 2**64 - 1], "uint64"), Scalar("uint64", optional=True), [1, None, 2**64 - 1]),
    (pa.array([1.5, None, 2], "float32"), Scalar("float32", optional=True), [1.5, None, 2.0]),
    (pa.array([True, False, True]), Scalar("bool"), [True, False, True]),
    (pa.array([True, None, True]), Scalar("bool", optional=True), [True, None, True]),
    (pa.array(["a", "", "é"]), Text(), ["a", "", "é"]),
    (pa.array(["a", None, ""], pa.large_string()), Text(optional=True), ["a", None, ""]),
    (
        pa.array(["a", None, "a text of more than twelve"], pa.string_view()),
        Text(optional=True),
        ["a", None, "a text of more than twelve"],
    ),
    (pa.array([b"\xff", b"", b"b"]), Bytes(), [b"\xff", b"", b"b"]),
    (pa.array([b"ab", None, b"cd"], pa.binary(2)), Bytes(optional=True), [b"ab", None, b"cd"]),
    (pa.array([b"ab", b"c", b""], pa.binary_view()), Bytes(), [b"ab", b"c", b""]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), Text(), ["a", "b", "a"]),
    (pa.array([5, None, 5]).dictionary_encode(), Scalar("int64", optional=True), [5, None, 5]),
    (pa.nulls(3), Object(optional=True), [None] * 3),
    (
        pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "Asia/Tokyo")),
        Scalar("int64", optional=True),
        [MICROSECONDS, None, MICROSECONDS],
    ),
    (pa.array([DAY] * 3), Scalar("int32"), [19782] * 3),
    (pa.array([1, 2, 3], pa.time64("ns")), Scalar("int64"), [1, 2, 3]),
    (
        pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.01")], pa.decimal128(20, 2)),
        Text(optional=True),
        ["1.50", None, "-0.01"],
    ),
    (
        pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
        Array("int16", (2,), optional=True),
        [[1, 2], None, [3, 4]],
    ),
    (pa.array([[1, 2], [0, 0], [3, 4]], pa.list_(pa.float32(), 2)), Array("float32", (2,)), [[1, 2], [0, 0], [3, 4]]),
    (pa.array([[1], [], [2, 3]], pa.list_(pa.int32())), Array("int32", (None,)), [[1], [], [2, 3]]),
    (pa.array([[1], None, []], pa.large_list(pa.int64())), Array("int64", (None,), optional=True), [[1], None, []]),
    (
        pa.array([[[1, 2]], [], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int8(), 2))),
        Array("int8", (None, 2)),
        [[[1, 2]], [], [[3, 4], [5, 6]]],
    ),
    (pa.array([[1, None], [2], []], pa.list_(pa.float64())), Object(), [[1.0, None], [2.0], []]),
    (pa.array([[[1], [2, 3]], [], None]), Object(optional=True), [[[1], [2, 3]], [], None]),
    (pa.array([["a"], None, []]), Object(optional=True), [["a"], None, []]),
    (
        pa.array([{"day": DAY, "n": 1}, None, {"day": None, "n": 2}]),
        Object(optional=True),
        [{"day": 19782, "n": 1}, None, {"day": None, "n": 2}],
    ),
    (
        pa.array([[("a", 1)], [("b", 2)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
        Object(),
        [[("a", 1)], [("b", 2)], [("a", 1), ("a", 2)]],
    ),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("array", "field", "expected"), CASES, ids=[str(case[0].type) + str(n) for n, case in enumerate(CASES)]
)
def test_a_type(tmp_path: Path, form: str, array: Any, field: Field, expected: list[Any]) -> None:
    source = open_source(write(tmp_path / form, pa.table({"x": array})))
    assert source.schema == Schema({"x": field})
    assert [plain(value) for value in values(source)] == expected
    assert [plain(source.sample(index)["x"]) for index in (2, 0, 1)] == [expected[index] for index in (2, 0, 1)]
    assert packed(source) == packed_columns(source)


@pytest.mark.parametrize("form", FORMS[1:])
def test_what_parquet_has_no_type_for(tmp_path: Path, form: str) -> None:
    table = pa.table(
        {"x": pa.array([1, None], pa.duration("s")), "v": pa.array([[1], [2, 3]], pa.list_view(pa.int64()))}
    )
    source = open_source(write(tmp_path / form, table))
    assert source.schema == Schema({"x": Scalar("int64", optional=True), "v": Array("int64", (None,))})
    assert [{name: plain(value) for name, value in sample.items()} for _, sample in source.read([1, 0])] == [
        {"x": None, "v": [2, 3]},
        {"x": 1, "v": [1]},
    ]
    assert source.metadata == {"arrow_types": {"x": "duration[s]"}}


def test_what_the_field_does_not_say_is_kept_and_said(tmp_path: Path) -> None:
    moments = pa.array([MOMENT], pa.timestamp("ms", "UTC"))
    table = pa.table({"when": moments, "price": pa.array([decimal.Decimal("1.5")]), "none": pa.nulls(1), "n": [1]})
    source = open_source(write(tmp_path / "t.parquet", table))
    assert source.metadata == {"arrow_types": {"when": "timestamp[ms, tz=UTC]", "price": "decimal128(2, 1)"}}
    said = "; ".join(source.notes)
    assert "'when' (timestamp[ms, tz=UTC]): stored as the integers that Arrow stores for them" in said
    assert "'price' (decimal128(2, 1)): stored as text, with every digit" in said
    assert "nothing stands in any row of 'none'" in said


def test_nan_keeps_its_bits_either_way(tmp_path: Path) -> None:
    bits = np.array([0x7F800001, 0x7FC00000, 0xFFC00123], np.uint32)
    source = open_source(write(tmp_path / "t.arrow", pa.table({"x": bits.view(np.float32)})))
    assert packed(source) == packed_columns(source) == [[bit.tobytes() for bit in bits]]


def test_tensors_have_their_shape(tmp_path: Path) -> None:
    found = np.arange(12, dtype=np.int32).reshape(2, 2, 3)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(found)
    for form in FORMS:
        source = open_source(write(tmp_path / form, pa.table({"x": array})))
        assert source.schema == Schema({"x": Array("int32", (2, 3))})
        assert np.array_equal(np.array(values(source)), found)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([pa.MonthDayNano([1, 2, 3])]),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.RunEndEncodedArray.from_arrays([3], [1]),
    ],
    ids=["interval", "union", "run ends"],
)
def test_a_type_that_is_not_read_is_named(tmp_path: Path, array: Any) -> None:
    with pytest.raises(
        SourceError, match=r"a column of .* is not read: cast it to another type first - t\.arrow, field 'x'"
    ):
        open_source(write(tmp_path / "t.arrow", pa.table({"x": array})))


@pytest.mark.parametrize("form", FORMS)
def test_a_pickled_type_is_refused_and_never_loaded(tmp_path: Path, form: str) -> None:
    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": b"cos\nsystem\n"}
    schema = pa.schema([pa.field("x", pa.int64(), metadata=about)])
    path = write(tmp_path / form, pa.table({"x": [1]}).cast(schema))
    with pytest.raises(SourceError, match="a pickled Python object, which could run any program"):
        open_source(path)


def test_text_that_is_no_text_is_refused_by_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff", b"fine"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    source = open_source(write(tmp_path / "t.parquet", pa.table({"x": bad}), rows=3))
    found = values(source)
    assert (found[0], found[2]) == ("good", "fine")
    assert "Invalid UTF8" in str(found[1])
    assert "t.parquet row 1, field 'x'" in str(found[1])


def test_struct_of_bytes_and_path_without_pictures_is_bytes(tmp_path: Path) -> None:
    column = pa.array([{"bytes": b"RIFF", "path": "a.wav"}, {"bytes": b"x", "path": None}])
    source = open_source(write(tmp_path / "t.parquet", pa.table({"x": column}))).with_names()
    assert source.schema == Schema({"x": Bytes(), "x_file": Text(optional=True)})
    assert [sample for _, sample in source.read(range(2))] == [
        {"x": b"RIFF", "x_file": "a.wav"},
        {"x": b"x", "x_file": None},
    ]


def test_a_sound_of_datasets_says_what_its_header_says(tmp_path: Path) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((2, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4 * 3))
    column = pa.array([{"bytes": file.getvalue(), "path": "a.wav"}, {"bytes": b"?", "path": "b.xyz"}])
    features = {"info": {"features": {"x": {"_type": "Audio"}}}}
    table = pa.table({"x": column}).replace_schema_metadata({"huggingface": json.dumps(features)})
    source = open_source(write(tmp_path / "t.parquet", table))
    assert [sample for _, sample in source.read(range(2))] == [
        {"x": file.getvalue(), "rate": 8000, "channels": 2, "frames": 3},
        {"x": b"?", "rate": None, "channels": None, "frames": None},
    ]
    assert packed(source) == packed_columns(source)


def test_files_that_are_named_lie_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": None, "path": "a.wav"}, {"bytes": None, "path": "../b"}, None], kind)
    source = open_source(write(tmp_path / "t.arrow", pa.table({"x": column})))
    found = values(source)
    assert (found[0], found[2]) == (b"sound", None)
    assert "leads out of the table's folder" in str(found[1])
    assert source.input_digest(np.arange(3)) is None
