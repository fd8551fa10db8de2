"""What transforms and maps draw: the generator of the sample, whoever asks for it, and none where nobody does."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

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
    path: Path = tmp_path_factory.mktemp("processing") / "pictures"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, recordio.Schema({"image": recordio.Image()})) as writer:
        for _ in range(N):
            out = BytesIO()
            Picture.fromarray(rng.integers(0, 256, (40, 50, 3), "u1")).save(out, "PNG")
            writer.write({"image": out.getvalue()})
    return ShardDataset(path)


def origin(word: int | None, n: int = N) -> SampleOrigin:
    return SampleOrigin(None, np.arange(n), np.arange(n), word)  # type: ignore[arg-type]


def test_a_generator_keyed_anew_gives_the_numbers_of_one_that_is_made() -> None:
    for word in (0, 1, (1 << 64) - 1):
        for k in range(N):
            made, again = SampleRandom(origin(word), k).rng(), SampleRandom(origin(word), k).reused_generator()
            for draw in ("random", "standard_normal"):
                assert getattr(made, draw)() == getattr(again, draw)()
            assert made.integers(0, 9, dtype=np.uint32) == again.integers(0, 9, dtype=np.uint32)  # leaves half a word


def test_all_that_asks_for_one_draw_draws_from_one_generator() -> None:
    draws = SampleRandom(origin(5), 0)
    assert draws.rng() is draws.rng()


def test_a_pipeline_draws_the_same_alone_and_beside_functions_of_ones_own(dataset: ShardDataset) -> None:
    def other(image: Any, rng: np.random.Generator) -> Any:
        nested.append(dataset.transform(image=TRAIN)[0])  # which is another sample's finish, in the midst of this one's
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


def test_what_does_not_draw_leaves_pythons_random_alone(dataset: ShardDataset) -> None:
    state = random.getstate()
    dataset.transform(image=Resize(8)).map(lambda sample: sample)[0]
    assert random.getstate() == state
    dataset.transform(image=TRAIN)[0]
    assert random.getstate() != state


def halves(sample: Any) -> Any:
    return {"image": sample["image"][:20], "label": 1}


def test_columns_put_together_of_single_values_lie_where_they_are_wanted(dataset: ShardDataset) -> None:
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
