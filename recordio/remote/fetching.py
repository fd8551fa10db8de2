"""Requests to a store: tried again for minutes, as many at a time as it bears, stragglers asked a second time."""

from __future__ import annotations

import asyncio
import errno
import random
import re
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_HEDGE_SECONDS, _HEDGE_MEDIANS, _HEDGE_SHARE = 0.25, 4, 0.05
_STATUS = re.compile(r"status code:? (\d{3})|\((\d{3}) [A-Z]|HTTP status \w+ error \((\d{3})")

Attempt = Callable[[], Awaitable[Any]]


class RequestError(Exception):
    """A request that has failed.

    Attributes:
        kind: "missing", "denied", "changed", "exists", "refused", "throttled", "network", "wrong",
            "full" (the disk of the cache) or "package".
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def request_error(error: BaseException) -> RequestError:
    """What an error of obstore means."""
    text, name = str(error).strip(), type(error).__name__
    if isinstance(error, RequestError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RequestError("full", text)
    by_name = {
        "FileNotFoundError": "missing",
        "NotFoundError": "missing",
        "AlreadyExistsError": "exists",
        "PreconditionError": "changed",
        "PermissionDeniedError": "denied",
        "UnauthenticatedError": "denied",
        "MissingPackageError": "package",
        "NotSupportedError": "refused",
        "UnknownConfigurationKeyError": "refused",
        "InvalidPathError": "refused",
    }
    if name in by_name:
        return RequestError(by_name[name], text)
    found = _STATUS.search(text)
    status = int(next(filter(None, found.groups()))) if found else 0
    if status in (429, 503):
        return RequestError("throttled", text)
    if status in (400, 401, 403):
        return RequestError("denied", text)
    if status in (404, 410):
        return RequestError("missing", text)
    if 400 <= status < 500 and status not in (408, 416):
        return RequestError("refused", text)
    return RequestError("network", text)


@dataclass
class Counts:
    """What the requests of a process have done so far."""

    bytes_fetched: int = 0
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    hedged: int = 0
    refetched: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    errors: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        times = sorted(self.seconds)
        return {
            "bytes_fetched": self.bytes_fetched,
            "requests": self.requests,
            "retries": self.retries,
            "throttled": self.throttled,
            "hedged": self.hedged,
            "refetched": self.refetched,
            "latency_p50": times[len(times) // 2] if times else 0.0,
            "latency_p99": times[len(times) * 99 // 100] if times else 0.0,
            "errors": dict(self.errors),
        }


class Connections:
    """How many requests run at a time: fewer at once when the store says that it is too much, more again slowly."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._running = 0
        self._halved = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._running < max(1, int(self._limit)))
            self._running += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self._running -= 1
            self._changed.notify(1)

    def answered(self) -> None:
        self._limit = min(self._most, self._limit + 1 / max(1.0, self._limit))

    def throttled(self) -> None:
        if time.monotonic() - self._halved > 0.5:
            self._limit, self._halved = max(1.0, self._limit / 2), time.monotonic()

    @property
    def is_throttled(self) -> bool:
        return time.monotonic() - self._halved < 5.0


class Requests:
    """Requests to one store."""

    def __init__(self, counts: Counts, connections: Connections, retry_seconds: float) -> None:
        self._counts = counts
        self._connections = connections
        self._retry_seconds = retry_seconds
        self._times: dict[int, deque[float]] = {}

    async def run(self, attempt: Attempt, nbytes: int | None = None) -> Any:
        """What an attempt gives, which is made again while its failure may pass.

        `nbytes`: the bytes that it fetches; a late one is then asked for a second time. Raises RequestError.
        """
        end, pause = time.monotonic() + self._retry_seconds, _FIRST_PAUSE
        while True:
            try:
                async with self._connections:
                    found = await (self._once(attempt) if nbytes is None else self._hedged(attempt, nbytes))
                self._connections.answered()
                return found
            except Exception as error:  # noqa: BLE001 - obstore raises errors of many kinds
                found = request_error(error)
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                    raise
                found = RequestError("network", f"obstore failed: {error}")  # a panic of the library
            self._counts.errors[found.kind] += 1
            if found.kind == "throttled":
                self._counts.throttled += 1
                self._connections.throttled()
            if found.kind not in ("throttled", "network") or time.monotonic() + pause > end:
                raise found
            self._counts.retries += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _once(self, attempt: Attempt) -> Any:
        self._counts.requests += 1
        return await attempt()

    async def _hedged(self, attempt: Attempt, nbytes: int) -> Any:
        times = self._times.setdefault(nbytes.bit_length(), deque(maxlen=64))
        began = time.monotonic()
        first = asyncio.ensure_future(self._once(attempt))
        patience = max(_HEDGE_SECONDS, _HEDGE_MEDIANS * sorted(times)[len(times) // 2]) if len(times) >= 8 else None
        try:
            done, _ = await asyncio.wait([first], timeout=patience)
            if not done and self._may_hedge():
                self._counts.hedged += 1
                found = await _first_of(first, asyncio.ensure_future(self._once(attempt)))
            else:
                found = await first
        finally:
            first.cancel()
        times.append(time.monotonic() - began)
        self._counts.seconds.append(times[-1])
        self._counts.bytes_fetched += nbytes
        return found

    def _may_hedge(self) -> bool:
        counts = self._counts
        return not self._connections.is_throttled and counts.hedged < _HEDGE_SHARE * counts.requests


async def _first_of(*tasks: asyncio.Future[Any]) -> Any:
    """The result of the task that succeeds first; the last error if none does."""
    waiting = set(tasks)
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None or not waiting:
                    return task.result()
    finally:
        for task in waiting:
            task.cancel()
