"""The batches of a loader as lists of indices, for other people's loaders, which fetch them from the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from recordio.errors import DatasetError
from recordio.format.schema import Columns
from recordio.lazy import lazy
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchResult, IndexRequest
from recordio.reader.columns import uncollate
from recordio.reader.view import DatasetView


@dataclass(frozen=True, slots=True)
class Making:
    """How a loader makes the batches of an epoch.

    Attributes:
        epoch_key: the key of the epoch, for random transforms.
        skip: leave out samples that cannot be read or processed.
        samples: whether a `collate_fn` gets the samples.
    """

    epoch_key: int
    skip: bool
    samples: bool


class Source(Protocol):
    """Makes batches ahead, in the process of the loader."""

    @property
    def dataset(self) -> DatasetView: ...
    def batch(self, number: int, samples: int) -> BatchResult | None:
        """The batch of this number; None if it is not to be had in this way."""

    def count(self, result: BatchResult) -> None:
        """Counts a batch for the loader's `stats`."""


class IndexBatch(list[int]):
    """The indices of a batch, and how its loader makes it.

    A dataset that is asked for these indices, by `__getitems__`, makes the batch that the loader would have made.

    Attributes:
        making: how.
        random_index: the numbers by which samples draw, if not their indices: an index may repeat.
        source, number: where this batch is made ahead, if it is; only in the process of the loader.
    """

    source: Source | None = None
    number: int = 0

    def __init__(self, indices: Iterable[int], making: Making, random_index: Sequence[int] | None = None) -> None:
        super().__init__(indices)
        self.making, self.random_index = making, random_index
        self._indices = tuple(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"making": self.making, "random_index": self.random_index, "_indices": self._indices}

    def request(self, number: int) -> IndexRequest:
        drawn = self.random_index
        drawn = drawn if drawn is not None and len(drawn) == len(self) else None  # else a tool has changed the list
        return IndexRequest(list(self), self.making.epoch_key, number, drawn)

    def made_from(self, dataset: DatasetView) -> Sequence[Any]:
        """The samples of the batch. Raises DatasetError if none is left."""
        as_columns = not self.making.samples and not dataset.has_maps
        source, result = self.source, None
        if source is not None and source.dataset is dataset and self._indices == tuple(self):
            result = source.batch(self.number, len(self))
        if result is None:
            collate_fn: Callable[[list[Any]], Any] | None = None if as_columns else list
            result = BatchMaker([dataset], collate_fn=collate_fn, skip=self.making.skip)(self.request(0))
        if source is not None:
            source.count(result)
        if result.batch is None:
            raise DatasetError(
                f"nothing is left of a batch, and this loader, which is not recordio's, cannot leave it out: "
                f"{result.errors[0]}; use larger batches"
            )
        return MadeBatch(result.batch, result.samples, dataset.formed) if as_columns else result.batch

    def __add__(self, other: list[int]) -> IndexBatch:  # type: ignore[override]
        """Tools fill a last batch up. Samples from elsewhere draw by their indices."""
        return self._joined(self, other)

    def __radd__(self, other: list[int]) -> IndexBatch:
        return self._joined(other, self)

    __iadd__ = __add__  # type: ignore[assignment]

    def _joined(self, *parts: list[int]) -> IndexBatch:
        drawn = [getattr(part, "random_index", None) or part for part in parts]
        return IndexBatch(chain(*parts), self.making, [*chain(*drawn)])

    def __getitem__(self, at: Any) -> Any:
        """Tools cut a batch into those of several ranks."""
        if not isinstance(at, slice):
            return super().__getitem__(at)
        random_index = None if self.random_index is None else self.random_index[at]
        return IndexBatch(super().__getitem__(at), self.making, random_index)


class MadeBatch(Sequence[Any]):
    """A batch of columns, to be seen as its samples by a `collate_fn` that expects a list of them."""

    def __init__(
        self,
        columns: Columns,
        samples: int,
        formed: Callable[[Any], Any],
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self._columns, self._count, self._formed, self._convert = columns, samples, formed, convert

    @property
    def batch(self) -> Any:
        """The batch as a loader of ours delivers it."""
        return self._formed(self._columns)

    def seen_as(self, convert: Callable[[Any], Any]) -> MadeBatch:
        """The same batch, whose samples are converted."""
        return MadeBatch(self._columns, self._count, self._formed, convert)

    @lazy
    def _samples(self) -> list[Any]:
        samples = map(self._formed, uncollate(self._columns, self._count))
        return list(samples if self._convert is None else map(self._convert, samples))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        return self._samples[at]
