"""A writer that dies at any moment leaves the old dataset or the new one, and a rerun finishes with the same bytes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.faults.bounded import bounded


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["killed_before_every_call", "killed_after_every_call", "killed_in_every_write"])
def test_a_writer_that_dies_at_any_call_leaves_the_old_dataset_or_the_new_one(attack: str) -> None:
    assert bounded("crashing", attack, 0) == []


@pytest.mark.slow
def test_a_writer_killed_200_times_at_random_leaves_the_old_dataset_or_the_new_one() -> None:
    assert bounded("crashing", "killed_200_times", 0) == []


@pytest.mark.slow
def test_a_writer_that_dies_after_one_that_died_leaves_the_old_dataset_or_the_new_one() -> None:
    assert bounded("crashing", "killed_twice", 0) == []


def test_the_shards_that_a_dead_overwrite_did_not_remove_go_with_the_next_writer() -> None:
    assert bounded("crashing", "left_behind", 0) == []


def test_a_manifest_lost_after_a_crash_does_not_cost_the_shards() -> None:
    """The shards are all there is to make it again from."""
    assert bounded("crashing", "manifest_lost", 0) == []


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not _can_trace(), reason="strace is missing or may not trace; the tests above inject in the process"
)
def test_a_writer_killed_by_the_kernel_leaves_the_old_dataset_or_the_new_one() -> None:
    assert bounded("crashing", "killed_by_strace", 0) == []
