"""Shards that change under an open dataset: what was checked in the old file says nothing of the new one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import CorruptError, DataLoader, DatasetError, DatasetWriter, SchemaError, ShardDataset
from recordio.reader import scan
from recordio.reader.batches.fetch_plan import FetchPlan
from recordio.storage.local import LocalFile
from recordio.storage.memory import new_memory

COUNT = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "it", compression=None, shard_samples=10, block_bytes=30_000) as writer:
        for i in range(COUNT):
            writer.write({"array": np.full(2000, i, np.float64), "number": i})
    return tmp_path / "it"


def damage(ds: ShardDataset, path: Path, in_place: bool) -> None:
    """Flips a bit of sample 30."""
    at = int(ds.store.indexes.of(3).page_offsets[0, 0]) + 6
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    if in_place:
        with open(path, "r+b") as file:
            file.write(data)
    else:
        path.with_suffix(".new").write_bytes(data)
        os.replace(path.with_suffix(".new"), path)


READS: dict[str, Any] = {
    "[i]": lambda ds: np.array([ds[i]["array"] for i in range(COUNT)]),
    "take": lambda ds: np.concatenate([ds.take(range(i, i + 10))["array"] for i in range(0, COUNT, 10)]),
    "column": lambda ds: ds.column("array"),
    "loader": lambda ds: np.concatenate([batch["array"] for batch in DataLoader(ds, 10)]),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_shard_that_has_changed_while_it_was_closed_is_checked_again(
    folder: Path, io: Any, read: str, in_place: bool
) -> None:
    ds = ShardDataset(folder, io=io, max_open_shards=1, page_cache_bytes=0)
    for _ in range(2):
        assert READS[read](ds)[:, 0].tolist() == list(range(COUNT))
    ds.store.shard(5)
    damage(ds, folder / "shard-00003.rio", in_place)
    for _ in range(2):
        with pytest.raises(CorruptError, match="page checksum") as caught:
            READS[read](ds)
        assert (caught.value.place.file, caught.value.place.field) == ("shard-00003.rio", "array")


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_a_shard_that_was_rewritten_as_it_was_is_read_on(folder: Path, io: Any) -> None:
    ds = ShardDataset(folder, io=io, max_open_shards=1)
    for read in READS.values():
        assert read(ds)[:, 0].tolist() == list(range(COUNT))
        for path in folder.glob("*.rio"):
            path.with_suffix(".new").write_bytes(path.read_bytes())
            os.replace(path.with_suffix(".new"), path)
        assert read(ds)[:, 0].tolist() == list(range(COUNT))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Twenty shards that are read as a whole, the first ten with other metadata than the manifest."""
    for mode, first in (("create", 0), ("append", 100)):
        with DatasetWriter(
            tmp_path / "it", shard_samples=10, compression=None, mode=mode, metadata={"at": first}
        ) as writer:
            for i in range(first, first + 100):
                writer.write({"number": i, "text": f"{i} "})
    return tmp_path / "it"


def epoch(ds: ShardDataset) -> list[int]:
    return sorted(n for batch in DataLoader(ds, 7, shuffle=True) for n in batch["number"].tolist())


SMALL_READS: dict[str, Any] = {"epoch": epoch, "column": lambda ds: ds.column("number").tolist()}


@pytest.mark.parametrize("read", SMALL_READS)
def test_small_shards_are_opened_once_for_index_and_pages(
    small: Path, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds, opened = ShardDataset(small, max_open_shards=5), []
    real = LocalFile.__init__
    monkeypatch.setattr(LocalFile, "__init__", lambda file, *at: (opened.append(at[1]), real(file, *at))[1])
    assert SMALL_READS[read](ds) == list(range(200))
    assert set(opened) == {f"shard-{number:05d}.rio" for number in range(10)}  # to find out what differs
    monkeypatch.undo()
    assert SMALL_READS[read](ds) == list(range(200))


@pytest.mark.parametrize("read", SMALL_READS)
@pytest.mark.parametrize("where", ["header", "page", "index", "footer", "cut", "longer", "missing", "another"])
@pytest.mark.parametrize("number", [4, 14])
def test_what_is_wrong_with_a_small_shard_is_said(small: Path, read: str, where: str, number: int) -> None:
    path = small / f"shard-{number:05d}.rio"
    page = int(ShardDataset(small).store.indexes.of(number).page_offsets[0, 0])
    ds, data = ShardDataset(small), bytearray(path.read_bytes())
    if where in ("header", "page", "index", "footer"):
        data[{"header": 70, "page": page + 3, "index": -190, "footer": -100}[where]] ^= 1
    path.unlink()
    changed = {"cut": data[:-1], "longer": data + b"x", "another": (small / "shard-00005.rio").read_bytes()}
    if where != "missing":
        path.write_bytes(changed.get(where, data))
    for _ in range(2):
        with pytest.raises(CorruptError) as caught:
            SMALL_READS[read](ds)
        assert caught.value.place.file == path.name


def test_a_small_shard_that_changes_between_its_index_and_its_pages_is_read_as_it_was(small: Path) -> None:
    ds = ShardDataset(small)
    blocks = np.arange(20)
    plan = FetchPlan(ds.store, ds.fields, blocks)
    path = small / "shard-00014.rio"
    data = bytearray(path.read_bytes())
    data[int(ds.store.indexes.of(14).page_offsets[0, 0]) + 3] ^= 1
    path.write_bytes(data)
    memory = new_memory(plan.layout.nbytes)
    table = plan.load(memory, lambda work: [piece() for piece in work] and None)
    assert table.take(blocks, np.full(20, 3))["number"].tolist() == list(range(3, 200, 10))
    with pytest.raises(CorruptError, match="page checksum"):  # of the next window it is another file
        epoch(ds)


def test_a_missing_shard_does_not_matter_to_who_does_not_ask_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_MIN_SAMPLES", 10)
    ds = ShardDataset(folder)
    (folder / "shard-00003.rio").unlink()
    others = [i for i in range(COUNT) if i // 10 != 3]
    assert ds.take(others * 2)["number"].tolist() == others * 2
    with pytest.raises(CorruptError, match="missing"):
        ds.take(range(COUNT))


def test_a_damaged_offset_asks_for_no_memory(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "it", compression=None, shard_samples=10) as writer:
        for i in range(COUNT):
            writer.write({"text": "x" * i})
    ds = ShardDataset(tmp_path / "it", max_open_shards=1)
    before = [ds[i] for i in range(COUNT)]
    page = int(ds.store.indexes.of(3).page_offsets[0, 0])
    file = ds.store.file(3)
    ds.store.unkept_file = lambda number: file  # type: ignore[method-assign] # a file that claims to be as it was
    with open(tmp_path / "it/shard-00003.rio", "r+b") as out:
        out.seek(page + 8 * 4)
        out.write((1 << 62).to_bytes(8, "little"))
    assert ds[32] == before[32]
    with pytest.raises(CorruptError, match="the file was cut") as caught:
        ds[33]
    assert (caught.value.place.file, caught.value.place.block, caught.value.place.field) == (
        "shard-00003.rio",
        0,
        "text",
    )


def test_no_memory_is_asked_for_beyond_the_end_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ShardDataset(folder).store.file(0)
    monkeypatch.setattr(LocalFile, "_read", lambda *args: pytest.fail("it reads"))
    for offset, nbytes in ((0, 1 << 60), (file.nbytes - 5, 6), (1 << 60, 1)):
        with pytest.raises(CorruptError, match=f"of {nbytes} bytes"):
            file.read(offset, nbytes)


def grown(path: Path, **options: Any) -> ShardDataset:
    """A dataset of 20 samples, opened before 7 more were appended."""
    with DatasetWriter(path, metadata={"classes": ["a", "b"]}, shard_samples=8) as writer:
        writer.write_batch({"x": np.arange(20)})
    ds = ShardDataset(path)
    with DatasetWriter(path, mode="append", **options) as writer:
        writer.write_batch({"x": np.arange(20, 27)})
    return ds


@pytest.mark.parametrize("options", [{}, {"metadata": {"other": 1}}])
class TestAppended:
    def test_a_pickle_is_of_the_version_that_was_opened(self, tmp_path: Path, options: Any) -> None:
        ds = grown(tmp_path / "x", **options)
        again = pickle.loads(pickle.dumps(ds[5:]))
        assert again.column("x").tolist() == list(range(5, 20))
        assert again.fingerprint == ds[5:].fingerprint
        assert again.metadata == {"classes": ["a", "b"]}

    @pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
    def test_worker_processes_go_on(self, tmp_path: Path, options: Any, start: str) -> None:
        ds = grown(tmp_path / "x", **options)
        loader = DataLoader(ds, 4, num_workers=1, worker_type="process", multiprocessing_context=start)
        assert [x for batch in loader for x in batch["x"].tolist()] == list(range(20))

    def test_refresh_takes_what_was_appended(self, tmp_path: Path, options: Any) -> None:
        ds = grown(tmp_path / "x", **options).map(double)
        new = ds.refresh()
        assert [len(ds), len(new), new[26], new[0]] == [20, 27, {"x": 52}, {"x": 0}]
        assert new.fingerprint != ds.fingerprint
        assert new.refresh().fingerprint == new.fingerprint
        with pytest.raises(SchemaError, match="chosen samples"):
            ds[:3].refresh()


def test_damage_is_no_replacement_where_shards_were_appended(tmp_path: Path) -> None:
    ds = grown(tmp_path / "x")
    shard = tmp_path / "x/shard-00001.rio"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorruptError, match=r"shard-00001\.rio"):
        ds.column("x")


def double(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": int(sample["x"]) * 2}


def test_a_file_of_a_dataset_that_was_replaced_is_refused(tmp_path: Path) -> None:
    ds = grown(tmp_path / "x")
    with DatasetWriter(tmp_path / "x", mode="overwrite") as writer:
        writer.write_batch({"x": np.arange(20)})
    with pytest.raises(DatasetError, match="was replaced since it was opened"):
        ds.store.unkept_file(0)


def test_a_pickle_of_a_dataset_that_was_replaced_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(grown(tmp_path / "x"))
    with DatasetWriter(tmp_path / "x", mode="overwrite") as writer:
        writer.write_batch({"x": np.arange(20)})
    with pytest.raises(DatasetError, match="was replaced since it was opened"):
        pickle.loads(data)
