"""A repair that dies, or finds no room, has lost nothing: the same repair again gives the same files."""

from __future__ import annotations

import pytest

from tests.faults.bounded import bounded


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["killed_at_every_call", "full_disks"])
def test_a_repair_that_dies_or_finds_no_room_is_ended_by_the_same_repair(attack: str) -> None:
    assert bounded("repairing", attack, 0) == []
