"""Ctrl-C during clean-up is delayed until its end, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from recordio import DataLoader, ShardDataset
from recordio.process_guard import ThreadPool, interrupt_held
from recordio.reader.batches.maker import BatchMaker
from tests.epochs import write_numbers


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("guard"), range(200))


def test_held_interrupt_is_raised_after_the_block() -> None:
    steps = []

    def interrupted() -> None:
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")
        steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_breaks_through() -> None:
    def interrupted() -> None:
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the block hangs, and nothing ends it")

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_interrupt_in_a_finalizer_is_raised_after_it() -> None:
    def dropped() -> Iterator[int]:
        try:
            yield 1
        finally:
            with interrupt_held(in_finalizer=True):
                signal.raise_signal(signal.SIGINT)

    def leave() -> None:
        for _ in dropped():
            break
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        leave()


def test_interrupt_held_restores_the_handler() -> None:
    with interrupt_held(in_finalizer=True):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestThreadWorkers:
    @pytest.mark.parametrize(("tried", "last"), [(True, 2), (False, 4)])  # with a trial, threads look for batches
    def test_interrupt_during_submit_does_not_hang(
        self, ds: ShardDataset, monkeypatch: pytest.MonkeyPatch, tried: bool, last: int
    ) -> None:
        original, calls = Future.add_done_callback, 0
        monkeypatch.setattr(BatchMaker, "calls_functions", tried)

        def interrupted(future: Future[object], function: object) -> None:
            nonlocal calls
            if sys._getframe(1).f_code.co_name == "_start":
                calls += 1
                if calls == last:
                    raise KeyboardInterrupt
            original(future, function)  # type: ignore[arg-type]

        monkeypatch.setattr(Future, "add_done_callback", interrupted)
        slow = ds.map(lambda sample: time.sleep(0.01) or sample)
        with pytest.raises(KeyboardInterrupt):
            list(DataLoader(slow, 4, num_workers=2, prefetch_factor=4))


TRAINING = """
import os, signal, sys, threading, time
from recordio import DataLoader, ShardDataset

def slow(sample):
    time.sleep(0.2)
    return sample

if __name__ == "__main__":
    loader = DataLoader(ShardDataset(sys.argv[1]).map(slow), 4, num_workers=2, worker_type=sys.argv[2])
    for batch in loader:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        break
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ctrl_c_during_loader_cleanup_ends_the_program(ds: ShardDataset, kind: str) -> None:
    folder = str(ds.store.storage.folder)  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", TRAINING, folder, kind], capture_output=True, text=True, timeout=50)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.count("KeyboardInterrupt") == 1
    assert "ignored" not in done.stderr


def test_a_pool_knows_a_thread_that_is_interrupted_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the interpreter would wait for it at its exit, for ever."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        os.kill(os.getpid(), signal.SIGINT)

    pool = ThreadPool(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(int)
    assert len(pool._threads) == 1
    assert pool.submit(int).result(30) == 0
    pool.shutdown()
