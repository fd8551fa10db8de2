"""Folders for temporary files: their own process removes them, or another does when that has died."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from recordio import StorageError
from recordio.storage.scratch import ScratchFolder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    return tmp_path


def _of_yesterday(path: Path) -> None:
    os.utime(path, (time.time() - 86_400,) * 2)


def test_what_a_dead_process_left_is_removed_and_what_is_in_use_is_not(temporary: Path) -> None:
    used = ScratchFolder()
    dead = temporary / "recordio-scratch-dead"
    dead.mkdir()
    (dead / "shard-00000.rio").write_bytes(b"half")
    _of_yesterday(dead)
    _of_yesterday(used.path)
    new = ScratchFolder()
    assert {path.name for path in temporary.iterdir()} == {used.path.name, new.path.name}
    used.remove()
    new.remove()
    new.remove()
    assert not list(temporary.iterdir())


def test_a_folder_that_cannot_be_made_is_a_storage_error(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(temporary / "none"))
    with pytest.raises(StorageError, match="TMPDIR names another"):
        ScratchFolder()
