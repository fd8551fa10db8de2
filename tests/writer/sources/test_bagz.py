"""Bagz files: what bagz wrote is read value by value, and an index that lies is found out."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
import zstandard

from recordio import Bytes
from recordio.errors import SourceError
from recordio.writer.sources import detect
from tests.converted import FORMATS, assert_same_bytes, expected, faults, opened, stored

FOLDER = FORMATS / "bagz"


def bag(path: Path, *records: bytes, limits: list[int] | None = None) -> Path:
    ends = [sum(map(len, records[: number + 1])) for number in range(len(records))]
    path.write_bytes(b"".join(records) + struct.pack(f"<{len(records)}Q", *(limits or ends)))
    return path


@pytest.mark.parametrize("name", ["packed.bagz", "plain.bag"])
def test_every_record_is_what_the_library_reads(tmp_path: Path, name: str) -> None:
    source = opened(FOLDER / name)
    assert (source.kind, dict(source.schema)) == ("bagz", {"data": Bytes()})
    assert [sample["data"] for sample in stored(FOLDER / name, tmp_path / "out")] == expected("bagz")[name]


def test_what_the_library_writes_now(tmp_path: Path) -> None:
    bagz = pytest.importorskip("bagz")
    records = [bytes([number]) * number for number in range(100)]
    for name, part in (("train-00000-of-00002.bagz", records[:60]), ("train-00001-of-00002.bagz", records[60:])):
        with bagz.Writer(str(tmp_path / name)) as writer:
            for one in part:
                writer.write(one)
    assert [sample["data"] for _, sample in opened(tmp_path, "train").read(range(100))] == records


@pytest.mark.slow
def test_bytes_are_the_same_however_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        shutil.copy(FOLDER / "packed.bagz", tmp_path / "in" / f"x-{number:05d}-of-00003.bagz")
    assert_same_bytes(tmp_path / "in", tmp_path, shard_bytes=100)


def test_a_file_of_another_name_is_known_by_its_index(tmp_path: Path) -> None:
    assert detect(bag(tmp_path / "records.bin", b"one", b"two")) == "bagz"


def test_numbers_that_end_like_an_index_are_none(tmp_path: Path) -> None:
    (tmp_path / "numbers.bin").write_bytes(struct.pack("<5Q", 7, 900, 3, 12, 8))
    with pytest.raises(SourceError, match="not recognised"):
        detect(tmp_path / "numbers.bin")


class TestDamage:
    @pytest.mark.parametrize("limits", [[3, 2, 9], [3, 1 << 63, 9], [10, 10, 9]])
    def test_an_index_that_leads_out_of_the_file_is_refused(self, tmp_path: Path, limits: list[int]) -> None:
        path = bag(tmp_path / "x.bagz", b"one", b"two", b"six", limits=limits)
        with pytest.raises(SourceError, match=r"its index is damaged: .* - x\.bagz"):
            opened(path)

    @pytest.mark.parametrize("cut", [1, 8, 20, 28])
    def test_a_file_that_was_cut_off(self, tmp_path: Path, cut: int) -> None:
        path = bag(tmp_path / "x.bagz", b"one", b"two", b"six")
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(SourceError, match="no index at its end"):
            opened(path)

    def test_a_record_that_is_not_zstd_is_one_error(self, tmp_path: Path) -> None:
        path = bag(tmp_path / "x.bagz", b"", b"not packed", zstandard.compress(b"good"))
        source = opened(path)
        assert list(faults(source)) == [1]
        assert "the zstd data cannot be read to its end" in faults(source)[1]
        assert [sample["data"] for sample in stored(path, tmp_path / "out", on_error="skip")] == [b"", b"good"]

    def test_a_bomb_is_one_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recordio.writer.sources.records.bagz._MAX_RECORD_NBYTES", 1 << 20)
        source = opened(bag(tmp_path / "x.bagz", zstandard.compress(bytes(1 << 24)), zstandard.compress(b"good")))
        assert list(faults(source)) == [0]
        assert "longer than 1048576 bytes" in faults(source)[0]

    def test_an_index_of_its_own_is_refused_by_name(self, tmp_path: Path) -> None:
        path = bag(tmp_path / "x.bagz", zstandard.compress(b"good"))
        (tmp_path / "limits.x.bagz").write_bytes(b"")
        with pytest.raises(SourceError, match=r"x\.bagz is a file of its own: write it with LimitsPlacement\.TAIL"):
            opened(path)

    def test_no_records(self, tmp_path: Path) -> None:
        (tmp_path / "x.bagz").write_bytes(b"")
        with pytest.raises(SourceError, match="there are no records"):
            opened(tmp_path / "x.bagz")
