"""Pages: their bytes match FORMAT.md, and values are read back."""

from __future__ import annotations

import gc
import struct
import weakref
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, CorruptError, Scalar, Text
from recordio.format.fields import Field
from recordio.format.page import check_page, encode_page, least_nbytes, pages, validity_nbytes
from tests.strategies import alike, cells, fields, value


def page_of(field: Field, values: list[Any]) -> bytes:
    return bytes(encode_page(field, [[None if v is None and field.optional else field.pack(v) for v in values]]))


def indices(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def test_fixed_page_concatenates_its_values() -> None:
    assert page_of(Scalar("int16"), [1, -2]) == struct.pack("<hh", 1, -2)
    assert page_of(Array("uint8", (2, 2)), [[[1, 2], [3, 4]]] * 2) == bytes([1, 2, 3, 4] * 2)


def test_missing_value_in_a_fixed_page_is_zeros() -> None:
    content = page_of(Scalar("int16", optional=True), [7, None, 9])
    assert content == bytes([0b101]).ljust(64, b"\0") + struct.pack("<hhh", 7, 0, 9)


def test_variable_page_is_offsets_then_bytes() -> None:
    assert page_of(Text(), ["ab", "", "c"]) == struct.pack("<QQQQ", 0, 2, 2, 3) + b"abc"
    assert page_of(Text(), []) == struct.pack("<Q", 0)


def test_missing_value_in_a_variable_page_is_empty() -> None:
    content = page_of(Text(optional=True), [None, "a", ""])
    assert content == bytes([0b110]).ljust(64, b"\0") + struct.pack("<QQQQ", 0, 0, 1, 1) + b"a"


@pytest.mark.parametrize(("samples", "nbytes"), [(0, 0), (1, 64), (512, 64), (513, 128)])
def test_validity_is_padded_to_the_alignment(samples: int, nbytes: int) -> None:
    assert validity_nbytes(samples) == nbytes
    if samples:
        assert len(page_of(Scalar("uint8", optional=True), [None] * samples)) == nbytes + samples


def test_runs_and_single_values_encode_alike() -> None:
    field = Scalar("int32")
    run = memoryview(np.arange(4, dtype="<i4").view("u1"))
    one_by_one = [field.pack(i) for i in range(4)]
    assert bytes(encode_page(field, [run])) == bytes(encode_page(field, [one_by_one]))
    assert bytes(encode_page(field, [one_by_one[:1], run[4:12], one_by_one[3:]])) == bytes(run)


@given(st.data(), fields(), st.integers(0, 2**32), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_values_round_trip_through_any_number_of_pages(
    data: st.DataObject, field: Field, seed: int, counts: list[int]
) -> None:
    """The pages are in one buffer, at any offset, with other bytes between them."""
    random = Random(seed)
    values = [[value(field, random) for _ in range(count)] for count in counts]
    buffer, starts = b"", []
    for page in values:
        content = page_of(field, page)
        check_page(field, len(page), content)
        fixed = field.row_nbytes is not None
        least = least_nbytes(field, len(page))
        assert len(content) == least if fixed else len(content) >= least
        buffer += random.randbytes(random.randrange(70))
        starts.append(len(buffer))
        buffer += content
    reader = pages(field, buffer, indices(*starts), indices(*counts))
    places = [(p, r) for p, count in enumerate(counts) for r in range(count)]
    asked = data.draw(st.lists(st.sampled_from(places), max_size=20)) if places else []
    got = reader.take(indices(*(p for p, _ in asked)), indices(*(r for _, r in asked)))
    assert len(got) == len(asked)
    assert all(alike(cell, values[p][r]) for cell, (p, r) in zip(cells(got), asked, strict=True))
    assert all(alike(reader.get(p, r), values[p][r]) for p, r in places)


def test_rows_over_the_gather_limit_are_read() -> None:
    field = Array("uint8", (1 << 16,))
    rows = [np.full(1 << 16, i, np.uint8) for i in range(3)]
    reader = pages(field, page_of(field, rows), indices(0), indices(3))
    got = reader.take(indices(0, 0, 0, 0), indices(2, 0, 2, 1))
    assert [row[0] for row in got] == [2, 0, 2, 1]
    assert reader.get(0, 1)[-1] == 1


def test_values_are_writable_copies() -> None:
    for field, one in (
        (Array("int8", (2,)), [1, 2]),
        (Array("int8", (None,)), [1, 2]),
        (Array("u1", (1 << 16,)), None),
    ):
        content = page_of(field, [np.ones(field.shape, "u1") if one is None else one])
        reader = pages(field, content, indices(0), indices(1))
        for got in (reader.get(0, 0), reader.take(indices(0), indices(0))[0]):
            got[:] = 99
        assert reader.get(0, 0)[0] == 1


@pytest.mark.parametrize(
    "offsets",
    [(1, 2, 3), (0, 2, 2), (0, 4, 3), (0, 2, 2**63), (0, 2**63, 3), (0, 2**64 - 1, 3), (0, 0, 2**64 - 1)],
)
def test_offsets_not_ascending_from_0_to_the_end_are_refused(offsets: tuple[int, ...]) -> None:
    check_page(Text(), 2, struct.pack("<3Q", 0, 1, 3) + b"abc")
    with pytest.raises(CorruptError, match="offsets"):
        check_page(Text(), 2, struct.pack("<3Q", *offsets) + b"abc")


def test_text_that_is_not_utf_8_is_corrupt() -> None:
    reader = pages(Text(), struct.pack("<QQ", 0, 1) + b"\xff", indices(0), indices(1))
    with pytest.raises(CorruptError, match="UTF-8"):
        reader.get(0, 0)
    with pytest.raises(CorruptError, match="UTF-8"):
        reader.take(indices(0), indices(0))


@given(fields(), st.integers(0, 2**32))
def test_pages_that_gave_a_value_are_freed_at_once(field: Field, seed: int) -> None:
    """A cache of decoded pages is bounded only if what it drops is freed."""
    reader = pages(field, page_of(field, [value(field, Random(seed))]), indices(0), indices(1))
    reader.get(0, 0)
    assert reader.get is reader.get
    left = weakref.ref(reader)
    gc.disable()
    try:
        del reader
        assert left() is None
    finally:
        gc.enable()
