"""ShardSink: when it starts a shard, and that DatasetWriter and write_shard give the same bytes."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import DatasetWriter, Scalar, Schema, SchemaError, StorageError
from recordio.format.layout import FOOTER
from recordio.format.manifest import ShardEntry
from recordio.format.shard import Footer, ShardHeader
from recordio.writer.blocks import BlockBuilder
from recordio.writer.shard_sink import ShardSink, shard_numbers, write_shard
from recordio.writer.shard_writer import WriteOptions
from tests.processes_seen import soon

ID = bytes(range(16))
SCHEMA = Schema({"number": Scalar("int64")})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def disk_full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def new_sink(folder: Path, dataset_id: bytes | None = ID, **options: Any) -> ShardSink:
    written = WriteOptions(**options)
    builder = BlockBuilder(SCHEMA, written.block_target(SCHEMA))
    return ShardSink(folder, builder, written, metadata={}, dataset_id=dataset_id, first=3)


def fill(sink: ShardSink, count: int) -> None:
    for number in range(count):
        if sink.add({"number": number}):
            sink.write_full_blocks()


def test_shards_are_numbered_from_the_first_and_keep_temporary_names(tmp_path: Path) -> None:
    sink = new_sink(tmp_path, shard_samples=4)
    fill(sink, 10)
    sink.finish()
    assert [(entry.number, entry.samples) for entry in sink.finished.values()] == [(3, 4), (4, 4), (5, 2)]
    assert names(tmp_path) == {f".shard-0000{n}.rio.tmp" for n in (3, 4, 5)}


def test_no_samples_make_no_shard(tmp_path: Path) -> None:
    sink = new_sink(tmp_path)
    sink.finish()
    assert sink.finished == {}
    assert names(tmp_path) == set()


def test_an_opened_shard_may_stay_empty(tmp_path: Path) -> None:
    sink = new_sink(tmp_path)
    sink.open_shard()
    sink.finish()
    assert [entry.samples for entry in sink.finished.values()] == [0]


def test_discard_removes_finished_and_open_shards_but_not_renamed_ones(tmp_path: Path) -> None:
    sink = new_sink(tmp_path, shard_samples=4, block_bytes=8)
    fill(sink, 11)
    first = next(iter(sink.finished))
    first.rename(tmp_path / "shard-00003.rio")
    sink.discard()
    assert names(tmp_path) == {"shard-00003.rio"}


def test_a_refused_sample_leaves_the_sink_usable(tmp_path: Path) -> None:
    sink = new_sink(tmp_path)
    with pytest.raises(SchemaError):
        sink.add({"number": "x"})
    fill(sink, 2)
    sink.finish()
    assert [entry.samples for entry in sink.finished.values()] == [2]


def test_the_derived_id_depends_on_the_first_block_alone(tmp_path: Path) -> None:
    found = set()
    for count in (8, 20):
        sink = new_sink(tmp_path, None, block_bytes=64)
        fill(sink, count)
        sink.finish()
        found.add(sink.identify())
        sink.discard()
    assert len(found) == 1
    assert found != {new_sink(tmp_path, None).identify()}


def test_write_shard_and_dataset_writer_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"number": number} for number in range(1000)]
    with DatasetWriter(tmp_path / "a", SCHEMA, block_bytes=800) as writer:
        for row in rows:
            writer.write(row)
    header = ShardHeader.decode((tmp_path / "a" / "shard-00000.rio").read_bytes())
    (tmp_path / "b").mkdir()
    write_shard(tmp_path / "b", header, rows, WriteOptions(block_bytes=800))
    assert (tmp_path / "b" / "shard-00000.rio").read_bytes() == (tmp_path / "a" / "shard-00000.rio").read_bytes()


def test_write_shard_ignores_the_limits_of_a_shard(tmp_path: Path) -> None:
    rows = [{"number": number} for number in range(1000)]
    options = WriteOptions(shard_bytes=1, shard_samples=1, block_bytes=8)
    assert write_shard(tmp_path, ShardHeader(ID, 0, SCHEMA), rows, options).samples == 1000


def test_write_shard_replaces_a_temporary_file_of_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / ".shard-00000.rio.tmp").write_bytes(b"x")
    write_shard(tmp_path, ShardHeader(ID, 0, SCHEMA), [{"number": 1}], WriteOptions())
    assert names(tmp_path) == {"shard-00000.rio"}


def test_shard_numbers_skip_other_names(tmp_path: Path) -> None:
    for name in ("shard-00002.rio", "shard-100000.rio", "shard-x.rio", ".shard-00009.rio.tmp", "shard-1.txt"):
        (tmp_path / name).touch()
    assert sorted(shard_numbers(tmp_path)) == [2, 100000]


def test_write_shard_appears_in_one_step(tmp_path: Path) -> None:
    header = ShardHeader(ID, 5, SCHEMA, {"a": 1})
    path = tmp_path / "shard-00005.rio"

    def numbers() -> Any:
        for i in range(1000):
            assert not path.exists()
            yield {"number": i}

    entry = write_shard(tmp_path, header, numbers(), WriteOptions(block_bytes=800))
    data = path.read_bytes()
    footer = Footer.decode(data[-FOOTER.size :], len(data))
    assert ShardHeader.decode(data) == header
    assert entry == ShardEntry.of(footer, 8000, [100] * 10)
    assert names(tmp_path) == {path.name}


def test_write_shard_leaves_nothing_when_samples_raise(tmp_path: Path) -> None:
    def numbers() -> Any:
        yield {"number": 1}
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        write_shard(tmp_path, ShardHeader(ID, 0, SCHEMA, {}), numbers(), WriteOptions(block_bytes=1))
    assert names(tmp_path) == set()


@pytest.mark.parametrize("call", ["writev", "fsync", "replace"])
def test_write_shard_leaves_nothing_on_a_system_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, disk_full)
    header = ShardHeader(ID, 0, SCHEMA, {})
    with pytest.raises(StorageError):
        write_shard(tmp_path, header, [{"number": 1}], WriteOptions())
    assert names(tmp_path) == set()


def test_blocks_are_of_the_arrays_as_they_were_given(tmp_path: Path) -> None:
    """They are written while the source fills the same array again."""
    room = np.empty(100, np.int64)

    def batches() -> Any:
        for first in range(0, 5000, 100):
            room[:] = np.arange(first, first + 100)
            yield {"number": room}

    header, options = ShardHeader(ID, 0, SCHEMA, {}), WriteOptions(block_bytes=80)
    for name, given in (("a", {"batches": batches()}), ("b", {"samples": [{"number": n} for n in range(5000)]})):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, header, given.get("samples", ()), options, given.get("batches", ()))
    assert (tmp_path / "a" / "shard-00000.rio").read_bytes() == (tmp_path / "b" / "shard-00000.rio").read_bytes()


@pytest.mark.parametrize("failing", [1, 5])
def test_a_block_that_cannot_be_written_ends_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    made, calls, writev = [], [], os.writev

    def full(*arguments: Any) -> int:
        calls.append(threading.current_thread().name)
        return disk_full() if len(calls) > failing else writev(*arguments)

    def numbers() -> Any:
        for number in range(100_000):
            made.append(number)
            yield {"number": number}

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StorageError, match="space"):
        write_shard(tmp_path, ShardHeader(ID, 0, SCHEMA, {}), numbers(), WriteOptions(block_bytes=800))
    assert len(made) <= 100 * (failing + 2)
    assert len(set(calls)) == 2  # the header is written by the caller, blocks in a thread
    assert names(tmp_path) == set()
    assert not any(thread.name.startswith("recordio-write") for thread in threading.enumerate())


def test_no_thread_writes_on_after_two_interrupts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread left behind would write into, or remove, the file of the next conversion."""
    writev, calls = os.writev, list[str]()

    def slow(*arguments: Any) -> Any:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            for seconds in (0.1, 0.3):
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(0.6)
        return writev(*arguments)

    monkeypatch.setattr(os, "writev", slow)
    samples = ({"number": n} for n in range(100_000))
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, ShardHeader(ID, 0, SCHEMA, {}), samples, WriteOptions(block_bytes=800))
    assert len(calls) == 3
    assert names(tmp_path) == set()
    assert soon(lambda: not any(thread.name.startswith("recordio-write") for thread in threading.enumerate()))
    assert len(calls) == 3


def test_without_a_thread_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    header, options = ShardHeader(ID, 0, SCHEMA, {}), WriteOptions(block_bytes=80)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, header, [{"number": n} for n in range(500)], options)
        monkeypatch.setattr(threading.Thread, "start", exhausted)
    assert (tmp_path / "a" / "shard-00000.rio").read_bytes() == (tmp_path / "b" / "shard-00000.rio").read_bytes()
