"""Single samples of shards beyond the limit: the same values, few bytes read, nothing unchecked."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import CorruptError, DatasetWriter, ShardDataset, kernels
from recordio.format.codec import Codec, read_in_place
from recordio.format.fields import Text
from recordio.format.page import encode_page
from recordio.format.rows import read_row
from recordio.reader import row_reads
from recordio.reader.open_shard import OpenShard
from recordio.reader.open_shards import OpenShards
from recordio.storage.local import LocalFile
from tests.effort import examples
from tests.strategies import alike, fields, value

COUNT = 60


@examples(150)
@given(fields(), st.integers(1, 20), st.integers(0, 2**32))
def test_a_row_of_a_page_is_the_value_that_was_written(field: Any, count: int, seed: int) -> None:
    random = Random(seed)
    values = [value(field, random) for _ in range(count)]
    packed = [None if one is None and field.optional else field.pack(one) for one in values]
    page = b"x" * 64 + bytes(encode_page(field, [packed]))
    for row in range(count):
        got = read_row(field, lambda offset, nbytes: page[offset : offset + nbytes], 64, count, row)
        assert alike(got, None if packed[row] is None else field.unpack(packed[row]))


@pytest.mark.parametrize(
    ("offsets", "match"), [((3, 1), "not in order"), ((-1, 2), "not in order"), ((0, 1), "not UTF-8")]
)
def test_a_row_that_changed_after_the_check_of_its_page_is_corrupt(offsets: tuple[int, int], match: str) -> None:
    page = np.array(offsets, np.int64).tobytes() + b"\xff" * 8
    with pytest.raises(CorruptError, match=match):
        read_row(Text(), lambda offset, nbytes: page[offset : offset + nbytes], 0, 1, 0)


@pytest.fixture(params=[None, "narrow", "zstd:1"], ids=["plain", "narrow", "coded"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "it", compression=request.param, shard_samples=10, block_bytes=30_000) as writer:
        for i in range(COUNT):
            array = np.full(2000, i, np.float32)
            few = None if i % 3 == 1 else np.arange(i, i + 200)
            writer.write({"number": i, "array": array, "few": few, "text": f"{i} " * i, "raw": b"r" * i})
    return tmp_path / "it"


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
@pytest.mark.parametrize("verify", ["first", "always", "never"])
def test_samples_of_closed_shards_are_those_of_open_ones(folder: Path, io: Any, verify: Any) -> None:
    few, many = ShardDataset(folder, io=io, verify=verify, max_open_shards=2), ShardDataset(folder)
    order = np.random.default_rng(0).permutation(COUNT).tolist()
    for i in [*order, *order[::-1]]:
        got, want = few[i], many[i]
        assert got.keys() == want.keys()
        assert all(alike(got[name], want[name]) for name in want)
        assert got["array"].flags.writeable
        assert isinstance(got["number"], np.int64)
    assert len(few.store.shards) == 2


def test_a_checked_sample_takes_a_few_small_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = ShardDataset(folder, max_open_shards=1)
    codecs = set(ds.store.shard(0).index.pages["codec"].ravel().tolist())
    every = [ds[i] for i in range(COUNT)]
    read: list[int] = []
    mapped: list[OpenShard] = []
    real, transient = LocalFile._read, type(ds.store).transient

    def counted(file: LocalFile, offset: int, nbytes: int) -> bytes:
        read.append(nbytes)
        return real(file, offset, nbytes)

    def opened(store: Any, number: int) -> OpenShard:
        mapped.append(transient(store, number))
        return mapped[-1]

    monkeypatch.setattr(LocalFile, "_read", counted)
    monkeypatch.setattr(type(ds.store), "transient", opened)
    assert alike(ds[35]["array"], every[35]["array"])
    if Codec.ZSTD not in codecs:
        narrow = Codec.NARROW in codecs
        assert not mapped
        assert sum(read) < 8 + 8000 + (200 + 8 if narrow else 1600) + 2 * (16 + 200) + 50
        assert len(read) == 8 + 2 * narrow  # the base of the number, and that of `few`
    else:
        assert not read  # the decoded pages are in the cache


def test_damage_in_a_closed_shard_is_found_at_first_touch(folder: Path) -> None:
    index = ShardDataset(folder).store.shard(3).index
    path = folder / "shard-00003.rio"
    data = bytearray(path.read_bytes())
    data[int(index.page_offsets[0, 1]) + 1] ^= 1
    path.write_bytes(bytes(data))
    ds = ShardDataset(folder, max_open_shards=1)
    assert ds[5]["number"] == 5
    for _ in range(2):
        with pytest.raises(CorruptError, match="page checksum") as caught:
            ds[30]
        assert (caught.value.place.file, caught.value.place.field) == ("shard-00003.rio", "array")


def test_a_shard_that_was_replaced_is_refused_though_its_pages_were_checked(folder: Path) -> None:
    ds = ShardDataset(folder, max_open_shards=1)
    assert [ds[i]["number"] for i in range(COUNT)] == list(range(COUNT))
    (folder / "copy").write_bytes((folder / "shard-00004.rio").read_bytes())
    os.replace(folder / "copy", folder / "shard-00003.rio")
    with pytest.raises(CorruptError, match=r"shard number is 4|the manifest says") as caught:
        ds[30]
    assert caught.value.place.file == "shard-00003.rio"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_checks_by_itself(folder: Path) -> None:
    ds = ShardDataset(folder, max_open_shards=1, page_cache_bytes=0)
    assert [ds[i]["number"] for i in range(COUNT)] == list(range(COUNT))
    index = ds.store.shard(3).index
    path, at = folder / "shard-00003.rio", int(index.page_offsets[0, 1]) + 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(b"?")
            ds[5]
            ds[30]
        except CorruptError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_text_that_is_none_is_an_error_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Text, "pack", lambda field, value: value.encode("latin-1"))
        patch.setattr(kernels, "c", None)  # or text is packed without it
        with DatasetWriter(tmp_path / "it", compression=None, shard_samples=10) as writer:
            for i in range(COUNT):
                writer.write({"number": i, "text": "\xff" if i == 33 else "good"})
    ds = ShardDataset(tmp_path / "it", max_open_shards=1)
    for _ in range(3):
        assert (ds[0]["text"], ds[30]["text"]) == ("good", "good")
        with pytest.raises(CorruptError, match="not UTF-8") as caught:
            ds[33]
        place = caught.value.place
        assert (place.file, place.block, place.field) == ("shard-00003.rio", 0, "text")


def test_files_stay_open_for_single_samples_within_a_limit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()  # datasets of other tests
    monkeypatch.setattr(row_reads, "share_of_files", lambda part: 3)
    monkeypatch.setattr(OpenShards, "has_room", lambda *_: False)
    ds = ShardDataset(folder)
    by_rows = read_in_place(ds.store.transient(0).index.pages["codec"]).all()
    every = [ds[i] for i in range(COUNT)]
    opened: list[str] = []
    real = LocalFile.__init__

    def counted(file: LocalFile, folder: str, name: str) -> None:
        opened.append(name)
        real(file, folder, name)

    monkeypatch.setattr(LocalFile, "__init__", counted)
    for i in np.random.default_rng(0).permutation(COUNT).tolist():
        assert all(alike(ds[i][name], every[i][name]) for name in every[i])
    names = {f"shard-{number:05d}.rio" for number in range(COUNT // 10)}
    assert len(row_reads._kept) == (3 if by_rows else 0)
    if by_rows:
        assert len(set(opened)) == len(names) - 3
    del ds
    assert not len(row_reads._kept)


def test_a_kept_file_is_left_once_its_shard_is_another_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenShards, "has_room", lambda *_: False)
    ds = ShardDataset(folder, page_cache_bytes=0)
    assert [ds[i]["number"] for i in range(COUNT)] == list(range(COUNT))
    kept = list(map(weakref.ref, row_reads._kept))
    (folder / "copy").write_bytes((folder / "shard-00003.rio").read_bytes())
    os.replace(folder / "copy", folder / "shard-00003.rio")  # the same bytes, as a repair leaves them
    ds.store.unkept_file(3)  # finds that it is another file
    for _ in range(2):
        assert [ds[i]["number"] for i in range(COUNT)] == list(range(COUNT))
    assert len(kept) == (COUNT // 10 if read_in_place(ds.store.transient(0).index.pages["codec"]).all() else 0)
    assert all(file() is None for file in kept)


def test_a_file_that_is_another_one_while_it_is_being_kept_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenShards, "has_room", lambda *_: False)
    ds = ShardDataset(folder, page_cache_bytes=0)
    former: list[weakref.ref[Any]] = []
    real = row_reads.RowReads._placed

    def placed(reads: Any, known: Any, file: Any, *rest: Any) -> Any:
        if not former:
            former.append(weakref.ref(file))
            (folder / "copy").write_bytes((folder / "shard-00003.rio").read_bytes())
            os.replace(folder / "copy", folder / "shard-00003.rio")
            ds.store.unkept_file(3)  # what another thread may do meanwhile
            assert ds[35]["number"] == 35
        return real(reads, known, file, *rest)

    monkeypatch.setattr(row_reads.RowReads, "_placed", placed)
    for _ in range(2):
        assert ds[35]["number"] == 35
    coded = not read_in_place(ds.store.transient(3).index.pages["codec"]).all()
    assert [file() for file in former] == ([] if coded else [None])
