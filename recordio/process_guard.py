"""Child processes that start cleanly and never outlive their parent, and clean-up that Ctrl-C cannot interrupt.

Shared by the reader's workers and the processes of a conversion; knows nothing of either.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection, resource_tracker, spawn
from types import FrameType
from typing import Any, TypeVar

from recordio.errors import RecordIOError, StorageError

T = TypeVar("T")

_MAIN_KEYS = "init_main"  # prefix of the keys with which multiprocessing.spawn describes the main module
_FINALIZER_SECONDS = 0.02  # time to leave a finalizer, where exceptions are swallowed


_epochs: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


def closed_at_exit(generator: Generator[Any, None, None]) -> Iterator[Any]:
    """The generator, which is closed before the interpreter ends: later its clean-up would find no modules."""
    _epochs.add(generator)
    return generator


@atexit.register
def _close_epochs() -> None:
    for generator in list(_epochs):
        with contextlib.suppress(Exception):  # it may be running, in another thread
            generator.close()


@contextlib.contextmanager
def starting_children(start_method: str) -> Iterator[None]:
    """Children started in this block, by this thread, neither see Ctrl-C nor import the main module.

    A child inherits the blocked signal until `begin_child`. The main module may import much that a child does not
    need, and a script without `if __name__ == "__main__"` would run a second time.

    Args:
        start_method: "fork", "forkserver" or "spawn".
    """
    if start_method != "fork":
        resource_tracker.ensure_running()  # starting it inside the block would unblock the signal
    with _blocked_interrupt(), _main_left_out():
        yield


@contextlib.contextmanager
def refusals(what: str, advice: str) -> Iterator[None]:
    """Raises StorageError where the system refuses what processes need: memory, descriptors, another process."""
    try:
        yield
    except RecordIOError:
        raise
    except OSError as error:
        raise StorageError(f"cannot start {what}: {error}; {advice}") from error


def main_module() -> dict[str, Any]:
    """Location of the main module, for `multiprocessing.spawn.prepare` in a child that needs it after all."""
    return {key: value for key, value in spawn.get_preparation_data("").items() if key.startswith(_MAIN_KEYS)}


def silence_libraries() -> None:
    """Sends what C libraries write to descriptor 2 nowhere; Python's `sys.stderr` goes on as before, on a copy of it.

    libpng prints its warnings and errors there, without the file's name, and offers Python no other way; what is wrong
    with a file, our errors say. For a process of our own only: the command line, and workers of a conversion. In
    anyone else's, other libraries have a right to speak.
    """
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        copy = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(copy, "w"), sys.stderr.encoding, sys.stderr.errors, line_buffering=True, write_through=True
        )


def begin_child() -> None:
    """First call in a child: ignores Ctrl-C, which the parent handles, and ends the child when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    ends: list[Any] = [parent.sentinel]
    try:
        ends.append(os.pidfd_open(parent.pid or 0))  # other forks of the parent can keep a sentinel open
    except ProcessLookupError:
        os._exit(1)
    except (AttributeError, OSError):  # not Linux, an old kernel, or a seccomp filter
        pass
    connection.wait(ends)
    os._exit(1)


@contextlib.contextmanager
def interrupt_held(in_finalizer: bool = False) -> Iterator[None]:
    """Delays Ctrl-C until the block ends; a second one breaks through, in case the block hangs.

    Args:
        in_finalizer: the block runs while an object is dropped. Python swallows exceptions there, so the signal is
            sent again a moment later.
    """
    handler = _interrupt_handler()
    if handler is None:
        yield
        return
    held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal held
        if held:
            handler(number, frame)
        held = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held and in_finalizer:
            _interrupt_later()
        elif held:
            signal.raise_signal(signal.SIGINT)


class ThreadPool(ThreadPoolExecutor):
    """An executor that Ctrl-C cannot interrupt while it starts a thread.

    It would not know that thread, never end it, and the interpreter would wait for it at its exit for ever.
    """

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        if len(self._threads) == self._max_workers:
            return super().submit(function, *arguments, **named)
        with interrupt_held():
            return super().submit(function, *arguments, **named)


def _interrupt_later() -> None:
    timer = threading.Timer(_FINALIZER_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()


def _interrupt_handler() -> Callable[[int, FrameType | None], Any] | None:
    """Python's handler of Ctrl-C; None outside the main thread, the only one it interrupts."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else None


@contextlib.contextmanager
def _blocked_interrupt() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with interrupt_held():  # the kernel may deliver to another thread, yet Python runs the handler in this one
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_left_out() -> Iterator[None]:
    original = spawn.get_preparation_data
    thread = threading.get_ident()

    def without_main(name: str) -> dict[str, Any]:
        data = original(name)
        ours = threading.get_ident() == thread
        return {key: data[key] for key in data if not (ours and key.startswith(_MAIN_KEYS))}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = original
