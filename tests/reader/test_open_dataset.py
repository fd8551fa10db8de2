"""Open datasets: storage errors, the limit of open shards, checks, and the page cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import CorruptError, DataLoader, DatasetWriter, Scalar, ShardDataset, StorageError, verify
from recordio.format.checksum import checksum
from recordio.format.page import Pages, pages
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.page_cache import PageCache
from recordio.storage.base import Storage
from recordio.storage.dataset_files import check_shards, read_manifest, refuse
from recordio.storage.local import LocalStorage
from recordio.storage.memory import MemoryStorage
from tests.open_files import open_files

COUNT = 60


@pytest.fixture(scope="module", params=[None, "zstd"], ids=["plain", "coded"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of two blocks of five samples."""
    path: Path = tmp_path_factory.mktemp("data")
    with DatasetWriter(path, compression=request.param, shard_samples=10, block_bytes=1000) as writer:
        for i in range(COUNT):
            writer.write({"number": i, "text": f"{i:02d}" * 100})
    assert [entry.runs for entry in ShardDataset(path).store.manifest.shards] == [((5, 2),)] * 6
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


def flip(folder: Path, shard: int, block: int, column: int) -> None:
    """Flips a bit in the middle of a page, in place."""
    store = ShardDataset(folder).store
    index = store.shard(shard).index
    at = int(index.page_offsets[block, column]) + int(index.pages[block, column]["stored_nbytes"]) * 3 // 4
    with open(folder / store.manifest.shards[shard].name, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_failed_read_is_a_storage_error_with_its_cause(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = ShardDataset(folder, io="pread")
    ds.take([0])

    def refused(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", refused)
    for ask in (lambda: ds.take([7]), lambda: ds[7]):
        with pytest.raises(StorageError, match="Input/output error") as caught:
            ask()
        assert caught.value.place.file == "shard-00000.rio"
        assert isinstance(caught.value.__cause__, OSError)


# Storage


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_open_dataset_reads_from_any_storage(folder: Path, kind: str) -> None:
    storage: Storage = LocalStorage(folder)
    if kind == "memory":
        storage = MemoryStorage({path.name: path.read_bytes() for path in folder.iterdir()})
    manifest, digest = read_manifest(storage, "here")
    refuse(check_shards(storage, manifest), "here")
    for io in ("mmap", "pread", "direct"):
        store = OpenDataset(storage, manifest, ReadOptions(io=io), digest)  # type: ignore[arg-type]
        every = store.projection(None)
        assert store.take(np.array([59, 0, 31]), every)["number"].tolist() == [59, 0, 31]
        assert store.sampler(every)(7)["text"] == "07" * 100


# Open shards


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_open_shards_stay_within_the_limit(folder: Path, most: int, io: Any) -> None:
    ds = ShardDataset(folder, io=io, max_open_shards=most)
    each = 2 if io == "mmap" else 1  # the file, and its map
    order = np.random.default_rng(0).permutation(COUNT)
    assert ds.take(order)["number"].tolist() == order.tolist()
    for i in order.tolist():
        assert ds[i]["number"] == i
        assert len(ds.store.shards) <= most
    assert len(open_files(folder)) <= each * most


def test_shards_are_opened_on_demand(folder: Path) -> None:
    ds = ShardDataset(folder)
    assert list(ds.store.shards) == []
    ds[35]
    assert list(ds.store.shards) == [3]
    ds[20:30].column("number")
    assert list(ds.store.shards) == [3, 2]


def test_positioned_read_of_a_truncated_shard_is_an_error(folder: Path) -> None:
    ds = ShardDataset(folder, io="pread")
    ds[0]
    os.truncate(folder / "shard-00000.rio", 700)
    with pytest.raises(CorruptError, match="cut") as caught:
        ds.take(range(10))
    assert caught.value.place.file == "shard-00000.rio"


# Checking


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
@pytest.mark.parametrize("verify", ["first", "always"])
def test_damaged_page_is_an_error_with_its_location_on_every_touch(folder: Path, io: Any, verify: Any) -> None:
    flip(folder, shard=4, block=1, column=1)
    ds = ShardDataset(folder, io=io, verify=verify)
    assert ds[44]["number"] == 44
    good = ShardDataset(folder, io=io, fields=["number"])
    assert good[46]["number"] == 46
    asks: list[Callable[[], object]] = [
        lambda: ds[46],
        lambda: ds.take([1, 48]),
        lambda: ds.__getitems__([49]),
        lambda: ds.column("text"),
        lambda: list(ds),
        lambda: ds.filter(text="x"),
    ]
    for ask in asks * 2:  # a failed check is not remembered as done
        with pytest.raises(CorruptError, match=r"page checksum mismatch: stored 0x.*, computed 0x") as caught:
            ask()
        place = caught.value.place
        assert (place.file, place.block, place.field) == ("shard-00004.rio", 1, "text")
        assert place.byte == int(ds.store.shard(4).index.page_offsets[1, 1])


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_verify_never_skips_checksums(folder: Path, io: Any) -> None:
    for column in (0, 1):
        flip(folder, shard=0, block=0, column=column)
    ds = ShardDataset(folder, io=io, verify="never")
    store = ds.store
    plain = bool((store.shard(0).index.pages["codec"][0] == 0).all())
    if plain:
        assert ds.column("number").tolist()[5:] == list(range(5, COUNT))
        assert ds.column("number").tolist()[:5] != list(range(5))
        assert ds[4]["number"] == ds.take([4])["number"][0]
        assert sum(row["text"] != f"{i:02d}" * 100 for i, row in enumerate(ds)) == 1
    else:  # zstd may detect the damage by itself
        try:
            ds.column("number")
        except CorruptError as error:
            assert "checksum mismatch" not in str(error)  # noqa: PT017 - no error is fine, too


def test_verify_first_checks_once_and_always_every_time(folder: Path) -> None:
    trusting = ShardDataset(folder, verify="first")
    wary = {io: ShardDataset(folder, verify="always", io=io, page_cache_bytes=0) for io in ("mmap", "pread", "direct")}  # type: ignore[arg-type]
    for ds in (trusting, *wary.values()):
        assert len(list(ds)) == COUNT
        ds.take([55])  # evicts the pages read below
    flip(folder, shard=0, block=0, column=1)
    assert len(trusting.take([0])["text"]) == 1
    for ds in wary.values():
        for ask in (lambda: ds.take([0]), lambda: ds[0], lambda: ds.column("text")):  # noqa: B023
            with pytest.raises(CorruptError, match="page checksum"):
                ask()


def test_verify_always_with_a_warm_cache_returns_checked_values_or_an_error(folder: Path) -> None:
    for io in ("mmap", "pread", "direct"):
        ds = ShardDataset(folder, verify="always", io=io)  # type: ignore[arg-type]
        assert ds[0]["text"] == "00" * 100
        flip(folder, shard=0, block=0, column=1)
        for ask in (lambda: ds[0]["text"], lambda: ds.take([0])["text"][0]):  # noqa: B023
            try:
                assert ask() == "00" * 100
            except CorruptError:
                continue
        flip(folder, shard=0, block=0, column=1)


# The cache


def page(nbytes: int) -> Pages:
    return pages(Scalar("uint8"), bytes(nbytes), np.zeros(1, np.int64), np.array([nbytes]))


def test_cache_evicts_the_least_recently_used_page() -> None:
    cache, made = PageCache(100), []

    def get(number: int) -> Pages:
        return cache((0, number, 0), lambda: made.append(number) or page(40))

    get(1), get(2), get(1)
    assert made == [1, 2]
    get(3)  # evicts 2
    get(1)
    assert made == [1, 2, 3]
    get(2)
    assert made == [1, 2, 3, 2]


def test_cache_keeps_one_page_of_any_size() -> None:
    cache, made = PageCache(0), []
    for _ in range(3):
        cache((0, 0, 0), lambda: made.append(0) or page(1000))
    assert made == [0]
    cache((0, 1, 0), lambda: page(1000))
    cache((0, 0, 0), lambda: made.append(1) or page(1000))
    assert made == [0, 1]


def test_cache_keeps_no_failed_page() -> None:
    cache = PageCache(100)

    def fail() -> Pages:
        raise CorruptError("bad")

    with pytest.raises(CorruptError):
        cache((0, 0, 0), fail)
    assert cache((0, 0, 0), lambda: page(7)).nbytes == 7


def test_equal_projections_are_one(folder: Path) -> None:
    """Open shards keep what they have built for a projection."""
    ds = ShardDataset(folder)
    for _ in range(3):
        ds.column("number")
        ds.filter(number=3)
    assert ds.store.projection(["number"]) is ds.store.projection(("number",))
    assert len(ds.store.shard(0)._tables) <= 2


def edited(folder: Path, old: str, new: str) -> None:
    """Replaces a part of the manifest wherever it is, and seals it again."""
    text = (folder / "manifest.json").read_text()
    body = text[: text.rindex('"checksum"')].replace(old, new).encode()
    (folder / "manifest.json").write_bytes(body + f'"checksum": "{checksum(body):016x}"}}\n'.encode())


@pytest.mark.parametrize("value", ["1e999", r'"\ud800"'])
def test_metadata_that_no_writer_can_write_is_read(tmp_path: Path, value: str) -> None:
    with DatasetWriter(tmp_path / "it", shard_samples=10, metadata={"key": "value"}) as writer:
        for number in range(100):
            writer.write({"number": number})
    edited(tmp_path / "it", '{"key": "value"}', '{"key": ' + value + "}")
    ds = ShardDataset(tmp_path / "it")
    assert ds.column("number").tolist() == list(range(100))
    assert verify(tmp_path / "it").ok


@pytest.mark.parametrize("content", [0, 1 << 40, (1 << 62) - 1])
def test_a_wrong_size_of_the_content_is_an_error(tmp_path: Path, content: int) -> None:
    with DatasetWriter(tmp_path / "it", shard_samples=20, block_bytes=40, compression=None) as writer:
        for number in range(100):
            writer.write({"number": number})
    edited(tmp_path / "it", '"content_bytes": 160', f'"content_bytes": {content}')
    ds = ShardDataset(tmp_path / "it")
    for read in (lambda: ds.column("number"), lambda: ds.take(range(100)), lambda: list(DataLoader(ds, 10))):
        with pytest.raises(CorruptError, match="pages are not as large") as caught:
            read()
        assert caught.value.place.file == "shard-00000.rio"
