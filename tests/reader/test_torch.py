"""A `ShardDataset` works unchanged inside PyTorch's own loader."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PIL
from torch.utils.data import DataLoader, Subset, random_split

from recordio import DatasetWriter, Image, ShardDataset


@pytest.fixture(params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path: Path) -> ShardDataset:
    with DatasetWriter(tmp_path / "it", compression=request.param, block_bytes=512) as writer:
        for n in range(300):
            writer.write({"x": np.full((2, 3), n, np.float32), "label": n, "name": f"n{n}"})
    return ShardDataset(tmp_path / "it")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_once_and_as_tensors(ds: ShardDataset, workers: int) -> None:
    torch.manual_seed(0)
    options = {"multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(ds, batch_size=32, shuffle=True, num_workers=workers, **options)  # type: ignore[arg-type]
    labels: list[int] = []
    for batch in loader:
        assert batch["x"].dtype == torch.float32
        assert batch["x"].shape[1:] == (2, 3)
        assert (batch["x"][:, 0, 0] == batch["label"]).all()
        assert batch["name"] == [f"n{n}" for n in batch["label"].tolist()]
        labels += batch["label"].tolist()
    assert sorted(labels) == list(range(300))
    assert labels != sorted(labels)


def test_spawned_workers_open_it_anew(ds: ShardDataset) -> None:
    loader = DataLoader(ds[:64], batch_size=16, num_workers=1, multiprocessing_context="spawn")
    assert [n for batch in loader for n in batch["label"].tolist()] == list(range(64))


def test_splits_and_subsets_of_torch_work(ds: ShardDataset) -> None:
    parts = random_split(ds, [200, 100], generator=torch.Generator().manual_seed(1))
    found = [n for part in parts for batch in DataLoader(part, 50) for n in batch["label"].tolist()]
    assert sorted(found) == list(range(300))
    assert next(iter(DataLoader(Subset(ds, [7, 3]), 2)))["label"].tolist() == [7, 3]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decoded_pictures_become_tensors_without_a_warning(tmp_path: Path, kind: str) -> None:
    """PyTorch warns of arrays that cannot be written to."""
    with DatasetWriter(tmp_path, {"image": Image(), "pixels": Image(shape=(4, 6, 3))}) as writer:
        for n in range(6):
            file, pixels = BytesIO(), np.full((4, 6, 3), 10 * n, np.uint8)
            PIL.fromarray(pixels).save(file, kind, **{"WEBP": {"lossless": True}}.get(kind, {}))
            writer.write({"image": file.getvalue(), "pixels": pixels})
    for batch in DataLoader(ShardDataset(tmp_path), 3):
        assert batch["image"].shape == batch["pixels"].shape == (3, 4, 6, 3)
        assert (batch["image"] == batch["pixels"]).all()
    torch.from_numpy(ShardDataset(tmp_path)[0]["image"]).fill_(1)
    torch.from_numpy(ShardDataset(tmp_path)[0]["pixels"]).fill_(1)
