"""Runs a function in a process of its own, for libraries that crash or hang on false files."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from recordio.errors import SourceError
from recordio.process_guard import begin_child, refusals, silence_libraries, starting_children
from recordio.writer.sources.foreign_errors import as_ours

_SECONDS = 120
_Result = TypeVar("_Result")


def isolated(function: Callable[..., _Result], *arguments: Any, seconds: float = _SECONDS) -> _Result:
    """What the function returns. Its errors of ours are raised here.

    Raises SourceError if the process dies, or takes longer than `seconds`; MemoryError if the system killed it;
    StorageError if the system refuses to start it.
    """
    if multiprocessing.current_process().daemon:  # which may have no children
        return function(*arguments)
    context = multiprocessing.get_context("spawn")
    with refusals("a process that reads it", "run it again"), contextlib.ExitStack() as at_fault:
        receiver, sender = context.Pipe(duplex=False)
        at_fault.callback(receiver.close)
        with sender, starting_children("spawn"):
            process = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
            process.start()
        at_fault.pop_all()
    try:
        if not receiver.poll(seconds):
            raise SourceError(f"reading it takes more than {seconds:g} s: the file is damaged or false")
        result, error = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError("the process that reads it was killed: did the system run out of memory?") from None
        text = f"the library that reads it ends with code {process.exitcode}: the file is damaged or false"
        raise SourceError(text) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin_child()
    silence_libraries()
    try:
        sender.send((function(*arguments), None))
    except Exception as error:  # noqa: BLE001 whatever a library raises
        sender.send((None, as_ours(error)))
