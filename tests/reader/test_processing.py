"""Random transforms and maps: a generator for each sample, made only on demand."""

from __future__ import annotations

import random
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import recordio
from recordio import DataLoader, DatasetWriter, SchemaError, ShardDataset
from recordio.reader.batches.maker import BatchMaker, IndexRequest
from recordio.reader.columns import collate_as_torch
from recordio.reader.processing import SampleOrigin, SampleRandom
from recordio.transforms import Compose, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, Resize, ToTensor

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


def noise(image: Any, rng: np.random.Generator) -> Any:
    return np.clip(image + rng.normal(0, 0.1), 0, 255).astype(np.uint8)


def own_flip(image: Any, rng: np.random.Generator) -> Any:
    return image[:, ::-1].copy() if rng.random() < 0.5 else image


FLIP = RandomHorizontalFlip()
CROP = RandomCrop(4)


class TestFieldsTogether:
    """An image of which each column has its own value, and its mask."""

    @pytest.fixture
    def pairs(self, tmp_path: Path) -> ShardDataset:
        pixels = np.arange(0, 240, 30, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
        with DatasetWriter(
            tmp_path / "pairs", {k: recordio.Image(shape=(8, 8, 3)) for k in ("image", "mask")}
        ) as writer:
            for _ in range(40):
                writer.write({"image": pixels, "mask": pixels})
        return ShardDataset(tmp_path / "pairs")

    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            ([FLIP], [FLIP]),
            ([noise, FLIP], [FLIP]),
            ([FLIP, noise], [FLIP]),
            ([noise, noise, CROP, noise, FLIP], [CROP, FLIP]),
            ([partial(noise), FLIP, own_flip], [FLIP, own_flip]),
            ([noise, own_flip], [own_flip]),
            ([Compose([noise, CROP]), FLIP], [CROP, FLIP]),
        ],
    )
    def test_a_random_step_more_parts_nothing(self, pairs: ShardDataset, image: Any, mask: Any) -> None:
        view = pairs.transform(image=Compose(image), mask=Compose(mask))
        chained = pairs
        for step in image:
            chained = chained.transform(image=step)
        for step in mask:
            chained = chained.transform(mask=step)
        batches = [next(iter(DataLoader(one, 40, shuffle=True, seed=3))) for one in (view, chained)]
        firsts = [{k: np.round(b[k][:, 0, 0, 0] / 30).tolist() for k in ("image", "mask")} for b in batches]
        assert firsts[0]["image"] == firsts[0]["mask"]
        assert firsts[1] == firsts[0]
        assert len(set(firsts[0]["image"])) > 1
        samples = [view[k] for k in range(40)]  # without a loader
        assert [round(s["image"][0, 0, 0] / 30) for s in samples] == [round(s["mask"][0, 0, 0] / 30) for s in samples]

    def test_a_function_draws_anew_each_time_that_it_stands_in_a_field(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "x") as writer:
            writer.write({"a": 0.0})

        def add(value: Any, rng: np.random.Generator) -> Any:
            return value + rng.random()

        ds = ShardDataset(tmp_path / "x")
        once, twice = ds.transform(a=add), ds.transform(a=add).transform(a=add)
        first, both = (next(iter(DataLoader(view, 1)))["a"][0] for view in (once, twice))
        assert both != first * 2
        assert both > first


class TestMasks:
    """Pictures whose mask repeats one of their channels, divided by 30: a class for each column."""

    TRAIN = Compose([noise, RandomResizedCrop(6), RandomHorizontalFlip(), Resize(12), ToTensor()])

    @pytest.fixture(params=["encoded", "pixels", "array"])
    def scans(self, request: pytest.FixtureRequest, tmp_path: Path) -> ShardDataset:
        classes = np.arange(8, dtype=np.uint8)[None].repeat(8, 0)
        image = Image.fromarray((classes * 30)[..., None].repeat(3, 2))
        fields = {
            "encoded": (recordio.Image("L"), Image.fromarray(classes)),
            "pixels": (recordio.Image(shape=(8, 8)), classes),
            "array": (recordio.Array("uint8", (8, 8, 1)), classes[..., None]),
        }
        field, mask = fields[request.param]
        with DatasetWriter(tmp_path / "scans", {"image": recordio.Image(), "mask": field}) as writer:
            for _ in range(20):
                writer.write({"image": image, "mask": mask})
        return ShardDataset(tmp_path / "scans")

    @pytest.mark.parametrize("together", [("image", "mask"), {"image": "image", "mask": "mask"}])
    def test_it_follows_its_image_and_keeps_its_values(self, scans: ShardDataset, together: Any) -> None:
        for view in (scans.transform(together, self.TRAIN), (scans + scans).transform(together, self.TRAIN)):
            for batch in DataLoader(view, 20, shuffle=True):
                assert batch["image"].shape == (20, 3, 12, 12)
                assert batch["mask"].dtype == np.uint8
                assert batch["mask"].shape == (20, 12, 12, 1)
                assert set(np.unique(batch["mask"])) <= set(range(8))
                off = batch["image"][:, 0] * 255 / 30 - batch["mask"][..., 0]
                assert np.abs(off).max() < 1.01  # the image is blended over the edges of a column

    def test_values_alone_change_no_mask(self, scans: ShardDataset) -> None:
        view = scans.transform(("image", "mask"), ToTensor())
        assert np.array_equal(view[0]["mask"].ravel(), scans[0]["mask"].ravel())

    def test_what_cannot_be_told_is_refused(self, scans: ShardDataset) -> None:
        with pytest.raises(SchemaError, match="might blend"):
            scans.transform(("image", "mask"), noise)
        with pytest.raises(SchemaError, match="unknown role of 'mask'"):
            scans.transform({"image": "image", "mask": "label"}, self.TRAIN)
        with pytest.raises(SchemaError, match="no field named 'nothing'"):
            scans.transform(("image", "nothing"), self.TRAIN)

    def test_two_of_one_channel_need_their_roles(self, tmp_path: Path) -> None:
        grey = recordio.Image(shape=(4, 4))
        with DatasetWriter(tmp_path, {"scan": grey, "organ": grey, "label": recordio.Scalar()}) as writer:
            writer.write({"scan": np.eye(4, dtype="u1"), "organ": np.eye(4, dtype="u1"), "label": 1})
        ds = ShardDataset(tmp_path)
        with pytest.raises(SchemaError, match=r'transform\({"scan": "image", "organ": "mask"}'):
            ds.transform(("scan", "organ"), FLIP)
        sample = ds.transform({"scan": "image", "organ": "mask"}, Compose([FLIP]))[0]
        assert np.array_equal(sample["scan"], sample["organ"])
        with pytest.raises(SchemaError, match="int64 is no picture"):
            ds.transform(("scan", "label"), FLIP)
