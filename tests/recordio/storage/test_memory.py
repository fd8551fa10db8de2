"""A folder in memory behaves like one on disk."""

from __future__ import annotations

import pytest

from recordio import CorruptError, StorageError
from recordio.storage.memory import MemoryStorage, new_memory


def test_reads_and_maps_a_file() -> None:
    storage = MemoryStorage({"b": b"0123456789", "a": b""})
    assert storage.names() == ["a", "b"]
    file = storage.open("b")
    assert file.nbytes == 10
    assert file.read(3, 4) == b"3456"
    assert file.read(10, 0) == b""
    assert bytes(file.map()[2:5]) == b"234"
    file.close()
    with pytest.raises(CorruptError, match="the file was cut"):
        file.read(8, 4)


@pytest.mark.parametrize(("offset", "nbytes"), [(-3, 2), (0, -1)])
def test_nothing_is_read_before_the_file(offset: int, nbytes: int) -> None:
    with pytest.raises(StorageError, match="may be negative"):
        MemoryStorage({"b": b"0123456789"}).open("b").read(offset, nbytes)


def test_missing_file_is_a_file_not_found_error() -> None:
    with pytest.raises(FileNotFoundError):
        MemoryStorage({}).open("c")


def test_tails_of_files() -> None:
    storage = MemoryStorage({"b": b"0123456789", "a": b""})
    wrong = [("b", 9), ("b", 11), ("c", 10), ("a", 0)]
    assert [len(tail) == 3 for tail in storage.tails(wrong, 3)] == [False] * 4
    assert storage.tails([("b", 10)], 3) == [b"789"]


def test_small_files_read_as_a_whole() -> None:
    storage, target = MemoryStorage({"b": b"0123456789", "a": b"xy"}), memoryview(bytearray(24))
    found = storage.read_whole([("b", 10), ("c", 1), ("b", 9), ("a", 2), ("a", 2)], target)
    assert [one is None for one in found] == [False, True, True, False, False]
    assert found[3] == found[4] == storage.open("a").identity
    assert (bytes(target[:10]), bytes(target[20:])) == (b"0123456789", b"xyxy")


@pytest.mark.parametrize("nbytes", [0, 1, 70_000, (2 << 20) - 1, (2 << 20) + 1])
def test_new_memory_is_large_enough_and_empty(nbytes: int) -> None:
    memory = new_memory(nbytes)
    assert nbytes <= len(memory) <= max(2 * nbytes, 64 << 10)
    assert not any(memory[:nbytes:4096])
