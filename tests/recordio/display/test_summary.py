"""Facts and histograms of a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recordio import Array, Bytes, Image, Object, Scalar, Text
from recordio.display.summary import BINS, MOST_BARS, Summary, histogram, label_histogram, measure, summarise
from recordio.display.values import Damaged
from tests.photos import encode, photo


def summary(kind: Any, values: list[Any], classes: list[Any] | None = None) -> Summary:
    return summarise(kind, [measure(kind, value) for value in values], classes)


def test_numbers_have_range_and_mean() -> None:
    found = summary(Scalar("float64"), [1.0, 2.0, 3.0, float("nan"), None, Damaged("gone")])
    assert dict(found.facts) == {
        "range": "1 to 3",
        "mean": "2 ± 0.8165",
        "not finite": "1 of 4",
        "missing": "1 of 6",
        "cannot be read": "1 of 6",
    }
    assert found.bars
    assert sum(count for _, count in found.bars.bars) == 3


def test_labels_are_counted_by_class_with_those_that_were_not_seen() -> None:
    found = summary(Scalar("int64"), [0, 0, 2, 7], ["ant", "bee", "cat"])
    assert found.bars
    assert found.bars.bars == [("ant", 2), ("bee", 0), ("cat", 1), ("7 (no such class)", 1)]
    assert dict(found.facts) == {"classes": "2 of 3 seen"}


def test_of_many_classes_the_most_frequent_are_named() -> None:
    bars = label_histogram({k: k for k in range(1, 1000)}, [f"class {k}" for k in range(1000)]).bars
    assert len(bars) == MOST_BARS + 1
    assert bars[0] == ("class 999", 999)
    assert bars[-1][0] == "976 others"
    assert sum(count for _, count in bars) == sum(range(1000))


def test_pictures_are_described_by_their_headers() -> None:
    found = summary(Image(), [encode(photo(30, 20)), encode(photo(40, 50), "PNG"), b"\x89PNG\r\n\x1a\n"])
    facts = dict(found.facts)
    assert (facts["height"], facts["width"], facts["format"]) == ("30 to 40", "20 to 50", "jpeg 1, png 1")
    assert facts["cannot be read"] == "1 of 3"


def test_arrays_of_free_length_have_a_histogram_of_lengths() -> None:
    kind = Array("int32", (None,))
    found = summary(kind, [np.arange(n, dtype="i4") for n in (0, 3, 5)])
    assert found.bars
    assert found.bars.bars == [("0", 1), ("3", 1), ("5", 1)]
    assert dict(found.facts)["length, axis 0"] == "0 to 5"
    assert dict(summary(kind, [np.zeros(0, "i4")]).facts)["values"] == "none"


def test_labels_of_boxes_are_counted() -> None:
    found = summary(Array("int64", (None,)), [np.array([0, 1, 1])], ["car", "dog"])
    assert found.bars
    assert found.bars == ("labels by class", [("car", 1), ("dog", 2)], True)


def test_texts_are_counted_where_few_differ() -> None:
    few, many = summary(Text(), ["web", "book", "web"] * 9), summary(Text(), [f"text {k}" for k in range(99)])
    assert few.bars
    assert few.bars.bars == [("web", 18), ("book", 9)]
    assert many.bars
    assert many.bars.title == "characters"


def test_bytes_and_objects() -> None:
    assert dict(summary(Bytes(), [b"ab", b"abc"]).facts) == {"size": "2 B to 3 B"}
    found = summary(Object(), [{"a": 1, "b": 2}, [1], {"a": 3, "b": 4}])
    assert found.bars
    assert found.bars.bars == [('{"a", "b"}', 2), ("list", 1)]


def test_nothing_but_missing_values() -> None:
    assert summary(Scalar("float32"), [None, None]) == Summary([("missing", "2 of 2")])
    assert summary(Text(), []) == Summary([])


@pytest.mark.parametrize(
    "values",
    [
        [-1e308, 1e308],
        [5e-324, 1e-323],
        [1.0, 1.0 + 2**-52],
        [float("inf"), 1.0, 2.0],
        list(range(-(2**63), 2**63, 2**58)),
        list(range(2**64 - 99, 2**64)),
        [True, False, True],
    ],
)
def test_a_histogram_counts_every_finite_value(values: list[Any]) -> None:
    found = histogram("values", values)
    finite = sum(value - value == 0 for value in values)
    if found is not None:
        assert len(found.bars) <= BINS
        assert sum(count for _, count in found.bars) == finite


def test_a_histogram_of_one_value_is_none() -> None:
    assert histogram("values", [3, 3]) is None
    assert histogram("values", [float("nan")]) is None


def test_complex_numbers_have_no_order() -> None:
    assert summary(Scalar("complex64"), [np.complex64(1j)]).bars is None
