"""Worker processes: each request gets its own batch, errors arrive whole, and nothing is left however it ends."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio.errors import CorruptError, WorkerError
from recordio.reader.workers.pool import Task, WorkerPool
from tests.open_files import descriptors
from tests.processes_seen import SECONDS, children, is_gone, left_as_found, soon
from tests.reader.workers import makers
from tests.reader.workers.makers import Maker

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of fork, from Python 3.12 on
METHODS = ["fork", "forkserver", "spawn"]
LARGE = 1 << 17  # an array of this size travels in a slot

every_method = pytest.mark.parametrize("method", METHODS)


def taken() -> tuple[int, int, set[int]]:
    return descriptors(), threading.active_count(), children()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with left_as_found(taken):
        yield


def pool(workers: int = 2, make: Any = None, method: str = "fork", slots: int = 8, **options: Any) -> WorkerPool:
    return WorkerPool(workers, make or Maker(), context=method, slots=slots, **options)


def slots_in_use() -> dict[str, tuple[int, int]]:
    """The maps of shared memory: where each begins and ends, by the memory's number."""
    lines = (line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "/memfd:recordio" in line)
    spans = ((words[4], words[0].split("-")) for words in lines)
    return {number: (int(begin, 16), int(end, 16)) for number, (begin, end) in spans}


def lies_in_a_slot(array: Any) -> bool:
    return any(begin <= array.ctypes.data < end for begin, end in slots_in_use().values())


# What comes back


@every_method
def test_each_request_gets_its_own_batch(method: str) -> None:
    with pool(3, method=method) as workers:
        tasks = [workers.submit(("fill", n, LARGE + n)) for n in range(8)]
        for n in (5, 0, 7, 1, 2, 3, 4, 6):
            batch = tasks[n].result()
            assert batch["number"].tolist() == [n]
            assert batch["x"].shape == (LARGE + n,)
            assert (batch["x"] == n).all()


@every_method
def test_batches_are_any_objects(method: str) -> None:
    values = [None, {}, {"text": ["a", "ß"], "data": [b"", b"x" * LARGE]}, "x" * 5_000_000, (1, 2.5), [[]]]
    with pool(method=method) as workers:
        tasks = [workers.submit(("echo", value)) for value in values]
        assert [task.result() for task in tasks] == values


@every_method
def test_init_is_called_first_with_the_workers_number(method: str, tmp_path: Path) -> None:
    with pool(3, makers.Numbered(), method, init=makers.note_number) as workers:
        busy = [workers.submit(("wait_for", str(tmp_path / "go on"))) for _ in range(3)]
        tasks = [workers.submit(("number",)) for _ in range(3)]
        (tmp_path / "go on").touch()
        assert sorted(task.result() for task in tasks) == ["0", "1", "2"]
        del busy


@every_method
def test_messages_arrive_between_earlier_and_later_requests(method: str) -> None:
    with pool(method=method, slots=3) as workers:
        tasks: list[tuple[Task, list[int]]] = []
        for n in range(12):
            tasks += [(workers.submit(("all_messages",)), list(range(n))) for _ in range(2)]
            workers.broadcast(n)
        for task, messages in tasks:
            assert task.result() == messages
        assert workers.submit(("all_messages",)).result() == list(range(12))


def test_requests_go_to_the_least_busy_worker() -> None:
    with pool(2) as workers:
        slow = workers.submit(("sleep", 600))
        pids = {workers.submit(("pid",)).result() for _ in range(20)}
        assert len(pids) == 1
        assert not slow.done()


def test_large_requests_and_messages_do_not_block() -> None:
    """The workers are busy: whoever wrote to their pipes what they do not fit would wait, for ever."""
    value = os.urandom(3_000_000)
    with pool(2, slots=12) as workers:
        for _ in range(2):
            workers.submit(("sleep", 0.3))
        workers.broadcast(value)
        tasks = [workers.submit(("echo", value)) for _ in range(8)]
        assert all(task.result() == value for task in tasks)
        assert workers.submit(("all_messages",)).result() == [value]


def test_a_task_is_done_when_its_batch_is_there(tmp_path: Path) -> None:
    with pool(1) as workers:
        task = workers.submit(("wait_for", str(tmp_path / "go on"), 5))
        assert not task.done()
        (tmp_path / "go on").touch()
        task.wait()
        assert task.done()
        assert task.result() == 5
        later = workers.submit(("echo", 6))
        assert soon(later.done)
        assert later.result() == 6


# Slots


def test_large_arrays_lie_in_slots_and_are_writeable() -> None:
    with pool() as workers:
        batch = workers.submit(("fill", 1, LARGE)).result()
        assert lies_in_a_slot(batch["x"])
        assert not lies_in_a_slot(batch["number"])
        batch["x"][:] = 9
        batch["number"][:] = 9


def test_slot_is_reused_when_its_batch_is_dropped() -> None:
    with pool(1) as workers:
        places = set()
        for n in range(20):
            batch = workers.submit(("fill", n, LARGE)).result()
            assert (batch["x"] == n).all()
            places.add(batch["x"].ctypes.data)
            del batch
        assert len(places) == 1


@pytest.mark.parametrize("keep", [lambda x: x, lambda x: x[5::7], lambda x: memoryview(x)])
def test_held_batch_does_not_change(keep: Callable[[Any], Any]) -> None:
    with pool(slots=5) as workers:
        kept = [keep(workers.submit(("fill", n, LARGE)).result()["x"]) for n in range(3)]
        for n in range(30):
            workers.submit(("fill", n, LARGE)).result()
        assert [set(np.asarray(x).tolist()) for x in kept] == [{0}, {1}, {2}]
    assert [set(np.asarray(x).tolist()) for x in kept] == [{0}, {1}, {2}]


def test_held_small_array_keeps_no_slot() -> None:
    with pool(slots=4) as workers:
        numbers = []
        for n in range(20):
            batch = workers.submit(("fill", n, LARGE)).result()
            assert lies_in_a_slot(batch["x"])
            numbers.append(batch["number"])
            del batch
        assert [int(number[0]) for number in numbers] == list(range(20))


@every_method
def test_consumer_that_keeps_all_batches_gets_copies(method: str) -> None:
    with pool(method=method, slots=6) as workers:
        kept, ahead = [], deque(workers.submit(("fill", n, LARGE)) for n in range(4))
        for n in range(40):
            kept.append(ahead.popleft().result())
            ahead.append(workers.submit(("fill", n + 4, LARGE)))
        assert [set(batch["x"].tolist()) for batch in kept] == [{n} for n in range(40)]
        shared = [lies_in_a_slot(batch["x"]) for batch in kept]
        assert shared[0]
        assert not any(shared[6:])
        assert len(slots_in_use()) <= 6
        kept[30]["x"][:] = 1
        ahead.clear()
        kept.clear()
        assert lies_in_a_slot(workers.submit(("fill", 5, LARGE)).result()["x"])


def test_more_requests_than_slots() -> None:
    with pool(slots=3) as workers:
        tasks = [workers.submit(("fill", n, LARGE)) for n in range(30)]
        for n in reversed(range(30)):
            assert (tasks[n].result()["x"] == n).all()
            assert len(slots_in_use()) <= 3


def test_one_slot_is_enough() -> None:
    with pool(slots=1) as workers:
        tasks = [workers.submit(("fill", n, LARGE)) for n in range(9)]
        assert [int(task.result()["x"][0]) for task in tasks] == list(range(9))


def test_hundreds_of_requests_at_a_time() -> None:
    with pool(1, slots=500) as workers:
        tasks = [workers.submit(("echo", n)) for n in range(2000)]
        assert [task.result() for task in tasks] == list(range(2000))


def test_a_task_that_is_dropped_frees_its_slot() -> None:
    with pool(slots=3) as workers:
        for n in range(40):
            task = workers.submit(("fill", n, LARGE))
            if n % 3 == 0:
                task.wait()
            elif n % 3 == 1:
                task.result()
            del task
        assert soon(lambda: lies_in_a_slot(workers.submit(("fill", 5, LARGE)).result()["x"]))


@every_method
def test_slots_grow_with_the_batches(method: str) -> None:
    sizes = [1 << 17, 5 << 20, 1 << 17, 70 << 20, 3 << 20]
    with pool(1, method=method) as workers:
        held = [workers.submit(("fill", n, nbytes)).result() for n, nbytes in enumerate(sizes)]
        for n, nbytes in enumerate(sizes):
            assert held[n]["x"].nbytes == nbytes
            assert (held[n]["x"] == n).all()
        del held
        for n, nbytes in enumerate(sizes):
            assert (workers.submit(("fill", n, nbytes)).result()["x"] == n).all()


# Errors


@every_method
def test_error_has_the_workers_traceback_and_the_worker_continues(method: str) -> None:
    with pool(1, method=method) as workers:
        task = workers.submit(("fail", "no such colour"))
        with pytest.raises(ZeroDivisionError, match="no such colour") as caught:
            task.result()
        (note,) = caught.value.__notes__
        assert note.startswith("in worker 0:\nTraceback")
        assert "raise ZeroDivisionError(message)" in note
        assert workers.submit(("echo", 5)).result() == 5


@every_method
def test_our_errors_arrive_with_their_place(method: str) -> None:
    with pool(1, method=method) as workers, pytest.raises(CorruptError) as caught:
        workers.submit(("fail_in_its_place",)).result()
    assert str(caught.value) == "page checksum mismatch - shard-00003.rio, block 17"
    assert (caught.value.place.file, caught.value.place.block) == ("shard-00003.rio", 17)
    assert "worker 0" in caught.value.__notes__[0]
    assert "in fail_in_its_place" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["unpicklable", "unloadable"])
def test_unpicklable_error_is_described(kind: str) -> None:
    with pool(1) as workers:
        with pytest.raises(WorkerError, match=f"worker 0: .*{kind.capitalize()}: (odd|both)"):
            workers.submit(("fail_oddly", kind)).result()
        assert workers.submit(("echo", 5)).result() == 5


def test_unpicklable_batch_is_an_error() -> None:
    with pool(1) as workers:
        with pytest.raises(TypeError, match=r"pickle.*lock"):
            workers.submit(("make_what_cannot_travel",)).result()
        assert workers.submit(("echo", 5)).result() == 5


def test_unpicklable_request_is_refused() -> None:
    with pool(1) as workers:
        with pytest.raises(TypeError, match="lock"):
            workers.submit(("echo", threading.Lock()))
        with pytest.raises(TypeError, match="lock"):
            workers.broadcast(threading.Lock())
        assert workers.submit(("echo", 5)).result() == 5


@every_method
def test_error_of_init_fails_every_request(method: str) -> None:
    with pool(method=method, init=makers.fail_to_begin) as workers:
        for _ in range(3):
            with pytest.raises(FileNotFoundError, match=r"worker [01] finds nothing"):
                workers.submit(("echo", 5)).result()


def test_worker_that_missed_a_message_fails_every_request() -> None:
    with pool(1) as workers:
        workers.broadcast("nonsense")
        workers.broadcast("sense")
        for _ in range(3):
            with pytest.raises(ValueError, match="cannot receive that"):
                workers.submit(("all_messages",)).result()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_maker_that_cannot_be_unpickled_is_an_error(method: str) -> None:
    error = pytest.raises(LookupError, match="this one is not for other processes")
    with pool(1, makers.Stillborn(), method) as workers, error:
        workers.submit(("echo", 5)).result()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_maker_that_cannot_be_pickled_is_an_error(method: str) -> None:
    with pytest.raises(WorkerError, match=r"cannot import .*lambda>: it is a lambda .*test_pool\.py, line \d+"):
        pool(3, lambda request: request, method)
    with pytest.raises(WorkerError, match=r"cannot be given lock: cannot pickle '_thread\.lock' object\. Make "):
        pool(3, threading.Lock(), method)  # type: ignore[arg-type]


def test_forked_workers_inherit_any_maker() -> None:
    lock = threading.Lock()
    with pool(2, lambda request, empty: (request, lock.locked()), "fork") as workers:
        assert workers.submit(3).result() == (3, False)


# Workers that die


@every_method
@pytest.mark.parametrize(
    ("fatal", "says"),
    [
        (("die", signal.SIGKILL), "worker 0 was killed by SIGKILL: did the system run out of memory"),
        (("die", signal.SIGBUS), 'worker 0 was killed by SIGBUS: was a file cut .* io="pread"'),
        (("die", signal.SIGSEGV), "worker 0 was killed by SIGSEGV$"),
        (("exit", 3), "worker 0 ended with exit code 3"),
    ],
)
def test_waiting_raises_when_a_worker_dies(method: str, fatal: Any, says: str) -> None:
    with pool(2, method=method) as workers:
        early = workers.submit(("echo", 5))
        early.wait()
        tasks = [workers.submit(("sleep", 600)), workers.submit(fatal)]
        tasks = [workers.submit(fatal), *tasks]  # one of the workers gets two requests
        for task in tasks:
            with pytest.raises(WorkerError, match=says.replace("worker 0", "worker [01]")):
                task.result()
            assert task.done()
        with pytest.raises(WorkerError, match="worker"):
            workers.submit(("echo", 5))
        with pytest.raises(WorkerError, match="worker"):
            workers.broadcast(5)
        assert early.result() == 5


@every_method
def test_death_of_an_idle_worker_is_reported(method: str) -> None:
    with pool(1, method=method) as workers:
        os.kill(workers.submit(("pid",)).result(), signal.SIGKILL)
        with pytest.raises(WorkerError, match="worker 0 was killed by SIGKILL"):
            workers.submit(("echo", 5)).result()


def test_batches_made_before_a_worker_died_are_delivered() -> None:
    with pool(1) as workers:
        tasks = [workers.submit(("fill", n, LARGE)) for n in range(4)] + [workers.submit(("exit", 1))]
        with pytest.raises(WorkerError, match="exit code 1"):
            tasks.pop().result()
        assert [int(task.result()["x"][0]) for task in tasks] == list(range(4))


@every_method
def test_a_worker_that_takes_too_long_is_an_error(method: str) -> None:
    with pool(2, method=method, timeout=0.5) as workers:
        first = workers.submit(("sleep", 600))
        if method != "fork":  # what starts slowly is too slow
            with pytest.raises(WorkerError):
                first.wait()
        with pytest.raises(WorkerError, match=r"no batch from worker [01] within timeout=0.5 seconds"):
            first.result()


def test_timeout_starts_anew_with_every_batch() -> None:
    with pool(1, timeout=4) as workers:
        tasks = [workers.submit(("sleep", 0.9, n)) for n in range(6)]
        assert tasks[5].result() == 5


# The end


def test_closed_pool_raises_and_its_batches_stay_valid() -> None:
    workers = pool()
    batch = workers.submit(("fill", 3, LARGE)).result()
    arrived, waiting = workers.submit(("echo", 5)), workers.submit(("sleep", 600))
    arrived.wait()
    workers.close()
    workers.close()
    assert (batch["x"] == 3).all()
    assert arrived.result() == 5
    assert waiting.done()
    for attempt in (waiting.result, waiting.wait, lambda: workers.submit(1), lambda: workers.broadcast(1)):
        with pytest.raises(WorkerError, match="closed"):
            attempt()


@every_method
def test_closing_does_not_wait_for_busy_workers(method: str, tmp_path: Path) -> None:
    workers = pool(3, method=method)
    workers.submit(("sleep", 600))
    workers.submit(("stand_firm", str(tmp_path / "begun")))
    workers.submit(("echo", 5)).result()
    assert soon((tmp_path / "begun").exists)
    before = time.monotonic()
    workers.close()
    assert time.monotonic() - before < SECONDS


@every_method
def test_closing_right_after_the_start_leaves_nothing(method: str) -> None:
    pool(2, method=method).close()


@every_method
def test_a_pool_that_is_dropped_ends(method: str) -> None:
    before = children()
    workers = pool(method=method)
    tasks = [workers.submit(("sleep", 600)) for _ in range(12)]
    del workers
    assert children() != before or method == "forkserver"
    tasks.clear()
    assert children() == before


@pytest.mark.slow
def test_interrupted_pools_leave_nothing() -> None:
    before = taken()
    for run in range(200):
        workers = pool(1 + run % 2, slots=4)
        tasks = [workers.submit(("fill", n, LARGE)) for n in range(run % 6)]
        if run % 3 == 0 and tasks:
            held = tasks[0].result()
        if run % 4 == 1:
            workers.close()
        del tasks, workers
    del held
    gc.collect()
    assert taken() == before


def test_workers_that_cannot_be_started_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    started = []

    def start_two(process: Any) -> None:
        if len(started) == 2:
            raise OSError("no more processes")
        started.append(process)
        original(process)

    original = context.Process.start
    monkeypatch.setattr(context.Process, "start", start_two)
    with pytest.raises(WorkerError, match="cannot start worker 2: OSError: no more processes"):
        pool(4)
    monkeypatch.undo()
    monkeypatch.setattr(type(context), "Pipe", lambda self: os.open("/proc/self", os.O_WRONLY))
    with pytest.raises(WorkerError, match="cannot start worker 0: IsADirectoryError"):
        pool(4)


def test_ctrl_c_is_held_until_all_workers_have_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, started = multiprocessing.get_context("fork"), []
    go, gone = threading.Event(), threading.Event()

    def interrupt() -> None:
        assert go.wait(60)
        signal.raise_signal(signal.SIGINT)
        gone.set()

    def start(process: Any) -> None:
        original(process)
        started.append(process.pid)
        go.set()
        assert gone.wait(60)

    thread = threading.Thread(target=interrupt)
    thread.start()
    original = context.Process.start
    monkeypatch.setattr(context.Process, "start", start)
    with pytest.raises(KeyboardInterrupt):
        pool(3)
    thread.join()
    assert len(started) == 3
    assert soon(lambda: all(map(is_gone, started)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# The parent


SCRIPT = """
import os, signal, sys, time
signal.alarm(60)
sys.path.insert(0, {folder!r})
from tests.reader.workers.makers import Maker
from recordio.reader.workers.pool import WorkerPool

print("main", flush=True)

def mine(request, empty):
    return "mine", request

if __name__ == "__main__":
    method = sys.argv[1]
    workers = WorkerPool(3, Maker(), context=method, slots=8)
    {body}
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that has three workers."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # of fork, from Python 3.12 on
    started: list[subprocess.Popen[str]] = []

    def start(method: str, body: str) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        path.write_text(SCRIPT.format(folder=str(Path(__file__).parents[3]), body=body.strip().replace("\n", "\n    ")))
        command = [sys.executable, *options, str(path), method]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment)
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


PIDS = """
tasks = [workers.submit(("pid",)) for _ in range(6)]
print("pids", *{task.result() for task in tasks}, flush=True)
"""
BUSY = PIDS + "tasks = [workers.submit(('sleep', 600)) for _ in range(2)]\n"


def pids_of(process: subprocess.Popen[str]) -> list[int]:
    """Of the workers of a script, as it prints them."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith("pids")), None)
    assert line is not None, process.communicate()[1]
    pids = [int(word) for word in line.split()[1:]]
    assert len(pids) == 3
    return pids


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What it wrote on stderr."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    return err


@every_method
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_workers_of_a_killed_process_end_idle_and_busy(script: Any, method: str, number: int) -> None:
    process = script(method, BUSY + "time.sleep(600)")
    pids = pids_of(process)
    os.kill(process.pid, number)
    assert soon(lambda: all(map(is_gone, pids)))
    assert ended(process, -number) == ""


def test_workers_end_though_a_fork_of_their_killed_parent_lives(script: Any) -> None:
    process = script("fork", BUSY + "if os.fork() == 0: time.sleep(600)\nprint('forked', flush=True); time.sleep(600)")
    pids = pids_of(process)
    assert process.stdout.readline() == "forked\n"
    os.kill(process.pid, signal.SIGKILL)
    assert soon(lambda: all(map(is_gone, pids)))


@every_method
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "workers.x = workers", "tasks[0].done(); del workers"])
def test_a_process_that_leaves_its_pool_open_ends_at_once(script: Any, method: str, end: str) -> None:
    process = script(method, BUSY + end)
    pids = pids_of(process)
    assert ended(process, 0) == ""
    assert all(map(is_gone, pids))


@every_method
def test_ctrl_c_does_not_reach_the_workers(script: Any, method: str) -> None:
    process = script(method, BUSY + "tasks[0].result()")
    pids = pids_of(process)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    err = ended(process, -signal.SIGINT)
    assert err.count("Traceback") == 1
    assert err.endswith("KeyboardInterrupt\n")
    assert all(map(is_gone, pids))


FORKED = """
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    {child}
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert workers.submit(("echo", 5)).result() == 5
print(len({{workers.submit(("pid",)).result() for _ in range(9)}}), flush=True)  # the least busy first
"""


@every_method
@pytest.mark.parametrize(
    "child",
    [
        "pass",
        "workers.close()",
        "del workers, tasks",
        "tasks.clear(); import gc; gc.collect(); workers.close(); time.sleep(0.2)",
    ],
)
def test_a_fork_of_the_process_leaves_the_workers_alone(script: Any, method: str, child: str) -> None:
    process = script(method, PIDS + FORKED.format(child=child))
    pids = pids_of(process)
    assert process.stdout.readline() == "3\n"
    assert ended(process, 0) == ""
    assert all(map(is_gone, pids))


def test_a_fork_of_the_process_cannot_use_the_workers(script: Any) -> None:
    child = """
    from recordio.errors import WorkerError
    assert not late.done()
    for attempt in (late.result, lambda: workers.submit(1), lambda: workers.broadcast(1)):
        try:
            attempt()
        except WorkerError as error:
            assert "fork" in str(error)
        else:
            sys.exit(1)
    """
    process = script("fork", PIDS + "late = workers.submit(('sleep', 1, 7))\n" + FORKED.format(child=child.strip()))
    pids_of(process)
    assert ended(process, 0) == ""


def test_spawned_worker_imports_the_main_module_only_if_needed(script: Any) -> None:
    out, err = script("spawn", PIDS).communicate(timeout=60)
    assert (out.count("main"), err) == (1, "")


OF_MAIN = """
with WorkerPool(1, mine, context=method, slots=4) as others:
    print(others.submit(3).result())
workers.broadcast(mine)
for _ in range(3):
    assert workers.submit(("all_messages",)).result() == [mine]
    assert workers.submit(("echo", mine)).result() is mine
"""


@every_method
def test_objects_of_the_main_module_can_be_sent(script: Any, method: str) -> None:
    process = script(method, OF_MAIN)
    assert "('mine', 3)" in process.stdout.read()
    assert ended(process, 0) == ""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_import_no_more_than_they_need(method: str) -> None:
    with pool(1, method=method) as workers:
        modules = workers.submit(("modules",)).result()
    assert "recordio.reader.workers.serve" in modules
    assert not {
        "torch",
        "pytest",
        "recordio.reader.workers.pool",
        "recordio.reader.loading.loader",
        "recordio.format.codec",
    } & set(modules)


def test_forked_worker_has_no_pipes_of_others() -> None:
    with pool(4) as workers:
        counts = [workers.submit(("sockets",)) for _ in range(4)]
        assert len({task.result() for task in counts}) == 1


def test_workers_are_daemons_unknown_to_multiprocessing() -> None:
    with pool(2) as workers:
        workers.submit(("echo", 5)).result()
        assert multiprocessing.active_children() == []


def test_request_is_pickled_on_submit() -> None:
    with pool(1) as workers:
        value = [1]
        task = workers.submit(("echo", value))
        value.append(2)
        assert task.result() == [1]
        assert pickle.dumps(value)
