"""How many requests there are at a time, how many a second, how long one is tried: decisions without any waiting."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from dataclasses import dataclass

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_HALVED_SECONDS = 0.5  # from one halving to the next
_THROTTLED_SECONDS = 5.0  # since the last halving
_BELOW, _GROWTH = 0.9, 1.02  # of the rate that was borne, where to go on; what it grows by a second
_SLOW_SECONDS, _LONGEST_GROWTH = 10.0, 300.0  # after the first it doubles as fast: the store may bear more by now
_STRANGER_SECONDS = 30.0  # for a server that has never answered: its name may be wrong
_WRONG_ANSWERS = 5  # until a server is believed not to know better


class Connections:
    """How many requests run at a time: half as many when the store says that it is too much, more again slowly.

    From then on they are paced, too: a little below the rate at which the store has answered, and slowly above it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._running = 0
        self._halved = float("-inf")
        self._rate = _Rate()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    async def __aenter__(self) -> None:
        if self._running < self.limit and not self._waiting:
            self._running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it has had its turn already
                await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._running -= 1
        self._call()

    def wait(self, now: float) -> float:
        """The seconds until another request may begin; it is counted."""
        return self._rate.wait(now)

    def answered(self, now: float | None = None) -> None:
        """One more at a time for each round of answers."""
        self._rate.answered(time.monotonic() if now is None else now)
        self._limit = min(self._most, self._limit + 1 / max(1.0, self._limit))
        self._call()

    def throttled(self, now: float | None = None) -> None:
        """Half as many; the answers to what was asked before that count once."""
        now = time.monotonic() if now is None else now
        if now - self._halved >= _HALVED_SECONDS:
            self._limit, self._halved = max(1.0, self._limit / 2), now
            self._rate.throttled(now, self.limit)

    @property
    def is_throttled(self) -> bool:
        return time.monotonic() - self._halved < _THROTTLED_SECONDS

    def _call(self) -> None:
        while self._waiting and self._running < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)


class _Rate:
    """What a store bears a second, as it has shown: unlimited until it says that something is too much."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=1 << 14)  # when
        self._goal = float("inf")
        self._first, self._since = float("inf"), 0.0
        self._pace = Pace(float("inf"))

    def answered(self, now: float) -> None:
        self._answers.append(now)

    def throttled(self, now: float, least: int) -> None:
        """Begins anew a little below what was answered in the last second, but at half of the goal at least.

        Fewer than `least` answers say nothing of what the store bears: it was not asked for much. Then it begins with
        that many a second, and doubles until the goal is reached.
        """
        while self._answers and self._answers[0] < now - 1:
            self._answers.popleft()
        says_something = len(self._answers) >= least
        if says_something:
            borne = _BELOW * len(self._answers)
            self._goal = borne if self._goal == float("inf") else max(borne, self._goal / 2)
        self._first, self._since = (self._goal if says_something else float(least)), now

    def _at(self, now: float) -> float:
        if self._first == float("inf"):
            return self._first
        passed = min(now - self._since, _LONGEST_GROWTH)
        reached = math.log2(max(1.0, self._goal / self._first))  # after so many seconds
        if passed < reached:
            return self._first * math.exp2(passed)
        above = passed - reached
        return self._goal * math.pow(_GROWTH, above) * math.exp2(max(0.0, above / _SLOW_SECONDS - 1))

    def wait(self, now: float) -> float:
        self._pace.per_second = self._at(now)
        return self._pace.wait(1, now)


class Pace:
    """So much a second, evenly; None for no limit."""

    def __init__(self, per_second: float | None) -> None:
        self.per_second = per_second
        self._free = float("-inf")  # when the next may begin

    def wait(self, amount: float, now: float) -> float:
        """The seconds until this amount may begin; it is counted."""
        if self.per_second is None:
            return 0.0
        begin = max(self._free, now)
        self._free = begin + amount / self.per_second
        return begin - now


@dataclass
class Patience:
    """How long a failing request is tried again.

    Attributes:
        seconds: since its first failure.
        first_failure: when that was.
        wrong_answers: how often a server has answered against the rules.
    """

    seconds: float
    first_failure: float | None = None
    tries: int = 0
    wrong_answers: int = 0

    def pause(self, kind: str, is_stranger: bool, now: float) -> float | None:
        """How long to wait before it is tried again; None: not again.

        `is_stranger`: the server has never answered.
        """
        if self.first_failure is None:
            self.first_failure = now
        self.wrong_answers += kind == "answer"
        if kind not in ("throttled", "network", "answer") or self.wrong_answers >= _WRONG_ANSWERS:
            return None
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self.tries) * random.uniform(0.5, 1.0)
        self.tries += 1
        limit = min(self.seconds, _STRANGER_SECONDS) if is_stranger else self.seconds
        return pause if now + pause <= self.first_failure + limit else None
