"""`verify`: every fault with its location, and no false alarms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recordio import DatasetError, DatasetWriter, SchemaError, ShardDataset, verify
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.reader.verify_report import PageSample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 samples in three shards of several blocks."""
    with DatasetWriter(tmp_path / "it", block_bytes=400, shard_samples=20, compression=None) as writer:
        for n in range(60):
            writer.write({"a": n, "text": "t" * 50})
    return tmp_path / "it"


def flip(folder: Path, shard: int, byte: int) -> None:
    path = folder / f"shard-{shard:05d}.rio"
    data = bytearray(path.read_bytes())
    data[byte] ^= 0x10
    path.write_bytes(data)


def test_good_dataset_has_no_problems_and_full_counts(folder: Path) -> None:
    sizes = sum(path.stat().st_size for path in folder.glob("*.rio"))
    for level in ("full", "quick"):
        report = verify(folder, level)  # type: ignore[arg-type]
        assert report.ok
        assert report.problems == ()
        assert (report.shards, report.samples, report.nbytes) == (3, 60, sizes)
        assert report.blocks == len(ShardDataset(folder).store.blocks.nbytes)


def test_flipped_byte_is_reported_with_its_location(folder: Path) -> None:
    index = ShardDataset(folder).store.shard(1).index
    page, header = int(index.page_offsets[2, 1]), int(index.block_offsets[1])
    size = (folder / "shard-00001.rio").stat().st_size
    for byte, block, field, fault in (
        (page + 3, 2, "text", "page checksum mismatch"),
        (header + 40, 1, None, "block header"),
        (20, None, None, ""),
        (size - 60, None, None, "footer checksum mismatch"),
        (size - 200, None, None, "digest mismatch"),
    ):
        flip(folder, 1, byte)
        (problem,) = verify(folder).problems
        assert fault in problem.fault
        assert (problem.place.file, problem.place.block, problem.place.field) == ("shard-00001.rio", block, field)
        assert block is None or problem.place.byte == (page if field else header)
        flip(folder, 1, byte)
    assert verify(folder).ok


def test_every_fault_of_every_shard_is_reported(folder: Path) -> None:
    index = ShardDataset(folder).store.shard(0).index
    for block in (0, 2):
        flip(folder, 0, int(index.page_offsets[block, 0]))
        flip(folder, 0, int(index.page_offsets[block, 1]))
    (folder / "shard-00001.rio").unlink()
    with (folder / "shard-00002.rio").open("r+b") as file:
        file.truncate(300)
    problems = verify(folder).problems
    assert [(p.place.file, p.place.block, p.place.field) for p in problems] == [
        ("shard-00000.rio", 0, "a"),
        ("shard-00000.rio", 0, "text"),
        ("shard-00000.rio", 2, "a"),
        ("shard-00000.rio", 2, "text"),
        ("shard-00001.rio", None, None),
        ("shard-00002.rio", None, None),
    ]


def test_quick_level_reads_no_pages(folder: Path) -> None:
    flip(folder, 0, int(ShardDataset(folder).store.shard(0).index.page_offsets[0, 0]))
    assert verify(folder, "quick").ok
    assert not verify(folder).ok


def test_damaged_manifest_is_reported_and_a_missing_dataset_raises(folder: Path, tmp_path: Path) -> None:
    with (folder / FILE_NAME).open("r+b") as file:
        file.seek(30)
        file.write(b"?")
    (problem,) = verify(folder).problems
    assert "manifest checksum mismatch" in problem.fault
    assert str(problem.place.file).endswith(FILE_NAME)
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        verify(tmp_path)
    with pytest.raises(SchemaError, match="level"):
        verify(folder, "deep")  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [False, True])
def test_progress_is_monotonic_and_ends_at_the_total(folder: Path, broken: bool) -> None:
    if broken:
        (folder / "shard-00001.rio").unlink()
    seen: list[tuple[int, int]] = []
    verify(folder, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_report_is_plain_json(folder: Path) -> None:
    flip(folder, 2, int(ShardDataset(folder).store.shard(2).index.page_offsets[1, 0]))
    report = json.loads(json.dumps(verify(folder).to_json()))
    assert report["ok"] is False
    assert report["level"] == "full"
    (problem,) = report["problems"]
    assert (problem["kind"], problem["file"], problem["block"], problem["field"]) == (
        "CorruptError",
        "shard-00002.rio",
        1,
        "a",
    )


def test_sample_reads_so_many_pages_and_says_what_follows(folder: Path) -> None:
    pages = 2 * len(ShardDataset(folder).store.blocks.nbytes)
    some = verify(folder, sample=5)
    assert some.ok
    assert some.sample is not None
    assert (some.sample.pages, some.sample.of, some.sample.damaged) == (5, pages, 0)
    assert some.sample.at_most == pytest.approx(1 - 0.05 ** (1 / 5))
    flip(folder, 0, int(ShardDataset(folder).store.shard(0).index.page_offsets[2, 1]))
    every = verify(folder, sample=10 * pages)
    assert [problem.place.block for problem in every.problems] == [2]
    assert every.sample is not None
    assert (every.sample.pages, every.sample.damaged, every.sample.at_most) == (pages, 1, 1 / pages)


def test_sample_counts_the_pages_of_a_lost_shard_and_names_it_once(folder: Path) -> None:
    (folder / "shard-00001.rio").unlink()
    flip(folder, 2, 20)  # the header, which the footer does not show
    report = verify(folder, sample=1000)
    assert [problem.place.file for problem in report.problems] == ["shard-00001.rio", "shard-00002.rio"]
    blocks = [entry.blocks for entry in Manifest.decode((folder / FILE_NAME).read_bytes()).shards]
    assert report.sample is not None
    assert report.sample.damaged == 2 * (blocks[1] + blocks[2])


def test_sample_draws_other_pages_each_time(folder: Path) -> None:
    flip(folder, 0, int(ShardDataset(folder).store.shard(0).index.page_offsets[0, 0]))
    found = {verify(folder, sample=6).ok for _ in range(100)}
    assert found == {True, False}


@pytest.mark.parametrize(("drawn", "found", "share"), [(100, 0, 0.0295), (1000, 0, 0.00299), (100, 3, 0.0757)])
def test_the_damaged_share_is_bounded_by_clopper_and_pearson(drawn: int, found: int, share: float) -> None:
    assert PageSample.found(drawn, 10**9, found).at_most == pytest.approx(share, rel=0.01)


def test_since_reads_only_what_was_changed(folder: Path) -> None:
    first = verify(folder)
    again = verify(folder, since=json.loads(json.dumps(first.to_json())))
    assert again.ok
    assert (again.unchanged, again.samples, again.nbytes, again.proven) == (3, 60, 0, first.proven)
    flip(folder, 1, int(ShardDataset(folder).store.shard(1).index.page_offsets[2, 1]))
    seen: list[tuple[int, int]] = []
    third = verify(folder, since=again, progress=lambda done, total: seen.append((done, total)))
    size = (folder / "shard-00001.rio").stat().st_size
    assert (third.ok, third.unchanged, third.nbytes, seen[-1]) == (False, 2, size, (size, size))
    assert [proof.file for proof in third.proven] == ["shard-00000.rio", "shard-00002.rio"]
    assert [problem.place.block for problem in verify(folder, since=third).problems] == [2]


def test_since_believes_no_shard_that_was_not_proven(folder: Path) -> None:
    flip(folder, 1, int(ShardDataset(folder).store.shard(1).index.page_offsets[2, 1]))
    assert not verify(folder, since=verify(folder)).ok
    (folder / "shard-00002.rio").unlink()
    files = [problem.place.file for problem in verify(folder, since=verify(folder)).problems]
    assert files == ["shard-00001.rio", "shard-00002.rio"]


def test_options_that_make_no_sense_together_are_refused(folder: Path) -> None:
    report = verify(folder)
    for options, words in (
        ({"level": "quick", "sample": 3}, "no use"),
        ({"level": "quick", "since": report}, "no use"),
        (
            {"since": report.to_json() | {"proven": [{"file": [], "nbytes": 1, "digest": "", "identity": None}]}},
            "not a report",
        ),
        ({"since": report, "sample": 3}, "exclude"),
        ({"sample": 0}, "sample is 0"),
        ({"since": {"ok": True}}, "not a report"),
        ({"since": verify(folder, "quick")}, "did not read every page"),
        ({"since": verify(folder, sample=3)}, "did not read every page"),
    ):
        with pytest.raises(SchemaError, match=words):
            verify(folder, **options)  # type: ignore[arg-type]
