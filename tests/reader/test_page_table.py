"""A table of many pages gives the same columns, whether its values are gathered page by page or read one by one."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, CorruptError, Scalar, Text
from recordio.format.narrow import NarrowPages, narrow_page
from recordio.format.page import Pages, encode_page, pages
from recordio.reader import page_table
from recordio.reader.page_table import PageColumn
from tests.effort import examples
from tests.faults.reading import frozen
from tests.strategies import fields, value

ONE = np.zeros(1, np.int64)


def page_of(field: Any, values: list[Any]) -> Pages:
    packed = [None if one is None and field.optional else field.pack(one) for one in values]
    return pages(field, bytes(encode_page(field, [packed])), ONE, np.array([len(values)]))


def column_of(groups: list[Pages]) -> PageColumn:
    return PageColumn(groups, np.arange(len(groups)), np.zeros(len(groups), np.int64))


def taken(column: PageColumn, slot: Any, row: Any, few: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_table, "_FEW", few)
        return column.take(slot, row)


@examples(200)
@given(fields(), st.integers(2, 6), st.integers(1, 30), st.integers(0, 2**32))
def test_values_read_one_by_one_are_those_of_gathers(field: Any, groups: int, count: int, seed: int) -> None:
    random = Random(seed)
    column = column_of([page_of(field, [value(field, random) for _ in range(4)]) for _ in range(groups)])
    slot = np.array([random.randrange(groups) for _ in range(count)])
    row = np.array([random.randrange(4) for _ in range(count)])
    one_by_one, gathered = taken(column, slot, row, 1000), taken(column, slot, row, 0)
    assert type(one_by_one) is type(gathered)
    assert frozen(one_by_one) == frozen(gathered)
    if isinstance(one_by_one, np.ndarray):
        assert one_by_one.flags.writeable
        assert one_by_one.flags.c_contiguous


@pytest.mark.parametrize("field", [Scalar("int64"), Array("int64", (3,))], ids=str)
def test_narrow_pages_among_others_too(field: Any) -> None:
    values = np.arange(-6, 6).reshape(2, 2, -1)
    groups = []
    for part in values:
        content = np.repeat(part, 3).tobytes() if isinstance(field, Array) else part.tobytes()
        samples = np.array([len(content) // field.row_nbytes])
        stored = narrow_page(field, int(samples[0]), content)
        assert stored is not None
        groups += [NarrowPages(field, stored, ONE, samples, np.ones(1, np.int64)), pages(field, content, ONE, samples)]
    slot, row = np.array([0, 3, 1, 2, 0, 3]), np.array([0, 1, 2, 3, 4, 5])
    found = [taken(column_of(groups), slot, row, few) for few in (0, 1000)]
    assert frozen(found[0]) == frozen(found[1])
    assert found[0].dtype == np.int64


def test_text_that_is_not_utf_8_is_refused_either_way() -> None:
    raw = encode_page(Text(), [[b"good", b"\xff"]])
    column = column_of([pages(Text(), bytes(raw), ONE, np.array([2]))] * 2)
    for few in (0, 1000):
        assert taken(column, np.array([0, 1]), np.array([0, 0]), few) == ["good", "good"]
        with pytest.raises(CorruptError, match="UTF-8"):
            taken(column, np.array([0, 1]), np.array([0, 1]), few)
