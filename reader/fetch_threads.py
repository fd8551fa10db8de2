"""Threads that read, check and decode pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from recordio.reader.page_reads import Work


class FetchThreads:
    """The threads that load windows."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, "recordio-read")

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

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
