"""Atomic files: complete or absent, durable, and one writer in a folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordio import DatasetError, StorageError
from recordio.storage import atomic
from recordio.storage.atomic import FolderLock, NewFile, remove, write_file, write_new
from tests.open_files import open_files


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def failing(monkeypatch: pytest.MonkeyPatch, name: str, fails: Callable[..., bool] = lambda *_: True) -> None:
    """Makes a system call fail when `fails` says so."""
    real = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if fails(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def test_new_file_survives_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [memoryview(parts[0])[:3]]))  # a few bytes at a time
    parts = [bytes([i % 256]) * (i % 7) for i in range(1500)]
    file = NewFile(tmp_path / "a")
    file.write(parts)
    file.write([b""])
    file.finish()
    assert (tmp_path / "a").read_bytes() == b"".join(parts)
    assert file.nbytes == sum(map(len, parts))


def test_new_file_writes_over_a_thousand_parts_at_once(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "a")
    file.write([b"x"] * 5000)
    file.finish()
    assert (tmp_path / "a").stat().st_size == 5000


@pytest.mark.parametrize("there", [True, False])
def test_the_device_begins_to_write_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    real, asked = atomic._sync_file_range(), []

    def sync_file_range(fd: int, *place: int) -> None:
        asked.append(place)
        assert real is None or real(fd, *place) == 0

    monkeypatch.setattr(atomic, "_sync_file_range", lambda: sync_file_range if there else None)
    monkeypatch.setattr(atomic, "_EARLY_NBYTES", 1000)
    file = NewFile(tmp_path / "a")
    for _ in range(7):
        file.write([b"x" * 400])
    file.finish()
    assert (tmp_path / "a").read_bytes() == b"x" * 2800
    assert asked == ([(0, 1200, 2), (1200, 1200, 2)] if there else [])


def test_new_file_refuses_an_existing_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link", "nowhere", "."):
        with pytest.raises(StorageError):
            NewFile(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_new_file_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        NewFile(tmp_path / "a").finish()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "writev"])
def test_failed_new_file_leaves_no_file_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = NewFile(tmp_path / "a")
    failing(monkeypatch, call)
    with pytest.raises(StorageError, match="No space left") as caught:  # noqa: PT012 - either call may be the one
        file.write([b"x"])
        file.finish()
    assert caught.value.place.file == str(tmp_path / "a")
    assert isinstance(caught.value.__cause__, OSError)
    file.abandon()
    assert names(tmp_path) == set()
    assert not open_files(tmp_path)


def test_write_file_replaces_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"one")
    write_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("call", ["writev", "fsync", "replace"])
def test_failed_write_file_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_file(tmp_path / "a", b"one")
    failing(monkeypatch, call)
    with pytest.raises(StorageError):
        write_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == {"a"}


def test_folder_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "new"):
        with pytest.raises(DatasetError, match="another writer"):
            FolderLock(tmp_path / "new")
        assert names(tmp_path / "new") == set()
    FolderLock(tmp_path / "new").release()


def test_dropped_folder_lock_is_released(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    del lock
    FolderLock(tmp_path)


def test_write_new_leaves_nothing_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "writev")
    with pytest.raises(StorageError, match="No space left"):
        write_new(tmp_path / "a", b"data")
    assert names(tmp_path) == set()


def test_remove_ignores_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    remove([tmp_path / "a", tmp_path / "a"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot remove") as caught:
        remove([tmp_path / "folder"])
    assert caught.value.place.file == str(tmp_path / "folder")


def test_what_a_dead_writer_left_of_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").write_bytes(b"half")
    write_file(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == {"a"}


def test_the_name_of_a_written_file_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def renamed(old: Path, new: Path) -> None:
        calls.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_file(tmp_path / "a", b"whole")
    assert calls == ["file", "rename", "folder"]


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no file can have this name"):
        NewFile(tmp_path / "a\0b")
