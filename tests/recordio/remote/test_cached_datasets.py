"""Room is made of datasets that nobody uses, the longest unused first; never more than the limit is taken."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ShardDataset
from recordio.format.manifest import Manifest
from recordio.remote.cache_budget import CacheBudget
from recordio.remote.cache_files import shard_sizes
from recordio.remote.cached_datasets import CachedDatasets, HeldDataset
from recordio.remote.shard_cache import ShardCache
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import COUNT, in_children, write_dataset

Opened = Callable[..., ShardDataset]


class Filled:
    """A cache without a store: datasets whose shards were fetched as a whole."""

    def __init__(self, folder: Path, datasets: Path) -> None:
        self.cache = ShardCache(folder, None)
        self.folder = folder
        self._datasets = datasets

    def manifest(self, name: str, count: int = 60, seed: int = 0) -> bytes:
        path = self._datasets / name
        if not path.exists():
            write_dataset(path, count, seed)
        return (path / "manifest.json").read_bytes()

    def add(self, name: str, last_use: float, seed: int) -> set[str]:
        """Uses a dataset for a moment, at a time; the digests of its shards."""
        data = self.manifest(name, seed=seed)
        held = self.hold(name, seed)
        table = Manifest.decode(data).table
        for digest, nbytes in zip(table.digests, table.nbytes.tolist(), strict=True):
            self.cache.shard(digest.tobytes(), nbytes, 10)
            (self.folder / "shards" / f"{digest.tobytes().hex()}.rio").write_bytes(bytes(nbytes))
        del held
        [path] = [path for path in (self.folder / "datasets").iterdir() if path.read_text() == f"s3://b/{name}"]
        os.utime(path, (last_use, last_use))
        return {digest.tobytes().hex() for digest in table.digests}

    def hold(self, name: str, seed: int) -> HeldDataset:
        held = self.cache.hold(f"s3://b/{name}", self.manifest(name, seed=seed))
        assert held is not None
        return held

    @property
    def shards(self) -> set[str]:
        return set(shard_sizes(self.folder / "shards"))


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return Filled(tmp_path / "cache", tmp_path)


def test_the_longest_unused_dataset_makes_room(filled: Filled) -> None:
    datasets = CachedDatasets(filled.folder)
    one, two, three = (
        filled.add(name, time, seed) for name, time, seed in (("a", 300, 1), ("b", 100, 2), ("c", 200, 3))
    )
    assert datasets.drop(1) > 0
    assert filled.shards >= one | three
    assert len(filled.shards & two) == len(two) - 1, "whole shards, as few as will do"
    while filled.shards & two:
        datasets.drop(1)
    assert filled.shards == one | three
    assert [dataset.url for dataset in datasets.all()] == ["s3://b/a", "s3://b/c"]
    assert len(list((filled.folder / "manifests").iterdir())) == 2


def test_a_dataset_in_use_keeps_its_shards(filled: Filled) -> None:
    shards = filled.add("a", 100, 1)
    held = filled.hold("a", 1)
    assert CachedDatasets(filled.folder).drop(1 << 30) == 0
    assert filled.shards == shards
    del held
    assert CachedDatasets(filled.folder).drop(1 << 30) > 0
    assert filled.shards == set()


def test_a_shard_of_two_datasets_stays_while_one_is_in_use(filled: Filled, tmp_path: Path) -> None:
    shards = filled.add("a", 100, 1)
    (tmp_path / "mirror").symlink_to(tmp_path / "a")
    held = filled.hold("mirror", 1)
    assert CachedDatasets(filled.folder).drop(1 << 30) == 0
    assert filled.shards == shards
    del held


def test_nothing_goes_while_it_is_not_known_what_is_in_use(filled: Filled) -> None:
    """The manifest of a dataset in use was damaged."""
    filled.add("a", 100, 1)
    other = filled.add("b", 200, 2)
    held = filled.hold("b", 2)
    [manifest] = [
        p for p in (filled.folder / "manifests").iterdir() if p.stem == Manifest.digest(filled.manifest("b")).hex()
    ]
    manifest.write_bytes(b"{")
    assert CachedDatasets(filled.folder).drop(1 << 30) == 0
    assert filled.shards >= other
    del held


def test_shards_that_no_manifest_names_go_first(filled: Filled) -> None:
    shards = filled.add("a", 100, 1)
    filled.cache.shard(bytes(16), 100, 10)
    assert CachedDatasets(filled.folder).drop(1) > 0
    assert filled.shards == shards


def test_another_process_holds_its_dataset_until_it_dies(filled: Filled) -> None:
    filled.add("a", 100, 1)
    code = (
        "import sys; from pathlib import Path; from recordio.remote.shard_cache import ShardCache\n"
        "held = ShardCache(Path(sys.argv[1]), None).hold('s3://b/a', Path(sys.argv[2]).read_bytes())\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, os.fspath(filled.folder), os.fspath(filled._datasets / "a" / "manifest.json")]
    pipe = subprocess.PIPE
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, env=env) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert CachedDatasets(filled.folder).drop(1 << 30) == 0
        process.kill()
        process.wait()
    assert CachedDatasets(filled.folder).drop(1 << 30) > 0


def test_a_forked_child_holds_what_its_parent_held(filled: Filled) -> None:
    filled.add("a", 100, 1)
    held = filled.hold("a", 1)
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    del held
    assert CachedDatasets(filled.folder).drop(1 << 30) == 0
    os.close(tell)
    os.waitpid(child, 0)
    assert CachedDatasets(filled.folder).drop(1 << 30) > 0


def test_the_count_is_taken_anew_by_who_opens_the_cache_alone(filled: Filled) -> None:
    filled.add("a", 100, 1)
    budget = CacheBudget(filled.folder / "used", lambda: 0)
    budget.add(10**9)
    held = filled.hold("a", 1)
    used = budget.used()
    assert used == sum(shard_sizes(filled.folder / "shards").values())
    budget.add(4096)
    other = filled.hold("b", 2)
    assert budget.used() == used + 4096, "another process may be writing"
    del held, other


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 8])
def test_a_damaged_count_limits_nothing_for_long(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "used").write_bytes(content)
    budget = CacheBudget(tmp_path / "used", lambda: 8192)
    assert budget.measure() == 8192
    assert not budget.add(1, limit=8192)
    assert budget.add(1, limit=3 * 4096)
    assert budget.used() == 3 * 4096


@pytest.fixture(scope="module")
def urls(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    top = tmp_path_factory.mktemp("several")
    return [bucket.upload(write_dataset(top / f"{n}", seed=n), f"several-{n}") for n in range(3)]


@pytest.fixture
def opened(urls: list[str], bucket: Bucket, tmp_path: Path) -> Opened:
    def opening(number: int, **options: Any) -> ShardDataset:
        gc.collect()  # what tests before have left is in use no more
        return ShardDataset(urls[number], storage=bucket.storage, cache=tmp_path / "cache", **options)

    return opening


def test_a_new_dataset_takes_the_room_of_one_that_is_not_in_use(opened: Opened) -> None:
    limit = 200_000
    first = opened(0, cache_bytes=limit)
    first.predownload()
    second = opened(1, cache_bytes=limit)
    second.take(range(COUNT))
    assert first.cached == 1.0
    assert second.cached < 0.7
    del first, second
    third = opened(2, cache_bytes=limit)
    third.predownload()
    assert third.cached == 1.0


def test_on_a_disk_smaller_than_the_limit_too(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(0, cache_bytes=1 << 30)
    first.predownload()
    room = 1.5 * shard_sizes(tmp_path / "cache" / "shards").total()
    monkeypatch.setattr(
        "recordio.remote.shard_cache.free_nbytes", lambda shards: int(room) - shard_sizes(shards).total()
    )
    with pytest.warns(RuntimeWarning, match="takes nothing more .*No space left"):
        opened(1, cache_bytes=1 << 30).take(range(COUNT))
    assert first.cached == 1.0
    del first
    third = opened(2, cache_bytes=1 << 30)
    third.predownload()
    assert third.cached == 1.0


def test_processes_together_keep_the_limit(opened: Opened, tmp_path: Path) -> None:
    limit = 64 << 10

    def read(rank: int) -> int:
        ds = opened(0, cache_bytes=limit)
        return len(ds.take(np.random.default_rng(rank).permutation(COUNT))["number"])

    assert in_children(read, 4) == [COUNT] * 4
    assert 0 < shard_sizes(tmp_path / "cache" / "shards").total() <= limit


def test_a_dataset_is_named_without_secrets(bucket: Bucket, tmp_path: Path, opened: Opened) -> None:
    opened(0)[0]
    texts = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert any(b"s3://bucket/several-0" in text for text in texts)
    assert not any(b"secret-of-the-test" in text or b"key-of-the-test" in text for text in texts)
