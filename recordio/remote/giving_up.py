"""Threads that wait for a network until it answers, or until nobody wants the answer any more."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from recordio.errors import StorageError

_here = threading.local()


def give_up_after(ended: Future[None]) -> None:
    """What this thread waits for from now on, it waits for until `ended` is done."""
    _here.ended = ended


def wait_for(answer: Future[Any]) -> None:
    """Until the answer is there. Raises StorageError if this thread is to give up."""
    ended = getattr(_here, "ended", None)
    if ended is None or answer.done():
        return
    wait([answer, ended], return_when=FIRST_COMPLETED)
    if not answer.done():
        raise StorageError("the loader was closed while it waited for the network")
