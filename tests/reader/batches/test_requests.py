"""Requests: which sample is in which row of a batch, and what is left when some are taken out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from recordio import StorageError
from recordio.reader.batches.requests import BatchRequest, IndexRequest, WindowSlice
from recordio.reader.order.shuffle import WindowPlan


def plan_of(first: int, n: int) -> WindowPlan:
    """Samples whose index is first, first + 1, ...; each column differs from the others."""
    index = np.arange(first, first + n)
    return WindowPlan(np.arange(3), position=index + 1000, slot=index % 3, row=index // 3, index=index, epoch_key=7)


def slice_of(first: int, n: int, source: int = 0, before: int = 0, columns: bool = False) -> WindowSlice:
    """A slice of n samples, in a plan that has more on both sides."""
    plan = plan_of(first - before, before + n + 2)
    read = (
        {"number": np.arange(first, first + n), "text": [str(k) for k in range(first, first + n)]} if columns else None
    )
    return WindowSlice(source, "window", plan, before, before + n, read)


def indices(one: WindowSlice) -> list[int]:
    """The samples of a slice, each of its columns being held against the others."""
    index = one.plan.index[one.begin : one.end]
    assert one.slot.tolist() == (index % 3).tolist()
    assert one.row.tolist() == (index // 3).tolist()
    assert one.plan.position[one.begin : one.end].tolist() == (index + 1000).tolist()
    if isinstance(one.columns, dict):
        assert one.columns["number"].tolist() == index.tolist()
        assert one.columns["text"] == [str(k) for k in index.tolist()]
    assert len(one) == len(index)
    return index.tolist()  # type: ignore[no-any-return]


def test_a_slice_is_a_run_of_its_plan() -> None:
    assert indices(slice_of(10, 4, before=3)) == [10, 11, 12, 13]


def test_a_cut_slice_keeps_its_columns_and_blocks() -> None:
    one = slice_of(10, 5, before=2, columns=True)
    for rows, expected in (slice(1, 3), [11, 12]), (np.array([0, 4]), [10, 14]), (np.zeros(0, np.int64), []):
        found = one.cut(rows)
        assert indices(found) == expected
        assert found.plan.blocks.tolist() == [0, 1, 2]
        assert (found.source, found.window, found.plan.epoch_key) == (0, "window", 7)


def test_a_cut_slice_keeps_its_error() -> None:
    one = slice_of(0, 3)
    one.columns = StorageError("no")
    assert one.cut(slice(1)).columns is one.columns


def rows_of(request: BatchRequest) -> list[tuple[int, int]]:
    """(dataset, index) of each row of the batch."""
    out: list[tuple[int, int]] = [(-1, -1)] * len(request)
    samples = [(one.source, index) for one in request.slices for index in indices(one)]
    for row, sample in zip(request.batch_rows.tolist(), samples, strict=True):
        out[row] = sample
    return out


def test_rows_of_one_dataset_are_in_the_order_of_the_slices() -> None:
    assert rows_of(BatchRequest([slice_of(0, 2), slice_of(5, 3)])) == [(0, 0), (0, 1), (0, 5), (0, 6), (0, 7)]


def test_rows_of_several_datasets_are_where_the_sources_say() -> None:
    request = BatchRequest([slice_of(0, 2), slice_of(9, 1), slice_of(4, 3, source=1)], np.array([1, 0, 1, 0, 1, 0]))
    assert rows_of(request) == [(1, 4), (0, 0), (1, 5), (0, 1), (1, 6), (0, 9)]


@given(st.data(), st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=5), st.booleans())
def test_only_some_rows_keep_their_order(data: st.DataObject, sizes: list[tuple[int, bool]], mixed: bool) -> None:
    cuts = data.draw(st.integers(0, len(sizes))) if mixed else len(sizes)
    slices = [slice_of(10 * k, n, source=int(k >= cuts), before=k, columns=read) for k, (n, read) in enumerate(sizes)]
    counts = [sum(len(one) for one in slices if one.source == source) for source in range(2)]
    sources = np.array(data.draw(st.permutations([0] * counts[0] + [1] * counts[1])), np.int64) if mixed else None
    request = BatchRequest(slices, sources)
    kept = sorted(data.draw(st.sets(st.integers(0, len(request) - 1))))
    assert rows_of(request.only(kept)) == [rows_of(request)[row] for row in kept]


def test_only_some_rows_drop_slices_that_are_left_without_samples() -> None:
    found = BatchRequest([slice_of(0, 2), slice_of(5, 3), slice_of(9, 1)]).only([0, 5])
    assert [indices(one) for one in found.slices] == [[0], [9]]


def test_only_some_rows_of_an_index_request() -> None:
    request = IndexRequest([5, 3, 3, 9], epoch_key=7)
    assert len(request) == 4
    assert request.only([0, 2, 3]) == IndexRequest([5, 3, 9], epoch_key=7)
