"""The prefetcher: which window is loaded when, who reads from it, and when its memory is reused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DataLoader, ShardDataset, StorageError, WorkerError
from recordio.reader.batches.fetch_plan import FetchPlan
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.loading.prefetch import PendingWindow, WindowLease, WindowPrefetcher
from recordio.reader.loading.stream import Stream
from recordio.reader.open_dataset import OpenDataset
from tests.reader.loading.by_hand import (
    BLOCK,
    ManualTask,
    ManualThreads,
    in_memory,
    plans_of,
    prefetcher_of,
    write_blocks,
)

BLOCKS = 11


@pytest.fixture(scope="module")
def coded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("coded"), BLOCKS * BLOCK, "zstd")


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("plain"), BLOCKS * BLOCK, None)


@pytest.fixture
def coded(coded_folder: Path) -> OpenDataset:
    """Every window needs memory."""
    return in_memory(coded_folder)


@pytest.fixture
def plain(plain_folder: Path) -> OpenDataset:
    """No window needs memory."""
    return in_memory(plain_folder)


def taken(prefetcher: WindowPrefetcher) -> tuple[PendingWindow, WindowLease]:
    """The next window and a lease of it."""
    assert prefetcher.start(now=True)
    window = prefetcher.next()
    assert window is not None
    return window, window.lease()


def first_block(window: PendingWindow) -> int:
    return int(window.plan.blocks[0])


def test_windows_are_loaded_in_order_one_at_a_time(coded: OpenDataset) -> None:
    threads = ManualThreads()
    prefetcher = prefetcher_of(coded, threads)
    assert prefetcher.start()
    assert prefetcher.start()
    assert len(threads.queue) == 1
    window, lease = taken(prefetcher)
    assert first_block(window) == 0
    assert prefetcher.start()
    assert len(threads.queue) == 2
    for _ in range(2):
        threads.load_next()
    lease.release()
    for block in range(1, BLOCKS):
        window, lease = taken(prefetcher)
        prefetcher.start()
        if threads.queue:
            threads.load_next()
        assert first_block(window) == block
        assert window.table.take(window.plan.slot, window.plan.row)["number"].tolist() == window.plan.index.tolist()
        lease.release()
    assert prefetcher.start()
    assert prefetcher.next() is None


def test_a_window_is_forgotten_before_its_memory_is_reused(coded: OpenDataset) -> None:
    forgotten: list[int] = []
    prefetcher = prefetcher_of(
        coded, ManualThreads(at_once=True), forget=lambda window: forgotten.append(window.number)
    )
    first, first_lease = taken(prefetcher)
    second, second_lease = taken(prefetcher)
    assert first.memory is not second.memory
    assert not prefetcher.start(now=True)
    assert forgotten == []
    first_lease.release()
    third, _ = taken(prefetcher)
    assert forgotten == [first.number]
    assert third.memory is first.memory
    second_lease.release()
    fourth, _ = taken(prefetcher)
    assert forgotten == [first.number, second.number]
    assert fourth.memory is second.memory


def test_windows_are_reused_oldest_first(coded: OpenDataset) -> None:
    prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
    _, first_lease = taken(prefetcher)
    _, second_lease = taken(prefetcher)
    second_lease.release()
    assert not prefetcher.start(now=True)
    first_lease.release()
    assert prefetcher.start(now=True)


def test_a_window_is_free_when_every_lease_is_released(coded: OpenDataset) -> None:
    window, own = taken(prefetcher_of(coded, ManualThreads(at_once=True)))
    slow, quick = ManualTask(), ManualTask()
    window.lease().hand_to(slow)
    window.lease().hand_to(quick)
    quick.finish()
    assert not window.is_free
    own.release()
    assert not window.is_free
    slow.finish()
    assert window.is_free


def test_a_lease_handed_to_a_finished_task_is_released_at_once(coded: OpenDataset) -> None:
    window, own = taken(prefetcher_of(coded, ManualThreads(at_once=True)))
    own.hand_to(ManualTask(has_ended=True))
    assert not window.leases


def test_a_second_release_raises(coded: OpenDataset) -> None:
    _, lease = taken(prefetcher_of(coded, ManualThreads(at_once=True)))
    lease.release()
    with pytest.raises(RuntimeError, match="lease of window 0 was released twice"):
        lease.release()


def test_windows_without_memory_wait_until_they_are_asked_for(plain: OpenDataset) -> None:
    prefetcher = prefetcher_of(plain, ManualThreads(at_once=True), memories=[])
    for _ in range(2):
        assert taken(prefetcher)[0].memory is None
    assert not prefetcher.start()
    assert prefetcher.start(now=True)


def test_waiting_for_memory_waits_for_the_oldest_window_only(coded: OpenDataset) -> None:
    prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
    tasks = [ManualTask(), ManualTask()]
    for task in tasks:
        taken(prefetcher)[1].hand_to(task)
    assert not prefetcher.start(now=True)
    prefetcher.wait_for_memory()
    assert [task.waits for task in tasks] == [1, 0]
    assert prefetcher.start(now=True)


def test_waiting_for_memory_raises_for_a_lease_without_a_task(coded: OpenDataset) -> None:
    prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
    taken(prefetcher)
    taken(prefetcher)
    with pytest.raises(RuntimeError, match="lease of window 0 was lost"):
        prefetcher.wait_for_memory()


class TestFinish:
    def test_finish_waits_for_loading_and_for_tasks(self, coded: OpenDataset) -> None:
        forgotten: list[int] = []
        events: list[str] = []
        threads, gate = FetchThreads(count=1), threading.Event()
        threads.submit(gate.wait)
        prefetcher = prefetcher_of(coded, threads, forget=lambda window: forgotten.append(window.number))
        window, _ = taken(prefetcher)
        prefetcher.start()
        window.loading.add_done_callback(lambda _: events.append("loaded"))  # type: ignore[union-attr]
        window.lease().hand_to(ManualTask(on_wait=lambda: events.append("made")))

        def finish() -> None:
            prefetcher.finish()
            events.append("finished")

        finishing = threading.Thread(target=finish)
        finishing.start()
        gate.set()
        finishing.join()
        threads.close()
        assert events == ["loaded", "made", "finished"]
        assert forgotten == [0, 1]
        assert not window.leases, "a window and its leases would keep each other in memory"

    def test_finish_gives_up_the_remaining_windows(self, coded: OpenDataset) -> None:
        prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
        taken(prefetcher)
        prefetcher.finish()
        assert prefetcher.start()
        assert prefetcher.next() is None

    def test_finish_raises_when_a_task_does_not_end(self, coded: OpenDataset) -> None:
        def no_batch() -> None:
            raise WorkerError("no batch")

        prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
        taken(prefetcher)[1].hand_to(ManualTask(on_wait=no_batch))
        with pytest.raises(WorkerError, match="no batch"):
            prefetcher.finish()


class TestErrorsOfLoading:
    def test_a_damaged_page_fails_only_its_slot(self, coded: OpenDataset) -> None:
        name = coded.manifest.shards[0].name
        offset = int(coded.shard(0).index.page_offsets[1, 1])
        data = bytearray(coded.storage.files[name])  # type: ignore[attr-defined]
        data[offset] ^= 1
        coded.storage.files[name] = bytes(data)  # type: ignore[attr-defined]
        coded.restart()
        prefetcher = prefetcher_of(coded, ManualThreads(at_once=True), plans_of(coded, 3 * BLOCK))
        window, _ = taken(prefetcher)
        for slot, numbers in (0, [0, 1, 2, 3]), (2, [8, 9, 10, 11]):
            rows = window.plan.slot == slot
            assert window.table.take(window.plan.slot[rows], window.plan.row[rows])["number"].tolist() == numbers
        with pytest.raises(CorruptError, match="page checksum mismatch") as caught:
            window.table.take(window.plan.slot, window.plan.row)
        assert (caught.value.place.block, caught.value.place.field) == (1, "zeros")

    @pytest.mark.parametrize("has_work", [True, False])
    def test_a_window_that_cannot_be_loaded_fails_its_readers(
        self, coded: OpenDataset, monkeypatch: pytest.MonkeyPatch, has_work: bool
    ) -> None:
        def load(plan: FetchPlan, *_: Any) -> None:
            raise StorageError("no such luck")

        monkeypatch.setattr(FetchPlan, "load", load)
        prefetcher = prefetcher_of(coded, ManualThreads(at_once=True))
        if not has_work:
            start = FetchPlan.__init__

            def ready(plan: FetchPlan, *args: Any) -> None:
                start(plan, *args)
                plan.has_work = False

            monkeypatch.setattr(FetchPlan, "__init__", ready)
        window, _ = taken(prefetcher)
        assert prefetcher.start()
        with pytest.raises(StorageError, match="no such luck"):
            _ = window.table


class TestThreads:
    def test_each_piece_of_work_is_done_once(self) -> None:
        threads, done = FetchThreads(4), []
        threads.run(lambda k=k: done.append(k) for k in range(200))  # type: ignore[misc]
        threads.close()
        assert sorted(done) == list(range(200))

    def test_an_error_waits_for_the_work_of_other_threads(self) -> None:
        """Otherwise they would write into memory that is in use again."""
        threads, started, gate = FetchThreads(count=3), threading.Barrier(4), threading.Event()
        failures: list[Exception | None] = []
        ended: list[bool] = []

        def piece() -> None:
            started.wait()
            if threading.current_thread() is caller:
                raise ValueError("a bug")
            gate.wait()
            ended.append(True)

        caller = threading.Thread(target=lambda: failures.append(_error_of(lambda: threads.run([piece] * 3))))
        caller.start()
        started.wait()
        caller.join(0.05)
        returned_early = not caller.is_alive()
        gate.set()  # before any assertion: a waiting thread would keep the interpreter from exiting
        caller.join()
        assert not returned_early
        threads.close()
        assert ended == [True, True]
        assert isinstance(failures[0], ValueError)


def _error_of(function: Any) -> Exception | None:
    try:
        function()
    except Exception as error:  # noqa: BLE001
        return error
    return None


def never(*_: object) -> None:
    """In place of a release."""


@pytest.mark.timeout(10)
class TestALostRelease:
    WORKERS: Any = ({}, {"num_workers": 2}, {"num_workers": 1, "worker_type": "process"})

    @pytest.mark.parametrize("workers", WORKERS)
    @pytest.mark.parametrize(("owner", "method"), [(WindowLease, "release"), (Stream, "_leave")])
    def test_lost_release_is_an_error(
        self, coded_folder: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, workers: dict[str, Any]
    ) -> None:
        loader = DataLoader(ShardDataset(coded_folder), 3, window_samples=BLOCK, **workers)
        monkeypatch.setattr(owner, method, never)
        with pytest.raises(RuntimeError, match=r"lease of window \d was lost|no memory for the next window"):
            list(loader)

    @pytest.mark.parametrize("workers", WORKERS)
    def test_lost_release_of_a_window_without_memory_is_an_error(
        self, plain_folder: Path, monkeypatch: pytest.MonkeyPatch, workers: dict[str, Any]
    ) -> None:
        """They would stay mapped for ever."""
        loader = DataLoader(ShardDataset(plain_folder), 3, window_samples=BLOCK, **workers)
        monkeypatch.setattr(Stream, "_leave", never)
        with pytest.raises(RuntimeError, match=r"lease of window \d was lost"):
            list(loader)

    @pytest.mark.parametrize("workers", WORKERS)
    def test_lease_that_is_not_handed_over_is_an_error(
        self, plain_folder: Path, monkeypatch: pytest.MonkeyPatch, workers: dict[str, Any]
    ) -> None:
        loader = DataLoader(ShardDataset(plain_folder), 3, window_samples=BLOCK, **workers)
        monkeypatch.setattr(WindowLease, "hand_to", never)
        with pytest.raises(RuntimeError, match="lease of window 0 was lost"):
            list(loader)
