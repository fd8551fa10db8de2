"""Batches in pinned memory: by the threads that make them, or as they are handed over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory as torch_pins

import recordio
from recordio import reader
from recordio.torch import DataLoader
from tests.reader.torch.comparing import same
from tests.reader.torch.test_workers import WAYS, every_way, quick_ways

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> recordio.ShardDataset:
    folder = tmp_path_factory.mktemp("pinning")
    schema = {
        "row": recordio.Array("float32", (2000,)),
        "label": recordio.Scalar("int64"),
        "rare": recordio.Scalar("int32", optional=True),
        "text": recordio.Text(),
    }
    with recordio.DatasetWriter(folder, schema, block_bytes=100_000, shard_samples=700) as writer:
        for n in range(2000):
            row = np.full(2000, n, np.float32)
            writer.write({"row": row, "label": n, "rare": None if n % 3 else n, "text": f"sample {n}"})
    return recordio.ShardDataset(folder)


@pytest.fixture
def pinned_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, str]]:
    """The threads that have pinned, by the address of what they pinned: as on a machine with a GPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a real GPU")
    found: dict[int, str] = {}

    def new_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=dtype)
        found[tensor.data_ptr()] = threading.current_thread().name
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(reader.torch.pinning, "new_pinned", new_pinned)
    monkeypatch.setattr(reader.torch.loader, "pinned", lambda batch: batch)
    return found


@every_way
def test_arrays_are_pinned_before_they_are_handed_over(
    ds: recordio.ShardDataset, pinned_by: dict[int, str], way: str
) -> None:
    for batch, plain in zip(
        DataLoader(ds, 100, True, pin_memory=True, **WAYS[way]), DataLoader(ds, 100, True), strict=True
    ):
        assert same(batch, plain)
        threads = {pinned_by[batch[name].data_ptr()] for name in ("row", "label")}
        assert all(one.startswith("recordio-batch" if way == "threads" else "MainThread") for one in threads)


def test_batches_of_several_datasets_are_pinned(ds: recordio.ShardDataset, pinned_by: dict[int, str]) -> None:
    for batch in DataLoader(ds[:1000] + ds[1000:], 20, True, pin_memory=True, num_workers=2):
        assert batch["label"].data_ptr() in pinned_by


def test_ragged_columns_stay_as_they_are(ds: recordio.ShardDataset, pinned_by: dict[int, str]) -> None:
    batch = next(iter(DataLoader(ds.ragged(), 20, pin_memory=True, num_workers=2)))
    assert batch["label"].data_ptr() in pinned_by
    assert isinstance(batch["text"], recordio.Ragged)
    assert batch["text"].to_list() == [f"sample {n}" for n in range(20)]
    assert batch["text"].values.ctypes.data not in pinned_by
    assert torch_pins(batch["text"]) is batch["text"]


def test_without_workers_torch_pins(ds: recordio.ShardDataset, pinned_by: dict[int, str]) -> None:
    """Nothing else wants the cores, all of which torch copies with."""
    next(iter(DataLoader(ds, 100, pin_memory=True)))
    assert not pinned_by


def test_only_a_loader_that_pins_does(ds: recordio.ShardDataset, pinned_by: dict[int, str]) -> None:
    loader = DataLoader(ds, 100, num_workers=2)
    next(iter(loader))
    assert not pinned_by
    loader.pin_memory = True  # trainers set it
    assert next(iter(loader))["row"].data_ptr() in pinned_by
    loader.pin_memory = False
    list(loader)  # what threads of the run before have pinned has been dropped by then
    pinned_by.clear()
    list(loader)
    assert not pinned_by


@pytest.mark.parametrize("options", [{"collate_fn": list}, {"batch_size": None}])
def test_what_else_is_delivered_is_left_to_torch(
    ds: recordio.ShardDataset, pinned_by: dict[int, str], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(reader.torch.loader, "pinned", lambda batch: ("pinned", type(batch)))
    plain = next(iter(DataLoader(ds, **options)))
    assert next(iter(DataLoader(ds, pin_memory=True, num_workers=2, **options))) == ("pinned", type(plain))


@needs_gpu
@every_way
def test_everything_is_pinned_on_a_gpu(ds: recordio.ShardDataset, way: str) -> None:
    for batch in DataLoader(ds, 100, True, pin_memory=True, **WAYS[way]):
        assert all(batch[name].is_pinned() for name in ("row", "label", "rare", "rare_mask"))


@needs_gpu
@quick_ways
def test_memory_is_not_used_again_while_a_gpu_copies_from_it(ds: recordio.ShardDataset, way: str) -> None:
    """Copies wait behind a long product, and the batches that they are from have been dropped by then."""
    square = torch.randn(8192, 8192, device="cuda")
    on_gpu = []
    for batch in DataLoader(ds, 50, True, pin_memory=True, **WAYS[way]):
        torch.mm(square, square)
        on_gpu.append((batch["row"].to("cuda", non_blocking=True), batch["label"].to("cuda", non_blocking=True)))
        del batch
    for row, label in on_gpu:
        assert (row == label[:, None]).all()
