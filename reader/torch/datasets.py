"""Datasets for PyTorch's habits: tuples of (image, label), and the views behind datasets of torch's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch.utils import data

from recordio.arguments import describe
from recordio.errors import SchemaError
from recordio.format.image_field import Image
from recordio.images.decode import pil_image
from recordio.images.transform import Transform, takes_rng
from recordio.reader.batches.index_batch import MadeBatch
from recordio.reader.combined import ConcatDataset
from recordio.reader.indexing import single_index
from recordio.reader.processing import CalledForMissing
from recordio.reader.torch.tensors import to_tensors
from recordio.reader.view import DatasetView

Function = Callable[..., Any]
_DERIVED = ("classes", "class_to_idx", "targets")


class Dataset(data.Dataset[tuple[Any, ...]]):
    """A dataset of recordio as a torch Dataset of tuples, (image, label) by default.

    `recordio.torch.DataLoader` reads the `view` behind it, as fast as any view; torch's own asks for a batch at a time.
    Samples have tensors for arrays, and int for int64.

    Args:
        dataset: a ShardDataset or a view of one, a ConcatDataset or a Mixture.
        fields: the fields of a sample; "image" and "label" if none is named, or those of a view of `tuples`.
        transform: a function for the first field. The images of a dataset come to it as PIL images, unless it is one of
            recordio.transforms, which decode by themselves, or the dataset has a transform of the field already.
        target_transform: a function for the second field. Both functions get None for a missing value, as torchvision's
            do; only recordio.transforms leave it missing.

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
        functions = {name: _for_missing_too(function) for name, function in functions.items()}
        view: DatasetView = source.transform(**functions) if functions else source
        return view

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """A sample. Raises IndexError, TypeError."""
        try:
            number = single_index(index, len(self._source))
        except TypeError:
            raise TypeError(
                f"the index of a sample is an integer, not {describe(index)}: slices, lists, masks and the names of "
                'fields are for the view behind it, as in ds.view[:100] and ds.view["label"]'
            ) from None
        return tensors_of(self.view[number])

    def __getitems__(self, indices: list[int]) -> Sequence[tuple[Any, ...]]:
        """The samples at these indices: torch's loader asks for a whole batch this way."""
        if type(self).__getitem__ is not Dataset.__getitem__:
            return [self[index] for index in indices]
        found = self.view.__getitems__(indices)
        return found.seen_as(tensors_of) if isinstance(found, MadeBatch) else list(map(tensors_of, found))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _DERIVED and isinstance(getattr(type(self), name, None), property):
            raise AttributeError(
                f"{name} comes from the dataset and cannot be assigned: change labels with target_transform= or a map "
                f"(ds.view.map), or define {name} as a property of your class"
            )
        super().__setattr__(name, value)

    @property
    def classes(self) -> list[Any]:
        """The names of the classes, by label. Raises AttributeError if the dataset names none."""
        classes = self._source.metadata.get("classes")
        if not isinstance(classes, list):
            raise AttributeError('the metadata of the dataset has no "classes"')
        return list(classes)

    @property
    def class_to_idx(self) -> dict[Any, int]:
        """The label of each class. Raises AttributeError as `classes` does, SchemaError if two have the same name."""
        labels: dict[Any, int] = {}
        for label, name in enumerate(self.classes):
            try:
                first = labels.setdefault(name, label)
            except TypeError:
                raise SchemaError(f"class {label}, {name!r}, cannot be a key of class_to_idx: use classes") from None
            if first != label:
                raise SchemaError(f"classes {first} and {label} are both called {name!r}: use classes, a list by label")
        return labels

    @property
    def targets(self) -> Any:
        """The second field of every sample as it is stored: a new list at each call, which may be changed.

        The field is read once. Raises AttributeError if there is none.
        """
        column = self._target_column()
        return column.tolist() if isinstance(column, np.ndarray) else list(column)

    def _target_column(self) -> Any:
        if "_column" not in self.__dict__:
            names = self._source.tuple_fields
            if len(names) < 2:
                raise AttributeError(f"samples have one field, {names[0]!r}, and no target")
            self._column: Any = self._source.column(names[1])
        return self._column

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_built": None}
        state.pop("_column", None)  # read anew where they are needed
        return state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"


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


def _for_missing_too(function: Function) -> Function:
    """The function for a field, to be called with None for missing values; those of recordio.transforms are not."""
    return function if isinstance(function, Transform) or not callable(function) else CalledForMissing(function)


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
