"""How hard the property tests try: ordinary, long for `make test-long`, or brief for the runs that CI does beside."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("RECORDIO_TEST_LONG", "0") == "1"
BRIEF = os.environ.get("RECORDIO_TEST_BRIEF", "0") == "1"
FACTOR = 10 if LONG else 0.25 if BRIEF else 1


def examples(count: int) -> settings:
    """The number of examples of a property test: `count` in an ordinary run, ten times as many in a long one.

    A quarter in a brief one.
    """
    return settings(max_examples=max(1, round(count * FACTOR)))


def load_profile() -> None:
    """Property tests find the same examples every time."""
    settings.register_profile(
        "recordio",
        max_examples=round(100 * FACTOR),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("recordio")
