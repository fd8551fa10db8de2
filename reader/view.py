"""The interface of every dataset: a single one, a view, or several combined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt

from recordio.arguments import integer
from recordio.determinism import key
from recordio.errors import SchemaError
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.reader.cached_view import CachedView
from recordio.reader.columns import concatenate
from recordio.reader.exchange import Exchange
from recordio.reader.filtering import equals, mask_of, wanted_values
from recordio.reader.indexing import several_indices, single_index
from recordio.reader.order.numbers import true_indices
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import OrderOptions, WindowPlan
from recordio.reader.order.split import split_parts
from recordio.reader.tuples import tuple_names

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.notebook import Samples
    from recordio.statistics.records import Statistics

_SCAN_SAMPLES = 1 << 16

Plans = tuple[Sequence[Iterator[WindowPlan]], Iterator[Indices] | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """The samples of a request that one dataset provides.

    Attributes:
        dataset: the dataset.
        indices: int64 (n,), indices in the dataset.
        rows: int64 (n,), positions in the request.
        source: the number of the dataset in a combined one.
    """

    dataset: ShardDataset
    indices: Indices
    rows: Indices
    source: int | None = None


class DatasetView(Exchange, CachedView, ABC):
    """Samples by index, as a loader takes them.

    It has a length, indices and an order, and is yet no collections.abc.Sequence: libraries take those for lists, of
    datasets for example, and build new ones of the same type. `recordio.torch` makes it a torch.utils.data.Dataset.

    Inside, samples are dicts and batches are dicts of columns, also those of `tuples`: `formed` is the last step.

    Attributes:
        parts: the single datasets of the samples.
        tuple_fields: what the samples are tuples of; None if they are no tuples of `tuples`.
    """

    parts: tuple[ShardDataset, ...]
    tuple_fields: tuple[str, ...] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """The fields that are read, as stored."""

    @property
    @abstractmethod
    def metadata(self) -> Mapping[str, Any]:
        """The writer's metadata, such as `classes`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """32 hex digits that identify the samples and their order, for the state of a loader."""

    @property
    def has_maps(self) -> bool:
        """Whether samples pass through functions that may return anything."""
        return any(part.processing.maps for part in self.parts)

    @abstractmethod
    def take(self, indices: Sequence[int] | npt.ArrayLike) -> Any:
        """The samples at these indices, in their order, as a dict of columns; a tuple of columns in a view of `tuples`.

        Fixed-shape fields are arrays (n, *shape), masked arrays if the field is optional; all others are lists of n
        values, None where one is missing. What lies under a mask, for code that ignores masks, is NaN in floats and
        complex numbers, the lowest value in signed integers, the highest in unsigned ones and False in bools.
        Negative indices count from the end. Raises IndexError.
        """

    @abstractmethod
    def select(self, indices: Sequence[int] | npt.ArrayLike) -> DatasetView:
        """A view of the samples at these indices, in their order; an index may repeat."""

    @abstractmethod
    def plan(self, options: OrderOptions, epoch_key: int, share: RankShare) -> Plans:
        """A rank's window plans for each part in one epoch, and with several parts the part of each sample."""

    @abstractmethod
    def pieces(self, indices: Indices) -> list[Piece]:
        """The samples at these non-negative indices, by part."""

    def index_of(self, source: int, indices: Indices) -> Indices:
        """The indices of the samples at these indices of a part. Raises SchemaError for samples without an index."""
        return indices

    @abstractmethod
    def _only(self, names: Sequence[str]) -> Self:
        """The same samples with other fields, without transforms and maps."""

    @abstractmethod
    def _tuples(self, names: tuple[str, ...]) -> Self:
        """See `tuples`."""

    @abstractmethod
    def _columns(self, indices: Indices) -> Columns:
        """The samples at these indices as columns, without maps."""

    @abstractmethod
    def _sample_at(self, index: int) -> Any:
        """A sample; 0 <= index < len(self)."""

    @abstractmethod
    def _slice(self, index: slice) -> Any:
        """A view of these samples."""

    @abstractmethod
    def _with_assigned(self, function: Any) -> Self:
        """The same samples, with this function for their only picture field in place of its transforms."""

    # The default would compare samples, which are dicts of arrays: comparing those raises.
    __contains__: None = None

    @overload
    def __getitem__(self, index: str) -> Any: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[bool] | npt.NDArray[Any]) -> DatasetView: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        """A sample for an integer; a view for a slice, a list or array of integers or a mask; a column for a name.

            ds[3]      ds[3:9]      ds[[3, 1]]      ds[ds["label"] == 1]      ds["label"]

        Tensors are taken as arrays are. Raises IndexError, TypeError, SchemaError.
        """
        if isinstance(index, slice):
            return self._slice(index)
        if isinstance(index, str):
            return self.column(index)
        several = several_indices(index, len(self))
        return self._sample_at(single_index(index, len(self))) if several is None else self.select(several)

    def __setattr__(self, name: str, value: Any) -> None:
        """Honours `ds.transform = function`, as libraries for pictures assign it; see `assigned_steps`.

        Raises SchemaError unless there is one picture field, AttributeError for any other method.
        """
        if name == "transform":
            self.__dict__.update(self._with_assigned(value).__dict__)
        elif not name.startswith("_") and callable(getattr(type(self), name, None)):
            raise AttributeError(f"{name} is a method: call it, ds = ds.{name}(...), and do not assign to it")
        else:
            super().__setattr__(name, value)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """The samples at these indices: PyTorch's loader asks for a whole batch this way."""
        if (made_from := getattr(indices, "made_from", None)) is not None:  # the batch of a loader of ours
            return made_from(self)  # type: ignore[no-any-return]
        return self._formed_samples(self.checked_indices(indices))

    def _formed_samples(self, indices: Indices) -> list[Any]:
        """The samples at these non-negative indices, as the user gets them."""
        samples = self._samples(indices)
        return samples if self.tuple_fields is None else list(map(self.formed, samples))

    def _samples(self, indices: Indices) -> list[Any]:
        """The samples at these non-negative indices, not as tuples yet."""
        found = self.pieces(indices)
        samples: list[Any] = [None] * sum(len(piece.rows) for piece in found)
        for piece in found:
            for row, sample in zip(piece.rows.tolist(), piece.dataset.samples_at(piece.indices), strict=True):
                samples[row] = sample
        return samples

    def formed(self, fields: Any) -> Any:
        """A sample or a batch in the form that the user gets: of a dict, a tuple in a view of `tuples`.

        There, the dict has the fields of the tuple in its order.
        """
        if self.tuple_fields is None:
            return fields
        return tuple(fields.values()) or tuple([] for _ in self.tuple_fields)  # maps of no samples give no columns

    def tuples(self, *names: str) -> Self:
        """A view whose samples are tuples of these fields, in this order, and whose batches are tuples of columns.

            for images, labels in DataLoader(ds.tuples("image", "label"), batch_size=256): ...

        Only these fields are read; their transforms stay. After a `map` they are keys of the dicts that it returns,
        and a `map` of the view gets the tuples.

        Raises SchemaError for a name that is not there: at once, or after a map when a sample is read.
        """
        return self._tuples(tuple_names(names))

    def _getitems(self, indices: Sequence[int]) -> Sequence[Any]:
        """`__getitems__` under the name that Grain calls."""
        return self.__getitems__(indices)

    def __radd__(self, other: Any) -> Self:
        """Lets `sum(datasets)` start at 0."""
        return self if other == 0 else NotImplemented

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), 256):
            yield from self._formed_samples(np.arange(start, min(start + 256, len(self))))

    def checked_indices(self, indices: Sequence[int] | npt.ArrayLike) -> Indices:
        """The indices as int64 (n,), non-negative. Raises SchemaError, IndexError."""
        return self._checked(indices).astype(np.int64, copy=False)

    def _checked(self, indices: Sequence[int] | npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
        """The indices, non-negative, in the dtype that they come in where it will do."""
        given = np.asarray(indices)
        if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
            raise SchemaError(
                f"indices are a one-dimensional sequence of integers, not {given.dtype}{list(given.shape)}"
            )
        n = len(self)
        low, high = (int(given.min()), int(given.max())) if given.size else (0, -1)
        if low < -n or high >= n:
            raise IndexError(f"sample {low if low < -n else high} of a dataset of {n}")
        if low >= 0 and given.size:
            return given
        found = given.astype(np.int64)
        found[found < 0] += n
        return found

    def _scan(self) -> Iterator[Columns]:
        """All samples in order, in chunks of columns; at least one chunk, so that an empty view has columns too."""
        for start in range(0, max(1, len(self)), _SCAN_SAMPLES):
            yield self._columns(np.arange(start, min(start + _SCAN_SAMPLES, len(self))))

    def column(self, name: str) -> Any:
        """One field of every sample: an array (n, *shape), masked if optional, or a list. Maps are not applied."""
        view = self._only([name])
        return concatenate([columns[name] for columns in (view._ragged() if self.is_ragged else view)._scan()])

    def filter(
        self,
        predicate: Callable[[Columns], npt.ArrayLike] | None = None,
        *,
        fields: Sequence[str] | None = None,
        **equal: Any,
    ) -> Self:
        """A view of the samples that match, in order.

            ds.filter(label=3)      ds.filter(label=[1, 2])      ds.filter(lambda c: c["score"] > 0.5, fields=["score"])

        Args:
            predicate: takes a dict of columns, returns a boolean array (n,); called for 65,536 samples at a time.
            fields: the fields that the predicate needs; None for all fields of the dataset.
            equal: a field's name with the value that a sample must have, or a list of values.
        """
        needed = self._fields_of_filter(predicate, fields, equal)
        if not needed:
            return self[:]  # type: ignore[return-value]
        wanted = {name: wanted_values(value) for name, value in equal.items()}
        kept, count = [], 0
        for columns in self._only(needed)._scan():
            n = len(columns[needed[0]])
            mask = np.ones(n, bool)
            for name, values in wanted.items():
                mask &= equals(columns[name], values, name)
            if predicate is not None:
                mask &= mask_of(predicate(columns), n)
            kept.append(np.packbits(mask))
            count += int(np.count_nonzero(mask))
        masks = (np.unpackbits(bits) for bits in kept)  # all but the last are of whole bytes
        return self.select(true_indices(masks, count, len(self)))  # type: ignore[return-value]

    def _fields_of_filter(self, predicate: Any, fields: Sequence[str] | None, equal: Iterable[str]) -> list[str]:
        """The fields to read, each once."""
        if isinstance(fields, str):
            names: Sequence[str] = [fields]
        elif fields or predicate is None:
            names = fields or []
        else:
            names = list(self.schema)
        return [*dict.fromkeys([*names, *equal])]

    def split(self, fractions: Sequence[float], seed: int = 0) -> list[Self]:
        """Splits the samples at random in these proportions: `train, test = ds.split([0.9, 0.1])`.

        Every sample is in one view if the fractions add up to 1; each view keeps the order of the dataset.
        """
        n = len(self)
        part, counts = split_parts(n, fractions, key(integer("seed", seed, 0)))
        views = []
        for k, count in enumerate(counts):
            masks = (part[at : at + _SCAN_SAMPLES] == k for at in range(0, n, _SCAN_SAMPLES))
            views.append(self.select(true_indices(masks, count, n)))
        return views  # type: ignore[return-value]

    @property
    def statistics(self) -> Statistics | None:
        """Of each field as stored, made when the dataset was written; None if not, and for chosen or joined samples."""
        from recordio.reader.measuring import written_statistics

        return written_statistics(self)

    def measure(self, *fields: str) -> Statistics:
        """The statistics of these fields, without names of all: reads every sample, and decodes every picture."""
        from recordio.reader.measuring import measured

        return measured(self, fields or list(self.schema))

    def as_stored(self) -> DatasetView | None:
        """The same samples with pictures as the files that they are, for a conversion; None if functions make them."""
        part = self.parts[0]
        made = len(self.parts) > 1 or self.has_maps or part._transforms or part._casts or self.tuple_fields is not None
        return None if made else part._with(_decode=None)

    def show(self, n: int = 8) -> Samples:
        """The first n samples (200 at most), to look at: pictures in a notebook, text when printed."""
        from recordio.reader.notebook import Samples

        return Samples(self, n)

    def _repr_html_(self) -> str:
        """What a notebook shows: the fields, some pictures, how many samples there are of each class."""
        from recordio.reader.notebook import dataset_card

        return dataset_card(self)
