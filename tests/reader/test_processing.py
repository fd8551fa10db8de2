"""Random transforms and maps: a generator for each sample, made only on demand."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import recordio
from recordio import DataLoader, DatasetWriter, ShardDataset
from recordio.reader.batches.maker import BatchMaker, IndexRequest
from recordio.reader.columns import collate_as_torch
from recordio.reader.processing import SampleOrigin, SampleRandom
from recordio.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop, Resize

TRAIN = Compose([RandomResizedCrop(9), RandomHorizontalFlip()])
N = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    path: Path = tmp_path_factory.mktemp("processing") / "images"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, recordio.Schema({"image": recordio.Image()})) as writer:
        for _ in range(N):
            out = BytesIO()
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), "u1")).save(out, "PNG")
            writer.write({"image": out.getvalue()})
    return ShardDataset(path)


def origin(epoch_key: int | None, n: int = N) -> SampleOrigin:
    return SampleOrigin(None, np.arange(n), np.arange(n), epoch_key)  # type: ignore[arg-type]


def test_rekeyed_generator_matches_a_new_one() -> None:
    for epoch_key in (0, 1, (1 << 64) - 1):
        for k in range(N):
            made = SampleRandom(origin(epoch_key), k).rng()
            again = SampleRandom(origin(epoch_key), k).reused_generator()
            for draw in ("random", "standard_normal"):
                assert getattr(made, draw)() == getattr(again, draw)()
            assert made.integers(0, 9, dtype=np.uint32) == again.integers(0, 9, dtype=np.uint32)  # leaves half a word


def test_functions_of_a_sample_share_a_generator() -> None:
    source = SampleRandom(origin(5), 0)
    assert source.rng() is source.rng()


def test_random_draws_do_not_depend_on_how_transforms_are_composed(dataset: ShardDataset) -> None:
    def other(image: Any, rng: np.random.Generator) -> Any:
        nested.append(dataset.transform(image=TRAIN)[0])  # processes another sample in the middle of this one
        return image

    nested: list[Any] = []
    views = [
        dataset.transform(image=TRAIN),
        dataset.transform(image=Compose([TRAIN, lambda image: image])),
        dataset.transform(image=Compose([RandomResizedCrop(9), other, RandomHorizontalFlip()])),
        dataset.transform(image=RandomResizedCrop(9)).transform(image=other).transform(image=RandomHorizontalFlip()),
    ]
    batches = [next(iter(DataLoader(view, batch_size=N, shuffle=True, seed=3)))["image"] for view in views]
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch, batches[0], strict=True)
    assert len(nested) == 2 * N


def test_only_random_transforms_advance_pythons_random(dataset: ShardDataset) -> None:
    state = random.getstate()
    dataset.transform(image=Resize(8)).map(lambda sample: sample)[0]
    assert random.getstate() == state
    dataset.transform(image=TRAIN)[0]
    assert random.getstate() != state


def halves(sample: Any) -> Any:
    return {"image": sample["image"][:20], "label": 1}


def test_collated_columns_use_the_given_allocator(dataset: ShardDataset) -> None:
    def empty(shape: tuple[int, ...], dtype: Any) -> Any:
        made.append(np.empty(shape, dtype))
        return made[-1]

    mapped = dataset.map(halves)
    for view, collate_fn in [(mapped, None), (mapped, collate_as_torch), (dataset.transform(image=TRAIN), None)]:
        made: list[Any] = []
        make = BatchMaker([view], collate_fn=collate_fn)
        batch = BatchMaker([view], collate_fn=collate_fn, empty=empty)(IndexRequest([3, 1, 7], 5)).batch
        assert [id(array) for array in made] == [id(batch["image"])]
        np.testing.assert_array_equal(batch["image"], make(IndexRequest([3, 1, 7], 5)).batch["image"], strict=True)
