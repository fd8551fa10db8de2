"""recordio.export: the folder appears whole or not at all, for any number of workers; what cannot be held is named."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import Array, DatasetError, Object, Scalar, SchemaError, ShardDataset, StorageError
from recordio.storage.atomic import FolderLock
from tests.recordio.edit.datasets import files, write

WHOLE = {"number": Scalar("int64"), "label": Scalar("uint8"), "tree": Object()}
PLAIN = ("webdataset", "mds", "jsonl")  # need no package, and take these fields


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", range(40), WHOLE)


@pytest.mark.parametrize("to", PLAIN)
def test_parts_are_cut_by_size_and_nothing_else_is_left(tmp_path: Path, source: Path, to: str) -> None:
    before = files(source)
    report = recordio.export(source, tmp_path / "out", to=to, shard_bytes=100)
    found = files(tmp_path / "out")
    assert (report.samples, report.to, report.files) == (40, to, len(found))
    assert report.files > 3
    assert report.nbytes == sum(map(len, found.values()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert files(source) == before


@pytest.mark.slow
@pytest.mark.parametrize("to", [*PLAIN, "npy", "folder"])
def test_the_files_do_not_depend_on_the_workers(tmp_path: Path, to: str) -> None:
    fields = {"npy": ["number", "label"], "folder": ["picture", "label"]}.get(to, ["number", "label", "tree"])
    view = ShardDataset(write(tmp_path / "source", range(40)), fields=fields)
    for workers in (1, 3):
        recordio.export(view, tmp_path / f"{workers}", to=to, shard_bytes=1000, workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "3")


@pytest.mark.parametrize("to", [*PLAIN, "npy"])
def test_no_samples_make_files_without_any(tmp_path: Path, source: Path, to: str) -> None:
    view = ShardDataset(source, fields=["number"])[:0]
    assert recordio.export(view, tmp_path / "out", to=to).samples == 0


def test_the_destination_is_free_and_apart(tmp_path: Path, source: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    with pytest.raises(DatasetError, match="not empty"):
        recordio.export(source, tmp_path / "full", to="jsonl")
    for where in (source, source / "inner"):
        with pytest.raises(DatasetError, match="the source"):
            recordio.export(source, where, to="jsonl")
    (tmp_path / "empty").mkdir()
    recordio.export(source, tmp_path / "empty", to="jsonl")
    assert (tmp_path / "full" / "mine").read_text() == "keep"


@pytest.mark.parametrize("call", ["rename", "fsync"])
@pytest.mark.parametrize("to", PLAIN)
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, to: str, call: str
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(StorageError, match="No space left"):
            recordio.export(source, tmp_path / "out", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    recordio.export(source, tmp_path / "out", to=to)


@pytest.mark.parametrize("to", PLAIN)
def test_a_part_that_finds_no_room_leaves_nothing(tmp_path: Path, source: Path, to: str) -> None:
    """Files as large as the limit of the process allows: the write itself fails, and the signal is not fatal."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
        with pytest.raises(StorageError, match="too large"):
            recordio.export(source, tmp_path / "out", to=to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_a_killed_export_left_is_cleared(tmp_path: Path, source: Path) -> None:
    left = tmp_path / ".out.export"
    (left / "cat").mkdir(parents=True)
    (left / "cat" / "0.jpg").write_bytes(b"half")
    with FolderLock(left), pytest.raises(DatasetError, match="another writer"):
        recordio.export(source, tmp_path / "out", to="jsonl")
    recordio.export(source, tmp_path / "out", to="jsonl")
    assert list(files(tmp_path / "out")) == ["data-00000-of-00001.jsonl"]
    assert not left.exists()


@pytest.mark.parametrize(
    ("fields", "value", "to", "words"),
    [
        ({"z": Scalar("complex64")}, 1j, "jsonl", "JSON cannot hold z"),
        ({"z": Array("complex64", (2,))}, [1j, 2], "mds", "MDS cannot hold z"),
        ({"z": Array("int8", (0,))}, [], "mds", "without elements"),
        ({"z": recordio.Bytes()}, b"x", "jsonl", "base64=True"),
        ({"z": Object()}, {"a": b"x"}, "jsonl", "no bytes.*field 'z', sample 0"),
        ({"z": Scalar("float32")}, float("nan"), "jsonl", "no NaN.*field 'z', sample 0"),
        ({"z": Scalar("int8", optional=True)}, None, "mds", "no missing values.*field 'z', sample 0"),
        ({"z": Scalar("int8", optional=True)}, None, "npy", "no missing values.*field 'z', sample 0"),
        ({"z": recordio.Text()}, "x", "npy", "cannot hold z"),
        ({"z": recordio.Text()}, "x", "folder", "no field holds pictures"),
        ({"a/b": recordio.Text()}, "x", "webdataset", "a member of a tar cannot be called"),
        ({"file_name": recordio.Text(), "z": recordio.Bytes()}, "x", "folder", "the names of files"),
    ],
)
def test_what_a_format_cannot_hold_is_named(tmp_path: Path, fields: Any, value: Any, to: str, words: str) -> None:
    with recordio.DatasetWriter(tmp_path / "source", fields) as writer:
        writer.write({name: b"x" if isinstance(kind, recordio.Bytes) else value for name, kind in fields.items()})
    with pytest.raises(SchemaError, match=words):
        recordio.export(tmp_path / "source", tmp_path / "out", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "options",
    [{"to": "pickle"}, {"to": "mds", "base64": True}, {"to": "mds", "workers": -1}, {"to": "mds", "shard_bytes": 0}],
)
def test_arguments_are_checked(tmp_path: Path, source: Path, options: Any) -> None:
    with pytest.raises(SchemaError):
        recordio.export(source, tmp_path / "out", **options)


def test_what_functions_make_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(SchemaError, match="transforms or maps"):
        recordio.export(ShardDataset(source).map(dict), tmp_path / "out", to="jsonl")
