"""`verify`: every fault with its location, and no false alarms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recordio import DatasetError, DatasetWriter, SchemaError, ShardDataset, verify
from recordio.format.manifest import FILE_NAME


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
