"""Requests to a store: tried again for minutes, as many at a time as it bears, stragglers asked a second time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from recordio.remote.limits import Connections, Pace, Patience
from recordio.remote.request_errors import RequestError, request_error

_HEDGE_SECONDS, _HEDGE_MEDIANS, _HEDGE_SHARE = 0.25, 4, 0.05
_HEDGE_SAMPLES = 8  # of a size, before a median is believed
_SAID_SECONDS = 5.0  # of waiting, until people hear of it
_LEAST_NBYTES = 64 << 10  # to arrive within the seconds in which a store may be silent: else it is too slow

Attempt = Callable[[], Awaitable[Any]]


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


class Requests:
    """Requests to one store.

    Args:
        counts: what they do is counted there.
        options: of `StorageOptions`.
        say: tells people what is waited for.

    Attributes:
        most: as many as that at a time.
    """

    def __init__(self, counts: Counts, options: dict[str, Any], say: Callable[[str], None]) -> None:
        self._counts = counts
        self.most: int = options["max_connections"]
        self._connections = Connections(self.most)
        self._turn = asyncio.Lock()
        self._requests_pace = Pace(options["max_requests_per_second"])
        megabytes = options["max_mbytes_per_second"]
        self._bytes_pace = Pace(None if megabytes is None else megabytes * 1e6)
        self._retry_seconds = options["retry_seconds"]
        self._silence = options["timeout_seconds"]
        self._say = say
        self._said: set[str] = set()
        self._is_stranger = True
        self._times: dict[int, deque[float]] = {}

    async def run(self, attempt: Attempt, nbytes: int | None = None, sent: int = 0) -> Any:
        """What an attempt gives, which is made again while its failure may pass.

        `nbytes`: the bytes that it fetches; a late one is then asked for a second time. `sent`: those that it sends.
        Raises RequestError.
        """
        patience = Patience(self._retry_seconds)
        while True:
            async with self._connections:
                await self._paced(sent or nbytes or 0)
                began = time.monotonic()
                try:
                    found = await (self._once(attempt, sent) if nbytes is None else self._hedged(attempt, nbytes))
                except BaseException as error:  # a panic of the library is no Exception
                    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                        raise
                    failure = request_error(error)
                else:
                    self._is_stranger = False
                    self._connections.answered()
                    return found
            await self._wait_after(failure, patience, began)

    async def _wait_after(self, failure: RequestError, patience: Patience, began: float) -> None:
        """Waits until the request may be tried again. Raises its error if it must not."""
        self._counts.errors[failure.kind] += 1
        if failure.kind == "throttled":
            self._counts.throttled += 1
            self._connections.throttled()
        self._is_stranger &= not failure.reached
        since = began if patience.first_failure is None else patience.first_failure
        now = time.monotonic()
        pause = patience.pause(failure.kind, self._is_stranger, now)
        if pause is None:
            tried = f"; tried for {now - since:.0f} s" if now - since >= 1 else ""
            raise RequestError(failure.kind, f"{failure}{tried}", failure.byte, failure.reached)
        if now + pause - since > _SAID_SECONDS and str(failure) not in self._said:
            self._said.add(str(failure))
            self._say(f"{failure}; trying again for up to {self._retry_seconds:.0f} s")
        self._counts.retries += 1
        await asyncio.sleep(pause)

    async def _paced(self, nbytes: int) -> None:
        """Waits until the store and the user's limits allow another request."""
        async with self._turn:  # one at a time, as what the store bears may have changed since the one before
            if (wait := self._connections.wait(time.monotonic())) > 0:
                await asyncio.sleep(wait)
        if (wait := self._counted(nbytes)) > 0:
            await asyncio.sleep(wait)

    def _counted(self, nbytes: int) -> float:
        now = time.monotonic()
        return max(self._requests_pace.wait(1, now), self._bytes_pace.wait(nbytes, now))

    async def _once(self, attempt: Attempt, nbytes: int) -> Any:
        self._counts.requests += 1
        async with asyncio.timeout(self._silence * (2 + nbytes / _LEAST_NBYTES)):
            return await attempt()

    async def _hedged(self, attempt: Attempt, nbytes: int) -> Any:
        times = self._times.setdefault(nbytes.bit_length(), deque(maxlen=64))
        began = time.monotonic()
        first = asyncio.ensure_future(self._once(attempt, nbytes))
        try:
            done, _ = await asyncio.wait([first], timeout=_late_after(times))
            if not done and self._may_hedge():
                self._counts.hedged += 1
                self._counted(nbytes)
                found = await _first_of(first, asyncio.ensure_future(self._once(attempt, nbytes)))
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
        return not self._connections.is_throttled and counts.hedged + 1 <= _HEDGE_SHARE * counts.requests


def _late_after(times: deque[float]) -> float | None:
    """After how many seconds a request of which the like took so long is late; None while too few are known."""
    if len(times) < _HEDGE_SAMPLES:
        return None
    return max(_HEDGE_SECONDS, _HEDGE_MEDIANS * sorted(times)[len(times) // 2])


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
