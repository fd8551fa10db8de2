"""Blocks: where they are cut, and that samples pass through unchanged."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, Scalar, Schema, SchemaError, Text
from recordio.writer.blocks import MAX_BLOCK_ROWS, BlockBuilder, FullBlock, Segment
from recordio.writer.packing import Packer
from tests.strategies import columns, samples, schemas

TEXT = Schema({"text": Text()})


def values(block: FullBlock, row_nbytes: list[int | None]) -> list[list[bytes | None]]:
    """The packed values of a block, one list per field."""
    out: list[list[bytes | None]] = []
    for parts, nbytes in zip(block.fields, row_nbytes, strict=True):
        found: list[bytes | None] = []
        for part in parts:
            if isinstance(part, memoryview):
                data = bytes(part)
                found += [data[at : at + (nbytes or 1)] for at in range(0, len(data), nbytes or 1)]
            else:
                found += part
        out.append(found)
    return out


def cut(sizes: list[int], target: int, limit: int | None = None) -> list[int]:
    """The number of samples in each block, for texts of these sizes."""
    builder = BlockBuilder(TEXT, target)
    found = []
    free_rows = limit

    def drain() -> None:
        nonlocal free_rows
        while block := builder.take(free_rows):
            found.append(block.samples)
            if limit is not None and free_rows is not None:
                free_rows = free_rows - block.samples or limit
                if free_rows == limit:
                    builder.restart()

    for size in sizes:
        if builder.add({"text": "x" * size}) or limit is not None:
            drain()
    drain()
    if block := builder.flush():
        found.append(block.samples)
    return found


def test_block_ends_with_the_sample_that_reaches_the_target() -> None:
    assert cut([10] * 25, 100) == [10, 10, 5]
    assert cut([9] * 13, 100) == [12, 1]


def test_later_blocks_keep_the_rows_of_the_first() -> None:
    assert cut([10] * 10 + [6] * 20, 100) == [10, 10, 10]
    assert cut([10] * 10 + [19] * 20, 100) == [10, 10, 10]


def test_later_block_under_half_the_target_grows() -> None:
    assert cut([10] * 10 + [1] * 120, 100) == [10, 50, 50, 20]


def test_only_a_single_sample_exceeds_twice_the_target() -> None:
    assert cut([10] * 10 + [30] * 12, 100) == [10, 6, 6]
    assert cut([10, 500, 10, 500, 500], 100) == [1, 1, 1, 1, 1]


def test_block_rows_are_limited() -> None:
    builder = BlockBuilder(TEXT, 1 << 30)
    builder.add_columns({"text": [""] * (2 * MAX_BLOCK_ROWS + 5)})
    found = []
    while block := builder.take():
        found.append(block.samples)
    assert found == [MAX_BLOCK_ROWS] * 2
    last = builder.flush()
    assert last is not None
    assert last.samples == 5


def test_block_rows_are_limited_for_mixed_rows_and_columns() -> None:
    builder = BlockBuilder(TEXT, 1 << 30)
    builder.add_columns({"text": [""] * (MAX_BLOCK_ROWS - 1)})
    assert builder.add({"text": ""})
    block = builder.take()
    assert block is not None
    assert block.samples == MAX_BLOCK_ROWS


def test_take_returns_at_most_the_limit() -> None:
    assert cut([10] * 25, 100, limit=7) == [7, 7, 7, 4]
    assert cut([10] * 25, 100, limit=12) == [10, 2, 10, 2, 1]


def _cut_of_batches(builder: BlockBuilder, batches: list[int], limit: int | None, width: int) -> list[int]:
    found = []
    for n in batches:
        builder.add_columns({"x": np.zeros((n, width), np.uint8)})
        while block := builder.take(limit):
            found.append(block.samples)
        builder.keep()
    last = builder.flush()
    return found + ([last.samples] if last else [])


@given(
    st.lists(st.integers(0, 90), max_size=12), st.integers(1, 300), st.none() | st.integers(1, 50), st.integers(0, 40)
)
def test_samples_of_one_size_are_cut_as_by_adding_up_their_sizes(
    batches: list[int], target: int, limit: int | None, width: int
) -> None:
    schema = Schema({"x": Array("uint8", (width,))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordio.writer.blocks.MAX_BLOCK_ROWS", 64)
        one, other = BlockBuilder(schema, target), BlockBuilder(schema, target)
        other._sample_nbytes = None  # as if the sizes differed
        assert _cut_of_batches(one, batches, limit, width) == _cut_of_batches(other, batches, limit, width)


def test_restart_recomputes_the_rows_per_block() -> None:
    assert cut([10] * 12 + [50] * 12, 100, limit=12) == [10, 2, *[2] * 6]


@given(schemas(3), st.lists(st.integers(0, 12), max_size=6), st.integers(1, 400), st.data(), st.integers(0, 2**32))
def test_blocks_keep_the_order_of_rows_and_columns(
    schema: Schema, parts: list[int], aim: int, data: st.DataObject, seed: int
) -> None:
    rows = samples(schema, sum(parts), Random(seed))
    row_nbytes = [field.row_nbytes for field in schema.values()]
    builder, start, blocks = BlockBuilder(schema, aim), 0, []
    for count in parts:
        part = rows[start : start + count]
        start += count
        if data.draw(st.booleans()):
            builder.add_columns(columns(schema, part))
        else:
            for row in part:
                builder.add(row)
        while block := builder.take():
            blocks.append(block)
        builder.keep()
        assert sum(block.samples for block in blocks) + builder.waiting == start
    if block := builder.flush():
        blocks.append(block)
    assert builder.waiting == 0
    packer = Packer(schema)
    want = [list(column) for column in zip(*[packer.pack(row) for row in rows], strict=True)]
    found = [values(block, row_nbytes) for block in blocks]
    for number, nbytes in enumerate(row_nbytes):
        if nbytes != 0:  # zero-byte values are indistinguishable
            assert [v for block in found for v in block[number]] == (want[number] if want else [])


def test_refused_sample_leaves_the_builder_empty() -> None:
    builder = BlockBuilder(Schema({"a": Scalar("int8"), "b": Text()}), 100)
    for bad in ({"a": 1, "b": 2}, {"a": 300, "b": ""}, {"a": 1}):
        with pytest.raises(SchemaError):
            builder.add(bad)
        with pytest.raises(SchemaError):
            builder.add_columns({name: [value] * 3 for name, value in bad.items()})
    assert builder.waiting == 0
    assert builder.flush() is None


def test_keep_makes_the_builder_own_its_bytes() -> None:
    builder = BlockBuilder(Schema({"a": Array("int8", (2,))}), 1 << 20)
    array: Any = np.zeros((3, 2), np.int8)
    builder.add_columns({"a": array})
    builder.keep()
    array[:] = 9
    block = builder.flush()
    assert block is not None
    assert values(block, [2]) == [[b"\0\0"] * 3]


def test_many_small_batches_are_joined_and_each_sample_copied_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    joins: list[int] = []
    keeps: list[int] = []
    real_joined, real_keep = Segment.joined, Segment.keep

    def joined(segment: Segment, other: Segment) -> Segment:
        joins.append(len(segment.sizes) + len(other.sizes))
        return real_joined(segment, other)

    def keep(segment: Segment) -> Segment:
        found = real_keep(segment)
        keeps.append(0 if found is segment else len(found.sizes))
        return found

    monkeypatch.setattr(Segment, "joined", joined)
    monkeypatch.setattr(Segment, "keep", keep)
    builder = BlockBuilder(Schema({"a": Scalar("int64"), "b": Text()}), 1 << 30)
    for k in range(1024):
        builder.add_columns({"a": np.array([k]), "b": [str(k)]})
        builder.keep()
    assert sum(joins) <= 1024 * 10
    assert sum(keeps) == 1024  # what is the builder's own is not copied again
    assert len(keeps) <= 1024 * 11  # so many segments at a time
    block = builder.flush()
    assert block is not None
    numbers, texts = values(block, [8, None])
    assert numbers == [k.to_bytes(8, "little") for k in range(1024)]
    assert texts == [b"%d" % k for k in range(1024)]


def test_waiting_numbers_are_packed_end_to_end() -> None:
    """A number alone takes some 60 bytes: a wide block of them would fill the memory."""
    builder = BlockBuilder(Schema({f"f{k}": Scalar("float32") for k in range(1 << 12)}), 1 << 30)
    sample = dict.fromkeys(builder.schema, 1.5)
    tracemalloc.start()
    for _ in range(64):
        builder.add(sample)
    nbytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert nbytes < 3 * 4 * 64 * (1 << 12)
    block = builder.flush()
    assert block is not None
    assert block.samples == 64
    assert all(b"".join(parts) == np.full(64, 1.5, "<f4").tobytes() for parts in block.fields)
