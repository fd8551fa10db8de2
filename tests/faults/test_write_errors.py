"""Failed and short system calls in a writer: a StorageError, no leftovers, the old dataset unchanged."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import RecordIOError, ShardDataset, StorageError
from tests.faults.bounded import environment, python
from tests.faults.crashing import MODES, Oracle, contents, prepare, rows, write
from tests.open_files import open_files
from tests.small_disk import needs_small_disk, on_small_disk

SHARDS = 3
SCHEMA = {"number": recordio.Scalar("int64"), "text": recordio.Text()}
CALLS = ["open", "writev", "fsync", "rename"]


class Fails:
    """Makes calls of a function of `os` raise, from the N-th on, and counts the calls."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, at: int, code: int = errno.EIO, times: int = 1
    ) -> None:
        self.calls, self.at, self.code, self.real = 0, range(at, at + times), code, getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls in self.at:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **options)


def calls_of(name: str, folder: Path, mode: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        counter = Fails(patch, name, -1)
        write(folder, mode, SHARDS)
    return counter.calls


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", CALLS)
def test_error_at_any_call_leaves_the_old_or_new_dataset_and_no_litter(tmp_path: Path, call: str, mode: str) -> None:
    oracle = Oracle(mode, SHARDS)
    prepare(tmp_path / "count", mode)
    total = calls_of(call, tmp_path / "count", mode)
    assert total >= SHARDS
    for at in range(1, total + 1):
        folder = tmp_path / f"{at}"
        prepare(folder, mode)
        before = contents(folder)
        with pytest.MonkeyPatch.context() as patch:
            Fails(patch, call, at, errno.ENOSPC)
            with pytest.raises(StorageError) as caught:
                write(folder, mode, SHARDS)
        assert caught.value.place.file, f"{call} {at}"
        assert not open_files(folder), f"{call} {at} leaks a descriptor"
        if rows(folder) == oracle.before:
            assert contents(folder) == before, f"{call} {at} leaves {sorted(contents(folder))}"
            write(folder, mode, SHARDS)
        assert rows(folder) == oracle.after, f"{call} {at}"
        assert {k: v for k, v in contents(folder).items() if k in oracle.files} == oracle.files


def test_a_quota_that_is_used_up_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, "append")
    before = contents(tmp_path)
    Fails(monkeypatch, "writev", 2, errno.EDQUOT)
    with pytest.raises(StorageError, match="quota"):
        write(tmp_path, "append", SHARDS)
    assert contents(tmp_path) == before


def test_file_is_never_synced_again_after_a_failed_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed, again = os.fsync, set(), []

    def fsync(fd: int) -> None:
        inode = os.fstat(fd).st_ino
        again.extend([inode] if inode in failed else [])
        if len(failed) < 1:
            failed.add(inode)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    writer = recordio.DatasetWriter(tmp_path, shard_samples=2)
    for i in range(9):
        try:
            writer.write({"i": i})
        except RecordIOError:
            break
    for _ in range(2):
        with contextlib.suppress(RecordIOError):
            writer.close()
    assert failed
    assert not again
    assert not contents(tmp_path)


@pytest.mark.parametrize("call", ["open", "writev", "fsync"])
@pytest.mark.parametrize("way", ["write", "write_batch"])
def test_failed_writer_publishes_nothing_even_if_its_caller_continues(tmp_path: Path, way: str, call: str) -> None:
    """A caller that ignores the error must not get a dataset that lacks the samples of the failed write."""
    folder = tmp_path / "count"
    total = calls_of(call, folder, "create")
    for at in range(1, total + 1):
        folder = tmp_path / f"{at}"
        with pytest.MonkeyPatch.context() as patch:
            failing = Fails(patch, call, at)
            try:
                writer = recordio.DatasetWriter(folder, SCHEMA, shard_samples=4)
            except StorageError:
                continue
            errors = 0
            for i in range(4 * SHARDS):
                try:
                    writer.write({"number": i, "text": ""}) if way == "write" else writer.write_batch(
                        {"number": [i], "text": [""]}
                    )
                except RecordIOError:
                    errors += 1
            try:
                writer.close()
            except RecordIOError:
                errors += 1
        assert errors == (failing.calls >= at) or errors > 1
        if errors and rows(folder) is None:
            assert not contents(folder), f"{call} {at}"
        else:  # no error, or only in the last call, after the commit
            assert ShardDataset(folder).column("number").tolist() == list(range(4 * SHARDS)), f"{call} {at}"


@pytest.mark.parametrize("most", [1, 7, 100])
def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    oracle = Oracle("create", SHARDS)
    monkeypatch.setattr(os, "writev", lambda fd, parts: os.write(fd, b"".join(parts)[:most]))
    write(tmp_path / "it", "create", SHARDS)
    assert contents(tmp_path / "it") == oracle.files


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, io: Any) -> None:
    write(tmp_path, "create", SHARDS)
    expected = rows(tmp_path)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 5), at))
    ds = ShardDataset(tmp_path, io=io)
    columns = ds.take(range(len(ds)))
    assert list(zip(columns["number"].tolist(), columns["text"], strict=True)) == expected
    assert recordio.verify(tmp_path).ok


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13])
def test_failed_read_raises_storage_error_naming_the_file(tmp_path: Path, at: int) -> None:
    write(tmp_path, "create", SHARDS)
    with pytest.MonkeyPatch.context() as patch:
        Fails(patch, "pread", at, times=10**6)
        with pytest.raises(StorageError) as caught:
            ShardDataset(tmp_path, io="pread").take(range(10))
    assert caught.value.place.file
    assert isinstance(caught.value.__cause__, OSError)


def test_a_footer_that_cannot_be_read_is_tried_again_when_a_dataset_is_opened(tmp_path: Path) -> None:
    write(tmp_path, "create", SHARDS)
    with pytest.MonkeyPatch.context() as patch:
        reads = Fails(patch, "pread", 2)  # after the manifest
        ShardDataset(tmp_path)
        assert reads.calls == 1 + SHARDS + 1


def test_signals_do_not_disturb_a_writer(tmp_path: Path) -> None:
    oracle = Oracle("create", SHARDS)
    alarms: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for run in range(5):
            write(tmp_path / f"{run}", "create", SHARDS)
            assert rows(tmp_path / f"{run}") == oracle.after
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(alarms) > 3
    assert all(contents(tmp_path / f"{run}") == oracle.files for run in range(5))


@pytest.mark.parametrize("call", ["open", "writev", "fsync", "rename"])
def test_next_writer_repairs_the_folder_after_ctrl_c_at_any_call(tmp_path: Path, call: str) -> None:
    oracle = Oracle("create", SHARDS)
    total = calls_of(call, tmp_path / "count", "create")
    for at in range(1, total + 1):
        folder = tmp_path / f"{at}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, _interrupted(getattr(os, call), at))
            with pytest.raises(KeyboardInterrupt):
                write(folder, "create", SHARDS)
        if rows(folder) is None:
            write(folder, "create", SHARDS)
        assert contents(folder) == oracle.files, f"{call} {at}"


def _interrupted(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Raises KeyboardInterrupt after the N-th call."""
    calls = count(1)

    def call(*args: Any, **options: Any) -> Any:
        number = next(calls)
        try:
            return real(*args, **options)
        finally:
            if number == at:
                raise KeyboardInterrupt

    return call


FILLS = """
import json, resource, sys
import recordio
from tests.faults.crashing import rows, contents
from pathlib import Path
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
kind = "none"
try:
    with recordio.DatasetWriter(folder, mode=sys.argv[3], compression=None) as writer:
        for i in range(300):
            writer.write({"number": i, "text": "x" * 2000})
except recordio.RecordIOError as error:
    kind = type(error).__name__
print(json.dumps([kind, sorted(contents(folder)), len(rows(folder) or [])]))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["create", "append", "overwrite"])
@pytest.mark.parametrize("limit", [100, 5_000, 300_000])
def test_file_size_limit_raises_storage_error(tmp_path: Path, mode: str, limit: int) -> None:
    prepare(tmp_path, mode)
    before = sorted(contents(tmp_path))
    out = python("-c", FILLS, str(tmp_path), str(limit), mode)
    assert json.loads(out) == ["StorageError", before, 0 if mode == "create" else 10]


@needs_small_disk  # ENOSPC is injected above
@pytest.mark.parametrize("kbytes", [16, 128, 400])
def test_full_disk_raises_storage_error_and_keeps_the_old_dataset(tmp_path: Path, kbytes: int) -> None:
    """Writes to a small file system of its own, then enlarges it: the same write succeeds."""
    preparation = "import pathlib, sys; from tests.faults.crashing import prepare\n"
    preparation += "prepare(pathlib.Path(sys.argv[1]), 'append')"
    script = f"""
{sys.executable} -c "$PREPARE" {tmp_path}/it
{sys.executable} -c "$CODE" {tmp_path}/it 0 append
mount -o remount,size=4m {tmp_path}
{sys.executable} -c "$CODE" {tmp_path}/it 0 append
"""
    said = on_small_disk(tmp_path, kbytes, script, environment() | {"CODE": FILLS, "PREPARE": preparation})
    first, second = map(json.loads, said)
    assert first[0] == "StorageError"
    assert first[2] == 10
    assert not [name for name in first[1] if name.startswith(".")]
    assert second[0] == "none"
    assert second[2] == 310
