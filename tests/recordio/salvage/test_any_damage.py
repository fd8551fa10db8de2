"""Whatever befalls a dataset, a repair gives good samples, each once, and says how many are lost."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from recordio import DatasetError, repair, verify
from recordio.format.manifest import FILE_NAME
from tests.effort import FACTOR
from tests.recordio.salvage.damage import flip, numbers, shard, write

SAMPLES, SHARDS = 60, 4


def damage(folder: Path, rng: random.Random) -> None:
    """A few accidents: flipped bits, lost and added bytes, holes, files that are missing, moved or exchanged."""
    for _ in range(rng.randrange(1, 5)):
        path = folder / FILE_NAME if rng.random() < 0.1 else shard(folder, rng.randrange(SHARDS))
        if not path.exists() or not (data := bytearray(path.read_bytes())):
            continue
        at, kind = rng.randrange(len(data)), rng.randrange(8)
        if kind == 0:
            for _ in range(rng.choice([1, 1, 3, 20])):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randrange(600)]
        elif kind == 3:
            data[at:at] = bytes(rng.randrange(200))
        elif kind == 4:
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        elif kind == 5:
            path.unlink()
            continue
        elif kind == 6:
            (folder / FILE_NAME).unlink(missing_ok=True)
            continue
        else:
            other = shard(folder, rng.randrange(SHARDS + 1))
            if not other.exists():
                os.rename(path, other)
                continue
            data = bytearray(other.read_bytes())
            other.write_bytes(path.read_bytes())
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(max(1, round(16 * FACTOR))))
def test_what_is_saved_is_good_and_what_is_not_is_counted(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = write(tmp_path / "it", SAMPLES, shard_samples=SAMPLES // SHARDS, block_bytes=300)
    other = shutil.copytree(folder, tmp_path / "other") if rng.random() < 0.5 else None
    for one in (folder, other):
        if one is not None:
            damage(one, rng)
    target = None if rng.random() < 0.5 else tmp_path / "new"
    where = target or folder
    try:
        report = repair(folder, target, source=other, in_place=target is None)
    except DatasetError:
        assert repair(folder, source=other).shards == 0
        return
    found = numbers(where)
    assert len(found) == len(set(found)) == report.samples
    assert verify(where).ok
    if report.manifest is None:
        assert found == sorted(found)
        assert len(found) + (report.lost_samples or 0) == SAMPLES
    assert repair(folder, target, source=other, in_place=target is None).done_before


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_bit_flipped_anywhere_in_a_shard_costs_one_block_at_most(tmp_path: Path, has_manifest: bool) -> None:
    whole = write(tmp_path / "whole", 30, shard_samples=15, block_bytes=400)
    before = shard(whole, 1).read_bytes()
    for byte in range(5, len(before), 3 if FACTOR > 1 else 101):
        folder = shutil.copytree(whole, tmp_path / "it")
        flip(shard(folder, 1), byte)
        if not has_manifest:
            (folder / FILE_NAME).unlink()
        report = repair(folder, in_place=True)
        assert len(numbers(folder)) + sum(loss.samples or 30 for loss in report.lost) == 30
        assert len(report.lost) < 2
        if not report.lost:
            assert shard(folder, 1).read_bytes() == before
        shutil.rmtree(folder)
