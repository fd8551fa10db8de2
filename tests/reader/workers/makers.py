"""What the workers of these tests do. Processes that are spawned can import it."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from recordio.errors import CorruptError
from recordio.reader.workers.slots import SharedMemory


class Unpicklable(Exception):
    """Cannot travel."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


class Unloadable(Exception):
    """Can be sent, but not received."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("both")


class Noteless(Exception):
    """Takes no notes."""

    def add_note(self, note: str) -> None:
        raise TypeError("no")


class Maker:
    """Answers requests of the form (method, arguments ...)."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def receive(self, message: Any) -> None:
        if message == "nonsense":
            raise ValueError("cannot receive that")
        self.messages.append(message)

    def __call__(self, request: tuple[Any, ...], empty: Any) -> Any:
        return getattr(self, request[0])(*request[1:])

    def fill(self, number: int, nbytes: int) -> dict[str, Any]:
        return {"x": np.full(nbytes, number % 251, np.uint8), "number": np.array([number])}

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()

    def all_messages(self) -> list[Any]:
        return self.messages

    def modules(self) -> list[str]:
        return list(sys.modules)

    def sockets(self) -> int:
        names = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        return sum(os.readlink(name).startswith("socket:") for name in names if os.path.lexists(name))

    def sleep(self, seconds: float, value: Any = None) -> Any:
        time.sleep(seconds)
        return value

    def wait_for(self, path: str, value: Any = None) -> Any:
        """Until there is such a file."""
        deadline = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        return value

    def stand_firm(self, path: str) -> None:
        """Says that it has begun, and does not listen to SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)

    def die(self, number: int) -> None:
        faulthandler.disable()  # pytest's, which a fork inherits
        os.kill(os.getpid(), number)

    def exit(self, code: int) -> None:
        os._exit(code)

    def fail(self, message: str) -> None:
        raise ZeroDivisionError(message)

    def fail_in_its_place(self) -> None:
        raise CorruptError("page checksum mismatch").at(file="shard-00003.rio", block=17)

    def fail_oddly(self, kind: str) -> None:
        raise {"unpicklable": Unpicklable("odd"), "unloadable": Unloadable(1, 2)}[kind]

    def make_what_cannot_travel(self) -> Any:
        return {"lock": threading.Lock()}


def answer(memory: SharedMemory, nbytes: int) -> None:
    """Puts at the end of the memory, twice, the five bytes that stand at its beginning."""
    said = bytes(memory.view(5)[:5])
    memory.reserve(nbytes)[nbytes - 10 : nbytes] = said + said


def note_number(number: int) -> None:
    """As `init`: leaves the worker's number where `modules` or `number` finds it."""
    os.environ["WORKER"] = str(number)


def fail_to_begin(number: int) -> None:
    raise OSError(errno.ENOENT, f"worker {number} finds nothing")


class Numbered(Maker):
    """Knows what `note_number` noted."""

    def number(self) -> str:
        return os.environ["WORKER"]


class Stillborn(Maker):
    """Cannot be made anew in another process."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError("this one is not for other processes")
