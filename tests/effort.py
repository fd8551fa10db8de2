"""How hard the tests try: as in CI, or with RECORDIO_TEST_LONG=1, which `make test-long` sets, much harder."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("RECORDIO_TEST_LONG", "0") == "1"
FACTOR = 10 if LONG else 1


def examples(count: int) -> settings:
    """The number of examples of a property test: `count` in an ordinary run, ten times as many in a long one."""
    return settings(max_examples=count * FACTOR)


def load_profile() -> None:
    """Property tests find the same examples every time."""
    settings.register_profile(
        "recordio",
        max_examples=100 * FACTOR,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("recordio")
