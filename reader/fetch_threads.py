"""Threads that read, check and decode pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

from recordio.process_guard import ThreadPool
from recordio.reader.page_reads import Work
from recordio.remote.giving_up import give_up_after


class FetchThreads:
    """The threads that load windows."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ended: Future[None] = Future()
        self._pool = ThreadPool(count, "recordio-read", give_up_after, (self._ended,))

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(function, *args)

    def run(self, work: Iterable[Work]) -> None:
        """Does the work in the calling thread and in idle threads of the pool. All of them have stopped on return."""
        source, lock = iter(work), threading.Lock()

        def drain() -> None:
            while True:
                with lock:
                    piece = next(source, None)
                if piece is None:
                    return
                piece()

        helpers = [self._pool.submit(drain) for _ in range(self._count - 1)]
        try:
            drain()
        finally:
            started = [helper for helper in helpers if not helper.cancel()]
            wait(started)
        for helper in started:
            helper.result()

    def give_up(self) -> None:
        """What they wait for over a network fails: nobody wants it any more."""
        if not self._ended.done():
            self._ended.set_result(None)

    def close(self) -> None:
        self.give_up()
        self._pool.shutdown(wait=True, cancel_futures=True)
