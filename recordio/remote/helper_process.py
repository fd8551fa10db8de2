"""The trainer's side of the helper process: one for each process that needs data, started on first use."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from recordio.errors import StorageError
from recordio.remote.credentials import environment
from recordio.remote.messages import Incoming, encode
from recordio.remote.options import StorageOptions

_START = "import sys; sys.path[:] = {path!r}; from recordio.remote.helper import main; main({descriptor}, {parent})"
# Of glibc's malloc: memory of what has arrived is kept for what arrives next, and not taken from the system each time.
_KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
_LOOK_SECONDS = 5.0
_SILENT_LOOKS = 3  # without a sign of life, while something is asked: then the helper hangs
_STARTING_LOOKS = 36  # to load its modules may take minutes from a busy network disk
_END_SECONDS = 1.0


class HelperDied(Exception):
    """The helper process has ended while something was asked of it: it is asked again of a new one."""


class RemoteError(Exception):
    """A request that has failed for good.

    Attributes:
        kind: see `recordio.remote.request_errors.RequestError`; "full" when there is no room for what arrives.
        byte: of the object, where its bytes are wrong.
    """

    def __init__(self, kind: str, text: str, byte: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.byte = byte


class HelperProcess:
    """A running helper. Thread-safe; a forked child must not use it.

    A thread takes its answers while any are due: none is left when nothing is, so that a fork then is a clean one.

    Raises StorageError if it cannot be started.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        path = [os.path.abspath(one) for one in sys.path]
        start = _START.format(path=path, descriptor=theirs.fileno(), parent=os.getpid())
        try:
            # In a group of its own, Ctrl-C in the terminal does not reach it, not even before it can say so.
            self._process = subprocess.Popen(
                [sys.executable, "-c", start],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
                env=_KEEPS_MEMORY | os.environ,
            )
        except OSError as error:
            self._socket.close()
            raise StorageError(f"cannot start the process that reads from the network: {error}") from error
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._detached: deque[int] = deque()
        self._stores: dict[tuple[str, StorageOptions], int] = {}
        self._options: dict[int, StorageOptions] = {}
        self._incoming = Incoming(self._socket)
        self._receiver: threading.Thread | None = None
        self._looks = _STARTING_LOOKS
        self._alive = True

    @property
    def is_alive(self) -> bool:
        return self._alive

    def submit(self, name: str, *args: Any) -> Future[Any]:
        """Asks for something; the future raises RemoteError, and HelperDied."""
        return self.submit_all(name, [args])[0]

    def submit_all(self, name: str, every: Sequence[tuple[Any, ...]]) -> list[Future[Any]]:
        """Asks for several things of one kind at once."""
        asked = {next(self._numbers): Future[Any]() for _ in every}
        data = b"".join(encode(number, name, *args) for number, args in zip(asked, every, strict=True))
        with self._lock:
            if not self._alive:
                raise HelperDied
            while self._detached:
                self._send(encode(0, "detach", self._detached.popleft()))
            self._waiting |= asked
            self._send(data)
            if self._receiver is None:
                self._receiver = threading.Thread(target=self._receive, name="recordio-remote", daemon=True)
                self._receiver.start()
        return list(asked.values())

    def attach(self, descriptor: int) -> int:
        """Gives the helper a file; its number there."""
        with self._lock:
            if not self._alive:
                raise HelperDied
            number = next(self._numbers)
            self._send(encode(0, "attach", number), [descriptor])
        return number

    def detach(self, number: int) -> None:
        """The helper closes the file with the next message: the garbage collector calls this, whatever is locked."""
        self._detached.append(number)

    def store(self, url: str, options: StorageOptions) -> int:
        """The number of a store, which the helper opens on first use, with the environment of then."""
        key = url, options
        with self._lock:
            if not self._alive:
                raise HelperDied
            if (number := self._stores.get(key)) is None:
                number = self._stores[key] = next(self._numbers)
                self._options[number] = options
                self._send(encode(0, "store", number, url, options.message(), environment(os.environ)))
        return number

    def forget_store(self, url: str, options: StorageOptions) -> None:
        """Opens it anew on its next use: the user may have mended what was wrong."""
        with self._lock:
            self._stores.pop((url, options), None)

    def _send(self, data: bytes, descriptors: list[int] | None = None) -> None:
        try:
            sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else 0
            self._socket.sendall(data[sent:])
        except OSError:
            pass  # the receiving thread finds the socket closed, and fails all that wait

    def _receive(self) -> None:
        """Takes what arrives until nothing more is due, or the helper is gone."""
        try:
            self._receive_until_done()
        except BaseException:
            self._process.kill()
            self._died()  # nobody waits for what this thread no longer takes
            raise

    def _receive_until_done(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        silent = 0
        while self._is_due():
            if poll.poll(_LOOK_SECONDS * 1000):
                silent = 0
                if not self._take():
                    self._died()
                    return
            elif (silent := silent + 1) >= self._looks:
                self._process.kill()  # its socket closes then

    def _is_due(self) -> bool:
        with self._lock:
            if not self._waiting:
                self._receiver = None
            return bool(self._waiting)

    def _take(self) -> bool:
        """Takes what has arrived; False once the helper is gone."""
        try:
            if not self._incoming.receive():
                return False
        except OSError:
            return False
        self._looks = _SILENT_LOOKS
        for number, *rest in self._incoming.messages():
            if number:
                self._answered(number, *rest)
            elif rest[0] == "waiting":
                _tell(rest[1])
            elif rest[0] == "credentials":
                threading.Thread(target=self._give_credentials, args=rest[1:], daemon=True).start()
        return True

    def _died(self) -> None:
        with self._lock:
            self._alive = False
            waiting, self._waiting = self._waiting, {}
            self._socket.close()
        self._end_process()
        for future in waiting.values():
            future.set_exception(HelperDied())

    def _end_process(self) -> None:
        """Sees that it is gone, and no zombie is left."""
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answered(self, number: int, good: bool, *found: Any) -> None:
        with self._lock:
            future = self._waiting.pop(number)
        if good:
            future.set_result(found[0])
        else:
            future.set_exception(RemoteError(*found))

    def _give_credentials(self, number: int, store: int) -> None:
        try:
            credentials = self._options[store].credentials
            assert credentials is not None
            found = dict(credentials())
            if isinstance(expires := found.get("expires_at"), datetime):
                found["expires_at"] = expires.timestamp()
            answer: tuple[Any, str | None] = (found, None)
        except Exception as error:  # noqa: BLE001 - whatever a function of others raises
            answer = None, f"{type(error).__name__}: {error}"
        with self._lock:
            self._send(encode(0, "credentials", number, *answer))

    def close(self) -> None:
        """Ends the helper; what is still asked of it fails."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._end_process()
        with self._lock:
            if self._receiver is None:
                self._alive = False
                self._socket.close()

    def forget(self) -> None:
        """A forked child does this: the socket is its parent's."""
        self._alive = False
        self._socket.close()
        self._process.returncode = 0  # no child of this process: it must not be waited for


def _tell(text: str) -> None:
    """A line for people, on the trainer's own stderr."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed, or None
        sys.stderr.write(f"recordio: {text}\n")
        sys.stderr.flush()


class _Current:
    """The helper of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.helper: HelperProcess | None = None
        self.is_over = False


_current = _Current()
_STARTS = 3


def helper() -> HelperProcess:
    """The helper of this process; a new one if there is none, or if it has died. Raises StorageError."""
    with _current.lock:
        if _current.is_over:
            raise StorageError("nothing is read from the network while the interpreter ends")
        if _current.helper is None or not _current.helper.is_alive:
            _current.helper = HelperProcess()
        return _current.helper


def asked(ask: Any) -> Any:
    """`ask(helper)`, which is done again with a new helper if one dies. Raises StorageError, RemoteError."""
    for _ in range(_STARTS):
        with contextlib.suppress(HelperDied):
            return ask(helper())
    raise StorageError(f"the process that reads from the network has died {_STARTS} times: is there enough memory?")


def _end() -> None:
    with _current.lock:
        _current.is_over = True
    if _current.helper is not None and _current.helper.is_alive:
        _current.helper.close()


def _forget_in_child() -> None:
    if _current.helper is not None:
        _current.helper.forget()
    _current.__init__()  # type: ignore[misc]


atexit.register(_end)
# A child that is forked while a helper starts would keep its socket open, and nobody would see either side's end.
os.register_at_fork(
    before=lambda: _current.lock.acquire(),
    after_in_parent=lambda: _current.lock.release(),
    after_in_child=_forget_in_child,
)
