"""What is found of a dataset in any storage, and how little of another copy is read for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from recordio import DatasetError, StorageError
from recordio.format.layout import BLOCK_MAGIC
from recordio.format.manifest import FILE_NAME
from recordio.salvage.survey import survey
from recordio.storage.base import File, ShardPlace, storage_error
from recordio.storage.memory import MemoryFile, MemoryStorage
from tests.recordio.salvage.damage import files, write


class Counting(MemoryStorage):
    """Notes what is read of each file."""

    def __init__(self, held: dict[str, bytes]) -> None:
        super().__init__(held)
        self.read: dict[str, int] = {}

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        storage = self

        class Counted(MemoryFile):
            def _read(self, offset: int, nbytes: int) -> bytes:
                storage.read[name] = storage.read.get(name, 0) + nbytes
                return super()._read(offset, nbytes)

        if name not in self.files:
            raise FileNotFoundError(name)
        return Counted(name, self.files[name])


class Rotten(MemoryStorage):
    """Refuses to read a few bytes in the middle of a file, as a disk with a bad sector."""

    def __init__(self, held: dict[str, bytes], name: str, bad: Sequence[int]) -> None:
        super().__init__(held)
        self._name, self._bad = name, bad

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        bad = self._bad if name == self._name else ()

        class Refusing(MemoryFile):
            def _read(self, offset: int, nbytes: int) -> bytes:
                if any(offset <= byte < offset + nbytes for byte in bad):
                    raise storage_error("read", name, OSError(5, "Input/output error"))
                return super()._read(offset, nbytes)

            def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
                data = self._read(offset, len(target))
                target[: len(data)] = data
                return len(data)

        if name not in self.files:
            raise FileNotFoundError(name)
        return Refusing(name, self.files[name])


@pytest.fixture
def held(tmp_path: Path) -> dict[str, bytes]:
    return files(write(tmp_path / "it", 600, shard_samples=200))


def test_any_storage_is_surveyed(held: dict[str, bytes]) -> None:
    del held[FILE_NAME]
    found = survey(MemoryStorage(held), "bucket", None, "full", None)
    assert (found.report.samples, found.report.whole, found.report.lost) == (600, 3, ())
    with pytest.raises(DatasetError):
        survey(MemoryStorage({}), "bucket", None, "full", None)


def test_of_another_copy_only_what_is_missing_is_read(held: dict[str, bytes]) -> None:
    other = Counting(dict(held))
    data = bytearray(held["shard-00001.rio"])
    data[len(data) // 2] ^= 1
    held["shard-00001.rio"] = bytes(data)
    found = survey(MemoryStorage(held), "mine", (other, "theirs"), "full", None)
    assert found.report.mended == ("shard-00001.rio: 1 block from theirs/shard-00001.rio",)
    assert set(other.read) == {"shard-00001.rio"}
    assert sum(other.read.values()) < len(data) / 3


@pytest.mark.parametrize("part", ["page", "block header"])
@pytest.mark.parametrize("lost", ["nothing", "the manifest", "the manifest and the index"])
def test_what_a_disk_refuses_to_read_is_lost_and_no_more(held: dict[str, bytes], lost: str, part: str) -> None:
    name = "shard-00001.rio"
    middle = held[name].index(BLOCK_MAGIC, len(held[name]) // 2)
    bad = [middle + 20 if part == "block header" else middle - 1]
    if lost != "nothing":
        del held[FILE_NAME]
    if lost.endswith("index"):
        held[name] = held[name][:-200]
    found = survey(Rotten(held, name, bad), "it", None, "full", None)
    (first, *rest) = found.report.lost
    scanned = lost.endswith("index")
    assert first.file == name
    assert first.blocks == 1 or (scanned and 1 < (first.blocks or 0) * 500 < 4096)  # those that begin in a bad sector
    assert len(rest) == scanned
    assert scanned or found.report.samples + (first.samples or 0) == 600


def test_what_cannot_be_listed_raises() -> None:
    class Closed(MemoryStorage):
        def names(self) -> list[str]:
            raise StorageError("cannot read: Permission denied")

    with pytest.raises(StorageError, match="Permission denied"):
        survey(Closed({}), "it", None, "full", None)
