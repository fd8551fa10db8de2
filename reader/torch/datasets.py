"""Datasets for PyTorch's habits: tuples of (image, label), torchvision's class names, and views behind torch's own."""

from __future__ import annotations

import operator
import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch.utils import data

from recordio.arguments import describe, flag, folder_path
from recordio.errors import DatasetError, SchemaError
from recordio.format.image_field import Image
from recordio.format.manifest import FILE_NAME
from recordio.images.decode import pil_image
from recordio.images.transform import Transform, takes_rng
from recordio.reader.batches.index_batch import MadeBatch
from recordio.reader.combined import ConcatDataset
from recordio.reader.dataset import ShardDataset
from recordio.reader.torch.tensors import to_tensors
from recordio.reader.view import DatasetView
from recordio.storage.dataset_files import STAGING

Function = Callable[..., Any]
_DIGITS = "zero one two three four five six seven eight nine".split()


class Dataset(data.Dataset[tuple[Any, ...]]):
    """A dataset of recordio as a torch Dataset of tuples, (image, label) by default.

    `recordio.torch.DataLoader` reads the `view` behind it, as fast as any view; torch's own asks for a batch at a time.
    Samples have tensors for arrays, and int for int64.

    Args:
        dataset: a ShardDataset or a view of one, a ConcatDataset or a Mixture.
        fields: the fields of a sample; "image" and "label" if none is named, or those of a view of `tuples`.
        transform: a function for the first field. The images of a dataset come to it as PIL images, unless it is one of
            recordio.transforms, which decode by themselves, or the dataset has a transform of the field already.
        target_transform: a function for the second field.

    Attributes:
        transform, target_transform: may be set later. A DataLoader takes them up with its next epoch; one of a Subset
            keeps those of its making.

    Raises:
        SchemaError: a field is not there; in `view`, a transform is no function, or the dataset has maps before it.
    """

    transform: Function | None
    target_transform: Function | None
    _pictures = False  # whether images without a transform are PIL images

    def __init__(
        self,
        dataset: DatasetView,
        *fields: str,
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        if not isinstance(dataset, DatasetView):
            raise SchemaError(f"expected a dataset of recordio, got {describe(dataset)}")
        self._source: Any = dataset.tuples(*(fields or dataset.tuple_fields or ("image", "label")))
        self._built: tuple[Function | None, Function | None, DatasetView] | None = None
        self.transform = transform
        self.target_transform = target_transform

    @property
    def view(self) -> DatasetView:
        """The samples as a view of recordio, with the transforms."""
        built, own = self._built, (self.transform, self.target_transform)
        if built is None or built[0] is not own[0] or built[1] is not own[1]:
            built = self._built = (*own, self._transformed())
        return built[2]

    def _transformed(self) -> DatasetView:
        source, names = self._source, self._source.tuple_fields
        functions = {}
        if self.transform is not None:
            functions[names[0]] = _on_pictures(source, names[0], self.transform)
        elif self._pictures and _is_picture(source, names[0]):
            functions[names[0]] = _picture
        if self.target_transform is not None:
            if len(names) < 2:
                raise SchemaError(f"target_transform is for the second field, and there is only {names[0]!r}")
            functions[names[1]] = self.target_transform
        if functions and source.has_maps:
            raise SchemaError("the dataset has maps, which follow transforms: transform in a map, or before the maps")
        view: DatasetView = source.transform(**functions) if functions else source
        return view

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """A sample. Raises IndexError."""
        return tensors_of(self.view[operator.index(index)])

    def __getitems__(self, indices: list[int]) -> Sequence[tuple[Any, ...]]:
        """The samples at these indices: torch's loader asks for a whole batch this way."""
        if type(self).__getitem__ is not Dataset.__getitem__:
            return [self[index] for index in indices]
        found = self.view.__getitems__(indices)
        return found.seen_as(tensors_of) if isinstance(found, MadeBatch) else list(map(tensors_of, found))

    @property
    def classes(self) -> list[Any]:
        """The names of the classes, by label. Raises AttributeError if the dataset names none."""
        classes = self._source.metadata.get("classes")
        if not isinstance(classes, list):
            raise AttributeError('the metadata of the dataset has no "classes"')
        return list(classes)

    @property
    def class_to_idx(self) -> dict[Any, int]:
        """The label of each class. Raises AttributeError as `classes` does."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def targets(self) -> list[Any]:
        """The second field of every sample as it is stored; read once. Raises AttributeError if there is none."""
        if "_targets" not in self.__dict__:
            names = self._source.tuple_fields
            if len(names) < 2:
                raise AttributeError(f"samples have one field, {names[0]!r}, and no target")
            column = self._source.column(names[1])
            self._targets: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column
        return self._targets

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_built": None}
        state.pop("_targets", None)  # read anew where they are needed
        return state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"


class ImageFolder(Dataset):
    """A converted folder of class folders, in place of torchvision's dataset of this name: (image, label).

    Without a transform images are PIL images.

    Args:
        root: the dataset that `recordio convert` has made of the folder.
        transform, target_transform: as of `Dataset`.

    Raises:
        DatasetError: there is no dataset; the message names the command that makes it.
    """

    _pictures = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        super().__init__(_open(root), transform=transform, target_transform=target_transform)
        self.root = root


class _TrainAndTest(Dataset):
    """A converted dataset with two splits; see `MNIST`."""

    _pictures = True
    _label: ClassVar[str] = "label"
    _downloads: ClassVar[tuple[str, ...]]  # where torchvision leaves the files, in its own root

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        name = type(self).__name__
        if download:
            raise SchemaError("nothing is downloaded: let torchvision do that, then `recordio convert` the files, once")
        split = "train" if flag("train", train) else "test"
        dataset = _open_split(root, split, name, self._downloads)
        super().__init__(dataset, "image", self._label, transform=transform, target_transform=target_transform)
        self.root, self.train = root, train


class MNIST(_TrainAndTest):
    """Converted MNIST, in place of torchvision's dataset of this name: (image, label).

    Without a transform images are PIL images.

    Args:
        root: the folder that `recordio convert` has made, with the datasets train and test.
        train: which of them.
        transform, target_transform: as of `Dataset`.
        download: must be false: nothing is downloaded.

    Raises:
        DatasetError: there is no dataset; the message names the command that makes it.
        SchemaError: `download` is true.
    """

    _downloads = ("MNIST/raw",)

    @property
    def classes(self) -> list[Any]:
        """The names of the classes, by label: as in the metadata, else as of torchvision's MNIST."""
        named = self._source.metadata.get("classes")
        return list(named) if isinstance(named, list) else [f"{k} - {name}" for k, name in enumerate(_DIGITS)]


class CIFAR10(_TrainAndTest):
    """Converted CIFAR-10, in place of torchvision's dataset of this name; arguments as of `MNIST`."""

    _downloads = ("cifar-10-batches-py", "cifar-10-batches-bin")


class CIFAR100(_TrainAndTest):
    """Converted CIFAR-100 with its fine labels, in place of torchvision's dataset; arguments as of `MNIST`."""

    _label = "fine_label"
    _downloads = ("cifar-100-python", "cifar-100-binary")


def view_of(dataset: Any) -> DatasetView | None:
    """The view that gives the same samples as a dataset; None if it is not ours.

    Takes apart torch's Subset and ConcatDataset. A subclass of `Dataset` that has its own samples is not ours.
    """
    if isinstance(dataset, DatasetView):
        return dataset
    if isinstance(dataset, Dataset):
        own = ("__getitem__", "__getitems__", "__len__")
        return dataset.view if all(getattr(type(dataset), name) is getattr(Dataset, name) for name in own) else None
    if type(dataset) is data.Subset:
        whole = view_of(dataset.dataset)
        return None if whole is None else whole.select(dataset.indices)
    return _joined([view_of(one) for one in dataset.datasets]) if type(dataset) is data.ConcatDataset else None


def _joined(views: list[DatasetView | None]) -> DatasetView | None:
    if any(view is None for view in views):
        return None
    try:
        return ConcatDataset(views)
    except SchemaError:  # torch's loader needs no common types
        return None


def collate_for(dataset: Any, collate_fn: Function, single: bool) -> Function:
    """A user's `collate_fn` for the view behind a dataset: it gets the samples, or the sample, of the dataset."""
    if not _gives_tensors(dataset):
        return collate_fn
    return partial(_collate_single if single else _collate, collate_fn)


def _gives_tensors(dataset: Any) -> bool:
    if type(dataset) is data.Subset:
        return _gives_tensors(dataset.dataset)
    if type(dataset) is data.ConcatDataset:
        return any(map(_gives_tensors, dataset.datasets))
    return isinstance(dataset, Dataset)


def _collate(collate_fn: Function, samples: list[tuple[Any, ...]]) -> Any:
    return collate_fn(list(map(tensors_of, samples)))


def _collate_single(collate_fn: Function, sample: tuple[Any, ...]) -> Any:
    return collate_fn(tensors_of(sample))


def tensors_of(sample: tuple[Any, ...]) -> tuple[Any, ...]:
    """A sample of a view as a Dataset gives it: like torchvision's, with int for its labels."""
    return tuple(int(value) if type(value) is np.int64 else to_tensors(value) for value in sample)


def _is_picture(view: DatasetView, name: str) -> bool:
    """Whether the field holds images that no transform has changed yet."""
    transformed = any(name in part.processing.transformed for part in view.parts)
    return not transformed and isinstance(view.schema[name], Image)


def _on_pictures(view: DatasetView, name: str, function: Function) -> Function:
    """The function for a field; one of other people for images gets PIL images."""
    if isinstance(function, Transform) or not callable(function) or not _is_picture(view, name):
        return function
    return partial(_on_picture_with_rng if takes_rng(function) else _on_picture, function)


def _on_picture(function: Function, image: Any) -> Any:
    return function(_picture(image))


def _on_picture_with_rng(function: Function, image: Any, rng: np.random.Generator) -> Any:
    return function(_picture(image), rng=rng)


def _picture(image: Any) -> Any:
    """A PIL image, unless the dataset was opened for encoded images."""
    return pil_image(image) if isinstance(image, np.ndarray) else image


def _is_dataset(path: str) -> bool:
    return os.path.lexists(os.path.join(path, FILE_NAME))


def _open(root: Any) -> ShardDataset:
    """The dataset at `root`. Raises DatasetError, for a folder that is none with what to do."""
    path = folder_path("root", root)
    if not os.path.isdir(path) or _is_dataset(path) or os.path.lexists(os.path.join(path, STAGING)):
        return ShardDataset(path)
    splits = [os.path.join(path, name) for name in sorted(os.listdir(path)) if _is_dataset(os.path.join(path, name))]
    if splits:
        raise DatasetError(f"each split is a dataset: give one, {' or '.join(map(repr, splits))}").at(file=path)
    whole = os.path.normpath(path)
    raise _unconverted(whole, whole, f"{whole}.rio", "ImageFolder")


def _open_split(root: Any, split: str, name: str, downloads: tuple[str, ...]) -> ShardDataset:
    """The dataset of a split in `root`. Raises as `_open` does."""
    path = os.path.normpath(folder_path("root", root))
    if not os.path.isdir(path) or any(os.path.isdir(os.path.join(path, one)) for one in ("train", "test")):
        return ShardDataset(os.path.join(path, split))
    if _is_dataset(path):
        raise DatasetError(f"this is one dataset: {name} takes the folder that holds train and test").at(file=path)
    files = [os.path.join(path, one) for one in downloads if os.path.isdir(os.path.join(path, one))]
    if files:
        raise _unconverted(path, files[0], os.path.join(path, f"{name}.rio"), name)
    raise _unconverted(path, path, f"{path}.rio", name)


def _unconverted(root: str, source: str, made: str, name: str) -> DatasetError:
    command = shlex.join(["recordio", "convert", source, made])
    return DatasetError(f"not converted yet: run `{command}` once, then open {name}({made!r})").at(file=root)
