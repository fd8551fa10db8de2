"""The numbers of a view: in memory no wider than they need, in a pickle as short as they can be said."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio.reader.order import numbers as module
from recordio.reader.order.numbers import chosen, count_below, is_ascending, numbers_at, packed, true_indices, unpacked
from tests.effort import examples
from tests.epochs import View, views

RANDOM = np.random.default_rng(5)
SOME = RANDOM.random(10**6)


@pytest.fixture(autouse=True, scope="module")
def short_runs() -> Any:
    """Runs and pieces so short that small views have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 3)
        patch.setattr(module, "_PIECE", 5)
        yield


def held(view: View, dtype: str = "int64") -> module.Numbers:
    return view if isinstance(view, range) else np.array(view, dtype)


dtypes = st.sampled_from(["uint8", "uint32", "int64"])


@examples(300)
@given(views(200), dtypes)
def test_pickled_numbers_are_the_same(view: View, dtype: str) -> None:
    before = held(view, dtype)
    after = unpacked(pickle.loads(pickle.dumps(packed(before))))
    assert list(after) == list(view)
    assert isinstance(after, range) or after.dtype == dtype


@given(st.lists(st.integers(0, 2**63 - 1), max_size=12))
def test_any_number_survives_a_pickle(view: list[int]) -> None:
    assert list(unpacked(packed(held(view)))) == view


@examples(300)
@given(st.data(), views(200), dtypes)
def test_numbers_at_indices_are_those_of_the_list(data: st.DataObject, view: View, dtype: str) -> None:
    indices = data.draw(st.lists(st.integers(0, len(view) - 1), max_size=20) if view else st.just([]))
    for index in (np.array(indices, np.int64), np.array(indices, np.uint8)):
        found = numbers_at(held(view, dtype), index)
        assert found.dtype == np.int64
        assert found.tolist() == chosen(held(view, dtype), index).tolist() == [view[i] for i in indices]


def test_chosen_numbers_are_a_copy() -> None:
    indices = np.arange(4)
    found = chosen(range(2**40), indices)
    indices[:] = 9
    assert found.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("last", "dtype"),
    [(0, "u1"), (255, "u1"), (256, "u2"), (65536, "u4"), (2**32 - 1, "u4"), (2**32, "i8"), (2**40, "i8")],
)
def test_numbers_are_held_as_narrow_as_they_are(last: int, dtype: str) -> None:
    for numbers, index in ((range(last + 1), last), (range(last, -1, -1), 0)):
        found = chosen(numbers, np.array([index]))
        assert found.dtype == dtype
        assert found.tolist() == [last]


@given(st.lists(st.lists(st.booleans(), max_size=9)))
def test_true_indices_count_through_the_masks(masks: list[list[bool]]) -> None:
    every = [flag for mask in masks for flag in mask]
    want = [i for i, flag in enumerate(every) if flag]
    assert true_indices(map(np.array, masks), len(want), len(every)).tolist() == want


@examples(300)
@given(views(200), dtypes, st.lists(st.integers(0, 1000), max_size=20).map(sorted))
def test_ascending_numbers_are_counted_below_each_limit(view: View, dtype: str, limits: list[int]) -> None:
    """Also below limits that the numbers' dtype has no room for."""
    ascending = list(view) == sorted(view)
    if len(view) > 1:
        assert is_ascending(held(view, dtype)) == ascending
    if is_ascending(held(view, dtype)):
        found = count_below(held(view, dtype), np.array(limits, np.int64))
        assert found.tolist() == [sum(number < limit for number in view) for limit in limits]


@pytest.mark.parametrize(
    ("numbers", "nbytes"),
    [
        (np.zeros(0, np.int64), 100),
        (np.arange(10**6, 2 * 10**6), 1_000),
        (np.flatnonzero(np.arange(10**6) // 10_000 % 2), 3_000),  # runs of ranges
        (np.arange(0, 10**9, 1000), 1_000),
        (np.arange(10**6)[::-1], 1_000),
        (np.full(10**6, 7), 1_000),
        (np.flatnonzero(SOME < 0.9), 125_000 * 0.6),
        (np.flatnonzero(SOME < 0.5), 125_000 * 1.01),  # a bit a sample
        (np.flatnonzero(SOME < 0.1), 125_000 * 0.6),
        (np.flatnonzero(SOME < 0.001) * 1000, 1_000 * 4),
        (np.sort(RANDOM.integers(0, 10**5, 10**5)), 10**5 / 2),  # with repeats, as weights draw
        (RANDOM.permutation(10**5), 10**5 * 4.01),
    ],
    ids=str,
)
def test_size_of_a_pickle(monkeypatch: pytest.MonkeyPatch, numbers: Any, nbytes: float) -> None:
    monkeypatch.setattr(module, "_PIECE", 1 << 18)
    said = pickle.dumps(packed(numbers))
    assert len(said) <= nbytes
    assert np.array_equal(unpacked(pickle.loads(said)), numbers)
