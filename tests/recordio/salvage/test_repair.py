"""`repair`: all that is left, bit for bit where that can be proven, and what is lost by number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import recordio
from recordio import DatasetError, SchemaError, ShardDataset, StorageError, repair, verify
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.format.shard import Footer
from tests.faults.forging import manifest as forged_manifest
from tests.recordio.salvage.damage import aside, cut, damage_blocks, files, flip, numbers, sample, shard, write


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The dataset before."""
    return write(tmp_path / "whole")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "it")


def lose_manifest(folder: Path) -> None:
    (folder / FILE_NAME).unlink()


def other_version(folder: Path) -> None:
    value = json.loads((folder / FILE_NAME).read_bytes())
    (folder / FILE_NAME).write_bytes(forged_manifest(value | {"version": 2}))


def flip_manifest(folder: Path) -> None:
    flip(folder / FILE_NAME, 100)


def swap(folder: Path) -> None:
    aside(shard(folder, 0), "x")
    aside(shard(folder, 1), shard(folder, 0).name)
    aside(folder / "x", shard(folder, 1).name)


MANIFESTS = {"lost": lose_manifest, "of another version": other_version, "damaged": flip_manifest}


def test_a_good_dataset_is_left_alone(folder: Path, whole: Path, tmp_path: Path) -> None:
    report = repair(folder)
    assert report.ok
    assert (report.shards, report.whole, report.samples, report.lost_samples) == (3, 3, 60, 0)
    assert repair(folder, in_place=True).done_before
    repair(folder, tmp_path / "new")
    assert files(folder) == files(whole) == files(tmp_path / "new")
    assert repair(folder, tmp_path / "new").done_before


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_manifest_is_made_of_the_shards(folder: Path, whole: Path, how: str) -> None:
    MANIFESTS[how](folder)
    before = files(folder)
    report = repair(folder)
    assert (report.manifest is None, report.lost, report.samples) == (False, (), 60)
    assert files(folder) == before
    repair(folder, in_place=True)
    was, now = (Manifest.decode((one / FILE_NAME).read_bytes()) for one in (whole, folder))
    assert (now.dataset_id, now.schema, now.metadata, list(now.shards)) == (
        was.dataset_id,
        was.schema,
        was.metadata,
        list(was.shards),
    )
    assert now.statistics is None
    assert numbers(folder) == list(range(60))
    assert repair(folder, in_place=True).done_before


@pytest.mark.parametrize("how", MANIFESTS)
def test_the_manifest_of_another_copy_is_taken_as_it_is(folder: Path, whole: Path, how: str) -> None:
    MANIFESTS[how](folder)
    swap(folder)
    repair(folder, in_place=True, source=whole)
    assert files(folder) == files(whole)


@pytest.mark.parametrize("seed", range(3))
def test_all_good_blocks_are_saved_to_the_sample(tmp_path: Path, seed: int) -> None:
    folder = write(tmp_path / "it", 3000, shard_samples=600, block_bytes=600)
    damaged, left = damage_blocks(folder, 0.01 if seed else 0.3, seed)
    found = {(str(p.place.file), int(p.place.block or 0)): str(p.place.field) for p in verify(folder).problems}
    assert found == damaged
    report = repair(folder)
    assert {(loss.file, loss.first_block) for loss in report.lost} <= damaged.keys()
    assert sum(loss.blocks or 0 for loss in report.lost) == len(damaged)
    lost = [n for loss in report.lost for n in range(loss.first_sample or 0, (loss.first_sample or 0) + loss.samples)]  # type: ignore[operator]
    assert sorted([*lost, *left]) == list(range(3000))
    repair(folder, tmp_path / "new")
    assert numbers(tmp_path / "new") == left
    repair(folder, in_place=True)
    assert numbers(folder) == left
    assert verify(folder).ok
    assert verify(tmp_path / "new").ok
    assert repair(folder, in_place=True).done_before


def test_damaged_blocks_come_back_from_another_copy_bit_for_bit(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 600, shard_samples=200)
    before = files(folder)
    other = shutil.copytree(folder, tmp_path / "other")
    mine, _ = damage_blocks(folder, 0.4, 1)
    theirs, _ = damage_blocks(other, 0.4, 2)
    both = mine.keys() & theirs.keys()
    assert both
    report = repair(folder, source=other)
    assert sum(loss.blocks or 0 for loss in report.lost) == len(both)
    for name, _ in both:
        (other / name).write_bytes(before[name])
    repair(folder, in_place=True, source=other)
    assert files(folder) == before


@pytest.mark.parametrize("how", [None, "lost"])
def test_a_shard_cut_anywhere_is_saved_to_its_last_whole_block(whole: Path, tmp_path: Path, how: str | None) -> None:
    index = ShardDataset(whole).store.shard(2).index
    length = shard(whole, 2).stat().st_size
    footer = Footer.decode(shard(whole, 2).read_bytes()[-128:], length)
    ends = [*index.block_offsets.tolist()[1:], footer.index_offset]
    for nbytes in range(0, length, 64):
        folder = shutil.copytree(whole, tmp_path / f"cut {nbytes}")
        cut(shard(folder, 2), nbytes)
        if how is not None:
            MANIFESTS[how](folder)
        blocks = sum(end <= nbytes for end in ends)
        expected = list(range(40 + int(index.samples[:blocks].sum())))
        for _ in range(2):
            report = repair(folder, in_place=True)
            assert numbers(folder) == expected
        assert report.done_before
        assert verify(folder).ok
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", [None, "lost"])
def test_a_missing_shard_is_named_and_the_others_stay(folder: Path, whole: Path, how: str | None) -> None:
    shard(folder, 1).unlink()
    if how is not None:
        MANIFESTS[how](folder)
    report = repair(folder)
    assert "shard-00001.rio" in str(report.lost[0] if how is None else report.notes)
    if how is None:
        assert str(report.lost[0]) == "shard-00001.rio, blocks 0 to 2, samples 20 to 39: the shard is missing"
        assert report.lost_samples == 20
    repair(folder, in_place=True)
    assert numbers(folder) == [*range(20), *range(40, 60)]
    assert repair(folder, in_place=True).done_before


def test_a_missing_shard_comes_from_another_copy(folder: Path, whole: Path, tmp_path: Path) -> None:
    shard(folder, 1).unlink()
    for path in whole.iterdir():  # all but this shard is not needed
        if path.name not in (FILE_NAME, "shard-00001.rio"):
            path.unlink()
    repair(folder, tmp_path / "new", source=whole)
    assert numbers(tmp_path / "new") == list(range(60))
    assert repair(folder, tmp_path / "new", source=whole).done_before


@pytest.mark.parametrize("how", [None, *MANIFESTS])
def test_swapped_shards_get_their_names_again(folder: Path, whole: Path, tmp_path: Path, how: str | None) -> None:
    swap(folder)
    if how is not None:
        MANIFESTS[how](folder)
    repair(folder, tmp_path / "new")
    repair(folder, in_place=True)
    for one in (folder, tmp_path / "new"):
        for number in range(3):
            assert shard(one, number).read_bytes() == shard(whole, number).read_bytes()
        assert numbers(one) == list(range(60))


@pytest.mark.parametrize("how", [None, "lost"])
@pytest.mark.parametrize("part", ["header", "footer", "index", "header and footer"])
def test_what_lies_around_the_blocks_is_given_back_bit_for_bit(
    folder: Path, whole: Path, part: str, how: str | None
) -> None:
    length = shard(folder, 1).stat().st_size
    for byte in {"header": [70], "footer": [length - 60], "index": [length - 200]}.get(part, [70, length - 60]):
        flip(shard(folder, 1), byte)
    if how is not None:
        MANIFESTS[how](folder)
    report = repair(folder, in_place=True)
    assert report.lost == () or (how, part) == ("lost", "header and footer")
    assert numbers(folder) == list(range(60))
    assert shard(folder, 1).read_bytes() == shard(whole, 1).read_bytes()


def test_a_shard_of_another_dataset_is_moved_aside(folder: Path, whole: Path, tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "third") as writer:
        writer.write({"x": 1})
    data = shard(tmp_path / "third", 0).read_bytes()
    shard(folder, 1).write_bytes(data)
    (loss,) = repair(folder).lost
    assert loss.fault == "the file of this name is of another dataset"
    repair(folder, in_place=True, source=whole)
    assert (folder / "shard-00001.rio.other").read_bytes() == data
    assert {name: files(folder)[name] for name in files(whole)} == files(whole)


def test_a_shard_of_another_dataset_is_left_where_it_was(folder: Path, tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "third") as writer:
        writer.write({"x": 1})
    shutil.copy(shard(tmp_path / "third", 0), shard(folder, 1))
    shutil.copy(shard(tmp_path / "third", 0), shard(folder, 7))
    before = shard(folder, 1).read_bytes()
    for _ in range(2):
        report = repair(folder, in_place=True)
        assert numbers(folder) == [*range(20), *range(40, 60)]
        assert shard(folder, 1).read_bytes() == before == shard(folder, 7).read_bytes()
        assert "shard-00007.rio is left as it is: it is of another dataset" in report.notes


def test_the_last_of_two_kinds_of_metadata_counts(folder: Path) -> None:
    with recordio.DatasetWriter(folder, mode="append", metadata={"classes": ["a", "b", "c"]}) as writer:
        writer.write(sample(60))
    lose_manifest(folder)
    report = repair(folder, in_place=True)
    assert ShardDataset(folder).metadata == {"classes": ["a", "b", "c"]}
    assert any("metadata" in note for note in report.notes)
    assert numbers(folder) == list(range(61))


def test_quick_reads_no_pages_of_whole_shards(folder: Path, whole: Path) -> None:
    flip(shard(folder, 1), int(ShardDataset(folder).store.shard(1).index.page_offsets[1, 0]))
    lose_manifest(folder)
    report = repair(folder, in_place=True, level="quick")
    assert (report.lost, report.level) == ((), "quick")
    assert not verify(folder).ok
    assert not repair(folder).ok


def test_damage_under_a_link_does_not_reach_the_new_dataset(folder: Path, tmp_path: Path) -> None:
    flip(shard(folder, 2), 2000)
    repair(folder, tmp_path / "new")
    repair(folder, in_place=True)
    shutil.rmtree(folder)
    assert verify(tmp_path / "new").ok


def test_an_empty_dataset_and_an_empty_shard_are_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 0)
    assert repair(folder).ok
    (folder / FILE_NAME).write_bytes(b"")
    with pytest.raises(DatasetError, match="only another copy"):
        repair(folder)


def test_wrong_use_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for path, options, error, words in (
        (tmp_path / "nothing", {}, DatasetError, "not a recordio dataset"),
        (tmp_path / "none", {}, DatasetError, "no such folder"),
        (tmp_path / "none", {"in_place": True}, DatasetError, "no such folder"),
        (folder, {"destination": folder}, DatasetError, "the dataset itself"),
        (folder, {"destination": folder / "in"}, DatasetError, "lies in"),
        (folder, {"destination": tmp_path / "x", "in_place": True}, SchemaError, "not both"),
        (folder, {"source": folder}, DatasetError, "the dataset itself"),
        (folder, {"source": tmp_path / "none"}, DatasetError, "no folder"),
        (folder, {"level": "deep"}, SchemaError, "level"),
        (folder, {"destination": write(tmp_path / "taken", 3)}, DatasetError, "something here already"),
    ):
        with pytest.raises(error, match=words):
            repair(path, **options)  # type: ignore[arg-type]


def test_nothing_is_written_where_nothing_can_be_saved(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        shard(folder, number).write_bytes(b"rust")
    for options in ({"destination": tmp_path / "new"}, {"in_place": True}):
        with pytest.raises(DatasetError, match="nothing of the dataset can be saved"):
            repair(folder, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "new" / FILE_NAME).exists()
    assert (folder / FILE_NAME).exists()


def test_a_new_dataset_that_cannot_be_published_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(shard(folder, 1), 2000)

    def refused(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr("recordio.salvage.publishing.commit", refused)
    with pytest.raises(StorageError, match="no room"):
        repair(folder, tmp_path / "new")
    assert files(tmp_path / "new") == {}


def test_an_unfinished_conversion_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "it" / ".convert").mkdir(parents=True)
    (tmp_path / "it" / ".convert" / "plan.json").write_text("{}")
    with pytest.raises(DatasetError, match="has not finished"):
        repair(tmp_path / "it")


def test_the_report_is_plain_json(folder: Path) -> None:
    shard(folder, 1).unlink()
    report = json.loads(json.dumps(repair(folder).to_json()))
    assert (report["ok"], report["lost_samples"], report["shards"], report["whole"]) == (False, 20, 2, 2)
    (loss,) = report["lost"]
    assert loss == {
        "file": "shard-00001.rio",
        "fault": "the shard is missing",
        "first_block": 0,
        "blocks": 3,
        "first_sample": 20,
        "samples": 20,
    }
