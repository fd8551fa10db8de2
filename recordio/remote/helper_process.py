"""The trainer's side of the helper process: one for each process that needs data, started on first use."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from recordio.errors import StorageError
from recordio.remote.messages import Incoming, encode
from recordio.remote.options import StorageOptions

_START = "import sys; sys.path[:] = {path!r}; from recordio.remote.helper import main; main({descriptor})"


_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "HF_")


class HelperDied(Exception):
    """The helper process has ended while something was asked of it: it is asked again of a new one."""


class RemoteError(Exception):
    """A request that has failed for good.

    Attributes:
        kind: see `recordio.remote.fetching.RequestError`; "full" when there is no room for what arrives.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class HelperProcess:
    """A running helper. Thread-safe; a forked child must not use it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            path = [os.path.abspath(one) for one in sys.path]
            start = _START.format(path=path, descriptor=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-c", start], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._stores: dict[Any, int] = {}
        self._options: dict[int, StorageOptions] = {}
        self._alive = True
        threading.Thread(target=self._receive, name="recordio-remote", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return self._alive

    def submit(self, name: str, *args: Any) -> Future[Any]:
        """Asks for something; the future raises RemoteError, and HelperDied."""
        future: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if not self._alive:
                raise HelperDied
            self._waiting[number] = future
            self._send(encode(number, name, *args))
        return future

    def attach(self, descriptor: int) -> int:
        """Gives the helper a file; its number there."""
        with self._lock:
            if not self._alive:
                raise HelperDied
            number = next(self._numbers)
            self._send(encode(0, "attach", number), [descriptor])
        return number

    def detach(self, number: int) -> None:
        with self._lock:
            if self._alive:
                self._send(encode(0, "detach", number))

    def store(self, url: str, options: StorageOptions) -> int:
        """The number of a store, which the helper opens on first use. Raises RemoteError, HelperDied."""
        key = url, options, frozenset(_environment().items())
        if (number := self._stores.get(key)) is None:
            number = next(self._numbers)
            self._options[number] = options
            self.submit("store", number, url, options.message(), _environment()).result()
            self._stores[key] = number
        return number

    def _send(self, data: bytes, descriptors: list[int] | None = None) -> None:
        try:
            sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else 0
            self._socket.sendall(data[sent:])
        except OSError:
            pass  # the receiving thread finds the socket closed, and fails all that wait

    def _receive(self) -> None:
        incoming = Incoming(self._socket)
        with contextlib.suppress(OSError):
            while incoming.receive():
                for number, *rest in incoming.messages():
                    if number:
                        self._answered(number, *rest)
                    else:
                        threading.Thread(target=self._give_credentials, args=rest[1:], daemon=True).start()
        with self._lock:
            self._alive = False
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(HelperDied())

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
        """Ends the helper."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._socket.close()

    def forget(self) -> None:
        """A forked child does this: the socket is its parent's."""
        self._alive = False
        self._socket.close()
        self._process.returncode = 0  # no child of this process: it must not be waited for


class _Current:
    """The helper of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.helper: HelperProcess | None = None


_current = _Current()
_STARTS = 3


def helper() -> HelperProcess:
    """The helper of this process; a new one if there is none, or if it has died."""
    with _current.lock:
        if _current.helper is None or not _current.helper.is_alive:
            _current.helper = HelperProcess()
        return _current.helper


def asked(ask: Any) -> Any:
    """`ask(helper)`, which is done again with a new helper if one dies. Raises StorageError, RemoteError."""
    for _ in range(_STARTS):
        with contextlib.suppress(HelperDied):
            return ask(helper())
    raise StorageError(f"the helper process that reads from the network has died {_STARTS} times")


def _environment() -> dict[str, str]:
    """What stores are told by the environment; it may have changed since the helper was started."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}


def _end() -> None:
    if _current.helper is not None and _current.helper.is_alive:
        _current.helper.close()


def _forget_in_child() -> None:
    if _current.helper is not None:
        _current.helper.forget()
    _current.__init__()  # type: ignore[misc]


atexit.register(_end)
os.register_at_fork(after_in_child=_forget_in_child)
