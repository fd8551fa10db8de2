"""Power loss: unsynced data is gone, and the rest holds the old dataset or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError
from tests.faults.crashing import MODES, Oracle, contents, prepare, rows, write
from tests.faults.power import Disk, Recorder, at_the_end, disks, restored

SHARDS = 2


def recorded(folder: Path, mode: str) -> tuple[Disk, list[tuple[Any, ...]]]:
    prepare(folder, mode)
    start, recorder = contents(folder), Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        recorder.patch(patch)
        write(folder, mode, SHARDS)
    return start, recorder.log


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_power_loss_leaves_the_old_or_new_dataset_and_a_rerun_works(tmp_path: Path, mode: str) -> None:
    oracle = Oracle(mode, SHARDS)
    start, log = recorded(tmp_path / "it", mode)
    found = set()
    for number, (step, disk) in enumerate(disks(start, log)):
        folder = restored(tmp_path / f"{number}", disk)
        state, faults = oracle.faults(folder)
        found.add(state)
        assert faults == [], f"after {step} steps, {log[step - 1][:2]}, with {sorted(disk)}"
    assert found == {"old", "new"}


@pytest.mark.parametrize("mode", MODES)
def test_dataset_is_durable_when_close_returns(tmp_path: Path, mode: str) -> None:
    oracle = Oracle(mode, SHARDS)
    start, log = recorded(tmp_path / "it", mode)
    for number, disk in enumerate(at_the_end(start, log)):
        assert rows(restored(tmp_path / f"{number}", disk)) == oracle.after


@pytest.mark.parametrize("mode", MODES)
def test_files_are_synced_before_they_are_renamed(tmp_path: Path, mode: str) -> None:
    """The rule itself, without the model: no file is renamed with unsynced bytes."""
    _, log = recorded(tmp_path / "it", mode)
    unsynced: set[int] = set()
    inodes: dict[str, int] = {}
    renames = 0
    for what, *args in log:
        if what == "create":
            inodes[args[0]] = args[1]
        elif what == "write":
            unsynced.add(args[0])
        elif what == "sync":
            unsynced.discard(args[0])
        elif what == "rename":
            renames += 1
            assert inodes[args[0]] not in unsynced, args
            inodes[args[1]] = inodes.pop(args[0])
    assert renames > SHARDS
    after = [step[0] for step in log][max(k for k, step in enumerate(log) if step[0] == "rename") + 1 :]
    assert "sync names" in after[: after.index("unlink") if "unlink" in after else None]


def test_power_loss_model_detects_missing_syncs(tmp_path: Path) -> None:
    """The model catches a writer that omits a sync."""
    start, log = recorded(tmp_path / "it", "create")
    oracle = Oracle("create", SHARDS)
    for forgotten in ("sync", "sync names"):
        careless = [step for step in log if step[0] != forgotten]
        bad = 0
        for number, (_, disk) in enumerate(disks(start, careless)):
            folder = restored(tmp_path / f"{forgotten} {number}", disk)
            try:
                found = rows(folder)
            except recordio.RecordIOError:
                bad += 1
                continue
            bad += found not in (oracle.before, oracle.after)
        assert bad, forgotten
    with pytest.raises(DatasetError):
        recordio.ShardDataset(restored(tmp_path / "none", {}))
