"""How files are read: by their file system, and by whether they fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import DataLoader, DatasetWriter, ShardDataset
from recordio.reader import io_choice
from recordio.reader.io_choice import Io, choose_io
from recordio.storage.memory import MemoryStorage

GB = 10**9


class On(MemoryStorage):
    """Files on a file system of some type."""

    def __init__(self, kind: str) -> None:
        super().__init__({})
        self.kind = kind

    def file_system(self) -> str:
        return self.kind


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 GB."""
    monkeypatch.setattr(io_choice, "available_nbytes", lambda: 16 * GB)


@pytest.mark.parametrize(
    ("asked", "kind", "gigabytes", "want"),
    [
        ("auto", "ext4", 10, ("mmap", True)),
        ("auto", "ext4", 14, ("direct", False)),
        ("auto", "", 100, ("direct", False)),
        ("auto", "nfs4", 10, ("pread", True)),
        ("auto", "fuse.gcsfuse", 100, ("pread", False)),
        ("auto", "tmpfs", 100, ("mmap", True)),
        ("pread", "ext4", 10, ("pread", True)),
        ("pread", "ext4", 100, ("pread", False)),
        ("mmap", "nfs4", 100, ("mmap", False)),
        ("direct", "tmpfs", 1, ("direct", True)),
    ],
)
def test_choice(asked: Io, kind: str, gigabytes: int, want: tuple[str, bool]) -> None:
    found = choose_io(asked, On(kind), gigabytes * GB)
    assert (found.kind, found.fits) == want


@pytest.mark.parametrize(
    ("asked", "kind", "nbytes", "reason"),
    [
        ("auto", "ext4", 2 * 10**6, "2 MB fit into memory"),
        ("auto", "ext4", 40 * GB, "40 GB do not fit into 16 GB of memory"),
        ("auto", "nfs4", 1, "the files are on nfs4"),
        ("pread", "ext4", 1, "as asked for"),
    ],
)
def test_choice_says_why(asked: Io, kind: str, nbytes: int, reason: str) -> None:
    assert reason in str(choose_io(asked, On(kind), nbytes))


def test_small_data_is_not_worth_a_look_at_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_choice, "available_nbytes", lambda: pytest.fail("looked"))
    assert choose_io("auto", On("ext4"), 1000).kind == "mmap"


@pytest.fixture
def datasets(tmp_path: Path) -> list[ShardDataset]:
    out = []
    for k in range(3):
        with DatasetWriter(tmp_path / str(k), compression=None, shard_samples=20) as writer:
            for i in range(50):
                writer.write({"number": 100 * k + i})
        out.append(ShardDataset(tmp_path / str(k)))
    return out


def kinds(loader: DataLoader) -> set[str]:
    return {one.split(":")[0] for one in loader.stats.io.split("; ")}


def test_datasets_that_fit_alone_but_not_together_are_read_past_the_cache(
    datasets: list[ShardDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    nbytes = datasets[0].store.nbytes
    monkeypatch.setattr(io_choice, "_SURELY_FITS_NBYTES", 0)
    monkeypatch.setattr(io_choice, "available_nbytes", lambda: 2 * nbytes)
    together = datasets[0] + datasets[1] + datasets[2]
    assert kinds(DataLoader(datasets[0], 8)) == {"mmap"}
    loader = DataLoader(together, 8, shuffle=True)
    assert kinds(loader) == {"direct"}
    assert "3 datasets" in loader.stats.io
    seen = sorted(number for batch in loader for number in batch["number"].tolist())
    assert seen == sorted(100 * k + i for k in range(3) for i in range(50))


def test_a_dataset_that_was_told_how_to_read_stays_so(
    datasets: list[ShardDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: Any = ShardDataset(datasets[0]._path, io="mmap")
    monkeypatch.setattr(io_choice, "_SURELY_FITS_NBYTES", 0)
    monkeypatch.setattr(io_choice, "available_nbytes", lambda: 2 * datasets[0].store.nbytes)
    assert kinds(DataLoader(told + datasets[1] + datasets[2], 8)) == {"mmap", "direct"}
