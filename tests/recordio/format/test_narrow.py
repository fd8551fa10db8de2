"""Narrow pages: every integer comes back, in as few bytes as FORMAT.md says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, strategies as st

from recordio import Array, CorruptError, Scalar
from recordio.format.codec import Codec, Compression, PageCoder
from recordio.format.coded import code_page, decode_page
from recordio.format.layout import padded
from recordio.format.narrow import NarrowPages, may_be_narrow, narrow_page, widths_of
from recordio.format.rows import read_narrow_row
from tests.recordio.format.test_format import section

INTEGERS = ["int16", "int32", "int64", "uint16", "uint32", "uint64"]


def narrow(dtype: str, values: list[int]) -> bytes | None:
    return narrow_page(Scalar(dtype), len(values), np.array(values, dtype).tobytes())


def width_of(dtype: str, values: list[int]) -> int | None:
    stored = narrow(dtype, values)
    return None if stored is None else (len(stored) - np.dtype(dtype).itemsize) // len(values)


@st.composite
def close_integers(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Integers of a dtype that lie within some range of each other, at the edges of the dtype too."""
    dtype = draw(st.sampled_from(INTEGERS))
    info = np.iinfo(dtype)
    least, most = int(info.min), int(info.max)
    low = draw(st.one_of(st.integers(least, most), st.sampled_from([least, 0, most])))
    span = draw(st.sampled_from([0, 1, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64]))
    high = min(most, low + span)
    return dtype, draw(st.lists(st.one_of(st.integers(low, high), st.sampled_from([low, high])), min_size=1))


@given(close_integers(), st.booleans())
def test_all_integers_come_back(given: tuple[str, list[int]], optional: bool) -> None:
    dtype, values = given
    field, array = Scalar(dtype, optional=optional), np.array(values, dtype)
    validity = bytes([255]) * padded(-(-len(values) // 8)) if optional else b""
    content = validity + array.tobytes()
    stored = narrow_page(field, len(values), content)
    span = max(values) - min(values)
    widths = [width for width in (1, 2, 4) if width < array.itemsize and span < 1 << 8 * width]
    if not widths:
        assert stored is None
        return
    assert stored is not None
    assert len(stored) == len(validity) + widths[0] * len(values) + array.itemsize
    assert decode_page(Codec.NARROW, field, len(values), memoryview(stored), len(content)) == content
    n, zero = np.array([len(values)]), np.zeros(1, np.int64)
    found = widths_of(field, n, np.array([len(stored)]), np.array([int(Codec.NARROW)]))
    assert found.tolist() == widths[:1]
    pages = NarrowPages(field, stored, zero, n, found)
    every = np.arange(len(values))
    taken = pages.take(np.zeros_like(every), every)
    assert taken.dtype == array.dtype
    assert np.array_equal(taken, array)
    one = pages.get(0, len(values) - 1)
    assert (one, one.dtype) == (values[-1], array.dtype)

    def read(at: int, nbytes: int) -> bytes:
        return (b"before" + stored)[at : at + nbytes]

    alone = [read_narrow_row(field, read, 6, len(values), row, len(stored)) for row in every.tolist()]
    assert alone == values
    assert {type(each) for each in alone} == {array.dtype.type}


@pytest.mark.parametrize(
    ("dtype", "values", "width"),
    [
        ("int16", [-128, 127], 1),
        ("int16", [-128, 128], None),
        ("int32", [-1, 254], 1),
        ("int32", [-1, 255], 2),
        ("int32", [0, 65535], 2),
        ("int32", [0, 65536], None),
        ("int64", [0, 65536], 4),
        ("int64", [-(2**63), -(2**63) + 2**32 - 1], 4),
        ("int64", [-(2**63), -(2**63) + 2**32], None),
        ("int64", [-(2**63), 2**63 - 1], None),
        ("uint64", [2**64 - 256, 2**64 - 1], 1),
        ("uint64", [0, 2**64 - 1], None),
        ("uint64", [2**63 - 1, 2**63], 1),
    ],
)
def test_width_is_the_least_that_holds_the_range(dtype: str, values: list[int], width: int | None) -> None:
    assert width_of(dtype, values) == width


def test_base_is_zero_where_that_costs_nothing() -> None:
    assert narrow("int32", [3, 255]) == bytes([3, 255, 0, 0, 0, 0])
    assert narrow("int32", [3, 256]) == bytes([0, 253, 3, 0, 0, 0])


def test_examples_of_the_specification() -> None:
    rows = [line.strip("|").split("|") for line in section("Page").splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    for dtype, elements, stored in rows:
        values = [int(value) for value in elements.split(",")]
        assert narrow(dtype.strip(" `"), values) == bytes.fromhex(stored.strip(" `"))


def test_addition_wraps_around() -> None:
    stored = bytes([0, 255]) + (32767).to_bytes(2, "little")
    content = decode_page(Codec.NARROW, Scalar("int16"), 2, memoryview(stored), 4)
    assert np.frombuffer(content, "<i2").tolist() == [32767, -32514]
    pages = NarrowPages(Scalar("int16"), stored, np.zeros(1, np.int64), np.array([2]), np.ones(1, np.int64))
    assert pages.take(np.zeros(2, np.int64), np.arange(2)).tolist() == [32767, -32514]
    assert pages.get(0, 1) == -32514


@pytest.mark.parametrize(
    "field", [Scalar("int8"), Scalar("bool"), Scalar("float32"), Array("int32", (0,)), Array("int32", (None,))]
)
def test_other_fields_have_no_narrow_pages(field: Any) -> None:
    assert not may_be_narrow(field)


@pytest.mark.parametrize("text", ["narrow", "auto"])
def test_narrow_pages_are_written_where_they_save_a_fifth(text: str) -> None:
    random = np.random.default_rng(0)

    def codec(dtype: str, values: Any) -> Codec:
        content = np.asarray(values, dtype).tobytes()
        return code_page(PageCoder(Compression.parse(text)), Scalar(dtype), len(values), content)[0]

    assert codec("int32", random.integers(0, 60_000, 1000)) is Codec.NARROW
    assert codec("int64", random.integers(0, 2**31, 1000)) is Codec.NARROW
    assert codec("int32", random.integers(0, 2**31, 1000)) is Codec.PLAIN
    assert codec("int32", random.integers(0, 9, 255)) is Codec.PLAIN  # under 1 KiB


def test_narrow_pages_are_coded_where_that_saves_an_eighth_of_them() -> None:
    random = np.random.default_rng(0)

    def codec(dtype: str, values: Any) -> Codec:
        content = np.asarray(values, dtype).tobytes()
        codec, stored = code_page(PageCoder(Compression.parse("narrow+zstd")), Scalar(dtype), len(values), content)
        if codec is not Codec.PLAIN and codec is not Codec.NARROW:
            found = decode_page(codec, Scalar(dtype), len(values), memoryview(bytes(stored)), len(content))
            assert found == content
        return codec

    assert codec("int32", np.minimum(random.zipf(1.3, 5000), 50_000)) is Codec.NARROW_ZSTD
    assert codec("int64", -random.geometric(0.02, 5000)) is Codec.NARROW_ZSTD
    assert codec("int32", random.integers(0, 1 << 16, 5000)) is Codec.NARROW
    assert codec("int64", np.arange(5000) << 40) is Codec.ZSTD  # no width holds them
    times = np.cumsum(random.integers(0, 5000, 5000)) + (1 << 40)
    assert codec("int64", times) is Codec.ZSTD  # saves a sixteenth of the content more
    assert codec("int64", random.integers(-(2**63), 2**63 - 1, 5000)) is Codec.PLAIN
    assert codec("int32", random.integers(0, 9, 255)) is Codec.PLAIN  # under 1 KiB


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("optional", [False, True])
def test_frames_of_another_size_than_any_width_are_refused_before_memory_is_taken(dtype: str, optional: bool) -> None:
    field, size = Scalar(dtype, optional=optional), np.dtype(dtype).itemsize
    start = 64 if optional else 0
    good = {start + 4 * width + size for width in (1, 2, 4) if width < size}
    for nbytes in range(start + 64):
        frame = memoryview(zstandard.compress(bytes(nbytes)))
        if nbytes in good:
            assert decode_page(Codec.NARROW_ZSTD, field, 4, frame, start + 4 * size) == bytes(start + 4 * size)
        else:
            with pytest.raises(CorruptError, match=f"zstd frame of {nbytes} bytes holds no narrow page of 4 samples"):
                decode_page(Codec.NARROW_ZSTD, field, 4, frame, start + 4 * size)


def test_zstd_writes_no_narrow_pages() -> None:
    content = np.arange(1000, dtype="<i8").tobytes()
    for text in (None, "zstd"):
        codec, _ = code_page(PageCoder(Compression.parse(text)), Scalar("int64"), 1000, content)
        assert codec is not Codec.NARROW
