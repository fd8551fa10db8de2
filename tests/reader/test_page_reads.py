"""Reads by plan: few, large, in the order of the files; every page checked; what fails is named."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import CorruptError, DataLoader, DatasetWriter, ShardDataset, StorageError
from recordio.reader import page_reads
from recordio.reader.page_reads import runs_of
from recordio.reader.read_buffers import scratch
from recordio.storage.base import DIRECT_ALIGNMENT
from recordio.storage.local import LocalFile
from tests.effort import examples

IO = ["mmap", "pread", "direct"]
COUNT, SHARD, BLOCK = 240, 40, 4  # samples; a block takes 64 KiB
ROW = 4096


@pytest.fixture(scope="module", params=[None, "zstd:1"], ids=["plain", "coded"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("data") / "it"
    noise = np.random.default_rng(0)
    with DatasetWriter(path, compression=request.param, shard_samples=SHARD, block_bytes=BLOCK * ROW * 4) as writer:
        for i in range(COUNT):
            row = noise.integers(0, 256 if request.param is None else 16, 4 * ROW, np.uint8)
            writer.write({"image": row, "number": i, "text": f"{i}" * 50})
    assert {entry.runs for entry in ShardDataset(path).store.manifest.shards} == {((BLOCK, SHARD // BLOCK),)}
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "it")
    return tmp_path / "it"


class Reads:
    """Counts the reads of files into memory, and the bytes of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.nbytes, self.seen = 0, 0, Counter[tuple[str, int]]()
        real = LocalFile._read_into

        def counted(file: LocalFile, target: memoryview, offset: int, direct: bool) -> int:
            found = real(file, target, offset, direct)
            self.count += 1
            self.nbytes += found
            self.seen[file.name, offset] += 1
            return found

        monkeypatch.setattr(LocalFile, "_read_into", counted)


PLACES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 3)), max_size=12)


@examples(200)
@given(PLACES, st.integers(0, 12))
def test_runs_cover_every_page_once_in_order(places: list[tuple[int, int, int]], gap: int) -> None:
    shard, begin, nbytes = (np.array([one[k] for one in places], np.int64) for k in range(3))
    end, unit = begin + nbytes, begin // 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_reads, "_MAX_GAP", gap)
        order, cuts = runs_of(shard, begin, end, unit)
    assert sorted(order.tolist()) == list(range(len(places)))
    for run in np.split(order, cuts[1:]) if len(order) else []:
        assert len(set(shard[run])) == len(set(unit[run])) == 1
        assert (np.diff(begin[run]) >= 0).all()
        assert (begin[run][1:] - end[run][:-1] <= gap).all()
    assert np.lexsort((begin[order], shard[order])).tolist() == list(range(len(order)))


@pytest.mark.parametrize("io", ["pread", "direct"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_reads_every_byte_about_once(
    original: Path, monkeypatch: pytest.MonkeyPatch, io: Any, shuffle: bool
) -> None:
    ds, reads = ShardDataset(original, io=io), Reads(monkeypatch)
    for _ in range(2):
        reads.nbytes = 0
        loader = DataLoader(ds, 16, shuffle=shuffle, window_bytes=1 << 20)
        seen = [number for batch in loader for number in batch["number"].tolist()]
        assert sorted(seen) == list(range(COUNT))
        blocks = COUNT // BLOCK
        assert reads.nbytes <= ds.store.nbytes + blocks * 2 * DIRECT_ALIGNMENT
    assert reads.count <= 2 * blocks + 12  # a block is one read, with all its fields


@pytest.mark.parametrize("io", IO)
def test_a_field_of_small_pages_is_read_without_its_neighbours(
    original: Path, monkeypatch: pytest.MonkeyPatch, io: Any
) -> None:
    ds, reads = ShardDataset(original, io=io, fields=["number"]), Reads(monkeypatch)
    seen = [number for batch in DataLoader(ds, 16, shuffle=True) for number in batch["number"].tolist()]
    assert sorted(seen) == list(range(COUNT))
    assert reads.nbytes <= (COUNT // BLOCK) * 2 * DIRECT_ALIGNMENT < ds.store.nbytes / 4


@pytest.mark.parametrize("io", IO)
def test_a_column_is_read_once_and_in_large_pieces(original: Path, monkeypatch: pytest.MonkeyPatch, io: Any) -> None:
    ds, reads = ShardDataset(original, io=io), Reads(monkeypatch)
    images = ds.column("image")
    assert images.shape == (COUNT, 4 * ROW)
    assert images[77].tolist() == ds[77]["image"].tolist()
    assert set(reads.seen.values()) <= {1}
    assert ds.column("number").tolist() == list(range(COUNT))
    assert ds[100:200].column("text") == [f"{i}" * 50 for i in range(100, 200)]
    backward = ds.select(np.arange(COUNT)[::-1])
    assert backward.column("number").tolist() == list(range(COUNT))[::-1]


@pytest.mark.parametrize("io", IO)
def test_a_cut_shard_fails_only_the_pages_that_it_lacks(folder: Path, io: Any) -> None:
    ds = ShardDataset(folder, io=io)
    index = ds.store.shard(2).index
    offset = int(index.page_offsets[5, 0])
    ds.store.restart()
    for number in range(6):
        ds.store.file(number)  # all are proven before one is cut
    os.truncate(folder / "shard-00002.rio", offset + 100)
    loader = DataLoader(ds, 4, on_error="skip", window_bytes=1 << 20)
    seen = sorted(number for batch in loader for number in batch["number"].tolist())
    lost = range(2 * SHARD + 5 * BLOCK, 3 * SHARD)
    if io == "mmap":  # what is in place would kill the process: it was read before only by luck
        return
    assert seen == [i for i in range(COUNT) if i not in lost]
    with pytest.raises(CorruptError, match="cut") as caught:
        for _ in DataLoader(ds, 4):
            pass
    place = caught.value.place
    assert (place.file, place.block, place.byte) == ("shard-00002.rio", 5, offset)


@pytest.mark.parametrize("io", ["pread", "direct"])
def test_a_read_that_fails_is_tried_page_by_page(folder: Path, monkeypatch: pytest.MonkeyPatch, io: Any) -> None:
    ds = ShardDataset(folder, io=io)
    bad = int(ds.store.shard(1).index.page_offsets[3, 0])
    real = LocalFile._read_into

    def failing(file: LocalFile, target: memoryview, offset: int, direct: bool) -> int:
        if file.name == "shard-00001.rio" and offset <= bad < offset + len(target):
            raise StorageError("cannot read: Input/output error").at(file=file.name)
        return real(file, target, offset, direct)

    monkeypatch.setattr(LocalFile, "_read_into", failing)
    loader = DataLoader(ds, 4, shuffle=True, on_error="skip")
    seen = sorted(number for batch in loader for number in batch["number"].tolist())
    assert seen == [i for i in range(COUNT) if i not in range(SHARD + 3 * BLOCK, SHARD + 4 * BLOCK)]


def test_what_is_larger_than_memory_is_dropped_from_the_cache(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recordio.reader import io_choice

    dropped: list[int] = []
    monkeypatch.setattr(io_choice, "_SURELY_FITS_NBYTES", 0)
    monkeypatch.setattr(LocalFile, "wont_need", lambda file, offset, nbytes: dropped.append(nbytes))
    list(DataLoader(ShardDataset(original, io="pread"), 16, shuffle=True))
    assert not dropped
    monkeypatch.setattr(io_choice, "available_nbytes", lambda: 1000)
    ds = ShardDataset(original, io="pread")
    list(DataLoader(ds, 16, shuffle=True))
    assert sum(dropped) >= 0.9 * ds.store.nbytes


def test_pages_in_place_are_asked_for_before_they_are_touched_in_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatasetWriter(tmp_path / "it", compression=None, block_bytes=1 << 16) as writer:
        for i in range(64):
            writer.write({"image": np.full(1 << 14, i, np.uint8)})
    from recordio.reader.batches import fetch_plan
    from recordio.reader.loading import epoch_run

    monkeypatch.setattr(fetch_plan, "MAPPED_NBYTES", 0)
    monkeypatch.setattr(epoch_run, "MAPPED_NBYTES", -(1 << 20))
    asked: list[int] = []
    real = LocalFile.will_need

    def will_need(file: LocalFile, ranges: Any) -> None:
        ranges = list(ranges)
        asked.extend(nbytes for _, nbytes in ranges)
        real(file, ranges)

    monkeypatch.setattr(LocalFile, "will_need", will_need)
    ds = ShardDataset(tmp_path / "it", io="mmap")
    for _ in range(3):
        asked.clear()
        assert sum(len(b["image"]) for b in DataLoader(ds, 8, shuffle=True, window_bytes=1 << 20)) == 64
        assert sum(asked) >= 64 << 14


@pytest.mark.parametrize("shuffle", [False, True])
def test_reads_that_do_not_follow_one_another_are_asked_for_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: bool
) -> None:
    with DatasetWriter(tmp_path / "it", compression="zstd:1", block_bytes=1 << 16) as writer:
        for one in np.random.default_rng(0).integers(0, 16, (256, 1 << 14), np.uint8):
            writer.write({"image": one})
    done: list[tuple[str, int]] = []
    ask, read = LocalFile.will_need, LocalFile._read_into

    def will_need(file: LocalFile, ranges: Any) -> None:
        ranges = list(ranges)
        done.extend(("asked", offset) for offset, _ in ranges)
        ask(file, ranges)

    def read_into(file: LocalFile, target: memoryview, offset: int, direct: bool) -> int:
        done.append(("read", offset // DIRECT_ALIGNMENT * DIRECT_ALIGNMENT))
        return read(file, target, offset, direct)

    monkeypatch.setattr(LocalFile, "will_need", will_need)
    monkeypatch.setattr(LocalFile, "_read_into", read_into)
    list(DataLoader(ShardDataset(tmp_path / "it"), 8, shuffle=shuffle, window_bytes=1 << 20))
    reads = [offset for what, offset in done if what == "read"]
    assert len(reads) >= 8
    asked = sum(("asked", offset) in done[: done.index(("read", offset))] for offset in reads)
    if shuffle:
        assert asked > len(reads) / 2
    else:  # only where a window begins does the system not know
        assert asked <= len(reads) / 2


def test_a_thread_goes_on_with_the_memory_of_one_that_has_ended_but_shares_none() -> None:
    nbytes = 200_000
    found: list[int] = []

    def use(other: threading.Barrier | None = None) -> None:
        target = scratch(nbytes)
        target[:] = bytes([len(found) + 1]) * nbytes
        found.append(np.frombuffer(target, np.uint8).ctypes.data)
        if other is not None:
            other.wait(10)

    for _ in range(2):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert found[0] == found[1]
    found.clear()
    together = threading.Barrier(3)
    threads = [threading.Thread(target=use, args=(together,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("nbytes", [DIRECT_ALIGNMENT, 1 << 20])
def test_a_forked_child_reads_into_memory_of_its_own(nbytes: int) -> None:
    scratch(nbytes)[:] = b"a" * nbytes
    child = os.fork()
    if child == 0:
        scratch(nbytes)[:] = b"b" * nbytes
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(scratch(nbytes)) == b"a" * nbytes
