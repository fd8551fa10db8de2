"""How many requests at a time, how many a second, and for how long: by a clock of the test's own."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable

import pytest

from recordio.remote.limits import Connections, Pace, Patience


def test_at_most_so_many_at_a_time() -> None:
    async def run() -> int:
        connections, running, most = Connections(3), 0, 0

        async def request() -> None:
            nonlocal running, most
            async with connections:
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*[request() for _ in range(20)])
        return most

    assert asyncio.run(run()) == 3


def test_one_who_waits_in_vain_takes_no_place() -> None:
    async def run() -> None:
        connections = Connections(1)
        async with connections:
            waiting = asyncio.ensure_future(connections.__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
        async with asyncio.timeout(5), connections:
            pass

    asyncio.run(run())


def test_throttling_halves_at_most_twice_a_second_and_answers_mend_it_slowly() -> None:
    connections = Connections(64)
    for now, limit in (
        (10.0, 32),
        (10.1, 32),
        (10.4, 32),
        (10.5, 16),
        (11.0, 8),
        (12.0, 4),
        (13.0, 2),
        (14, 1),
        (15, 1),
    ):
        connections.throttled(now)
        assert connections.limit == limit
    for _ in range(1):
        connections.answered()
    assert connections.limit == 2
    for _ in range(3):
        connections.answered()
    assert connections.limit == 3
    for _ in range(5000):
        connections.answered()
    assert connections.limit == 64


def test_pace_is_even() -> None:
    pace = Pace(50)
    assert [pace.wait(1, 10.0) for _ in range(200)] == pytest.approx([n / 50 for n in range(200)])
    assert pace.wait(1, 100.0) == 0
    assert pace.wait(25, 100.0) == pytest.approx(0.02)
    assert pace.wait(1, 100.0) == pytest.approx(0.52)


def test_no_pace() -> None:
    pace = Pace(None)
    assert {pace.wait(1 << 40, 0.0) for _ in range(3)} == {0.0}


def pauses(patience: Patience, kind: str, is_stranger: bool = False) -> list[float]:
    now, found = 50.0, []
    while (pause := patience.pause(kind, is_stranger, now)) is not None:
        found.append(pause)
        now += pause
    return found


@pytest.mark.parametrize(("is_stranger", "seconds"), [(False, 600), (True, 30)])
@pytest.mark.parametrize("kind", ["network", "throttled"])
def test_what_may_pass_is_tried_again_for_its_time(kind: str, is_stranger: bool, seconds: float) -> None:
    found = pauses(Patience(600), kind, is_stranger)
    assert seconds - 10 < sum(found) <= seconds
    assert max(found) <= 10
    assert found[0] <= 0.1


@pytest.mark.parametrize("kind", ["missing", "denied", "changed", "exists", "refused", "wrong", "full", "package"])
def test_what_stays_is_not(kind: str) -> None:
    assert pauses(Patience(600), kind) == []


def test_a_server_that_answers_against_the_rules_is_asked_five_times() -> None:
    assert len(pauses(Patience(600), "answer")) == 4


def answers_by_second(bears: Callable[[float], int], seconds: int) -> tuple[Counter[int], int]:
    """Good answers in each second, and refusals, of a store that bears so many requests in each second.

    There are always more requests to send. An answer takes 40 ms, a refusal one; what is refused is sent again later.
    """
    connections, now, running, refused = Connections(64), 0.0, 0, 0
    sent: Counter[int] = Counter()
    good: Counter[int] = Counter()
    events: list[tuple[float, int, str]] = []
    gate: deque[str] = deque()
    count = 0

    def at(time: float, what: str) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (time, count, what))

    while now < seconds:
        while running < connections.limit:
            running += 1
            gate.append("send")
        if gate and not any(what == "send" for _, _, what in events):
            at(now + connections.wait(now), gate.popleft())
        now, _, what = heapq.heappop(events)
        if what == "send":
            sent[int(now)] += 1
            is_good = sent[int(now)] <= bears(now)
            at(now + (0.04 if is_good else 0.001), "good" if is_good else "refused")
        else:
            running -= 1
            if what == "good":
                good[int(now)] += 1
                connections.answered(now)
            else:
                refused += 1
                connections.throttled(now)
    return good, refused


@pytest.mark.parametrize("most", [50, 200])
def test_nearly_as_many_a_second_as_the_store_bears(most: int) -> None:
    good, refused = answers_by_second(lambda now: most, 40)
    assert sum(good[second] for second in range(10, 40)) >= 0.9 * most * 30
    assert refused <= 0.1 * sum(good.values())


def test_a_store_that_bears_less_or_more_later() -> None:
    less, _ = answers_by_second(lambda now: 200 if now < 10 else 50, 30)
    assert 0.85 * 50 <= less[29] <= 60
    more, _ = answers_by_second(lambda now: 50 if now < 10 else 300, 60)
    assert more[59] >= 0.8 * 300


def test_a_store_that_refuses_everything_for_a_while() -> None:
    good, refused = answers_by_second(lambda now: 0 if 5 <= now < 10 else 200, 60)
    assert refused < 1000
    assert good[12] >= 5
    assert good[59] >= 0.8 * 200


def test_no_pace_until_a_store_refuses() -> None:
    connections = Connections(64)
    assert [connections.wait(0.0) for _ in range(1000)] == [0.0] * 1000
    connections.throttled(
        1.0
    )  # nothing was answered yet: as many a second as there may be at a time, then twice as many
    assert [connections.wait(1.0) for _ in range(3)] == [0.0, 1 / 32, 2 / 32]
    assert connections.wait(3.0) == 0.0
    assert connections.wait(3.0) == 1 / 128


@pytest.mark.parametrize("answers", [0, 1, 5, 31])
def test_a_refusal_after_few_answers_says_little(answers: int) -> None:
    connections = Connections(64)
    for _ in range(answers):
        connections.answered(0.9)
    connections.throttled(1.0)
    sent, now = 0, 1.0
    while (now := now + connections.wait(now)) < 6.0:
        sent += 1
    assert sent > 500
