"""Work on datasets with parity that dies, or finds no room, leaves old or new; the same work again ends it."""

from __future__ import annotations

import pytest

from tests.faults.bounded import bounded


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["killed_at_every_call", "full_disks"])
def test_work_on_parity_that_dies_or_finds_no_room_is_ended_by_the_same_work(attack: str) -> None:
    assert bounded("parity", attack, 0) == []
