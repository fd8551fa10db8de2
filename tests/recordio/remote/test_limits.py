"""How many requests at a time, how many a second, and for how long: by a clock of the test's own."""

from __future__ import annotations

import asyncio

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
