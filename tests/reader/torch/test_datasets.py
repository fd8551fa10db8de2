"""torch Datasets of tuples: torchvision's names and habits, and recordio's pipeline behind them."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import data

import recordio
from recordio import DatasetWriter, Scalar, Schema, SchemaError, ShardDataset
from recordio.reader.torch.datasets import view_of
from recordio.torch import DataLoader, Dataset, ImageFolder
from recordio.transforms import Compose, RandomHorizontalFlip, Resize, ToTensor

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
N = 24
CLASSES = ["ant", "bee", "cat"]
STEPS = Compose([Resize((4, 5)), ToTensor()])


def png(shade: int) -> bytes:
    out = BytesIO()
    Image.fromarray(np.full((8, 10, 3), shade, np.uint8)).save(out, "PNG")
    return out.getvalue()


def write(folder: Path, begin: int = 0) -> Path:
    """Image n has the shade n and the label n % 3."""
    schema = Schema({"image": recordio.Image(), "label": Scalar("int64"), "weight": Scalar("float32")})
    with DatasetWriter(folder, schema, metadata={"classes": CLASSES}, block_bytes=500) as writer:
        for n in range(begin, begin + N):
            writer.write({"image": png(n), "label": n % 3, "weight": n / 2})
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("datasets") / "train")


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("datasets") / "more", begin=N)


def brightest(image: Image.Image) -> torch.Tensor:
    """As torchvision's transforms: takes a PIL image alone."""
    assert image.mode in ("RGB", "L")
    return torch.tensor([image.getextrema()[0][1] if image.mode == "RGB" else image.getextrema()[1]])


def noisy(image: Image.Image, rng: np.random.Generator) -> torch.Tensor:
    return brightest(image) + rng.random()


def one_hot(label: int) -> torch.Tensor:
    return torch.eye(3)[label]


def filled(label: int | None) -> int:
    return -1 if label is None else int(label)


def shade_or_zero(image: Image.Image | None) -> int:
    return 0 if image is None else int(brightest(image))


def drop_target(samples: list[Any]) -> Any:
    assert all(type(sample) is tuple and type(sample[1]) is int for sample in samples)
    return torch.stack([image for image, _ in samples])


class Squared(Dataset):
    """As people derive datasets from torchvision's."""

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (index * index,)


def shades(loader: Any) -> list[int]:
    return [int(shade) for x, _ in loader for shade in x.ravel()]


BOTH = pytest.mark.parametrize("loader", [DataLoader, data.DataLoader])


class TestSamples:
    def test_it_is_a_torch_dataset_of_tuples(self, path: Path) -> None:
        ds = ImageFolder(root=path, transform=STEPS)
        assert isinstance(ds, data.Dataset)
        assert len(ds) == N
        image, label = ds[4]
        assert (type(image), image.shape, image.dtype, type(label), label) == (
            torch.Tensor,
            (3, 4, 5),
            torch.float32,
            int,
            1,
        )
        assert torch.equal(ds[-1][0], ds[np.int64(N - 1)][0])
        assert [label for _, label in ds.__getitems__([5, 0])] == [2, 0]
        with pytest.raises(IndexError):
            ds[N]

    def test_classes_and_targets_are_as_of_torchvision(self, path: Path) -> None:
        ds = ImageFolder(path)
        assert ds.classes == CLASSES
        assert ds.class_to_idx == {"ant": 0, "bee": 1, "cat": 2}
        assert ds.targets == [n % 3 for n in range(N)]
        ds.targets[3] = 9
        assert ds.targets[3] == 0
        assert set(map(type, ds.targets)) == {int}

    def test_without_a_transform_images_are_pil_images(self, path: Path) -> None:
        image, label = ImageFolder(path)[7]
        assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("RGB", (10, 8), (7, 7, 7), 1)

    def test_transforms_of_other_people_get_pil_images(self, path: Path) -> None:
        assert ImageFolder(path, brightest)[7][0].tolist() == [7]
        assert Dataset(ShardDataset(path), transform=brightest)[7][0].tolist() == [7]
        assert 7 < ImageFolder(path, noisy)[7][0].item() < 8

    def test_a_dataset_of_any_fields(self, path: Path) -> None:
        whole = ShardDataset(path)
        assert Dataset(whole)[4][0].shape == (8, 10, 3)
        assert Dataset(whole, "weight", "label", "image")[4][:2] == (torch.tensor(2.0), 1)
        assert Dataset(whole.tuples("label"))[4] == (1,)
        assert Dataset(whole, "weight", transform=lambda weight: weight + 1)[4][0] == 3
        assert Dataset(whole[5:8]).targets == [2, 0, 1]
        assert Dataset(whole.transform(image=np.negative), transform=lambda pixels: pixels.sum())[0][0] == 0
        assert Dataset(whole.map(lambda sample: {"image": 1, "label": 2}))[4] == (1, 2)

    def test_transforms_can_be_set_later(self, path: Path) -> None:
        ds = ImageFolder(path)
        loader = DataLoader(ds, N)
        for transform, wanted in (
            (brightest, list(range(N))),
            (lambda image: brightest(image) + 1, list(range(1, N + 1))),
        ):
            ds.transform = transform
            assert [int(image) for image, _ in ds] == wanted
            assert shades(loader) == wanted
        ds.target_transform = one_hot
        assert ds[1][1].tolist() == [0, 1, 0]

    def test_a_copy_has_its_own_transforms(self, path: Path) -> None:
        ds = ImageFolder(path, brightest)
        for other in (copy.copy(ds), copy.deepcopy(ds), pickle.loads(pickle.dumps(ds))):
            other.transform = STEPS
            assert other[3][0].shape == (3, 4, 5)
            assert ds[3][0].tolist() == [3]
            assert other.targets == ds.targets


class TestLoaders:
    @BOTH
    @pytest.mark.parametrize(
        "workers", [{}, {"num_workers": 1}, {"num_workers": 1, "multiprocessing_context": "spawn"}]
    )
    def test_batches_are_pairs_of_tensors(self, path: Path, loader: Any, workers: dict[str, Any]) -> None:
        ds = ImageFolder(path, STEPS, target_transform=one_hot)
        for x, y in loader(ds, batch_size=8, shuffle=True, **workers):
            assert (x.shape, x.dtype, y.shape) == ((8, 3, 4, 5), torch.float32, (8, 3))
            assert ((x[:, 0, 0, 0] * 255).round() % 3 == y.argmax(1)).all()

    def test_ours_runs_the_pipeline(self, path: Path) -> None:
        ds = ImageFolder(path, brightest)
        loader = DataLoader(ds, 5, True, seed=3, num_workers=2)
        again = DataLoader(ShardDataset(path), 5, True, seed=3)
        assert [y.tolist() for _, y in loader] == [batch["label"].tolist() for batch in again]
        assert loader.stats.samples == N

    @BOTH
    def test_a_collate_fn_gets_the_samples_of_the_dataset(self, path: Path, loader: Any) -> None:
        ds = ImageFolder(path, STEPS)
        for one in (ds, data.Subset(ds, [3, 1]), data.ConcatDataset([ds, ds])):
            assert next(iter(loader(one, 2, collate_fn=drop_target))).shape == (2, 3, 4, 5)
        assert next(iter(loader(ds, None, collate_fn=len))) == 2

    @BOTH
    def test_parts_of_it_can_be_loaded(self, path: Path, loader: Any) -> None:
        ds = ImageFolder(path, brightest)
        parts = data.random_split(ds, [20, 4], torch.Generator().manual_seed(1))
        assert [len(part) for part in parts] == [20, 4]
        assert sorted(shade for part in parts for shade in shades(loader(part, 3))) == list(range(N))
        assert shades(loader(data.Subset(data.Subset(ds, range(5, 15)), [9, 0, 0]), 2)) == [14, 5, 5]

    @BOTH
    def test_several_can_be_loaded(self, path: Path, more: Path, loader: Any) -> None:
        both = ImageFolder(path, brightest) + ImageFolder(more, brightest)
        assert type(both) is data.ConcatDataset
        assert shades(loader(both, 7)) == list(range(2 * N))

    def test_random_transforms_are_those_of_the_seed(self, path: Path) -> None:
        ds = ImageFolder(path, Compose([RandomHorizontalFlip(), ToTensor()]))
        first, second = (torch.cat([x for x, _ in DataLoader(ds, 5, True, seed=2, num_workers=k)]) for k in (0, 2))
        assert torch.equal(first, second)


class TestViewsBehind:
    def test_a_view_is_its_own(self, path: Path) -> None:
        ds = ShardDataset(path)
        assert view_of(ds) is ds
        assert view_of(Dataset(ds)) is not None

    def test_parts_are_views_of_the_whole(self, path: Path, more: Path) -> None:
        ds, other = Dataset(ShardDataset(path), "label"), Dataset(ShardDataset(more), "label")
        part = view_of(data.Subset(data.Subset(ds, [4, 5, 6]), [2, 0]))
        assert part is not None
        assert list(part) == [(0,), (1,)]
        both = view_of(data.ConcatDataset([ds, data.Subset(other, [0])]))
        assert both is not None
        assert len(both) == N + 1
        assert view_of(data.Subset(ShardDataset(path), [1])) is not None

    def test_foreign_samples_have_none(self, path: Path) -> None:
        ds = ShardDataset(path)
        assert view_of([1, 2]) is None
        assert view_of(Squared(ds)) is None
        assert view_of(data.Subset(Squared(ds), [1])) is None
        assert view_of(data.ConcatDataset([Dataset(ds), Squared(ds)])) is None
        assert view_of(data.ConcatDataset([Dataset(ds), Dataset(ds, "label")])) is None
        assert view_of(type("Own", (data.Subset,), {})(ds, [1])) is None

    @BOTH
    def test_a_subclass_with_its_own_samples_is_loaded_by_torch(self, path: Path, loader: Any) -> None:
        (batch,) = next(iter(loader(Squared(ShardDataset(path)), 4)))
        assert batch.tolist() == [0, 1, 4, 9]


def message(error: type[Exception], make: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as raised:
        make(*arguments, **options)
    return str(raised.value)


class TestRefusals:
    def test_a_dataset_without_the_fields_is_refused(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path) as writer:
            writer.write({"tokens": 1})
        assert "no field named 'image', 'label'; there are tokens" in message(SchemaError, ImageFolder, tmp_path)

    def test_what_cannot_be_a_dataset_is_refused(self) -> None:
        assert "expected a dataset of recordio, got list" in message(SchemaError, Dataset, [1, 2])

    def test_transforms_that_cannot_be_applied_are_refused(self, path: Path) -> None:
        whole = ShardDataset(path)
        mapped = Dataset(whole.map(dict), transform=brightest)
        assert "the dataset has maps" in message(SchemaError, lambda: mapped[0])
        single = Dataset(whole, "image", target_transform=one_hot)
        assert "there is only 'image'" in message(SchemaError, lambda: single[0])
        wrong = ImageFolder(path, 3)  # type: ignore[arg-type]
        assert "expected a function, got int" in message(SchemaError, lambda: wrong[0])

    def test_what_is_not_known_is_no_attribute(self, path: Path, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path) as writer:
            writer.write({"image": np.zeros((2, 2), np.uint8), "label": 1})
        ds = Dataset(ShardDataset(tmp_path), "image")
        assert not any(hasattr(ds, name) for name in ("classes", "class_to_idx", "targets"))

    @pytest.mark.parametrize("name", ["classes", "class_to_idx", "targets"])
    def test_what_comes_from_the_dataset_cannot_be_assigned(self, path: Path, name: str) -> None:
        with pytest.raises(AttributeError, match=f"{name} comes from the dataset.*target_transform="):
            setattr(ImageFolder(path), name, [1])

    @pytest.mark.parametrize(
        ("classes", "text"),
        [(["crane", "b", "crane"], "classes 0 and 2 are both called 'crane'"), ([["a"]], "class 0")],
    )
    def test_classes_that_are_no_keys_are_refused(self, tmp_path: Path, classes: list[Any], text: str) -> None:
        with DatasetWriter(tmp_path, metadata={"classes": classes}) as writer:
            writer.write({"image": np.zeros((2, 2), np.uint8), "label": 1})
        ds = Dataset(ShardDataset(tmp_path))
        assert ds.classes == classes
        assert text in message(SchemaError, lambda: ds.class_to_idx)

    @pytest.mark.parametrize("index", [slice(3), "label", [0, 1], True, 1.5], ids=str)
    def test_what_a_view_takes_in_brackets_is_refused_with_the_view(self, path: Path, index: Any) -> None:
        assert "for the view behind it, as in ds.view[:100]" in message(TypeError, lambda: ImageFolder(path)[index])

    def test_files_are_not_kept(self, path: Path) -> None:
        ds = ImageFolder(path)
        assert not hasattr(ds, "imgs")
        with pytest.raises(AttributeError, match=r'ds\.targets .* ds\.view\.column\("file"\)'):
            ds.samples  # noqa: B018


class TestMissing:
    @pytest.fixture
    def optional(self, tmp_path: Path) -> ShardDataset:
        schema = Schema({"image": recordio.Image(optional=True), "label": Scalar("int64", optional=True)})
        with DatasetWriter(tmp_path, schema) as writer:
            for n, label in enumerate([None, 0, 1, 2]):
                writer.write({"image": None if n == 3 else png(n), "label": label})
        return ShardDataset(tmp_path)

    @BOTH
    @pytest.mark.parametrize("workers", [0, 1])
    def test_functions_get_none(self, optional: ShardDataset, loader: Any, workers: int) -> None:
        ds = Dataset(optional, transform=shade_or_zero, target_transform=filled)
        assert [ds[k] for k in range(4)] == [(0, -1), (1, 0), (2, 1), (0, 2)]
        (images, labels) = next(iter(loader(ds, 4, num_workers=workers)))
        assert (images.tolist(), labels.tolist()) == ([0, 1, 2, 0], [-1, 0, 1, 2])

    def test_transforms_of_ours_and_of_the_dataset_leave_it_missing(self, optional: ShardDataset) -> None:
        ds = Dataset(optional.transform(label=np.negative), transform=STEPS, target_transform=filled)
        assert [ds[k][1] for k in range(4)] == [-1, 0, -1, -2]
        assert ds[3][0] is None

    def test_missing_labels_are_refused_with_what_to_do(self, optional: ShardDataset) -> None:
        ds = Dataset(optional[:3], transform=shade_or_zero)
        assert "target_transform= is called with None" in message(SchemaError, lambda: next(iter(DataLoader(ds, 3))))
