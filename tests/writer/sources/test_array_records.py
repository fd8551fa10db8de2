"""ArrayRecord files, which their own library writes and reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recordio import Bytes
from recordio.errors import MissingPackageError, SourceError
from recordio.writer.sources import detect
from tests.converted import assert_same_bytes, faults, opened, stored

RIEGELI = bytes.fromhex("83af70d10d884a3f")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    (tmp_path / "x.array_record").write_bytes(RIEGELI)
    with pytest.raises(MissingPackageError, match=r"array_record .*pip install 'recordio-shards\[arrayrecord\]'"):
        opened(tmp_path / "x.array_record")


def test_a_file_of_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(RIEGELI + bytes(100))
    assert detect(tmp_path / "x.bin") == "array_record"


class TestFiles:
    """Two files of 40 records in groups of 4."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Path:
        module = pytest.importorskip("array_record.python.array_record_module")
        self.records = [bytes([number]) * (number * 7) for number in range(80)]
        folder = tmp_path / "in"
        folder.mkdir()
        for part in range(2):
            writer = module.ArrayRecordWriter(str(folder / f"x-train.array_record-{part:05d}-of-00002"), "group_size:4")
            for record in self.records[40 * part : 40 * part + 40]:
                writer.write(record)
            writer.close()
        return folder

    def test_every_record_in_order(self, folder: Path, tmp_path: Path) -> None:
        source = opened(folder, "train")
        assert dict(source.schema) == {"data": Bytes()}
        assert [sample["data"] for _, sample in source.read(range(80))] == self.records
        assert [sample["data"] for sample in stored(folder, tmp_path / "out", split="train")] == self.records

    def test_in_any_order(self, folder: Path) -> None:
        source = opened(folder, "train")
        order = [5, 6, 7, 79, 78, 0, 41, 42, 43, 44, 3]
        assert [sample["data"] for _, sample in source.read(order)] == [self.records[index] for index in order]

    def test_bytes_are_the_same_however_they_are_made(self, folder: Path, tmp_path: Path) -> None:
        assert_same_bytes(folder, tmp_path, split="train", shard_bytes=20000)

    def test_damage_loses_the_records_of_its_group(self, folder: Path) -> None:
        path = folder / "x-train.array_record-00000-of-00002"
        data = bytearray(path.read_bytes())
        data[110] ^= 1
        path.write_bytes(data)
        found = faults(opened(folder, "train"))
        assert list(found) == [0, 1, 2, 3]
        assert "hash mismatch" in found[0]
        assert "x-train.array_record-00000-of-00002 record 0" in found[0]

    @pytest.mark.parametrize("nbytes", [0, 10, 70_000, 131_071])
    def test_a_file_that_was_cut_off_is_refused(self, folder: Path, nbytes: int) -> None:
        path = folder / "x-train.array_record-00000-of-00002"
        path.write_bytes(path.read_bytes()[:nbytes])
        with pytest.raises(SourceError, match=r"no index that is whole.* - x-train\.array_record-00000-of-00002"):
            opened(folder, "train")
