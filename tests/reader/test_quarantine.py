"""`on_damage="skip"`: damaged blocks are left out, the same everywhere, and named once."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import ConcatDataset, CorruptError, DataLoader, DatasetError, SchemaError, ShardDataset, verify
from recordio.format.quarantine import FILE_NAME, DamagedBlocks, Quarantine
from tests.recordio.salvage.damage import cut, damage_blocks, flip, sample, shard, write

SAMPLES = 1500


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write(tmp_path / "it", SAMPLES, shard_samples=300, block_bytes=400)


@pytest.fixture
def damaged(whole: Path) -> tuple[Path, list[int]]:
    """A dataset of which one block in twenty is damaged, and the samples of the others."""
    found, left = damage_blocks(whole, 0.05, 3)
    assert len(found) > 3
    return whole, left


def numbers(batches: Any) -> list[int]:
    return [int(number) for batch in batches for number in batch["number"]]


def loader(folder: Path, **options: Any) -> DataLoader:
    given = {"batch_size": 16, "shuffle": True, "seed": 5, "window_samples": 200} | options
    return DataLoader(ShardDataset(folder, on_damage="skip"), **given)


def test_damage_is_an_error_unless_it_is_to_be_skipped(damaged: tuple[Path, list[int]]) -> None:
    folder, left = damaged
    with pytest.raises(CorruptError):
        ShardDataset(folder).column("number")
    ds = ShardDataset(folder, on_damage="skip")
    assert len(ds) == len(left)
    assert ds.column("number").tolist() == left
    assert [int(one["number"]) for one in ds] == left
    assert ds[-1] == sample(left[-1])
    assert ds.statistics is None
    with pytest.raises(SchemaError, match="on_damage"):
        ShardDataset(folder, on_damage="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("listed", [False, True])
def test_an_epoch_visits_exactly_the_rest_whoever_reads_it(damaged: tuple[Path, list[int]], listed: bool) -> None:
    folder, left = damaged
    if listed:
        verify(folder, quarantine=True)
    order = numbers(loader(folder))
    assert sorted(order) == left
    assert order != left
    for options in ({"num_workers": 4}, {"num_workers": 2, "worker_type": "process"}):
        assert numbers(loader(folder, **options)) == order
    ranks = [list(loader(folder, rank=rank, world_size=3, batch_size=4, drop_last=True)) for rank in range(3)]
    assert len({len(batches) for batches in ranks}) == 1
    together = [number for step in zip(*ranks, strict=True) for number in numbers(step)]
    assert sorted(together) == sorted(set(together))
    assert set(together) <= set(left)
    assert len(left) - len(together) < 12
    assert numbers(loader(folder, shuffle=False)) == left


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_stopped_run_is_resumed_exactly(damaged: tuple[Path, list[int]], workers: int, world_size: int) -> None:
    folder, _ = damaged
    every = [numbers(loader(folder, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for rank in range(world_size):
        first = loader(folder, rank=rank, world_size=world_size, num_workers=workers)
        batches = iter(first)
        done = numbers([next(batches) for _ in range(7)])
        state = json.loads(json.dumps(first.state_dict()))
        second = loader(folder, rank=rank, world_size=world_size, num_workers=5 - workers)
        second.load_state_dict(state)
        assert done + numbers(second) == every[rank]


def test_the_state_names_the_quarantine(damaged: tuple[Path, list[int]], tmp_path: Path) -> None:
    folder, _ = damaged
    state = loader(folder).state_dict()
    assert len(state["quarantine"]) == 32
    verify(folder, quarantine=True)
    loader(folder).load_state_dict(state)  # the same damage, wherever it was found
    other = shutil.copytree(folder, tmp_path / "other")
    (other / FILE_NAME).unlink()
    flip(shard(other, 4), int(ShardDataset(other, on_damage="skip").store.shard(4).index.page_offsets[0, 0]))
    with pytest.raises(DatasetError, match="left out other damaged blocks"):
        loader(other).load_state_dict(state)
    good = write(tmp_path / "good", 100)
    assert "quarantine" not in loader(good).state_dict()
    with pytest.raises(DatasetError, match="here it is none"):
        loader(good).load_state_dict(state)
    assert (
        loader(good).state_dict()
        == DataLoader(ShardDataset(good), batch_size=16, shuffle=True, seed=5, window_samples=200).state_dict()
    )


def test_each_block_is_logged_once_with_its_place(
    damaged: tuple[Path, list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    folder, left = damaged
    found = {(str(p.place.file), p.place.block) for p in verify(folder, quarantine=True).problems}
    with caplog.at_level(logging.WARNING, "recordio"):
        ds = ShardDataset(folder, on_damage="skip")
        pickle.loads(pickle.dumps(ds))
        list(DataLoader(ds[:100], batch_size=10, num_workers=2, worker_type="process"))
    *lines, last = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(found)
    for (file, block), line in zip(sorted(found), lines, strict=True):
        assert f"{file}, block {block}, samples " in line
        assert "page checksum mismatch" in line
    assert last.endswith(f": {SAMPLES - len(left)} samples left out, of {SAMPLES}")


def test_without_a_list_every_page_is_read_which_is_said(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "recordio"):
        ShardDataset(whole, on_damage="skip")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "to find damage; `recordio verify --quarantine` keeps what it finds" in line
    caplog.clear()
    verify(whole, quarantine=True)
    ds = ShardDataset(whole, on_damage="skip")
    assert (caplog.records, ds.numbers) == ([], range(SAMPLES))


def test_shards_that_are_missing_or_cut_are_left_out_as_a_whole(whole: Path) -> None:
    verify(whole, quarantine=True)
    shard(whole, 1).unlink()
    cut(shard(whole, 3), 2000)
    ds = ShardDataset(whole, on_damage="skip")
    assert ds.column("number").tolist() == [*range(300), *range(600, 900), *range(1200, 1500)]
    assert [(one.file, one.first) for one in ds.quarantine.damaged] == [  # type: ignore[union-attr]
        ("shard-00001.rio", 0),
        ("shard-00003.rio", 0),
    ]
    (whole / FILE_NAME).unlink()
    assert numbers(loader(whole)) == numbers(loader(whole, num_workers=3))
    assert sorted(numbers(loader(whole))) == ds.column("number").tolist()


def test_a_list_stays_true_when_shards_are_added(damaged: tuple[Path, list[int]]) -> None:
    folder, left = damaged
    verify(folder, quarantine=True)
    ds = ShardDataset(folder, on_damage="skip").map(lambda one: one)
    with recordio.DatasetWriter(folder, mode="append") as writer:
        for n in range(SAMPLES, SAMPLES + 20):
            writer.write(sample(n))
    assert len(ds) == len(left)
    assert len(ds.refresh()) == len(left) + 20
    with pytest.raises(SchemaError, match="refresh the dataset"):
        ds[3:].refresh()
    entry = ds.refresh().store.manifest.shards[-1]
    flip(shard(folder, entry.number), int(ds.refresh().store.shard(5).index.page_offsets[0, 0]))
    assert len(ShardDataset(folder, on_damage="skip")) == len(left) + 20 - entry.runs[0][0]


def test_a_list_of_another_version_is_ignored_and_said(
    damaged: tuple[Path, list[int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, left = damaged
    verify(folder, quarantine=True)
    recordio.repair(folder, tmp_path / "new")
    shutil.copy(folder / FILE_NAME, tmp_path / "new")
    ds = ShardDataset(tmp_path / "new", on_damage="skip")
    assert ds.column("number").tolist() == left
    assert "made for another version" in caplog.text
    recordio.repair(folder, in_place=True, level="quick")  # which has not looked
    assert (folder / FILE_NAME).exists()
    recordio.repair(folder, in_place=True)
    assert not (folder / FILE_NAME).exists()


def test_a_damaged_list_is_refused(damaged: tuple[Path, list[int]]) -> None:
    folder, _ = damaged
    verify(folder, quarantine=True)
    flip(folder / FILE_NAME, 100)
    with pytest.raises(CorruptError, match="quarantine checksum mismatch"):
        ShardDataset(folder, on_damage="skip")
    ShardDataset(folder)  # does not need it


def test_parts_of_a_combined_dataset_leave_out_their_own(damaged: tuple[Path, list[int]], tmp_path: Path) -> None:
    folder, left = damaged
    both = ConcatDataset([ShardDataset(folder, on_damage="skip"), ShardDataset(write(tmp_path / "good"))])
    assert len(both) == len(left) + 60
    state = DataLoader(both, batch_size=8).state_dict()
    assert len(state["quarantine"]) == 32
    assert sorted(numbers(DataLoader(both, batch_size=8, shuffle=True))) == sorted([*left, *range(60)])


@pytest.mark.parametrize("options", [{"level": "quick"}, {"sample": 3}])
def test_only_a_full_verification_writes_a_list(whole: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="every page"):
        verify(whole, quarantine=True, **options)
    assert not (whole / FILE_NAME).exists()


def test_a_list_round_trips_and_is_checked(damaged: tuple[Path, list[int]]) -> None:
    folder, _ = damaged
    verify(folder, quarantine=True)
    data = (folder / FILE_NAME).read_bytes()
    found = Quarantine.decode(data)
    assert found.encode() == data
    assert found.is_of(ShardDataset(folder).store.manifest)
    assert found.digest == ShardDataset(folder, on_damage="skip").quarantine.digest  # type: ignore[union-attr]


def test_a_list_of_blocks_that_the_dataset_does_not_have_is_refused(whole: Path) -> None:
    manifest = ShardDataset(whole).store.manifest
    for number, first in ((1, manifest.shards[1].blocks), (len(manifest.shards), 0)):
        listed = Quarantine.of(manifest, [DamagedBlocks(number, first, 1, "it is gone")])
        (whole / FILE_NAME).write_bytes(listed.encode())
        with pytest.raises(CorruptError, match=f"shard-0000{number}.rio has no block {first}"):
            ShardDataset(whole, on_damage="skip")


def test_no_list_is_written_into_a_bucket() -> None:
    with pytest.raises(DatasetError, match="written on this machine alone"):
        verify("s3://bucket/it", quarantine=True)
