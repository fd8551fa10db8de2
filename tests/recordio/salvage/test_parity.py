"""Parity: any one shard of a group comes back bit for bit, and any damage but where two are damaged in one place."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import pytest

import recordio
from recordio import ShardDataset, repair, verify
from recordio.format.manifest import FILE_NAME
from recordio.format.shard import Footer
from tests.effort import LONG
from tests.recordio.salvage.damage import cut, files, flip, numbers, shard, write

STEP = 1 if LONG else 127  # bytes between two flipped bits
SAMPLES = 140  # seven shards: a group of four, and one of three


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset before."""
    return write(tmp_path_factory.mktemp("parity") / "whole", SAMPLES, parity=4)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "it")


def parity(folder: Path, number: int) -> Path:
    return folder / f"parity-{number:05d}.xor"


def lose(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    cut(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    cut(path, 0)


def rot(path: Path) -> None:
    """Half of the file is noise."""
    data = bytearray(path.read_bytes())
    rng = random.Random(path.name)
    data[len(data) // 4 : 3 * len(data) // 4] = rng.randbytes(3 * len(data) // 4 - len(data) // 4)
    path.write_bytes(data)


def replace(path: Path) -> None:
    """The file of another dataset."""
    with recordio.DatasetWriter(path.parent / "another") as writer:
        writer.write({"x": 1})
    path.unlink()
    (path.parent / "another" / "shard-00000.rio").rename(path)
    shutil.rmtree(path.parent / "another")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "lost": lose,
    "cut in the middle": halve,
    "empty": empty,
    "half noise": rot,
}


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("how", DAMAGE)
def test_any_one_shard_of_each_group_comes_back_bit_for_bit(
    folder: Path, whole: Path, tmp_path: Path, how: str, number: int
) -> None:
    for one in (number, (number + 4) % 8):
        if one < 7:  # a shard of the other group too
            DAMAGE[how](shard(folder, one))
    report = repair(folder)
    assert (report.lost, report.samples, report.lost_samples) == ((), SAMPLES, 0)
    assert all("parity-0000" in text for text in report.mended)
    assert not report.ok
    repair(folder, tmp_path / "new")
    repair(folder, in_place=True)
    assert files(folder) == files(whole) == files(tmp_path / "new")
    assert repair(folder, in_place=True).done_before
    assert repair(folder, tmp_path / "new").done_before


def test_a_bit_flipped_anywhere_in_a_shard_comes_back(folder: Path, whole: Path) -> None:
    length = shard(whole, 2).stat().st_size
    for byte in range(0, length, STEP):
        flip(shard(folder, 2), byte)
        report = repair(folder, in_place=True)
        assert report.lost == ()
        assert len(report.mended) == 1
        assert shard(folder, 2).read_bytes() == shard(whole, 2).read_bytes(), byte
    assert files(folder) == files(whole)


def test_damage_at_different_offsets_of_all_shards_comes_back(folder: Path, whole: Path) -> None:
    index = ShardDataset(whole).store.shard(0).index
    assert len(index.samples) >= 3
    for number, block in ((0, 0), (1, 1), (2, 2)):
        flip(shard(folder, number), int(index.page_offsets[block, 0]) + 3)
    report = repair(folder, in_place=True)
    assert report.lost == ()
    assert [text for text in report.mended if "1 block from parity-00000.xor" in text] == list(report.mended)
    assert files(folder) == files(whole)


def test_damage_of_two_shards_in_one_place_is_named_and_nothing_else_is_lost(folder: Path, whole: Path) -> None:
    index = ShardDataset(whole).store.shard(0).index
    flip(shard(folder, 0), int(index.page_offsets[1, 0]) + 3)
    flip(shard(folder, 1), int(index.page_offsets[1, 0]) + 3)
    flip(shard(folder, 2), int(index.page_offsets[2, 0]) + 3)
    report = repair(folder)
    assert [(loss.file, loss.first_block, loss.blocks) for loss in report.lost] == [
        ("shard-00000.rio", 1, 1),
        ("shard-00001.rio", 1, 1),
    ]
    assert all("another file of its group is damaged in the same place" in loss.fault for loss in report.lost)
    before = set(numbers(whole))
    lost = {n for loss in report.lost for n in range(loss.first_sample or 0, (loss.first_sample or 0) + loss.samples)}  # type: ignore[operator]
    repair(folder, in_place=True)
    assert set(numbers(folder)) == before - lost
    assert verify(folder).ok
    assert repair(folder, in_place=True).done_before


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_missing_shard_comes_back_as_far_as_a_cut_one_of_its_group_goes(
    folder: Path, whole: Path, with_manifest: bool
) -> None:
    given, index = (ShardDataset(whole).store.shard(number).index for number in (0, 1))
    shard(folder, 0).unlink()
    cut(shard(folder, 1), max(int(given.block_offsets[2]), int(index.block_offsets[2])))
    if not with_manifest:
        (folder / FILE_NAME).unlink()
    report = repair(folder)
    assert [(loss.file, loss.first_block) for loss in report.lost] == [("shard-00000.rio", 2), ("shard-00001.rio", 2)]
    repair(folder, in_place=True)
    ends = [int(one.first[2]) for one in (given, index)]
    assert numbers(folder) == [*range(ends[0]), *range(20, 20 + ends[1]), *range(40, SAMPLES)]
    assert verify(folder).ok


def test_two_shards_that_are_missing_in_one_group_are_lost_alone(folder: Path, whole: Path, tmp_path: Path) -> None:
    shard(folder, 1).unlink()
    shard(folder, 2).unlink()
    shard(folder, 5).unlink()
    report = repair(folder)
    assert [(loss.file, loss.samples) for loss in report.lost] == [("shard-00001.rio", 20), ("shard-00002.rio", 20)]
    assert report.lost[0].fault == "the shard is missing; shard-00002.rio of the same group is missing too"
    assert report.mended == ("shard-00005.rio: given back by parity-00001.xor",)
    repair(folder, tmp_path / "new")
    repair(folder, in_place=True)
    for one in (folder, tmp_path / "new"):
        assert numbers(one) == [*range(20), *range(60, SAMPLES)]
        assert verify(one).ok
        flip(shard(one, 0), 1500)  # the rest has parity again
        repair(one, in_place=True)
        assert verify(one).ok
        assert numbers(one) == [*range(20), *range(60, SAMPLES)]


@pytest.mark.parametrize("how", [*DAMAGE, "bit flipped"])
@pytest.mark.parametrize("number", [0, 1])
def test_damaged_parity_is_named_and_made_anew(
    folder: Path, whole: Path, tmp_path: Path, how: str, number: int
) -> None:
    name = parity(folder, number).name
    for byte in range(0, parity(whole, number).stat().st_size, STEP) if how == "bit flipped" else [0]:
        if how == "bit flipped":
            flip(parity(folder, number), byte)
        else:
            DAMAGE[how](parity(folder, number))
        assert {problem.place.file for problem in verify(folder).problems} == {name}
        report = repair(folder)
        assert (report.ok, report.lost, report.whole) == (False, (), 7)
        assert report.mended[0].startswith(f"{name}: made anew: ")
        repair(folder, in_place=True)
        assert files(folder) == files(whole)
    assert repair(folder, in_place=True).done_before
    assert numbers(folder) == list(range(SAMPLES))


def test_damage_in_parity_costs_what_lies_under_it_alone(folder: Path, whole: Path) -> None:
    index = ShardDataset(whole).store.shard(2).index
    shard(folder, 2).unlink()
    header = int.from_bytes(parity(whole, 0).read_bytes()[12:16], "little")
    flip(parity(folder, 0), header + int(index.page_offsets[1, 0]))
    (loss,) = repair(folder).lost
    assert (loss.file, loss.first_block, loss.blocks) == ("shard-00002.rio", 1, 1)
    repair(folder, in_place=True)
    assert len(numbers(folder)) == SAMPLES - int(index.samples[1])
    assert verify(folder).ok


def test_a_damaged_header_of_parity_does_not_matter_while_there_is_a_manifest(folder: Path, whole: Path) -> None:
    shard(folder, 2).unlink()
    flip(parity(folder, 0), 20)
    flip(parity(folder, 0), parity(whole, 0).stat().st_size - 40)
    report = repair(folder, in_place=True)
    assert report.lost == ()
    assert files(folder) == files(whole)


def without_statistics(folder: Path, whole: Path) -> None:
    """All files but the manifest are as before; it says the same, but for statistics."""
    assert {**files(folder), FILE_NAME: b""} == {**files(whole), FILE_NAME: b""}
    was, now = (ShardDataset(one).store.manifest for one in (whole, folder))
    assert (now.dataset_id, now.parity, list(now.shards)) == (was.dataset_id, was.parity, list(was.shards))


@pytest.mark.parametrize("number", [0, 6])
@pytest.mark.parametrize("how", DAMAGE)
def test_without_a_manifest_parity_is_found_again(folder: Path, whole: Path, how: str, number: int) -> None:
    (folder / FILE_NAME).unlink()
    DAMAGE[how](shard(folder, number))
    report = repair(folder)
    assert report.lost == ()
    assert report.samples == SAMPLES
    repair(folder, in_place=True)
    without_statistics(folder, whole)
    assert repair(folder, in_place=True).done_before


def test_without_a_manifest_a_parity_that_is_lost_is_made_anew_by_the_others(folder: Path, whole: Path) -> None:
    (folder / FILE_NAME).unlink()
    parity(folder, 1).unlink()
    repair(folder, in_place=True)
    without_statistics(folder, whole)


def test_without_a_manifest_and_all_parity_it_is_gone(folder: Path) -> None:
    for path in (folder / FILE_NAME, parity(folder, 0)):
        path.unlink()
    flip(parity(folder, 1), 70)
    report = repair(folder, in_place=True)
    assert any(note.startswith("parity-00001.xor is left as it is: parity header checksum") for note in report.notes)
    assert ShardDataset(folder).store.manifest.parity is None


def test_another_copy_and_parity_complete_each_other(folder: Path, whole: Path, tmp_path: Path) -> None:
    other = shutil.copytree(whole, tmp_path / "other")
    for number in (0, 1):
        shard(folder, number).unlink()
    for path in (FILE_NAME, "shard-00001.rio", "parity-00000.xor", "shard-00002.rio"):
        (other / path).unlink()
    repair(folder, in_place=True, source=other)  # shard 0 from there, shard 1 by parity
    assert files(folder) == files(whole)


def test_swapped_and_damaged_shards_of_a_group_come_back(folder: Path, whole: Path) -> None:
    shard(folder, 0).rename(folder / "x")
    shard(folder, 1).rename(shard(folder, 0))
    (folder / "x").rename(shard(folder, 1))
    flip(shard(folder, 3), shard(whole, 3).stat().st_size - 60)  # its footer, which the blocks prove
    shard(folder, 2).unlink()
    repair(folder, in_place=True)
    assert files(folder) == files(whole)


def test_a_stranger_under_the_name_of_a_shard_is_moved_aside(folder: Path, whole: Path) -> None:
    replace(shard(folder, 2))
    repair(folder, in_place=True)
    assert (folder / "shard-00002.rio.other").exists()
    (folder / "shard-00002.rio.other").unlink()
    assert files(folder) == files(whole)


def lost_blocks(damage: dict[str, set[int]], blocks: dict[str, list[tuple[int, int]]]) -> set[tuple[str, int]]:
    """The blocks of a group that are lost: damaged, with another file damaged where they lie, that is not mended."""
    damage = {name: set(offsets) for name, offsets in damage.items()}
    while True:
        bad = {
            (name, block): (begin, end)
            for name, every in blocks.items()
            for block, (begin, end) in enumerate(every)
            if any(begin <= byte < end for byte in damage[name])
        }
        mended = [
            (name, begin, end)
            for (name, _), (begin, end) in bad.items()
            if not any(begin <= byte < end for other in damage if other != name for byte in damage[other])
        ]
        for name, begin, end in mended:
            damage[name] -= set(range(begin, end))
        if not mended:
            return set(bad)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group of four shards of 20 samples, whose blocks begin and end elsewhere in each."""
    folder = tmp_path_factory.mktemp("uneven") / "it"
    schema = {"number": recordio.Scalar("int64"), "bytes": recordio.Bytes()}
    with recordio.DatasetWriter(folder, schema, shard_samples=20, block_bytes=500, parity=4) as writer:
        for n in range(80):
            writer.write({"number": n, "bytes": bytes([n]) * (n * n * 37 % 290)})
    return folder


def block_ranges(whole: Path) -> dict[str, list[tuple[int, int]]]:
    """Where the blocks of the first group begin and end, by file."""
    store, blocks = ShardDataset(whole).store, {}
    for number in range(4):
        data = shard(whole, number).read_bytes()
        end = Footer.decode(data[-128:], len(data)).index_offset
        blocks[shard(whole, number).name] = list(pairwise([*store.shard(number).index.block_offsets.tolist(), end]))
    return blocks


def test_a_shard_that_is_given_back_helps_another(uneven: Path, tmp_path: Path) -> None:
    """Each shard has a bad block, the two overlap, and only one is bad where the other lies."""
    folder = shutil.copytree(uneven, tmp_path / "it")
    ranges = [(name, one) for name, every in block_ranges(uneven).items() for one in every]
    mine, begin, other, low = next(
        (mine, begin, other, low)
        for (mine, (begin, end)), (other, (low, _)) in product(ranges, ranges)
        if mine != other and begin < low < end
    )
    flip(folder / mine, begin)  # before the other block
    flip(folder / other, low)  # within this one
    report = repair(folder, in_place=True)
    assert (len(report.mended), report.lost) == (2, ())
    assert files(folder) == files(uneven)


def test_random_damage_costs_what_two_files_lack_and_nothing_else(uneven: Path, tmp_path: Path) -> None:
    store, blocks = ShardDataset(uneven).store, block_ranges(uneven)
    start = int.from_bytes(parity(uneven, 0).read_bytes()[12:16], "little")
    first = {name: number * 20 for number, name in enumerate(blocks)}
    some_lost = 0
    for seed in range(400 if LONG else 40):
        rng = random.Random(seed)
        folder = shutil.copytree(uneven, tmp_path / f"{seed}")
        damage: dict[str, set[int]] = {name: set() for name in (*blocks, parity(uneven, 0).name)}
        for _ in range(rng.randrange(1, 7)):
            name = rng.choice(list(damage))
            low, high = (blocks[name][0][0], blocks[name][-1][1]) if name in blocks else (600, 3200)
            damage[name] ^= {rng.randrange(low, high)}
        for name, offsets in damage.items():
            for byte in offsets:
                flip(folder / name, byte if name in blocks else start + byte)
        lost = lost_blocks(damage, blocks)
        report = repair(folder)
        found = {(loss.file, loss.first_block + k) for loss in report.lost for k in range(loss.blocks or 0)}
        assert found == lost, (seed, damage)
        repair(folder, in_place=True)
        gone = set()
        for name, block in lost:
            index = store.shard(first[name] // 20).index
            begin = first[name] + int(index.first[block])
            gone |= set(range(begin, begin + int(index.samples[block])))
        assert ShardDataset(folder, verify="always").column("number").tolist() == [
            n for n in range(80) if n not in gone
        ]
        some_lost += bool(lost)
    assert 0 < some_lost
