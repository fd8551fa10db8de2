"""Narrow pages give the same samples as plain ones, in every way to read them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import Array, DataLoader, DatasetWriter, Scalar, ShardDataset
from recordio.format.codec import Codec
from tests.faults.reading import frozen

SCHEMA = {
    "tokens": Array("int32", (33,)),
    "label": Scalar("int64"),
    "near": Scalar("uint64"),
    "mixed": Array("int64", (2,)),
    "maybe": Array("int16", (3,), optional=True),
    "weight": Scalar("float32"),
}
SAMPLES = 1500
TOP = Path(__file__).parents[2]
MINIMAL = runpy.run_path(str(TOP / "docs" / "minimal_reader.py"))


def sample(i: int) -> dict[str, Any]:
    random = np.random.default_rng(i)
    wide = [1 << 8, 1 << 16, 1 << 32, 1 << 62][i * 4 // SAMPLES]
    return {
        "tokens": (random.random(33) ** 9 * 50_000).astype(np.int32),
        "label": -(i % 10),
        "near": 2**64 - 1 - i,
        "mixed": random.integers(-wide // 2, wide // 2, 2),
        "maybe": None if i % 7 == 3 else random.integers(-100, 100, 3, np.int16),
        "weight": i / 7,
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Path]:
    """The same samples, by compression: three shards of blocks with 1, 2, 4 and 8 bytes an integer."""
    top = tmp_path_factory.mktemp("narrow")
    samples = [sample(i) for i in range(SAMPLES)]
    found: dict[str | None, Path] = {one: top / str(one) for one in (None, "narrow", "auto", "narrow+zstd")}
    for one, folder in found.items():
        with DatasetWriter(folder, SCHEMA, compression=one, shard_samples=700, block_bytes=50_000) as writer:
            for each in samples:
                writer.write(each)
    return found


def both(folders: dict[str | None, Path], compression: str = "narrow", **options: Any) -> list[ShardDataset]:
    return [ShardDataset(folders[one], **options) for one in (None, compression)]


def same(first: Any, second: Any) -> None:
    assert frozen(first) == frozen(second)


def codecs(folder: Path) -> dict[str, set[int]]:
    store = ShardDataset(folder).store
    pages = [store.shard(number).index.pages["codec"] for number in range(len(store.manifest.shards))]
    return {name: set(np.concatenate(pages)[:, k].tolist()) for k, name in enumerate(SCHEMA)}


WAYS: list[dict[str, Any]] = [
    {},
    {"io": "pread"},
    {"io": "direct"},
    {"verify": "always"},
    {"verify": "never"},
    {"max_open_shards": 1},
]
ways = pytest.mark.parametrize("options", WAYS, ids=str)


def test_pages_are_narrow_where_that_saves(folders: dict[str | None, Path]) -> None:
    found = codecs(folders["narrow"])
    assert found["tokens"] == found["near"] == {int(Codec.NARROW)}
    assert found["mixed"] == {int(Codec.NARROW), int(Codec.PLAIN)}
    assert found["weight"] == {int(Codec.PLAIN)}
    sizes = {one: sum(path.stat().st_size for path in folder.glob("*.rio")) for one, folder in folders.items()}
    assert sizes["narrow"] < 0.6 * sizes[None]
    found = codecs(folders["narrow+zstd"])
    assert found["tokens"] == {int(Codec.NARROW_ZSTD)}
    assert found["maybe"] == {int(Codec.NARROW)}  # nothing left to code
    assert sizes["narrow+zstd"] < 0.9 * sizes["narrow"]


@ways
@pytest.mark.parametrize("compression", ["narrow", "auto", "narrow+zstd"])
def test_samples_and_batches_are_those_of_plain_pages(
    folders: dict[str | None, Path], compression: str, options: dict[str, Any]
) -> None:
    plain, narrow = both(folders, compression, **options)
    for i in range(0, SAMPLES, 97):
        same(plain[i], narrow[i])
    rows = np.random.default_rng(0).integers(0, SAMPLES, 300)
    for numbers in (rows, rows[:3], np.arange(SAMPLES), np.array([5])):
        same(plain.take(numbers), narrow.take(numbers))
    for name in SCHEMA:
        same(plain.column(name), narrow.column(name))


@ways
@pytest.mark.parametrize(("compression", "shuffle"), [("narrow", False), ("narrow", True), ("narrow+zstd", True)])
def test_epochs_are_those_of_plain_pages(
    folders: dict[str | None, Path], compression: str, shuffle: bool, options: dict[str, Any]
) -> None:
    plain, narrow = both(folders, compression, **options)
    loaders = [DataLoader(ds, batch_size=64, shuffle=shuffle, seed=3) for ds in (plain, narrow)]
    batches = [list(loader) for loader in loaders]
    assert len(batches[0]) == len(batches[1]) > 20
    same(*batches)


def test_processes_give_the_same_epoch(folders: dict[str | None, Path]) -> None:
    plain, narrow = both(folders)
    same(
        *[
            list(DataLoader(ds, batch_size=64, shuffle=True, seed=3, num_workers=n))
            for ds, n in ((plain, 0), (narrow, 1))
        ]
    )


def test_minimal_reader_reads_the_same_samples(folders: dict[str | None, Path]) -> None:
    plain, narrow, coded = ([*MINIMAL["read_dataset"](folders[one])[1]] for one in (None, "narrow", "narrow+zstd"))
    same(plain, narrow)
    same(plain, coded)
    assert narrow[7]["label"] == -7
    assert np.array_equal(narrow[7]["mixed"], sample(7)["mixed"])


def test_statistics_are_those_of_plain_pages(folders: dict[str | None, Path]) -> None:
    plain, narrow = both(folders)
    assert plain.store.manifest.statistics == narrow.store.manifest.statistics


each_form = pytest.mark.parametrize("compression", ["narrow", "narrow+zstd"])


@each_form
def test_a_flipped_bit_is_found(folders: dict[str | None, Path], compression: str, tmp_path: Path) -> None:
    assert recordio.verify(folders[compression]).ok
    folder = tmp_path / "damaged"
    recordio.copy(folders[compression], folder)
    shard = ShardDataset(folder).store.shard(1)
    at = int(shard.index.page_offsets[1, 0]) + 40
    path = folder / "shard-00001.rio"
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    report = recordio.verify(folder)
    assert [problem.place.field for problem in report.problems] == ["tokens"]
    ds = ShardDataset(folder)
    with pytest.raises(recordio.CorruptError, match="tokens"):
        ds.take(np.arange(SAMPLES))
    first = 700 + int(shard.index.first[1])
    with pytest.raises(recordio.CorruptError, match="tokens"):
        ds[first]
    same(ds[first - 1], ShardDataset(folders[None])[first - 1])


def test_edits_keep_the_samples(folders: dict[str | None, Path], tmp_path: Path) -> None:
    recordio.reshard(folders["narrow"], tmp_path / "plain", compression=None)
    recordio.reshard(folders[None], tmp_path / "narrow", compression="narrow")
    recordio.reshard(folders["narrow"], tmp_path / "coded", compression="narrow+zstd:5")
    recordio.merge(tmp_path / "merged", [folders["narrow"], folders[None], folders["narrow+zstd"]])
    expected = ShardDataset(folders[None])[:]
    for name in ("plain", "narrow", "coded", "merged"):
        same(ShardDataset(tmp_path / name)[:SAMPLES].take(np.arange(SAMPLES)), expected.take(np.arange(SAMPLES)))


@each_form
def test_repair_restores_narrow_blocks(folders: dict[str | None, Path], compression: str, tmp_path: Path) -> None:
    folder, mended = tmp_path / "damaged", tmp_path / "mended"
    recordio.copy(folders[compression], folder)
    path = folder / "shard-00001.rio"
    path.write_bytes(path.read_bytes()[:-600])  # the index and the footer are gone
    recordio.repair(folder, mended)
    found = ShardDataset(mended)
    assert len(found) > 1000
    same(found[750], ShardDataset(folders[None])[750])


@pytest.mark.parametrize("optional", [False, True])
def test_large_values_of_several_shards_keep_their_order(tmp_path: Path, optional: bool) -> None:
    values = np.random.default_rng(1).integers(-9, 9, (30, 20_000)).astype(np.int32)
    for one in (None, "narrow"):
        schema = {"x": Array("int32", (20_000,), optional=optional)}
        with DatasetWriter(tmp_path / str(one), schema, compression=one, shard_samples=7) as writer:
            writer.write_batch({"x": values})
    for rows in (np.arange(30)[::-1], np.array([9, 29, 0])):
        found = [ShardDataset(tmp_path / str(one)).take(rows)["x"] for one in (None, "narrow")]
        same(*found)
        assert np.array_equal(found[1], values[rows])
