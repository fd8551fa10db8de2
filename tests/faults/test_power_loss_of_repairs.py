"""Power loss during a repair in place: nothing is lost that was there, and a rerun ends with the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import recordio
from recordio.format.manifest import Manifest
from tests.faults.interrupting import contents
from tests.faults.power import Disk, Recorder, Step, at_the_end, disks, restored
from tests.faults.repairing import cut, lose_manifest, rot, spoil_manifest, swap


def flip_parity(folder: Path) -> None:
    """Damages the parity of the dataset."""
    (path,) = folder.glob("parity-*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# What is damaged, of a dataset with or without parity.
DAMAGE: dict[str, tuple[bool, tuple[Callable[[Path], None], ...]]] = {
    "two shards swapped": (False, (swap,)),
    "a block lost": (False, (rot,)),
    "a shard cut, two swapped": (False, (cut, swap)),
    "no manifest": (False, (lose_manifest,)),
    "a bad manifest, two shards swapped": (False, (spoil_manifest, swap)),
    "no manifest, a block lost": (False, (lose_manifest, rot)),
    "a bad manifest, a block lost": (False, (spoil_manifest, rot)),
    "a block given back by parity": (True, (rot,)),
    "bad parity": (True, (flip_parity,)),
}


def damaged(folder: Path, name: str) -> Path:
    with_parity, damages = DAMAGE[name]
    with recordio.DatasetWriter(folder, shard_samples=6, block_bytes=40, parity=4 if with_parity else None) as writer:
        for i in range(23):
            writer.write({"number": i, "text": f"text {i}"})
    for damage in damages:
        damage(folder)
    return folder


def recorded(folder: Path) -> tuple[Disk, list[Step]]:
    """What was there before a repair in place, and what it does."""
    start, recorder = contents(folder), Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        recorder.patch(patch)
        recordio.repair(folder, in_place=True)
    return start, recorder.log


def repaired(folder: Path, disk: Disk, start: Disk) -> Disk:
    """What a repair makes of a disk, but for old files: the last removals may not have reached the disk."""
    recordio.repair(restored(folder, disk), in_place=True)
    found = contents(folder)
    shutil.rmtree(folder)
    old = {path for path, data in start.items() if path.startswith("shard") and found.get(path) == data}
    named = Manifest.decode(found["manifest.json"]).files
    return {path: data for path, data in found.items() if path in named or path not in old}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_repair_in_place_is_ended_by_a_rerun_after_a_power_loss(tmp_path: Path, name: str) -> None:
    start, log = recorded(damaged(tmp_path / "it", name))
    expected = contents(tmp_path / "it")
    for number, (step, disk) in enumerate(disks(start, log)):
        found = repaired(tmp_path / f"{number}", disk, start)
        assert found == expected, f"after {step} steps, {log[step - 1][:3]}, with {sorted(disk)}"


@pytest.mark.parametrize("name", DAMAGE)
def test_a_repair_in_place_is_durable_when_it_returns(tmp_path: Path, name: str) -> None:
    start, log = recorded(damaged(tmp_path / "it", name))
    expected = contents(tmp_path / "it")
    for disk in at_the_end(start, log):
        assert {path: data for path, data in disk.items() if path in expected} == expected


@pytest.mark.parametrize("name", ["two shards swapped", "bad parity"])
def test_a_repair_in_place_that_omits_a_sync_of_names_is_detected(tmp_path: Path, name: str) -> None:
    start, log = recorded(damaged(tmp_path / "it", name))
    expected = contents(tmp_path / "it")
    syncs = [k for k, step in enumerate(log) if step[0] == "sync names"]
    assert len(syncs) == {"two shards swapped": 3, "bad parity": 1}[name]
    for omitted in syncs:
        careless = [*log[:omitted], *log[omitted + 1 :]]
        is_durable = all(disk.items() >= expected.items() for disk in at_the_end(start, careless))
        ends = (
            repaired(tmp_path / f"{omitted} {k}", disk, start) for k, (_, disk) in enumerate(disks(start, careless))
        )
        assert not is_durable or any(end != expected for end in ends), f"sync {omitted} of {syncs} is not needed"
