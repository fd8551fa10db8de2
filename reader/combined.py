"""Several datasets as one: concatenated, or mixed by weight. Loaders and users treat them like any dataset."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from recordio.arguments import choice, flag
from recordio.determinism import key
from recordio.errors import SchemaError
from recordio.format.checksum import digest
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.lazy import lazy
from recordio.reader.columns import collate, grouped, scatter
from recordio.reader.joining import LABEL, joined_classes, joined_parts, listed, weighted
from recordio.reader.order.mixing import Arranged, Consecutive, Interleaved, Schedule, drawn_plans, sources
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import Order, OrderOptions, WindowPlan, order_of
from recordio.reader.view import DatasetView, Piece, Plans

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset

Stop = Literal["first_exhausted", "all_exhausted"]


class Combined(DatasetView):
    """Several datasets in one. Their fields are joined without loss, and a label means one class.

    Attributes:
        parts: the single datasets.
        draws: how many samples of each make up an epoch.
    """

    draws: list[int]

    def __init__(self, datasets: Iterable[Any], relabel: bool) -> None:
        found = list(_flattened(datasets))
        if not found:
            raise SchemaError("expected at least one dataset")
        flag("relabel", relabel)
        names, maps = [repr(part) for part in found], [part.class_map for part in found]
        if relabel or any(_has_labels(part) for part in found):
            self._classes = joined_classes(maps, names, relabel)
        else:
            self._classes = maps[0].classes if all(one.classes == maps[0].classes for one in maps) else None
        if relabel and self._classes is not None:
            maps = [one.onto(self._classes) for one in maps]
        parts = [part.as_part({}, one) for part, one in zip(found, maps, strict=True)]
        self._schema, self.parts = joined_parts(parts)

    @abstractmethod
    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        """The dataset that each position of an epoch draws from."""

    @property
    def schema(self) -> Schema:
        """The fields that are read, joined over all datasets."""
        return self._schema

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata that all datasets agree on, and their `classes`."""
        first, *rest = [part.metadata for part in self.parts]
        agreed = {name: value for name, value in first.items() if all(one.get(name) == value for one in rest)}
        return agreed if self._classes is None else agreed | {"classes": self._classes}

    @property
    def tuple_fields(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """As of each part."""
        return self.parts[0].tuple_fields

    @property
    def is_ragged(self) -> bool:  # type: ignore[override]
        """As of each part."""
        return self.parts[0].is_ragged

    @lazy
    def _sizes(self) -> Indices:
        """int64 (parts,): the samples of each part."""
        return np.array([len(part) for part in self.parts], np.int64)

    @lazy
    def _in_order(self) -> Schedule:
        """The schedule of an epoch that is not shuffled."""
        return self.schedule(False, key(0, 0))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_in_order", "_sizes")}

    def plan(self, options: OrderOptions, epoch_key: int, share: RankShare) -> Plans:
        schedule = self.schedule(options.shuffle, epoch_key)
        begins, ends = (schedule.drawn(min(at, schedule.total)).tolist() for at in (share.start, share.stop))

        def plans(source: int) -> Iterator[WindowPlan]:
            part, own = self.parts[source], options.shared(self.draws[source], schedule.total)
            draws = range(begins[source], ends[source])

            @lru_cache(2)
            def pass_of(number: int) -> Order:
                return order_of(part.store.blocks, part.numbers, own, key(source, number, after=epoch_key))

            return drawn_plans(pass_of, len(part), schedule, source, share, draws)

        found = [plans(source) if self.draws[source] else iter(()) for source in range(len(self.parts))]
        return found, sources(schedule, share)

    def __len__(self) -> int:
        return sum(self.draws)

    def locate(self, indices: Indices) -> tuple[Indices, Indices]:
        """int64 (n,) each: the part of each sample and its index in the part, in the order of an unshuffled epoch."""
        part, draw = self._in_order.locate(indices)
        return part, draw % self._sizes[part]

    def index_of(self, source: int, indices: Indices) -> Indices:
        if len(indices) and int(indices.max()) >= self.draws[source]:
            raise SchemaError("an epoch of this mixture holds samples that are not in the order by index")
        return self._in_order.positions_of(source, indices)

    def pieces(self, indices: Indices) -> list[Piece]:
        number, local = self.locate(indices)
        found, _, runs = grouped(number)
        pieces = [Piece(self.parts[k], local[rows], rows, k) for k, rows in zip(found, runs, strict=True)]
        return pieces or [Piece(self.parts[0], local, local, 0)]

    def _sample_at(self, index: int) -> Any:
        (number,), (local,) = self.locate(np.array([index]))
        return self.parts[number][int(local)]

    def take(self, indices: Sequence[int] | npt.ArrayLike) -> Any:
        found = self.checked_indices(indices)
        if not self.has_maps:
            return self.formed(self._columns(found))
        return self.formed(collate(self._samples(found)) if len(found) else {})

    take.__doc__ = DatasetView.take.__doc__

    def _columns(self, indices: Indices) -> Columns:
        pieces = self.pieces(indices)
        columns = [piece.dataset._columns(piece.indices) for piece in pieces]
        rows = np.concatenate([piece.rows for piece in pieces])
        return {name: scatter([one[name] for one in columns], rows) for name in columns[0]}

    def select(self, indices: Sequence[int] | npt.ArrayLike) -> ConcatDataset:
        number, local = self.locate(self.checked_indices(np.array(indices)))
        ends = np.cumsum(np.bincount(number, minlength=len(self.parts)))
        each = np.split(local[np.argsort(number, kind="stable")], ends[:-1])
        parts = [part.select(own) for part, own in zip(self.parts, each, strict=True)]
        return ConcatDataset._arranged(self, parts, number)

    select.__doc__ = DatasetView.select.__doc__

    def _slice(self, index: slice) -> ConcatDataset:
        return self.select(range(len(self))[index])

    def _only(self, names: Sequence[str]) -> Self:
        return self._with(*joined_parts([part._only(names) for part in self.parts]))

    def _tuples(self, names: tuple[str, ...]) -> Self:
        parts = [part._tuples(names) for part in self.parts]
        return self._with(self._schema, parts) if self.has_maps else self._with(*joined_parts(parts))

    def _ragged(self) -> Self:
        return self._with(*joined_parts([part._ragged() for part in self.parts]))

    def transform(self, *together: Any, **functions: Callable[..., Any]) -> Self:
        """A view that applies a function to every value of each of these fields; see ShardDataset.transform."""
        return self._with(self._schema, [part.transform(*together, **functions) for part in self.parts])

    def map(self, function: Callable[..., Any]) -> Self:
        """A view that applies `function` to every sample; see ShardDataset.map."""
        return self._with(self._schema, [part.map(function) for part in self.parts])

    def _with_assigned(self, function: Any) -> Self:
        return self._with(self._schema, [part._with_assigned(function) for part in self.parts])

    def _with(self, schema: Schema, parts: Sequence[ShardDataset]) -> Self:
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__ | {"_schema": schema, "parts": tuple(parts)})
        return out

    def __add__(self, other: DatasetView) -> ConcatDataset:
        """The samples of both, one dataset after the other."""
        return ConcatDataset([self, other])

    @property
    def fingerprint(self) -> str:
        parts = [f"{part.fingerprint} {n}" for part, n in zip(self.parts, self.draws, strict=True)]
        return digest(["\n".join([type(self).__name__, *parts]).encode(), *self._arrangement()]).hex()

    def _arrangement(self) -> list[memoryview]:
        """What the order depends on besides the parts, as bytes."""
        return []

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} of {part!r}" for part, n in zip(self.parts, self.draws, strict=True))
        return f"{type(self).__name__}({parts})"


class ConcatDataset(Combined):
    """The samples of several datasets, one dataset after the other; a loader shuffles all of them together.

    `a + b` makes one. Each dataset keeps its own transforms. Fields of two types are joined where nothing is lost:
    integers become the wider integer, one optional field makes both optional, arrays of two sizes get a free size.

    Args:
        datasets: ShardDatasets, or other combined datasets.
        relabel: maps the labels of each dataset to the union of the classes in their `metadata["classes"]`.

    Raises SchemaError when fields cannot be joined without loss, or a label means two classes.
    """

    def __init__(self, datasets: Iterable[Any], *, relabel: bool = False) -> None:
        views = [one[:] if isinstance(one, Mixture) else one for one in listed(datasets)]
        super().__init__(views, relabel)
        self.draws = [len(part) for part in self.parts]
        self._sources = _joined_sources(views)  # part of each sample; None if the parts follow in order

    @classmethod
    def _arranged(cls, whole: Combined, parts: Sequence[ShardDataset], order: Indices) -> ConcatDataset:
        """Samples of a combined dataset in any order: sample k is the next one of part order[k]."""
        out = object.__new__(cls)
        out._classes, out._schema = whole._classes, whole._schema
        out.parts, out.draws = tuple(parts), [len(part) for part in parts]
        out._sources = order if (np.diff(order) < 0).any() else None
        return out

    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        if shuffle:
            return Interleaved(self.draws, epoch_key)
        return Consecutive(self.draws) if self._sources is None else Arranged(self._sources, self.draws)

    def _slice(self, index: slice) -> ConcatDataset:
        wanted = range(len(self))[index]
        if self._sources is not None or wanted.step != 1:
            return self.select(wanted)
        ends = np.cumsum([0, *self.draws]).tolist()
        parts = [
            part[max(0, wanted.start - a) : max(0, wanted.stop - a)] for part, a in zip(self.parts, ends, strict=False)
        ]
        return self._arranged(self, parts, np.zeros(0, np.int64))

    def _arrangement(self) -> list[memoryview]:
        return [] if self._sources is None else [np.ascontiguousarray(self._sources).data]


class Mixture(Combined):
    """Datasets mixed by weight: each has its share of about every thousand samples.

    The dataset of a sample is a pure function of its position, so a mixed epoch resumes as exactly as any other. Each
    dataset passes through its own samples, reshuffled for each pass, no sample twice in a pass. By index, and in views,
    the samples are in the order of the unshuffled epoch 0 of seed 0.

    Args:
        parts: (dataset, weight) pairs; weights are relative. The parts of a combined dataset share its weight in
            proportion to their samples.
        stopping_strategy: "first_exhausted" ends an epoch when one dataset is exhausted, "all_exhausted" when every
            dataset is; the smaller ones begin again.
        relabel: as for ConcatDataset.

    Raises SchemaError as ConcatDataset does, and for weights that are not positive numbers.
    """

    def __init__(
        self, parts: Iterable[tuple[Any, float]], stopping_strategy: Stop = "first_exhausted", *, relabel: bool = False
    ) -> None:
        choice("stopping_strategy", stopping_strategy, ("first_exhausted", "all_exhausted"))
        given = [one for pair in listed(parts) for one in _shared_weight(*weighted(pair))]
        self.weights = [weight for _, weight in given]
        if any(not 0 < weight < math.inf for weight in self.weights):
            raise SchemaError(f"weights {self.weights} are not positive numbers")
        super().__init__([dataset for dataset, _ in given], relabel)
        pick = min if stopping_strategy == "first_exhausted" else max
        scale = pick(len(part) / weight for part, weight in zip(self.parts, self.weights, strict=True))
        self.draws = [max(1, round(scale * weight)) for weight in self.weights]

    @property
    def is_whole(self) -> bool:
        """Whether an epoch holds every sample."""
        return all(drawn >= len(part) for part, drawn in zip(self.parts, self.draws, strict=True))

    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        return Interleaved(self.draws, epoch_key)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """The samples at these indices, for other libraries' loaders.

        Raises SchemaError if an epoch leaves samples out: which ones differs from epoch to epoch, and indices always
        mean those of the first, so such a loader would never see the others.
        """
        if not self.is_whole and not hasattr(indices, "made_from"):
            left = next(part for part, drawn in zip(self.parts, self.draws, strict=True) if drawn < len(part))
            raise SchemaError(
                f"an epoch of this mixture does not hold all samples of {left!r}, so by index the rest is never seen: "
                "load it with recordio.torch.DataLoader or recordio.DataLoader, or combine the datasets with "
                "ConcatDataset"
            )
        return super().__getitems__(indices)


def _has_labels(part: ShardDataset) -> bool:
    """Whether a field that is read may hold labels: `label`, or any of a dataset that has no such field."""
    return LABEL in part.schema.fields or LABEL not in part.store.manifest.schema.fields


def _shared_weight(dataset: Any, weight: float) -> list[tuple[ShardDataset, float]]:
    """The single datasets of a part, each with its weight. Invalid weights pass through; the caller refuses them."""
    if not isinstance(dataset, DatasetView) or not len(dataset):
        raise SchemaError("the parts of a mixture are datasets with samples")
    filled = [part for part in (dataset[:] if isinstance(dataset, Mixture) else dataset).parts if len(part)]
    if len(filled) == 1:
        return [(filled[0], weight)]
    return [(part, weight * len(part) / len(dataset)) for part in filled]


def _flattened(datasets: Iterable[Any]) -> Iterator[ShardDataset]:
    for dataset in datasets:
        if not isinstance(dataset, DatasetView):
            raise SchemaError(f"expected datasets of recordio, got {type(dataset).__name__}")
        yield from dataset.parts


def _joined_sources(datasets: Sequence[DatasetView]) -> Indices | None:
    """The part of each sample; None if the parts follow in order."""
    if not any(isinstance(one, ConcatDataset) and one._sources is not None for one in datasets):
        return None
    found, first = [], 0
    for one in datasets:
        own = one._sources if isinstance(one, ConcatDataset) else None
        if own is None:
            own = np.repeat(np.arange(len(one.parts)), [len(part) for part in one.parts])
        found.append(first + own)
        first += len(one.parts)
    return np.concatenate(found)
