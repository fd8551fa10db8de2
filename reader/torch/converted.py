"""Converted datasets under torchvision's names, and what to do about folders that are not converted."""

from __future__ import annotations

import os
import shlex
from typing import Any, ClassVar

import torch

from recordio.arguments import flag, folder_path
from recordio.errors import DatasetError, SchemaError
from recordio.format.manifest import FILE_NAME
from recordio.reader.dataset import ShardDataset
from recordio.reader.torch.datasets import Dataset, Function
from recordio.reader.torch.tensors import to_tensors
from recordio.storage.dataset_files import STAGING

_DIGITS = "zero one two three four five six seven eight nine".split()
_SPLITS = ("train", "val", "valid", "validation", "test")  # folders that `recordio convert` makes datasets of


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

    @property
    def samples(self) -> Any:
        """Raises AttributeError: there are no files any more."""
        raise AttributeError(
            'samples are not files: ds.targets has the labels, and ds.view.column("file") the names of the files '
            "if they were kept, `recordio convert --keep-names`"
        )

    imgs = samples


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

    @property
    def data(self) -> Any:
        """Raises AttributeError: images are read as they are needed."""
        raise AttributeError('images are not held in memory: ds.view.column("image") reads them all')


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

    @property
    def targets(self) -> torch.Tensor:
        """int64 (n,): the labels as they are stored, in a new tensor at each call; read once."""
        return to_tensors(self._target_column()).to(torch.int64, copy=True)  # type: ignore[no-any-return]


class CIFAR10(_TrainAndTest):
    """Converted CIFAR-10, in place of torchvision's dataset of this name; arguments as of `MNIST`."""

    _downloads = ("cifar-10-batches-py", "cifar-10-batches-bin")


class CIFAR100(_TrainAndTest):
    """Converted CIFAR-100 with its fine labels, in place of torchvision's dataset; arguments as of `MNIST`."""

    _label = "fine_label"
    _downloads = ("cifar-100-python", "cifar-100-binary")


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
    raise _unconverted_folder(os.path.abspath(path))


def _unconverted_folder(path: str) -> DatasetError:
    """The error for raw pictures. A split is converted with its siblings, and nothing into the folder of them all."""
    whole, split = os.path.split(path)
    splits = [name for name in _SPLITS if os.path.isdir(os.path.join(whole, name))]
    if split in splits and len(splits) > 1:
        return _unconverted(path, whole, f"{whole}.rio", "ImageFolder", split)
    return _unconverted(path, path, f"{path}.rio", "ImageFolder")


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


def _unconverted(root: str, source: str, made: str, name: str, split: str = "") -> DatasetError:
    command, opened = shlex.join(["recordio", "convert", source, made]), os.path.join(made, split) if split else made
    return DatasetError(f"not converted yet: run `{command}` once, then open {name}({opened!r})").at(file=root)
