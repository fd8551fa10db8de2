"""The cache gives what was fetched, or nothing: whatever happened to its files."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recordio import DataLoader, ShardDataset, StorageError
from recordio.format.layout import FOOTER
from recordio.remote.cache_files import MAGIC
from recordio.remote.remote_stats import remote_stats
from recordio.remote.shard_cache import CachedShard, ShardCache
from tests.open_files import open_files
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import COUNT, fetched_nbytes, same

Damage = Callable[[Path], None]


def all_is_right(ds: ShardDataset, folder: Path) -> bool:
    return same(ds.take(range(COUNT)), ShardDataset(folder).take(range(COUNT)))


def data_files(cache: Path) -> list[Path]:
    return sorted((cache / "shards").glob("*.rio"))


def map_files(cache: Path) -> list[Path]:
    return sorted((cache / "shards").glob("*.map"))


def test_what_is_in_the_cache_is_not_fetched_again(opened: Callable[..., ShardDataset], folder: Path) -> None:
    assert all_is_right(opened(), folder)
    before = fetched_nbytes()
    assert all_is_right(opened(), folder)
    assert fetched_nbytes() == before


def test_the_folder_is_for_its_user_alone(opened: Callable[..., ShardDataset], cache: Path) -> None:
    opened()[0]
    for path in (cache, cache / "shards", cache / "datasets", cache / "manifests"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cache / "shards").iterdir()} == {0o600}


def zero_the_data(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_a_bit_of_the_index(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-FOOTER.size - 60] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lengthen(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1000)


def say_that_all_is_present(path: Path) -> None:
    path.write_bytes(MAGIC + b"\1" * (path.stat().st_size - len(MAGIC)))


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


DAMAGES: list[tuple[str, Damage]] = [
    ("*.rio", zero_the_data), ("*.rio", flip_a_bit), ("*.rio", flip_a_bit_of_the_index), ("*.rio", cut),
    ("*.rio", lengthen), ("*.rio", Path.unlink),
    ("*.map", cut), ("*.map", lengthen), ("*.map", garbage), ("*.map", Path.unlink),
]  # fmt: skip
READS: dict[str, Callable[[ShardDataset], list[Any]]] = {
    "single samples": lambda ds: [ds[n] for n in range(0, COUNT, 37)],
    "take": lambda ds: [ds.take(range(1, COUNT, 5))],
    "scan": lambda ds: [ds.take(range(COUNT))],
    "epoch": lambda ds: list(DataLoader(ds, 50, shuffle=True, window_bytes=1 << 14)),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("files", "damage"), DAMAGES, ids=[f"{d.__name__} {f}" for f, d in DAMAGES])
def test_a_damaged_cache_heals(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path, files: str, damage: Damage, read: str
) -> None:
    expected = READS[read](ShardDataset(folder))
    READS[read](opened())
    for path in (cache / "shards").glob(files):
        damage(path)
    ds = opened()
    for found, right in zip(READS[read](ds), expected, strict=True):
        assert same(found, right)
    before = fetched_nbytes()
    for found, right in zip(READS[read](opened()), expected, strict=True):
        assert same(found, right)
    assert fetched_nbytes() == before, "what was mended stays in the cache"


def test_a_whole_shard_heals_that_another_process_found_damaged(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path
) -> None:
    """The other has cleared the page by now; this one thinks that the shard is whole."""
    ds = opened(verify="always")
    for _ in range(3):  # until it is known that nothing is missing
        assert all_is_right(ds, folder)
    for path in data_files(cache):
        flip_a_bit(path)
        map_file = path.with_suffix(".map")
        map_file.write_bytes(MAGIC + bytes(map_file.stat().st_size - len(MAGIC)))
    for _ in range(2):
        assert all_is_right(ds, folder)


def test_room_is_not_counted_by_asking_for_it(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 10_000)
    assert cache.has_room(9000)
    assert cache.taken([4096, 4096, 4096]) == 2
    assert cache.is_full
    assert not cache.has_room(1)


@pytest.mark.parametrize(("blocks", "takes"), [(0, True), (1000, False)])
def test_a_file_system_that_does_not_say_its_size_is_not_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, takes: bool
) -> None:
    cache = ShardCache(tmp_path / "cache", 10_000)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=blocks, f_bavail=0, f_frsize=4096))
    if takes:
        assert cache.takes(4096)
        return
    with pytest.warns(RuntimeWarning, match="takes nothing more"):
        assert not cache.takes(4096)


def test_a_warning_that_is_an_error_keeps_nobody_waiting(
    opened: Callable[..., ShardDataset], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = opened()
    for number in range(0, COUNT, 20):  # the shards' files are open then
        ds[number]

    def full(*_: object, **__: object) -> bool:
        raise OSError(28, "No space left on device")

    used = ds.store.storage.cache._budget.used()  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr("recordio.remote.cache_budget.CacheBudget.add", full)
        for _ in range(2):
            ds.store.storage.cache._has_warned = False  # type: ignore[attr-defined]
            assert all_is_right(ds, folder)
    assert ds.store.storage.cache._budget.used() == used  # type: ignore[attr-defined]


@pytest.mark.parametrize("read", READS)
def test_bytes_that_say_present_over_holes_are_found_out(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path, read: str
) -> None:
    every = ShardDataset(folder)
    opened()[0]  # the files of the first shard
    for path in map_files(cache):
        say_that_all_is_present(path)
    before = remote_stats()
    for found, right in zip(READS[read](opened()), READS[read](every), strict=True):
        assert same(found, right)
    after = remote_stats()
    assert before is not None
    assert after is not None
    assert after.refetched > before.refetched


def test_a_file_that_is_cut_while_it_is_open_is_read_without_the_cache(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path
) -> None:
    ds = opened()
    assert all_is_right(ds, folder)
    for path in data_files(cache):
        os.truncate(path, 100)
    assert all_is_right(ds, folder)
    for path in (cache / "shards").iterdir():
        path.unlink()
    ds = opened()
    ds[0]
    for path in (cache / "shards").iterdir():
        path.unlink()
    assert all_is_right(ds, folder)


def test_links_are_not_followed(opened: Callable[..., ShardDataset], folder: Path, cache: Path, tmp_path: Path) -> None:
    opened().take(range(COUNT))
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for path in data_files(cache):
        path.unlink()
        path.symlink_to(victim)
    with pytest.warns(RuntimeWarning, match="takes nothing more"):
        assert all_is_right(opened(), folder)
    assert victim.read_bytes() == b"precious"


def test_files_of_others_stay(opened: Callable[..., ShardDataset], cache: Path) -> None:
    others = [cache / "note", cache / "shards" / "note.rio", cache / "shards" / "README", cache / "datasets" / "note"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    ds = opened(cache_bytes=30_000)
    ds.take(range(COUNT))
    del ds
    gc.collect()
    assert not ShardCache(cache, 0).takes(1 << 20)
    assert data_files(cache) == [cache / "shards" / "note.rio"]
    assert [path.read_text() for path in others] == ["mine"] * len(others)


def test_a_folder_that_cannot_be_written_is_read(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().take(range(COUNT // 2))
    really = os.open

    def read_only(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if os.fspath(path).startswith(os.fspath(cache)) and flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return really(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", read_only)
    before = {path: path.read_bytes() for path in (cache / "shards").iterdir()}
    with pytest.warns(RuntimeWarning, match="Read-only"):
        assert all_is_right(opened(), folder)
    assert {path: path.read_bytes() for path in (cache / "shards").iterdir()} == before


def test_a_folder_that_cannot_be_made_is_an_error(url: str, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the cache"):
        ShardDataset(url, storage=bucket.storage, cache=tmp_path / "file" / "cache")


def test_two_versions_share_their_shards(
    bucket: Bucket, tmp_path: Path, cache: Path, folder: Path, url: str, opened: Callable[..., ShardDataset]
) -> None:
    old = opened()
    assert all_is_right(old, folder)
    before = fetched_nbytes()
    mirror = ShardDataset(bucket.upload(folder, "mirror"), storage=bucket.storage, cache=cache)
    assert all_is_right(mirror, folder)
    assert fetched_nbytes() == before


def test_shards_share_a_few_descriptors(
    opened: Callable[..., ShardDataset], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordio.remote.shard_cache._MOST_OPEN", 2)
    ds = opened()
    ds.take(np.random.default_rng(0).permutation(COUNT))
    assert len(data_files(cache)) > 4
    assert len(open_files(cache / "shards")) <= 4
    del ds
    assert open_files(cache) == []


def test_whole_shards_share_fewer_and_heal(
    opened: Callable[..., ShardDataset], folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordio.remote.shard_cache._MOST_OPEN", 2)
    ds = opened(verify="always")
    for _ in range(3):  # until it is known that nothing is missing
        assert all_is_right(ds, folder)
    assert len(data_files(cache)) > 4
    assert len(open_files(cache / "shards")) == 2
    for damage in (Path.unlink, cut, flip_a_bit):
        for path in data_files(cache):
            damage(path)
        for _ in range(3):
            assert all_is_right(ds, folder)


def test_a_shard_is_made_new_by_one_process_at_a_time(tmp_path: Path) -> None:
    """What another process has filled meanwhile is not emptied."""
    first = CachedShard(f"{tmp_path}/s", 1000, 5)
    os.pwrite(first._map, b"\1", len(MAGIC) + 2)
    second = CachedShard(f"{tmp_path}/s", 1000, 5)
    assert second.present(0, 5).tolist() == [False, False, True, False, False]
    assert second.clear(2, 3)
    assert not first.present(0, 5).any()
