"""Publishing: a dataset changes in one step."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, Scalar, Schema, StorageError
from recordio.format.manifest import Manifest, ShardEntry
from recordio.writer.publish import PENDING, clear_remains, commit, read_manifest

ID = bytes(range(16))
SCHEMA = Schema({"number": Scalar("int64")})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def manifest(*shards: int) -> Manifest:
    return Manifest(ID, SCHEMA, {}, tuple(ShardEntry(n, 4096, 1, 8, bytes(16), ((1, 1),)) for n in shards))


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
