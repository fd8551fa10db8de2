"""Publishing: files appear complete or not at all, and a dataset changes in one step."""

from __future__ import annotations

import errno
import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DatasetError, Scalar, Schema, StorageError
from recordio.format.manifest import Manifest, ShardEntry
from recordio.storage.atomic import FolderLock, NewFile, write_file
from recordio.writer.publish import PENDING, clear_remains, commit, read_manifest

ID = bytes(range(16))
SCHEMA = Schema({"number": Scalar("int64")})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def manifest(*shards: int) -> Manifest:
    return Manifest(ID, SCHEMA, {}, tuple(ShardEntry(n, 64, 1, 8, bytes(16), ((1, 1),)) for n in shards))


def staged(folder: Path, *numbers: int) -> dict[Path, str]:
    """Finished shard files under temporary names."""
    found = {}
    for number in numbers:
        path = folder / f".shard-{number:05d}.rio.tmp"
        path.write_bytes(bytes([number]))
        found[path] = f"shard-{number:05d}.rio"
    return found


def failing(monkeypatch: pytest.MonkeyPatch, name: str, fails: Callable[..., bool] = lambda *_: True) -> None:
    """Makes a system call fail when `fails` says so."""
    real = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if fails(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def open_files() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


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
    before = open_files()
    file = NewFile(tmp_path / "a")
    failing(monkeypatch, call)
    with pytest.raises(StorageError, match="No space left") as caught:  # noqa: PT012 - either call may be the one
        file.write([b"x"])
        file.finish()
    assert caught.value.place.file == str(tmp_path / "a")
    assert isinstance(caught.value.__cause__, OSError)
    file.abandon()
    assert names(tmp_path) == set()
    assert open_files() == before


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


def test_commit_leaves_the_manifest_and_its_shards(tmp_path: Path) -> None:
    commit(tmp_path, manifest(0, 1), staged(tmp_path, 0, 1))
    assert names(tmp_path) == {"manifest.json", "shard-00000.rio", "shard-00001.rio"}
    assert read_manifest(tmp_path) == manifest(0, 1)


def test_commit_removes_shards_of_the_old_manifest_only(tmp_path: Path) -> None:
    commit(tmp_path, manifest(0, 1), staged(tmp_path, 0, 1))
    (tmp_path / "shard-00009.rio").write_bytes(b"a stranger")
    commit(tmp_path, manifest(1, 2), staged(tmp_path, 2))
    assert names(tmp_path) == {"manifest.json", "shard-00001.rio", "shard-00002.rio", "shard-00009.rio"}


def test_commit_renames_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    for call in ("rename", "replace"):
        real = getattr(os, call)

        def note(source: Any, target: Any, real: Any = real) -> None:
            renamed.append(Path(target).name)
            real(source, target)

        monkeypatch.setattr(os, call, note)
    commit(tmp_path, manifest(0, 1), staged(tmp_path, 0, 1))
    assert set(renamed[:-1]) >= {"shard-00000.rio", "shard-00001.rio"}
    assert renamed[-1] == "manifest.json"


@pytest.mark.parametrize("target", ["shard-00002.rio", "shard-00003.rio", "manifest.json"])
def test_failed_commit_keeps_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    commit(tmp_path, manifest(0, 1), staged(tmp_path, 0, 1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    new = staged(tmp_path, 2, 3)
    for call in ("rename", "replace"):
        failing(monkeypatch, call, lambda _, to: Path(to).name == target)
    with pytest.raises(StorageError, match="No space left"):
        commit(tmp_path, manifest(0, 1, 2, 3), new)
    for path in new:
        path.unlink(missing_ok=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_remains_of_an_interrupted_commit_are_removed(tmp_path: Path) -> None:
    commit(tmp_path, manifest(0), staged(tmp_path, 0))
    before = names(tmp_path)
    staged(tmp_path, 3)
    (tmp_path / PENDING).write_bytes(manifest(0, 1, 2).encode())
    (tmp_path / "shard-00001.rio").write_bytes(b"on its way")
    clear_remains(tmp_path)
    assert names(tmp_path) == before
    assert read_manifest(tmp_path) == manifest(0)


def test_torn_pending_manifest_is_ignored(tmp_path: Path) -> None:
    commit(tmp_path, manifest(0), staged(tmp_path, 0))
    before = names(tmp_path)
    (tmp_path / PENDING).write_bytes(manifest(0, 1).encode()[:-9])
    clear_remains(tmp_path)
    assert names(tmp_path) == before


def test_read_manifest_tells_missing_from_damaged(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CorruptError) as caught:
        read_manifest(tmp_path)
    assert caught.value.place.file == str(tmp_path / "manifest.json")
