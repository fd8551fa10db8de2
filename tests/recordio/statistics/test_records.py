"""The records of statistics: two parts together, their JSON, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import CorruptError
from recordio.statistics.records import Channels, Extent, FieldStatistics, Numbers, Statistics, merged_json
from tests.effort import examples

WHOLE = FieldStatistics(
    count=5,
    missing=1,
    numbers=Numbers(4, 1, 0, -1, 9, 2.5, 1.25, 10),
    values={-1: 2, 9: 3},
    lengths=Extent(5, 1, 4, 11),
    formats={"jpeg": 4, "unreadable": 1},
    height=Extent(4, 3, 3, 12),
    width=Extent(4, 5, 8, 25),
    channels=Channels(300, (1.5, 2.5, 3.5), (0.5, 0.25, 1.0)),
)


def test_json_gives_back_what_it_was_made_of() -> None:
    found = Statistics({"a": WHOLE, "b": FieldStatistics(3, 0)})
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Statistics.from_json(json.loads(text)) == found
    assert Extent(4, 5, 8, 25).mean == 6.25
    assert Extent().mean == 0


def test_unknown_members_are_ignored() -> None:
    value = {"fields": {"a": WHOLE.to_json() | {"median": 3}}, "by": "somebody"}
    assert Statistics.from_json(value) == Statistics({"a": WHOLE})


def field(**members: Any) -> dict[str, Any]:
    return {"fields": {"a": {"count": 1, "missing": 0} | members}}


SPREAD = {"count": 1, "nan": 0, "infinite": 0}
BAD: dict[str, Any] = {
    "no object": [],
    "no fields": {},
    "a field that is none": {"fields": {"a": 1}},
    "no count": {"fields": {"a": {"missing": 0}}},
    "a count below 0": field(count=-1),
    "a huge count": field(count=1 << 62),
    "a true count": field(count=True),
    "a mean of text": field(numbers=SPREAD | {"mean": "1"}),
    "an infinite mean": field(numbers=SPREAD | {"mean": math.inf}),
    "a sum that is no integer": field(numbers=SPREAD | {"sum": 0.5}),
    "values that are no pairs": field(values=[1]),
    "too many values": field(values=[[k, 1] for k in range(1001)]),
    "five channels": field(channels={"pixels": 1, "mean": [1] * 5, "std": [1] * 5}),
    "unlike channels": field(channels={"pixels": 1, "mean": [1], "std": []}),
    "a channel without a mean": field(channels={"pixels": 1, "mean": [None], "std": [1]}),
    "formats that are a list": field(formats=["jpeg"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_format_does_not_allow_is_refused(case: str) -> None:
    with pytest.raises(CorruptError, match=r"statistics|count of a"):
        Statistics.from_json(BAD[case])


@examples(100)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), min_size=1, max_size=6))
def test_numbers_of_parts_are_those_of_the_whole(parts: list[list[float]]) -> None:
    found = Numbers()
    for part in parts:
        array = np.array(part)
        found = found.merged(
            Numbers(len(part), 1, 0, float(array.min()), float(array.max()), float(array.mean()), float(array.std()))
        )
    whole = np.concatenate([np.array(part) for part in parts])
    assert (found.count, found.nan, found.min, found.max) == (len(whole), len(parts), whole.min(), whole.max())
    assert found.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-9)
    assert found.std == pytest.approx(whole.std(), rel=1e-6, abs=1e-6)


def test_the_mean_of_integers_is_that_of_their_sum() -> None:
    a, b = Numbers(3, 0, 0, 1, 3, 2.0, 0.5, 6), Numbers(1, 0, 0, 2**62, 2**62, float(2**62), 0.0, 2**62)
    both = a.merged(b)
    assert (both.sum, both.mean) == (2**62 + 6, (2**62 + 6) / 4)


def test_nothing_changes_nothing() -> None:
    for name in ("numbers", "lengths", "height"):
        part = getattr(WHOLE, name)
        assert part.merged(type(part)()) == part == type(part)().merged(part)


def test_fields_of_two_parts() -> None:
    both = WHOLE.merged(WHOLE)
    assert (both.count, both.missing, both.values, both.formats) == (10, 2, {-1: 4, 9: 6}, {"jpeg": 8, "unreadable": 2})
    assert both.channels == Channels(600, (1.5, 2.5, 3.5), (0.5, 0.25, 1.0))
    assert both.width == Extent(8, 5, 8, 50)


def test_what_one_part_does_not_say_is_not_said() -> None:
    both = WHOLE.merged(FieldStatistics(5, 0))
    assert both == FieldStatistics(10, 1)
    many = FieldStatistics(600, values=dict.fromkeys(range(600), 1))
    more = FieldStatistics(600, values=dict.fromkeys(range(500, 1100), 1))
    assert many.merged(more).values is None
    grey, colour = Channels(1, (1.0,), (0.0,)), Channels(1, (1.0,) * 3, (0.0,) * 3)
    assert FieldStatistics(channels=grey).merged(FieldStatistics(channels=colour)).channels is None


def test_parts_without_statistics_have_none_together() -> None:
    value = Statistics({"a": WHOLE}).to_json()
    assert merged_json([]) is None
    assert merged_json([value, None]) is None
    assert merged_json([value]) == value
    assert merged_json([value, value]) == Statistics({"a": WHOLE.merged(WHOLE)}).to_json()
