"""Special files in place of regular ones, and names that escape the folder: refused, and nothing blocks."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, RecordIOError, ShardDataset
from tests.faults.bounded import python
from tests.faults.forging import manifest
from tests.faults.samples import some

STANDS: dict[str, Callable[[Path], Any]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a socket": lambda path: _socket(path),
    "a device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)),
}
DEVICE = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
every_stand = pytest.mark.parametrize(
    "stand", [pytest.param(name, marks=DEVICE) if "device" in name else name for name in STANDS]
)


def _socket(path: Path) -> None:
    before = os.getcwd()
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            os.chdir(path.parent)  # socket paths are limited to about 100 bytes
            sock.bind(path.name)
        finally:
            os.chdir(before)


ATTEMPT = """
import sys, recordio
kind, path = sys.argv[1:]
try:
    if kind == "read":
        recordio.ShardDataset(path)
    elif kind == "verify":
        print("problems", len(recordio.verify(path).problems))
    else:
        with recordio.DatasetWriter(path, mode=kind) as writer:
            writer.write({"number": 1, "text": "x"})
except recordio.RecordIOError as error:
    print("refused", type(error).__name__)
else:
    print("done")
"""


def attempt(kind: str, path: Path) -> str:
    """Runs in a process of its own, with a time limit in case it blocks or reads endlessly."""
    return python("-c", ATTEMPT, kind, str(path), seconds=60).strip()


@pytest.mark.timeout(120)
@every_stand
def test_shard_other_than_a_regular_file_is_refused(tmp_path: Path, stand: str) -> None:
    path = some(tmp_path)
    (path / "shard-00001.rio").unlink()
    STANDS[stand](path / "shard-00001.rio")
    assert attempt("read", path).startswith("refused")
    assert attempt("verify", path).startswith(("problems 1", "refused StorageError"))


@pytest.mark.timeout(120)
@every_stand
def test_manifest_other_than_a_regular_file_is_refused(tmp_path: Path, stand: str) -> None:
    path = some(tmp_path)
    (path / "manifest.json").unlink()
    STANDS[stand](path / "manifest.json")
    assert attempt("read", path).startswith("refused")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["create", "append", "overwrite"])
@pytest.mark.parametrize("name", ["manifest.json", ".manifest.json.pending", ".shard-00003.rio.tmp", "shard-00003.rio"])
@pytest.mark.parametrize("stand", ["a FIFO", "a link to nothing", "a link to /dev/zero"])
def test_writer_neither_blocks_on_fifos_nor_follows_links(tmp_path: Path, mode: str, name: str, stand: str) -> None:
    path = some(tmp_path / "it")
    (path / name).unlink(missing_ok=True)
    STANDS[stand](path / name)
    outcome = attempt(mode, path)
    assert outcome == "done" or outcome.startswith("refused")
    assert not (path / "nowhere").exists()
    if outcome == "done":
        assert ShardDataset(path)[-1] == {"number": 1, "text": "x"}


def test_shard_behind_a_symlink_is_refused(tmp_path: Path) -> None:
    path = some(tmp_path / "it")
    os.rename(path / "shard-00001.rio", tmp_path / "elsewhere")
    (path / "shard-00001.rio").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordIOError, match="symbolic link"):
        ShardDataset(path)


def test_dataset_opens_through_a_symlink(tmp_path: Path) -> None:
    some(tmp_path / "it")
    (tmp_path / "link").symlink_to("it")
    assert len(ShardDataset(tmp_path / "link")) == 30


@pytest.mark.parametrize("number", ["../../etc/passwd", "/etc/passwd", -1, 1.0, "0", None, True, [0], {"a": 0}])
def test_manifest_cannot_name_a_path(tmp_path: Path, number: Any) -> None:
    path = some(tmp_path)
    value = json.loads((path / "manifest.json").read_bytes())
    value["shards"][0]["number"] = number
    (path / "manifest.json").write_bytes(manifest(value))
    with pytest.raises(RecordIOError):
        ShardDataset(path)


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "a/" * 3000, "\ud800", ""])
def test_impossible_path_raises_recordio_error(tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}" if name else f"{tmp_path}/empty"
    for action in (ShardDataset, recordio.verify):
        with pytest.raises(RecordIOError):
            action(path)
    if name:
        with pytest.raises(RecordIOError):
            recordio.DatasetWriter(path)


@pytest.mark.parametrize("name", [b"caf\xe9", "日本".encode(), b"a b", b"new\nline", b"%s{}"])
def test_folder_name_may_be_any_bytes(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert len(ShardDataset(some(path))) == 30
    assert recordio.verify(path).ok
    os.truncate(path / "shard-00001.rio", 100)
    with pytest.raises(RecordIOError) as caught:
        ShardDataset(path)
    assert "shard-00001.rio" in str(caught.value)


def test_missing_dataset_raises_dataset_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file", some(tmp_path / "it") / "shard-00000.rio"):
        with pytest.raises(DatasetError):
            ShardDataset(path)
