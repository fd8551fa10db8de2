"""The helper dies, hangs, is forked, is left alone: what was asked is answered, and nothing is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import recordio.remote.helper_process as helper_process
from recordio import StorageError
from recordio.remote.helper_process import helper
from tests.processes_seen import children, is_gone, soon
from tests.recordio.remote.faulty_server import FOREVER, FaultyServer
from tests.recordio.remote.stored_dataset import COUNT, MANIFEST, SHARD, numbers

pytestmark = pytest.mark.timeout(60)
RIGHT = list(range(COUNT))
STORAGE: dict[str, Any] = {"retry_seconds": 20.0, "timeout_seconds": 10.0}
HEAD = """
import os, signal, sys, threading, time
import recordio
from recordio.remote.helper_process import helper
from tests.recordio.remote.stored_dataset import numbers
url = sys.argv[1]
storage = {"retry_seconds": 60.0, "timeout_seconds": 60.0}
"""


def read(server: FaultyServer) -> list[int]:
    return numbers(server.dataset, STORAGE)


def script(server: FaultyServer, text: str, *flags: str, **how: Any) -> subprocess.Popen[str]:
    """Another trainer."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", HEAD + text, server.dataset],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **how,
    )


def test_killed_while_idle(server: FaultyServer) -> None:
    assert read(server) == RIGHT
    before = helper().pid
    os.kill(before, signal.SIGKILL)
    assert read(server) == RIGHT
    assert helper().pid != before
    assert is_gone(before)


def killed_while_asked(server: FaultyServer, times: int, name: str) -> list[int]:
    """What is read while the helper is killed so often, each time with a request under way."""
    with ThreadPoolExecutor(1) as pool:
        server.fail("hang", f"data/{name}", times)
        reading = pool.submit(read, server)
        for number in range(times):
            assert soon(lambda n=number: reading.done() or len(server.asked(f"data/{name}")) > n)
            if reading.done():
                break
            os.kill(helper().pid, signal.SIGKILL)
        return reading.result()


@pytest.mark.parametrize("name", [MANIFEST, SHARD])
def test_killed_twice_with_requests_under_way(server: FaultyServer, name: str) -> None:
    assert killed_while_asked(server, 2, name) == RIGHT


@pytest.mark.parametrize("name", [MANIFEST, SHARD])
def test_killed_whenever_it_is_asked(server: FaultyServer, name: str) -> None:
    with pytest.raises(StorageError, match=r"has died|died again"):
        killed_while_asked(server, FOREVER, name)
    server.clear()
    assert read(server) == RIGHT


def test_stopped(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(server) == RIGHT
    stopped = helper().pid
    monkeypatch.setattr(helper_process, "_LOOK_SECONDS", 0.2)
    os.kill(stopped, signal.SIGSTOP)
    assert read(server) == RIGHT
    assert is_gone(stopped)


def test_slow_requests_are_no_reason_to_end_it(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it lives every half second."""
    assert read(server) == RIGHT
    monkeypatch.setattr(helper_process, "_LOOK_SECONDS", 1.0)
    monkeypatch.setattr(helper_process, "_SILENT_LOOKS", 1)
    before = helper().pid
    server.fail("hang", f"data/{SHARD}", 1)
    assert numbers(server.dataset, {"retry_seconds": 20.0, "timeout_seconds": 2.5}) == RIGHT
    assert helper().pid == before


@pytest.mark.parametrize("forks", [False, True])
def test_its_trainer_is_killed(server: FaultyServer, forks: bool) -> None:
    fork = "os.fork() or (print('child', flush=True), time.sleep(60))" if forks else "print('child', flush=True)"
    text = f"numbers(url, storage)\nprint(helper().pid, flush=True)\n{fork}\ntime.sleep(60)"
    with script(server, text, start_new_session=True) as trainer:
        assert trainer.stdout is not None
        pid = int(trainer.stdout.readline())
        trainer.stdout.readline()
        trainer.kill()
        assert soon(lambda: is_gone(pid))
        if forks:
            os.killpg(trainer.pid, signal.SIGKILL)


def test_ctrl_c_is_the_trainers(server: FaultyServer) -> None:
    text = """
numbers(url, storage)
pid = helper().pid
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    assert numbers(url, storage) and helper().pid == pid
    print("goes on", flush=True)
"""
    with script(server, text, start_new_session=True) as trainer:
        assert trainer.stdout is not None
        trainer.stdout.readline()
        os.killpg(trainer.pid, signal.SIGINT)
        out, err = trainer.communicate()
    assert (out, err, trainer.returncode) == ("goes on\n", "", 0)


EXIT = """
from contextlib import suppress
def read():
    with suppress(recordio.StorageError):
        numbers(url, storage)
threading.Thread(target=read, daemon=True).start()
sys.stdin.readline()
print(helper().pid)
"""


def test_the_interpreter_ends_with_requests_under_way(server: FaultyServer) -> None:
    server.fail("hang", f"data/{SHARD}", FOREVER)
    with script(server, EXIT, "-W", "error") as trainer:
        assert soon(lambda: server.asked(f"data/{SHARD}"))
        out, err = trainer.communicate("end\n", timeout=20)
    assert (err, trainer.returncode) == ("", 0)
    assert is_gone(int(out))


LOADER = """
ds = recordio.ShardDataset(url, storage=storage, cache=None)
for batch in recordio.DataLoader(ds, 4, shuffle=True, num_workers=2, window_bytes=1 << 10):
    break
print(helper().pid)
"""


@pytest.mark.parametrize("flags", [("-W", "error", "-X", "dev")])
def test_the_interpreter_ends_within_an_epoch(server: FaultyServer, flags: tuple[str, ...]) -> None:
    with script(server, LOADER, *flags) as trainer:
        out, err = trainer.communicate(timeout=30)
    assert (err, trainer.returncode) == ("", 0)
    assert is_gone(int(out))


def read_in_child(address: str) -> list[int]:
    return numbers(address, STORAGE)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_read_for_themselves(server: FaultyServer, method: str) -> None:
    assert read(server) == RIGHT
    with get_context(method).Pool(2) as pool:
        assert pool.map(read_in_child, [server.dataset] * 4) == [RIGHT] * 4
    assert read(server) == RIGHT


def test_fork_from_a_thread_while_the_helper_is_asked(server: FaultyServer) -> None:
    server.fail("hang", f"data/{SHARD}", 1)
    context = get_context("fork")
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(read, server)
        assert soon(lambda: server.asked(f"data/{SHARD}"))
        with threads.submit(context.Pool, 1).result() as pool:
            assert pool.apply(read_in_child, [server.dataset]) == RIGHT
        os.kill(helper().pid, signal.SIGKILL)  # that one still hangs
        assert reading.result() == RIGHT


def receivers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "recordio-remote"]


def test_no_thread_while_nothing_is_asked(server: FaultyServer) -> None:
    assert read(server) == RIGHT
    assert soon(lambda: not receivers())


def is_a_connection(descriptor: str) -> bool:
    """Whether it is a connection of the server, which is in this process: a helper keeps as many open as it likes."""
    with suppress(FileNotFoundError):
        inode = os.readlink(f"/proc/self/fd/{descriptor}").removeprefix("socket:[").rstrip("]")
        return any(inode == line.split()[9] for line in Path("/proc/self/net/tcp").read_text().splitlines())
    return False


def taken() -> tuple[int, int, int]:
    files = [one for one in os.listdir("/proc/self/fd") if not is_a_connection(one)]
    return len(files), len(receivers()), len(children())


def test_nothing_is_left(server: FaultyServer) -> None:
    assert read(server) == RIGHT
    gc.collect()
    before = taken()
    for number in range(3):
        assert read(server) == RIGHT
        os.kill(helper().pid, signal.SIGKILL if number else signal.SIGTERM)
        assert read(server) == RIGHT
    gc.collect()  # fewer is as good: something of another test may have been ending still
    assert soon(lambda: all(now <= then for now, then in zip(taken(), before, strict=True))), (before, taken())


def test_it_cannot_be_started(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.kill(helper().pid, signal.SIGKILL)
    assert soon(lambda: is_gone(helper_process._current.helper.pid))  # type: ignore[union-attr]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="cannot start the process that reads from the network"):
        read(server)
