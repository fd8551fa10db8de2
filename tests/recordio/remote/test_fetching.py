"""Requests to a store that is a function of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from recordio.remote import fetching
from recordio.remote.fetching import Counts, Requests
from recordio.remote.options import StorageOptions
from recordio.remote.request_errors import RequestError

pytestmark = pytest.mark.timeout(20)


class Panic(BaseException):
    """What obstore raises when it panics is no Exception."""


class Case:
    """Requests, and what they have counted and said."""

    def __init__(self, **options: Any) -> None:
        self.counts = Counts()
        self.said: list[str] = []
        message = StorageOptions(**{"retry_seconds": 0.5} | options).message()
        self.requests = Requests(self.counts, message, self.said.append)
        self.tries = 0

    def failing(self, times: int, error: BaseException) -> Callable[[], Awaitable[str]]:
        async def attempt() -> str:
            self.tries += 1
            if self.tries <= times:
                raise error
            return "answer"

        return attempt


def test_what_may_pass_is_tried_again() -> None:
    case = Case()
    assert asyncio.run(case.requests.run(case.failing(2, RequestError("network", "reset")))) == "answer"
    assert (case.counts.requests, case.counts.retries, case.counts.errors) == (3, 2, {"network": 2})


@pytest.mark.parametrize("error", [Panic("range out of bounds"), ConnectionError("reset"), RuntimeError("odd")])
def test_no_failure_is_more_than_an_error(error: BaseException) -> None:
    case = Case(retry_seconds=0.2)
    with pytest.raises(RequestError):
        asyncio.run(case.requests.run(case.failing(1000, error)))
    assert case.tries > 1


def test_time_in_the_queue_is_no_failure() -> None:
    case = Case(max_connections=1, retry_seconds=0.3)

    async def run() -> list[str]:
        async def slow() -> str:
            await asyncio.sleep(0.5)
            return "slow"

        failing = case.failing(1, RequestError("network", "reset"))
        return await asyncio.gather(case.requests.run(slow), case.requests.run(failing))

    assert asyncio.run(run()) == ["slow", "answer"]


def test_an_answer_that_never_comes_is_asked_for_again() -> None:
    case = Case(timeout_seconds=0.05)

    async def attempt() -> str:
        case.tries += 1
        await asyncio.sleep(0 if case.tries == 2 else 60)
        return "answer"

    assert asyncio.run(case.requests.run(attempt)) == "answer"


def test_waiting_is_said_once_for_each_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_SAID_SECONDS", 0.0)
    case = Case()

    async def run() -> None:
        for cause in ("reset", "reset", "refused"):
            case.tries = 0
            await case.requests.run(case.failing(2, RequestError("network", cause)))

    asyncio.run(run())
    assert [text.partition(";")[0] for text in case.said] == ["reset", "refused"]


def test_nothing_is_said_of_what_passes_quickly() -> None:
    case = Case()
    asyncio.run(case.requests.run(case.failing(2, RequestError("network", "reset"))))
    assert case.said == []


def late_now_and_then(case: Case, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """400 requests, of which each so-and-so-many-th would never end."""
    monkeypatch.setattr(fetching, "_HEDGE_SECONDS", 0.03)

    async def attempt(is_late: list[bool]) -> str:
        if is_late.pop():
            await asyncio.sleep(60)
        return "answer"

    async def run() -> None:
        for number in range(400):
            is_late = [False] * 9 + [number % every == every - 1]
            await case.requests.run(partial(attempt, is_late), 1000)

    asyncio.run(run())


def test_a_straggler_is_asked_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    late_now_and_then(case, monkeypatch, every=100)
    assert (case.counts.hedged, case.counts.retries) == (4, 0)


def test_of_all_requests_one_in_twenty_at_most_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(timeout_seconds=0.05)
    late_now_and_then(case, monkeypatch, every=10)
    assert 0 < case.counts.hedged <= 0.05 * case.counts.requests
    assert case.counts.hedged + case.counts.retries >= 40


def test_none_is_made_twice_while_the_store_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(timeout_seconds=0.05)
    asyncio.run(case.requests.run(case.failing(1, RequestError("throttled", "slow down"))))
    late_now_and_then(case, monkeypatch, every=100)
    assert case.counts.hedged == 0
    assert case.counts.retries >= 5


def test_throttled_requests_all_succeed_in_the_end() -> None:
    """The store takes four at a time and refuses the others."""
    case = Case(retry_seconds=60.0)
    running = 0

    async def attempt() -> str:
        nonlocal running
        if running >= 4:
            raise RequestError("throttled", "slow down")
        running += 1
        try:
            await asyncio.sleep(0.001)
        finally:
            running -= 1
        return "answer"

    async def run() -> list[str]:
        return await asyncio.gather(*[case.requests.run(attempt) for _ in range(300)])

    assert asyncio.run(run()) == ["answer"] * 300
    assert case.counts.throttled > 0
