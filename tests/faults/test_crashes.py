"""A writer that dies at any moment leaves the old or the new dataset, and a rerun gives the same bytes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.faults.bounded import bounded


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["killed_before_every_call", "killed_after_every_call", "killed_in_every_write"])
def test_writer_killed_at_any_call_leaves_the_old_or_new_dataset(attack: str) -> None:
    assert bounded("crashing", attack, 0) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_writer_killed_at_random_times_leaves_the_old_or_new_dataset() -> None:
    assert bounded("crashing", "killed_200_times", 0) == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_killed_writers_in_a_row_leave_the_old_or_new_dataset() -> None:
    assert bounded("crashing", "killed_twice", 0) == []


@pytest.mark.timeout(300)
def test_next_writer_removes_the_leftovers_of_a_killed_overwrite() -> None:
    assert bounded("crashing", "left_behind", 0) == []


@pytest.mark.timeout(300)
def test_losing_the_manifest_after_a_crash_keeps_the_shards() -> None:
    """The manifest can only be rebuilt from the shards."""
    assert bounded("crashing", "manifest_lost", 0) == []


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.skipif(
    not _can_trace(), reason="strace is missing or may not trace; the tests above inject in the process"
)
def test_writer_killed_in_a_system_call_leaves_the_old_or_new_dataset() -> None:
    assert bounded("crashing", "killed_by_strace", 0) == []
