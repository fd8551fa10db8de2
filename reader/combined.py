"""Several datasets as one: one after the other, or mixed by weight."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

from recordio.arguments import describe
from recordio.determinism import key
from recordio.errors import SchemaError
from recordio.format.checksum import digest
from recordio.format.page import Indices
from recordio.reader.dataset import ShardDataset
from recordio.reader.order.mixing import Consecutive, Interleaved, Schedule, draw_at, drawn_plans, sources
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import Order, OrderOptions, WindowPlan, order_of

Stop = Literal["first_exhausted", "all_exhausted"]


class Combined(Sequence[Any]):
    """What a loader and a user need of several datasets in one.

    Attributes:
        datasets: the datasets.
        draws: how many samples of each make up an epoch.
    """

    def __init__(self, datasets: Iterable[Any], draws: Callable[[Sequence[ShardDataset]], Sequence[int]]) -> None:
        self.datasets: tuple[ShardDataset, ...] = tuple(_flattened(datasets))
        if not self.datasets:
            raise SchemaError("expected at least one dataset")
        for dataset in self.datasets[1:]:
            if list(dataset.schema) != list(self.datasets[0].schema) and not dataset.processing.maps:
                raise SchemaError(
                    f"the datasets differ in their fields: {', '.join(self.datasets[0].schema)}"
                    f" and {', '.join(dataset.schema)}; choose the same with fields="
                )
        _require_one_meaning(self.datasets)
        self.draws = list(draws(self.datasets))

    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        """From which dataset each position of an epoch draws."""
        raise NotImplementedError

    def plan(
        self, options: OrderOptions, epoch_key: int, share: RankShare
    ) -> tuple[list[Iterator[WindowPlan]], Iterator[Indices]]:
        """What a rank delivers of each dataset in the epoch of this key, and whose turn it is at each place."""
        schedule = self.schedule(options.shuffle, epoch_key)

        def steps(source: int) -> Iterator[WindowPlan]:
            dataset, own = self.datasets[source], options.shared(self.draws[source], schedule.total)

            @lru_cache(2)
            def pass_of(number: int) -> Order:
                return order_of(dataset.store.blocks, dataset.numbers, own, key(source, number, after=epoch_key))

            return drawn_plans(pass_of, len(dataset), schedule, source, share)

        found = [steps(source) if self.draws[source] else iter(()) for source in range(len(self.datasets))]
        return found, sources(schedule, share)

    def __len__(self) -> int:
        return sum(self.draws)

    def __getitem__(self, index: Any) -> Any:
        """A sample of the epoch 0 of seed 0, not shuffled."""
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        source, draw = draw_at(self._unshuffled, place % len(self))
        return self.datasets[source][draw % len(self.datasets[source])]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self[index] for index in indices]

    _getitems = __getitems__

    @property
    def _unshuffled(self) -> Schedule:
        return self.schedule(False, key(0, 0))

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    @property
    def fingerprint(self) -> str:
        """32 hex digits that stand for the datasets and how they are combined."""
        told = [type(self).__name__, *(f"{d.fingerprint} {n}" for d, n in zip(self.datasets, self.draws, strict=True))]
        return digest(["\n".join(told).encode()]).hex()

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} of {d!r}" for d, n in zip(self.datasets, self.draws, strict=True))
        return f"{type(self).__name__}({parts})"


class ConcatDataset(Combined):
    """The samples of several datasets, one dataset after the other; a loader shuffles all of them together.

    `a + b` makes one. Each dataset keeps its own transforms. Raises SchemaError when the datasets differ in fields.

    Args:
        datasets: ShardDatasets, or other ConcatDatasets.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        super().__init__(datasets, lambda found: [len(dataset) for dataset in found])

    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        return Interleaved(self.draws, epoch_key) if shuffle else Consecutive(self.draws)

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class Mixture(Combined):
    """Datasets mixed by weight: of every thousand samples or so, each gives the share that its weight asks.

    Which dataset gives a sample is a pure function of its position, so a mixed epoch resumes as exactly as any other.
    Each dataset goes through its own samples in passes, shuffled anew for each, no sample twice in a pass.

    Args:
        parts: (dataset, weight) pairs; weights are relative.
        stopping_strategy: "first_exhausted": an epoch ends when a dataset has given all its samples; "all_exhausted":
            when every dataset has, the smaller ones beginning again.
    """

    def __init__(
        self, parts: Iterable[tuple[ShardDataset, float]], stopping_strategy: Stop = "first_exhausted"
    ) -> None:
        given = [_part(pair) for pair in parts]
        self.weights = [weight for _, weight in given]
        if any(not 0 < weight < math.inf for weight in self.weights):
            raise SchemaError(f"weights {self.weights} are not positive numbers")
        if stopping_strategy not in ("first_exhausted", "all_exhausted"):
            raise SchemaError(
                f"unknown stopping_strategy {stopping_strategy!r}: expected 'first_exhausted' or 'all_exhausted'"
            )
        if any(not isinstance(dataset, ShardDataset) or not len(dataset) for dataset, _ in given):
            raise SchemaError("the parts of a mixture are ShardDatasets with samples")
        pick = min if stopping_strategy == "first_exhausted" else max

        def draws(datasets: Sequence[ShardDataset]) -> list[int]:
            scale = pick(len(dataset) / weight for dataset, weight in zip(datasets, self.weights, strict=True))
            return [max(1, round(scale * weight)) for weight in self.weights]

        super().__init__([dataset for dataset, _ in given], draws)

    def schedule(self, shuffle: bool, epoch_key: int) -> Schedule:
        return Interleaved(self.draws, epoch_key)


def _part(pair: Any) -> tuple[Any, float]:
    try:
        dataset, weight = pair
        return dataset, float(weight)
    except (TypeError, ValueError):
        raise SchemaError(f"the parts of a mixture are (dataset, weight) pairs, not {describe(pair)}") from None


def _require_one_meaning(datasets: Sequence[ShardDataset]) -> None:
    """A label must name the same class in every dataset. Raises SchemaError."""
    named = [dataset for dataset in datasets if isinstance(dataset.metadata.get("classes"), list)]
    for dataset in named[1:]:
        first, other = named[0].metadata["classes"], dataset.metadata["classes"]
        if first != other:
            at = next(
                (k for k, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(map(len, (first, other)))
            )
            raise SchemaError(
                f"label {at} is {_class(first, at)} in {named[0]!r} and {_class(other, at)} in {dataset!r}: "
                "convert both with the same class folders, or map the labels of one to those of the other and drop "
                "its metadata['classes']"
            )


def _class(classes: Sequence[Any], label: int) -> str:
    return repr(classes[label]) if label < len(classes) else "no class"


def _flattened(datasets: Iterable[Any]) -> Iterator[ShardDataset]:
    for dataset in datasets:
        if isinstance(dataset, ConcatDataset):
            yield from dataset.datasets
        elif isinstance(dataset, ShardDataset):
            yield dataset
        else:
            raise SchemaError(f"expected ShardDatasets, got {type(dataset).__name__}")
