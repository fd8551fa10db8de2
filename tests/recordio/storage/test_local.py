"""A folder on disk: exact reads, regular files only, errors of the system as ours."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DatasetError, StorageError
from recordio.storage.base import DIRECT_ALIGNMENT
from recordio.storage.local import LocalFile, LocalStorage
from tests.open_files import open_files


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    (tmp_path / "b").write_bytes(b"0123456789")
    (tmp_path / "a").write_bytes(b"")
    return LocalStorage(tmp_path)


def test_names_are_sorted(storage: LocalStorage) -> None:
    assert storage.names() == ["a", "b"]


def test_names_of_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read") as caught:
        LocalStorage(tmp_path / "missing").names()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_reads_and_maps_a_file(storage: LocalStorage) -> None:
    file = storage.open("b")
    assert file.nbytes == 10
    assert file.read(3, 4) == b"3456"
    assert file.read(10, 0) == b""
    assert bytes(file.map()[2:5]) == b"234"
    file.close()


@pytest.mark.parametrize(("offset", "nbytes"), [(8, 4), (20, 4)])
def test_read_past_the_end_is_a_corrupt_error(storage: LocalStorage, offset: int, nbytes: int) -> None:
    with pytest.raises(CorruptError, match="the file was cut") as caught:
        storage.open("b").read(offset, nbytes)
    assert (caught.value.place.file, caught.value.place.byte) == ("b", offset)


def test_short_reads_are_continued(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, nbytes, offset: real(fd, min(nbytes, 3), offset))
    assert storage.open("b").read(1, 8) == b"12345678"


def test_failed_read_is_a_storage_error_with_its_cause(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    file = storage.open("b")
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        file.read(0, 1)
    assert caught.value.place.file == "b"
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("name", ["c", "b/below"])
def test_missing_file_is_a_file_not_found_error(storage: LocalStorage, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open(name)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(DatasetError, match="regular file") as caught:
            LocalStorage(tmp_path).open(name)
        assert caught.value.place.file == name
        del caught
    assert not open_files(tmp_path)


def test_tails_of_files(storage: LocalStorage) -> None:
    assert storage.tails([("b", 10)], 3) == [b"789"]
    assert storage.tails([("b", 10), ("a", 0), ("b", 10)], 10) == [b"0123456789", b"", b"0123456789"]
    assert storage.tails([], 3) == []


def test_tails_of_anything_else_have_another_length(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    wrong = [
        ("b", 9),
        ("b", 11),
        ("b", 2),
        ("b", 2**62),
        ("c", 10),
        ("b/c", 10),
        ("link", 10),
        ("folder", 10),
        ("pipe", 10),
    ]
    assert [len(tail) == 3 for tail in storage.tails([*wrong, ("b", 10)], 3)] == [False] * len(wrong) + [True]
    assert LocalStorage(tmp_path / "missing").tails(wrong, 3) == [b""] * len(wrong)
    assert not open_files(tmp_path)


def test_tails_take_three_calls_a_file(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        calls.append(name)
        return real(*args, **options)

    for name in ("open", "pread", "close", "fstat", "stat", "lseek"):
        monkeypatch.setattr(os, name, partial(counted, name, getattr(os, name)))
    storage.tails([("b", 10)] * 20, 3)
    assert sorted(calls) == sorted(["open", "pread", "close"] * 20 + ["open", "close"])


def test_failed_read_gives_no_tail(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert storage.tails([("b", 10)], 3) == [b""]
    assert not open_files(storage.folder)


class TestReadInto:
    """Reads into memory that exists, through the system's cache or past it."""

    SIZE = 5 * DIRECT_ALIGNMENT + 300

    @pytest.fixture
    def file(self, tmp_path: Path) -> LocalFile:
        self.data = random.Random(1).randbytes(self.SIZE)
        (tmp_path / "large").write_bytes(self.data)
        file = LocalStorage(tmp_path).open("large")
        assert isinstance(file, LocalFile)
        return file

    @pytest.mark.parametrize("direct", [False, True])
    @pytest.mark.parametrize("first", [0, 1, 4, 5])
    @pytest.mark.parametrize("pages", [1, 2, 6])
    def test_fills_the_target_up_to_the_end_of_the_file(
        self, file: LocalFile, direct: bool, first: int, pages: int
    ) -> None:
        target = mmap.mmap(-1, pages * DIRECT_ALIGNMENT)
        offset = first * DIRECT_ALIGNMENT
        want = self.data[offset : offset + len(target)]
        file.read_into(memoryview(target), offset, len(want), direct=direct)
        assert target[: len(want)] == want
        with pytest.raises(CorruptError, match=f"{len(self.data) - 5 * DIRECT_ALIGNMENT} of 301 bytes") as caught:
            file.read_into(memoryview(target)[:DIRECT_ALIGNMENT], 5 * DIRECT_ALIGNMENT, 301, direct=direct)
        assert (caught.value.place.file, caught.value.place.byte) == ("large", 5 * DIRECT_ALIGNMENT)

    def test_short_reads_are_continued(self, file: LocalFile, monkeypatch: pytest.MonkeyPatch) -> None:
        real, asked = os.preadv, []

        def short(fd: int, buffers: Any, offset: int) -> int:
            asked.append(offset)
            return real(fd, [buffers[0][:1000]], offset)

        monkeypatch.setattr(os, "preadv", short)
        target = bytearray(2500)
        file.read_into(memoryview(target), 100, 2500)
        assert bytes(target) == self.data[100:2600]
        assert asked == [100, 1100, 2100]

    def test_a_device_that_refuses_direct_reads_is_read_through_the_cache(
        self, file: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, direct = os.preadv, file._direct()

        def refusing(fd: int, buffers: Any, offset: int) -> int:
            if fd == direct:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(fd, buffers, offset)

        monkeypatch.setattr(os, "preadv", refusing)
        target = mmap.mmap(-1, DIRECT_ALIGNMENT)
        file.read_into(memoryview(target), 0, DIRECT_ALIGNMENT, direct=True)
        assert target[:] == self.data[:DIRECT_ALIGNMENT]

    @pytest.mark.parametrize("direct", [False, True])
    def test_failed_read_is_a_storage_error(
        self, file: LocalFile, monkeypatch: pytest.MonkeyPatch, direct: bool
    ) -> None:
        def fail(*_: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            file.read_into(memoryview(mmap.mmap(-1, DIRECT_ALIGNMENT)), 0, 1, direct=direct)

    def test_closing_closes_both_descriptors(self, file: LocalFile, tmp_path: Path) -> None:
        file.read_into(memoryview(mmap.mmap(-1, DIRECT_ALIGNMENT)), 0, 1, direct=True)
        opened = len(open_files(tmp_path))
        file.close()
        assert not open_files(tmp_path)
        assert opened in (1, 2)  # one where the file system has no direct reads

    def test_advice_never_fails(self, file: LocalFile) -> None:
        file.will_need([(0, 10), (1 << 40, 10), (-1, 5), (0, -1)])
        file.wont_need(0, 1 << 50)
        file.wont_need(-1, -1)
        assert file.read(0, 3) == self.data[:3]


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "it").write_bytes(b"one")
    first = storage.open("it").identity
    assert storage.open("it").identity == first
    (tmp_path / "other").write_bytes(b"two")
    os.replace(tmp_path / "other", tmp_path / "it")
    assert storage.open("it").identity != first


def test_small_files_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02d}" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number]) * number)
    storage, target = LocalStorage(tmp_path), memoryview(bytearray(sum(range(40))))
    files = [(name, number) for number, name in enumerate(names)]
    want = b"".join((tmp_path / name).read_bytes() for name in names)
    assert storage.read_whole(files, target) == [storage.open(name).identity for name in names]
    assert bytes(target) == want
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, targets, offset: real(fd, [targets[0][:3]], offset))
    target[:] = bytes(len(target))
    assert None not in storage.read_whole(files, target)  # short reads are continued
    assert bytes(target) == want
    assert not open_files(tmp_path)


def test_what_cannot_be_read_as_a_whole_has_no_identity(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = storage.folder
    (folder / "link").symlink_to("b")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    wrong = [("b", 9), ("b", 11), ("c", 10), ("link", 10), ("folder", 0), ("pipe", 0), ("b\0", 10)]
    target = memoryview(bytearray(60))
    assert storage.read_whole([*wrong, ("b", 10)], target) == [None] * 7 + [storage.open("b").identity]
    assert bytes(target[-10:]) == b"0123456789"
    assert LocalStorage(folder / "missing").read_whole([("b", 10)], target) == [None]

    def fail(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    assert storage.read_whole([("b", 10)], target) == [None]
    assert not open_files(storage.folder)


def test_a_map_that_the_system_refuses_is_a_storage_error(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENODEV, "No such device")

    file = storage.open("b")
    monkeypatch.setattr(mmap, "mmap", refuses)
    with pytest.raises(StorageError, match="cannot read: No such device - b"):
        file.map()
    file.close()
