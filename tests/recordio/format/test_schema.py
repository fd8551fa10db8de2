"""The schema: inference, the values accepted by each field, and errors for all others."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image as PIL

from recordio import Array, Bytes, CorruptError, Image, Object, Scalar, Schema, SchemaError, Text, UnsupportedError
from recordio.format.fields import Field
from recordio.format.layout import MAX_FIELDS, MAX_ROW_NBYTES
from recordio.format.schema import DTYPES
from recordio.images.decode import decode_image
from tests.strategies import alike, fields, schemas, value


class Colour(enum.IntEnum):
    RED = 3


class Words(str):
    __slots__ = ()


def back(field: Field, packed: bytes) -> Any:
    """Reads back the bytes of a fixed or a variable field."""
    if field.row_nbytes is None:
        return field.unpack(packed)
    assert isinstance(field, (Scalar, Array, Image))
    return np.frombuffer(packed, field.dtype).reshape(field.shape)


INFERRED: list[tuple[Any, Field]] = [
    (True, Scalar("bool")),
    (1, Scalar("int64")),
    (2**40, Scalar("int64")),
    (Colour.RED, Scalar("int64")),
    (0.5, Scalar("float64")),
    (1j, Scalar("complex128")),
    (np.int8(1), Scalar("int8")),
    (np.uint64(1), Scalar("uint64")),
    (np.float16(1), Scalar("float16")),
    (np.complex64(1), Scalar("complex64")),
    (np.bool_(True), Scalar("bool")),
    (np.array(1, ">i4"), Scalar("int32")),
    (np.zeros(3), Array("float64", (3,))),
    (np.zeros((2, 0), ">u2"), Array("uint16", (2, 0))),
    (np.zeros((4, 6))[::2, ::3], Array("float64", (2, 2))),
    ("text", Text()),
    (Words("text"), Text()),
    (np.str_("text"), Text()),
    (b"raw", Bytes()),
    (bytearray(b"raw"), Bytes()),
    (memoryview(b"raw"), Bytes()),
    (np.bytes_(b"raw"), Bytes()),
    ([1, 2], Object()),
    ((1, 2), Object()),
    ({"a": 1}, Object()),
    (PIL.new("RGB", (2, 2)), Image("RGB")),
    (PIL.new("L", (2, 2)), Image("L")),
    (PIL.new("RGBA", (2, 2)), Image("RGBA")),
    (PIL.new("P", (2, 2)), Image("RGB")),
]


@pytest.mark.parametrize(("example", "field"), INFERRED, ids=[f"{type(v).__name__}-{f}" for v, f in INFERRED])
def test_inferred_field_accepts_its_example(example: Any, field: Field) -> None:
    schema = Schema.infer({"value": example})
    assert schema == Schema({"value": field})
    assert not field.optional
    schema["value"].pack(example)


@pytest.mark.parametrize(
    "example",
    [None, object(), {1, 2}, np.datetime64(0, "s"), np.array(["a"]), np.array([object()]), np.longdouble(1), range(3)],
    ids=lambda v: type(v).__name__,
)
def test_no_field_is_inferred_for_unstorable_values(example: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.infer({"good": 1, "bad": example})
    assert caught.value.place.field == "bad"


@pytest.mark.parametrize("sample", [[1], "text", None, {}])
def test_infer_refuses_other_samples_than_nonempty_dicts(sample: Any) -> None:
    with pytest.raises(SchemaError):
        Schema.infer(sample)


@pytest.mark.parametrize(
    ("given_dtype", "name"),
    [(int, "int64"), (float, "float64"), (bool, "bool"), (complex, "complex128"), ("int", "int64"), ("f4", "float32"),
     (">u2", "uint16"), (np.float16, "float16"), (np.dtype(">c8"), "complex64")]
    + [(name, name) for name in DTYPES],
)  # fmt: skip
def test_any_numpy_spelling_of_a_dtype_is_stored_little_endian(given_dtype: Any, name: str) -> None:
    for field in (Scalar(given_dtype), Array(given_dtype, (2,))):
        assert field.dtype.name == name
        assert field.dtype == field.dtype.newbyteorder("<")
        assert field.to_json()["dtype"] == name


@pytest.mark.parametrize(
    "dtype", ["U", "S3", "O", "V4", "M8[s]", "m8[s]", "longdouble", "clongdouble", "i4,i4", "no", 3]
)
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(SchemaError):
        Scalar(dtype)
    with pytest.raises(SchemaError):
        Array(dtype, (2,))


def test_dtype_none_is_refused() -> None:
    with pytest.raises(SchemaError):
        Scalar(None)


@pytest.mark.parametrize("shape", [3, (), (-1,), (1,) * 33, (2**70,), ("a",), (2.5,), "12", (2, "3")])
def test_invalid_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(SchemaError):
        Array("float32", shape)


def test_fixed_value_over_the_size_limit_is_refused() -> None:
    Array("uint8", (MAX_ROW_NBYTES,))
    with pytest.raises(SchemaError, match="limit"):
        Array("uint8", (MAX_ROW_NBYTES, 2))
    with pytest.raises(SchemaError, match="limit"):
        Array("uint16", (MAX_ROW_NBYTES,))


@pytest.mark.parametrize(
    "options",
    [{"mode": "CMYK"}, {"shape": (3,)}, {"shape": (1, 2, 3, 4)}, {"shape": (2, 2, 5)}, {"shape": (2, 2, None)}],
    ids=str,
)
def test_invalid_image_modes_and_shapes_are_refused(options: Any) -> None:
    with pytest.raises(SchemaError):
        Image(**options)


def test_array_without_elements_cannot_be_optional() -> None:
    Array("float32", (None, 0), optional=True)
    with pytest.raises(SchemaError, match="optional"):
        Array("float32", (3, 0), optional=True)
    with pytest.raises(SchemaError, match="optional"):
        Image(shape=(3, 0), optional=True)


@pytest.mark.parametrize("count", [0, MAX_FIELDS + 1])
def test_schema_without_fields_or_with_too_many_is_refused(count: int) -> None:
    with pytest.raises(SchemaError, match=f"not {count}"):
        Schema({str(i): Text() for i in range(count)})


@pytest.mark.parametrize("name", ["", "ä" * 128, 3, b"a", "\ud800"])
def test_invalid_field_names_are_refused(name: Any) -> None:
    with pytest.raises(SchemaError):
        Schema({name: Text()})
    Schema({"ä" * 127: Text()})


def test_field_class_instead_of_instance_is_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        Schema({"a": Text})  # type: ignore[dict-item]
    assert caught.value.place.field == "a"


def test_schema_is_an_ordered_mapping() -> None:
    schema = Schema({"b": Text(), "a": Scalar("int8")})
    assert isinstance(schema, Mapping)
    assert list(schema) == ["b", "a"]
    assert schema["a"] == Scalar("int8")
    assert "c" not in schema
    assert eval(repr(Schema({"b": Text(optional=True)}))) == Schema({"b": Text(optional=True)})


def test_schema_equality_depends_on_field_order() -> None:
    assert Schema({"a": Text(), "b": Bytes()}) != Schema({"b": Bytes(), "a": Text()})


def test_select_keeps_requested_order_and_names_missing_fields() -> None:
    schema = Schema({"a": Text(), "b": Bytes(), "c": Object()})
    assert list(schema.select(["c", "a"])) == ["c", "a"]
    assert list(schema.select("b")) == ["b"]
    with pytest.raises(SchemaError, match=r"'d', 'e'.*there are a, b, c"):
        schema.select(["a", "d", "e"])


@given(schemas(6))
def test_schema_round_trips_through_json(schema: Schema) -> None:
    again = Schema.from_json(schema.to_json())
    assert again == schema
    assert list(again) == list(schema)


@pytest.mark.parametrize(
    "entries",
    [
        {},
        [],
        [{"type": "text"}],
        [{"name": 3, "type": "text"}],
        [{"name": "a", "type": "text"}, {"name": "a", "type": "bytes"}],
        [{"name": "a", "type": "text", "colour": 3}],
        [{"name": "a", "type": "scalar", "dtype": ">i4"}],
        [{"name": "a", "type": "array", "dtype": "int8"}],
        [{"name": "a", "type": "array", "dtype": "int8", "shape": [1.0]}],
        [{"name": "a", "type": "text", "optional": 1}],
    ],
)
def test_invalid_json_schema_is_corrupt(entries: Any) -> None:
    with pytest.raises(CorruptError):
        Schema.from_json(entries)


@pytest.mark.parametrize("kind", ["video", None, ["text"]])
def test_unknown_field_type_is_unsupported(kind: Any) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Schema.from_json([{"name": "a", "type": kind}])
    assert caught.value.place.field == "a"


@given(fields(), st.integers(0, 2**32))
def test_values_round_trip(field: Field, seed: int) -> None:
    given_value = value(field, Random(seed))
    if given_value is not None:
        packed = field.pack(given_value)
        assert field.packer()(given_value) == packed
        got = back(field, packed)
        assert alike(got[()] if isinstance(field, Scalar) else got, given_value)


FITS: list[tuple[Field, Any, Any]] = [
    (Scalar("uint8"), 255, 255),
    (Scalar("uint8"), Colour.RED, 3),
    (Scalar("int64"), True, 1),
    (Scalar("int64"), np.int8(-3), -3),
    (Scalar("int64"), np.array(7), 7),
    (Scalar("uint64"), 2**64 - 1, 2**64 - 1),
    (Scalar("float32"), 1, 1.0),
    (Scalar("float32"), 0.1, np.float32(0.1)),
    (Scalar("float32"), float("inf"), np.inf),
    (Scalar("float64"), np.float32(0.5), 0.5),
    (Scalar("complex64"), 2, 2 + 0j),
    (Scalar("bool"), np.True_, True),
    (Scalar("int32"), np.int32(5).astype(">i4"), 5),
    (Array("int16", (2,)), [1, -2], [1, -2]),
    (Array("int16", (2,)), (1, np.int8(2)), [1, 2]),
    (Array("int16", (2,)), np.array([1, 2], ">i2"), [1, 2]),
    (Array("float32", (2, 2)), np.arange(8, dtype="f4").reshape(2, 4)[:, ::2], [[0, 2], [4, 6]]),
    (Array("float32", (2, 2)), np.arange(4, dtype="f4").reshape(2, 2).T, [[0, 2], [1, 3]]),
    (Array("float32", (3,)), np.arange(3, dtype="f4")[::-1], [2, 1, 0]),
    (Array("float32", (0,)), [], []),
    (Array("uint8", (None,)), [], []),
    (Array("uint8", (None, 2)), [[1, 2]], [[1, 2]]),
    (Image(shape=(1, 2)), [[1, 2]], [[1, 2]]),
    (Image(shape=(1, 2, 3)), PIL.new("RGB", (2, 1), (1, 2, 3)), [[[1, 2, 3]] * 2]),
]


@pytest.mark.parametrize(("field", "given_value", "want"), FITS, ids=[f"{f}-{type(v).__name__}" for f, v, _ in FITS])
def test_fitting_numbers_take_the_dtype_of_the_field(field: Field, given_value: Any, want: Any) -> None:
    assert isinstance(field, (Scalar, Array, Image))
    packed = field.packer()(given_value)
    assert packed == field.pack(given_value)
    got = back(field, packed)
    assert got.dtype == field.dtype
    assert np.array_equal(got, np.array(want, field.dtype).reshape(got.shape))


MISFITS: list[tuple[Field, Any]] = [
    (Scalar("uint8"), 256),
    (Scalar("uint8"), -1),
    (Scalar("int8"), -129),
    (Scalar("int64"), 2**63),
    (Scalar("int64"), 10**30),
    (Scalar("int64"), 1.0),
    (Scalar("int64"), np.float64(1)),
    (Scalar("int32"), np.int64(1)),
    (Scalar("int64"), np.uint64(1)),
    (Scalar("int64"), "1"),
    (Scalar("int64"), b"1"),
    (Scalar("int64"), None),
    (Scalar("int64"), [1]),
    (Scalar("int64"), np.array([1])),
    (Scalar("int64"), np.datetime64(1, "s")),
    (Scalar("bool"), 1),
    (Scalar("float32"), np.float64(1)),
    (Scalar("float32"), 1e300),
    (Scalar("float16"), 70000.0),
    (Scalar("float16"), 70000),
    (Scalar("float64"), 1j),
    (Scalar("float64"), "1.5"),
    (Scalar("complex64"), 1e300),
    (Array("float32", (2,)), [1e300, 1.0]),
    (Array("float32", (2,)), np.zeros(2)),
    (Array("float32", (2,)), np.zeros(3, "f4")),
    (Array("float32", (2,)), np.zeros((2, 1), "f4")),
    (Array("float32", (2,)), [[1, 2], [3]]),
    (Array("float32", (2,)), 1.0),
    (Array("float32", (None,)), np.zeros((1, 1), "f4")),
    (Array("uint8", (2,)), [1, -1]),
    (Array("uint8", (2,)), ["a", "b"]),
    (Array("int64", (2,)), [1, None]),
    (Image(shape=(1, 2)), np.zeros((1, 2), "i8")),
    (Image(shape=(1, None, 3)), np.zeros((2, 2, 3), "u1")),
    (Image(), b"GIF89a"),
    (Image(), b""),
    (Image(), np.zeros((2, 2, 3), "u1")),
    (Image(), "cat.jpg"),
    (Text(), b"text"),
    (Text(), 3),
    (Text(), "\ud800"),
    (Bytes(), "raw"),
    (Bytes(), 3),
    (Bytes(), np.zeros(3, "u1")),
    (Object(), {1: 2}),
    (Object(), {"a": {b"k": 1}}),
    (Object(), {1, 2}),
    (Object(), object()),
    (Object(), np.zeros(2)),
    (Object(), np.int64(3)),
    (Object(), 2**64),
    (Object(), ["\ud800"]),
]


@pytest.mark.parametrize(
    ("field", "given_value"), MISFITS, ids=[f"{f}-{type(v).__name__}-{i}" for i, (f, v) in enumerate(MISFITS)]
)
def test_unfit_values_are_refused(field: Field, given_value: Any) -> None:
    for pack in (field.pack, field.packer()):
        with pytest.raises(SchemaError):
            pack(given_value)


@pytest.mark.parametrize(
    ("field", "given_value", "message"),
    [
        (Scalar("uint8"), 300, "expected uint8, got int 300"),
        (Array("float32", (2, None)), np.zeros((3, 1)), r"expected float32\[2, \?\], got float64\[3, 1\]"),
        (Image(), b"GIF89a", "expected image.*JPEG.*got bytes b'GIF89a'"),
        (Image(shape=(2, None)), "x", r"expected image uint8\[2, \?\], got str 'x'"),
        (Text(), 3.5, "expected text, got float 3.5"),
        (Bytes(), "x" * 99, r"expected bytes, got str 'x{36}\.\.\."),
        (Object(), {1: 2}, "expected object.*got dict {1: 2}"),
    ],
    ids=str,
)
def test_error_states_expected_and_actual_value(field: Field, given_value: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        field.pack(given_value)


def test_object_reads_tuples_as_lists() -> None:
    packed = Object().pack({"a": (1, (2, b"x")), "b": ()})
    assert Object().unpack(packed) == {"a": [1, [2, b"x"]], "b": []}


def test_deep_objects_are_stored_and_endless_ones_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert Object().unpack(Object().pack(deep)) == deep
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(SchemaError):
        Object().pack(deep)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SchemaError):
        Object().pack(loop)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("stored", ["RGB", "L", "RGBA"])
def test_pil_picture_is_stored_without_loss(mode: str, stored: str) -> None:
    # Through RGB, since not every mode converts to every other.
    picture = PIL.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7).convert(mode)
    field = Image(stored)
    got = decode_image(field.pack(picture), stored)
    plain = picture if mode in ("1", "L", "P", "LA", "RGB", "RGBA") else picture.convert("RGB")
    want = np.asarray(plain.convert(stored)).reshape(got.shape)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_pil_picture_of_more_than_8_bits_is_refused(mode: str) -> None:
    with pytest.raises(SchemaError):
        Image("L").pack(PIL.new(mode, (2, 2)))


def test_true_is_stored_as_1_whatever_byte_numpy_holds() -> None:
    odd = np.array([[0, 255], [1, 2]], np.uint8).view(bool)
    for field in (Array("bool", (2, 2)), Array("bool", (None, 2))):
        for bools in (odd, odd.T.copy().T, list(odd)):
            for pack in (field.pack, field.packer()):
                assert pack(bools)[-4:] == b"\0\1\1\1"
    assert Scalar("bool").packer()(odd[0, 1]) == b"\1"
    assert Array("bool", (2,)).batch(odd).tobytes() == b"\0\1\1\1"
    assert Scalar("bool").batch(odd[:, 1]).tobytes() == b"\1\1"


def test_lack_of_memory_is_no_damage_of_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("recordio.format.fields.msgpack.unpackb", short)
    with pytest.raises(MemoryError):
        Object().unpack(b"\x01")


@pytest.mark.parametrize(("shape", "free"), [((1 << 40, 0), (None, 0)), ((1 << 20, 0, 1 << 20), (None, 0, None))])
def test_empty_array_of_endless_dimensions_is_refused_as_reading_does(shape: tuple[int, ...], free: Any) -> None:
    field = Array("int8", free)
    small = np.empty([min(n, 7) for n in shape], np.int8)
    assert field.unpack(field.pack(small)).shape == small.shape
    with pytest.raises(SchemaError, match="over the limit"):
        field.pack(np.empty(shape, np.int8))
    dims = b"".join(n.to_bytes(8, "little") for n, want in zip(shape, free, strict=True) if want is None)
    with pytest.raises(CorruptError, match="does not fit"):
        field.unpack(dims)
