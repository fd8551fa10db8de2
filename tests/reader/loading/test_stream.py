"""Streams: slices of windows for each batch, and what is read early when memory is short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recordio.reader.batches.requests import BatchRequest, WindowSlice
from recordio.reader.loading.stream import Leased, Stream, requests
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.workers.protocol import CompletedTask
from tests.reader.loading.by_hand import (
    BLOCK,
    ManualTask,
    ManualThreads,
    in_memory,
    numbers_of,
    prefetcher_of,
    write_blocks,
)

BLOCKS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("coded"), BLOCKS * BLOCK, "zstd")


@pytest.fixture
def dataset(folder: Path) -> OpenDataset:
    return in_memory(folder)


class Reader:
    """Reads slices early, and remembers which."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, one: WindowSlice) -> list[WindowSlice]:
        self.read += one.plan.index[one.begin : one.end].tolist()
        return [replace(one, columns=one.window.table.take(one.slot, one.row))]


def stream_of(dataset: OpenDataset, read_early: Callable[[WindowSlice], list[WindowSlice]] | None = None) -> Stream:
    """Windows of one block each."""
    return Stream(prefetcher_of(dataset, ManualThreads(at_once=True)), read_early or Reader())


def numbers(taken: list[Leased]) -> list[list[int]]:
    return [numbers_of(one) for one, _ in taken]


def release(taken: list[Leased]) -> None:
    for _, lease in taken:
        if lease is not None:
            lease.release()


def test_slices_end_where_windows_do(dataset: OpenDataset) -> None:
    stream = stream_of(dataset)
    expected = [[[0, 1, 2]], [[3], [4, 5]], [[6, 7], [8]], [[9, 10, 11]], [[12, 13, 14]]]
    for slices in expected:
        taken = stream.take(3)
        assert numbers(taken) == slices
        release(taken)


def test_every_slice_comes_with_a_lease_of_its_window(dataset: OpenDataset) -> None:
    taken = stream_of(dataset).take(6)
    for one, lease in taken:
        assert lease in one.window.leases
    finished, current = (one.window for one, _ in taken)
    release(taken)
    assert finished.is_free
    assert not current.is_free, "the stream goes on reading from it"


def test_taking_no_samples_starts_the_first_window(dataset: OpenDataset) -> None:
    threads = ManualThreads()
    stream = Stream(prefetcher_of(dataset, threads), Reader())
    assert stream.take(0) == []
    assert len(threads.queue) == 1


class TestReadingEarly:
    def test_batch_over_more_windows_than_fit_into_memory_is_read_early(self, dataset: OpenDataset) -> None:
        read = Reader()
        taken = stream_of(dataset, read).take(5 * BLOCK)
        assert read.read == list(range(4 * BLOCK))
        assert [lease is None for _, lease in taken] == [one.columns is not None for one, _ in taken]
        assert [n for one in numbers(taken) for n in one] == list(range(5 * BLOCK))

    def test_stream_waits_for_the_tasks_that_read_from_the_memory(self, dataset: OpenDataset) -> None:
        read = Reader()
        stream = stream_of(dataset, read)
        tasks = []
        for _ in range(2):
            ((_, lease),) = stream.take(BLOCK)
            assert lease is not None
            tasks.append(ManualTask())
            lease.hand_to(tasks[-1])
        taken = stream.take(BLOCK)
        assert [task.waits for task in tasks] == [1, 0]
        assert numbers(taken) == [[8, 9, 10, 11]]
        assert read.read == [], "this batch has nothing to read yet"

    def test_nothing_is_read_early_while_there_is_memory(self, dataset: OpenDataset) -> None:
        read = Reader()
        taken = stream_of(dataset, read).take(2 * BLOCK)
        assert read.read == []
        assert all(lease is not None for _, lease in taken)


def test_leases_must_have_been_handed_over_before_the_next_window(dataset: OpenDataset) -> None:
    stream = stream_of(dataset)
    stream.take(2)

    def take_more() -> None:
        for _ in range(100):
            for _, lease in stream.take(2):
                assert lease is not None
                lease.hand_to(CompletedTask(None))

    with pytest.raises(RuntimeError, match="lease of window 0 was lost"):
        take_more()


def test_leases_with_a_task_may_outlast_the_next_batch(dataset: OpenDataset) -> None:
    stream = stream_of(dataset)
    ((_, lease),) = stream.take(2)
    assert lease is not None
    lease.hand_to(ManualTask())
    assert numbers(stream.take(2)) == [[2, 3]]


class TestRequests:
    def test_requests_cover_all_samples(self, dataset: OpenDataset) -> None:
        found, sizes = [], []
        for request, leases in requests([stream_of(dataset)], None, BLOCKS * BLOCK, 5):
            assert isinstance(request, BatchRequest)
            assert request.sources is None
            sizes.append(len(request))
            found += [n for one in request.slices for n in numbers_of(one)]
            for lease in leases:
                lease.release()
        assert sizes == [5, 5, 5, 5, 4]
        assert found == list(range(BLOCKS * BLOCK))

    def test_requests_of_several_streams_follow_the_schedule(self, dataset: OpenDataset, folder: Path) -> None:
        streams = [stream_of(dataset), stream_of(in_memory(folder)), stream_of(in_memory(folder))]
        turns = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [BLOCKS * BLOCK, 7, 0]))
        chunks = iter(np.split(turns, [1, 2, 9, 30]))
        found: list[tuple[int, int]] = []
        for request, leases in requests(streams, chunks, len(turns), 4):
            assert isinstance(request, BatchRequest)
            assert request.sources is not None
            samples = np.array([n for one in request.slices for n in numbers_of(one)])
            rows = np.empty(len(request), np.int64)
            rows[request.batch_rows] = samples
            found += zip(request.sources.tolist(), rows.tolist(), strict=True)
            for lease in leases:
                lease.release()
        assert [source for source, _ in found] == turns.tolist()
        for source, count in (0, BLOCKS * BLOCK), (1, 7), (2, 0):
            assert [n for turn, n in found if turn == source] == list(range(count))

    def test_mixed_request_is_read_early_only_where_memory_is_short(self, dataset: OpenDataset, folder: Path) -> None:
        short, enough = Reader(), Reader()
        streams = [stream_of(dataset, short), stream_of(in_memory(folder), enough)]
        turns = np.repeat([0, 1], [4 * BLOCK, BLOCK])
        ((request, leases),) = requests(streams, iter([turns]), len(turns), len(turns))
        assert isinstance(request, BatchRequest)
        assert short.read
        assert enough.read == []
        assert len(leases) == sum(one.columns is None for one in request.slices)
