"""An edit that dies, or finds no room, leaves old or new datasets and whole sources; the same edit again ends it."""

from __future__ import annotations

import pytest

from tests.faults.bounded import bounded


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["killed_before_every_call", "killed_after_every_call", "killed_in_every_write"])
def test_an_edit_killed_at_any_call_is_ended_by_the_same_edit(attack: str) -> None:
    assert bounded("editing", attack, 0) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_an_edit_on_a_full_disk_loses_nothing() -> None:
    assert bounded("editing", "full_disks", 0) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_killed_export_leaves_nothing_or_all() -> None:
    assert bounded("editing", "killed_exports", 0) == []
