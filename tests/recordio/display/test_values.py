"""One value as text and as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

import recordio
from recordio.display.text import columns_of
from recordio.display.values import json_value, label_field, value_text


class Unsayable(Exception):
    """Cannot be printed, and nor can the error that says so."""

    def __str__(self) -> str:
        raise Unsayable

    __repr__ = __str__


class Tensor:
    dtype, shape = "torch.float32", (3, 4)


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x08\x08\0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none"),
        (7, "7"),
        (True, "true"),
        (np.bool_(False), "false"),
        (np.int64(-3), "-3"),
        (np.float32(0.1), "0.1"),
        (1 / 3, "0.333333"),
        (np.complex128(1 + 2j), "1+2j"),
        ("hello", '"hello"'),
        ("", '""'),
        ("a\x1b[2Jb\nc", '"a\\x1b[2Jb\\nc"'),
        (b"", "0 B"),
        (b"\x00\xff", "2 B: 00 ff"),
        (bytes(20), f"20 B: {'00 ' * 16}..."),
        (PNG, "png 8 x 16, 26 B"),
        (PNG[:9], "png of unknown size, 9 B"),
        (np.arange(3, dtype="u1"), "uint8[3] min 0 max 2: 0 1 2"),
        (np.arange(12.0).reshape(3, 4), "float64[3, 4] min 0 max 11: 0 1 2 3 4 5 6 7 ..."),
        (np.zeros((0, 4), "f4"), "float32[0, 4] empty"),
        (np.array([np.nan, 2.0]), "float64[2] min 2 max 2: nan 2"),
        (np.array([np.nan]), "float64[1] min nan max nan: nan"),
        (np.array([1j]), "complex128[1]: 0+1j"),
        (np.array([True, False]), "bool[2] min false max true: true false"),
        (np.ma.array([1, 99, 3], mask=[0, 1, 0]), "int64[3] min 1 max 3: 1 -- 3"),
        (np.array(["b", "a"]), "<U1[2]: b a"),
        (np.array([None, "a"]), "object[2]: None a"),
        (np.array([(1, 2.0)], "i4,f4"), "[('f0', '<i4'), ('f1', '<f4')][1]: (1, 2.0)"),
        (Pil.new("RGB", (4, 3)), "picture RGB 3 x 4"),
        ([Pil.new("L", (4, 3))], '["picture L 3 x 4"]'),
        (Tensor(), "float32[3, 4]"),
        (Unsayable(), "Unsayable that cannot be shown: Unsayable"),
        (np.array([Unsayable()]), "ndarray that cannot be shown: Unsayable"),
        ({"a": [1, b"xy", None]}, '{"a": [1, {"bytes": 2}, null]}'),
    ],
)
def test_value_text_is_one_short_line(value: Any, shown: str) -> None:
    assert value_text(value, 78) == shown


def test_label_shows_its_class_name() -> None:
    assert value_text(np.int64(1), 40, ["cat", "dog"]) == "1 (dog)"
    assert value_text(1, 40, ["cat", "\x1b[31m"]) == "1 (\\x1b[31m)"


@pytest.mark.parametrize("classes", [None, [], ["cat"], "cats", {"1": "dog"}, 5])
def test_unusable_classes_are_ignored(classes: Any) -> None:
    assert value_text(1, 40, classes) == "1"
    assert value_text(-1, 40, classes) == "-1"


@pytest.mark.parametrize(
    "value", ["x" * 999, "日" * 99, "\x1b" * 99, {"k" * 99: "\x1b" * 99}, np.arange(99), bytes(99)]
)
def test_value_text_fits_the_width(value: Any) -> None:
    assert columns_of(value_text(value, 30)) <= 30


def test_large_arrays_are_summarised_in_json() -> None:
    assert json_value(np.arange(3)) == [0, 1, 2]
    assert json_value(np.array([[np.nan, 1.5]])) == [["NaN", 1.5]]
    assert json_value(np.arange(100, dtype="u1").reshape(10, 10)) == {
        "dtype": "uint8",
        "shape": [10, 10],
        "min": 0,
        "max": 99,
    }
    assert json_value(np.zeros(100, "c16"))["min"] is None


@pytest.mark.parametrize("value", [np.int64(3), np.float32(0.5), np.bool_(True), "text", None, 1 << 60])
def test_plain_values_stay_plain_in_json(value: Any) -> None:
    shown = json_value(value)
    assert shown == value
    assert type(shown) in (int, float, bool, str, type(None))


@pytest.mark.parametrize(
    ("kind", "classes", "found"),
    [
        (recordio.Scalar("uint8"), ["a"], "label"),
        (recordio.Scalar("int64", optional=True), [], "label"),
        (recordio.Scalar("float32"), ["a"], None),
        (recordio.Array("int64", (2,)), ["a"], None),
        (recordio.Scalar("uint8"), "abc", None),
        (recordio.Scalar("uint8"), None, None),
    ],
)
def test_a_label_is_an_integer_with_named_classes(kind: Any, classes: Any, found: str | None) -> None:
    schema = recordio.Schema({"x": recordio.Scalar("int64"), "label": kind})
    assert label_field(schema, {"classes": classes}) == found
