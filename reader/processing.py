"""Columns as they are stored become what the user sees: pictures decoded, transforms and maps applied.

Every sample's random draws come from a generator of its own, so what a sample becomes depends neither on the batch it
stands in nor on who makes it.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from recordio.determinism import key
from recordio.errors import DecodeError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.images.decode import decode_image, decode_pil, pil_image
from recordio.reader.columns import ColumnBuilder, Empty, collate, uncollate, values_of
from recordio.reader.joining import Cast
from recordio.reader.open_dataset import OpenDataset
from recordio.transforms import Transform, takes_rng

Decode = Literal["numpy", "pil"]
Draw = Callable[[Any, "SampleRandom"], Any]  # gives the value that the user sees


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """Where the samples of a batch come from.

    Attributes:
        store: the dataset.
        numbers: int64 (n,), their numbers in it.
        index: int64 (n,), their places in the view.
        epoch_key: the key of the epoch; None outside of one: then random transforms draw from Python's `random`.
        dataset: the name of the dataset in errors, if it is one of several.
    """

    store: OpenDataset
    numbers: Indices
    index: Indices
    epoch_key: int | None = None
    dataset: str | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, k: int) -> int:
        """What the generator of sample k of the batch is keyed by: key(seed, epoch, index)."""
        return random.getrandbits(64) if self.epoch_key is None else key(int(self.index[k]), after=self.epoch_key)

    def location(self, k: int) -> dict[str, Any]:
        """Where sample k is, for an error's place."""
        named = {} if self.dataset is None else {"dataset": self.dataset}
        return named | self.store.location(int(self.numbers[k]))

    def only(self, rows: Sequence[int]) -> SampleOrigin:
        return replace(self, numbers=self.numbers[rows], index=self.index[rows])


class _Rekeyed(threading.local):
    """One generator of this thread after another, each in a sixth of the time that it takes to make one."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator, self._start = np.random.Generator(self._bits), self._bits.state

    def at(self, epoch_key: int) -> np.random.Generator:
        """Philox keyed by the epoch_key, until the next call."""
        self._start["state"]["key"][0] = epoch_key
        self._bits.state = self._start
        return self._generator


_rekeyed = _Rekeyed()


@dataclass(slots=True)
class SampleRandom:
    """What the functions of a field of sample k, or its map number 1, 2, ..., draw from: one generator, if any asks."""

    origin: SampleOrigin
    k: int
    map: int = 0
    _generator: np.random.Generator | None = None

    def rng(self) -> np.random.Generator:
        if self._generator is None:
            self._generator = np.random.Generator(np.random.Philox(key=self.origin.key(self.k) | self.map << 64))
        return self._generator

    def reused_generator(self) -> np.random.Generator:
        """The same numbers, for a field with only one function, which neither keeps it nor calls what finishes another
        sample."""
        return _rekeyed.at(self.origin.key(self.k))


@dataclass(frozen=True, slots=True)
class Processing:
    """What a view does to its samples, in this order: casts, a function of (value, random) for some fields, maps."""

    fields: Mapping[str, Draw]
    maps: Sequence[Draw]
    transformed: frozenset[str]
    casts: Mapping[str, Cast]

    @classmethod
    def of(
        cls,
        schema: Schema,
        decode: Decode | None,
        transforms: Sequence[tuple[str, Callable[..., Any]]],
        maps: Sequence[Callable[..., Any]],
        casts: Mapping[str, Cast],
    ) -> Processing:
        """The processing of a view. `transforms` are (field, function) pairs, applied in order."""
        fields = {}
        for name, kind in schema.items():
            chain = [function for field, function in transforms if field == name]
            if steps := _steps(kind, decode, chain):
                fields[name] = steps[0] if len(steps) == 1 else partial(_chained, steps)
        transformed = frozenset(name for name, _ in transforms)
        used = {name: cast for name, cast in casts.items() if name in schema.fields}
        return cls(fields, [_drawing(function) for function in maps], transformed, used)

    @property
    def is_plain(self) -> bool:
        """Whether samples are handed out as they are stored."""
        return not (self.fields or self.maps or self.casts)

    def columns(self, columns: Columns, origin: SampleOrigin, empty: Empty = np.empty) -> Columns:
        """Columns of the store, with the functions of their fields applied. Arrays of one shape are stacked."""
        for name, cast in self.casts.items():
            columns[name] = cast.column(columns[name])
        for name, function in self.fields.items():
            if name not in self.transformed:
                columns[name] = [
                    self._field(name, function, value, origin, k) for k, value in enumerate(values_of(columns[name]))
                ]
                continue
            column = ColumnBuilder(len(origin), empty)
            for value in values_of(columns[name]):
                column.put(self._field(name, function, value, origin, len(column)))
            columns[name] = column.done()
        return columns

    def batch(self, columns: Columns, origin: SampleOrigin) -> Columns:
        """A batch from columns of the store."""
        if not self.maps:
            return self.columns(columns, origin)
        return collate(self.samples(columns, origin)) if len(origin) else {}

    def samples(self, columns: Columns, origin: SampleOrigin) -> list[Any]:
        """The samples of such a batch, one by one."""
        samples: list[Any] = uncollate(self.columns(columns, origin), len(origin))
        if self.maps:
            for k, sample in enumerate(samples):
                samples[k] = self._mapped(sample, origin, k)
        return samples

    def sample(self, sample: dict[str, Any], origin: SampleOrigin) -> Any:
        """One sample of the store."""
        for name, cast in self.casts.items():
            sample[name] = cast.value(sample[name])
        for name, function in self.fields.items():
            sample[name] = self._field(name, function, sample[name], origin, 0)
        return self._mapped(sample, origin, 0)

    def _field(self, name: str, function: Draw, value: Any, origin: SampleOrigin, k: int) -> Any:
        if value is None:
            return None
        try:
            return function(value, SampleRandom(origin, k))
        except DecodeError as error:
            raise error.at(**origin.location(k), field=name)
        except Exception as error:  # noqa: BLE001 - a user's function
            raise _named(error, {**origin.location(k), "field": name})

    def _mapped(self, sample: Any, origin: SampleOrigin, k: int) -> Any:
        try:
            for number, function in enumerate(self.maps, 1):
                sample = function(sample, SampleRandom(origin, k, number))
        except Exception as error:  # noqa: BLE001
            raise _named(error, origin.location(k))
        return sample


def _named(error: Exception, location: dict[str, Any]) -> Exception:
    """The error of a user's function, with a note of the sample it was called for."""
    with contextlib.suppress(Exception):  # an error that takes no notes is raised without one
        error.add_note("recordio: " + ", ".join(f"{what} {value}" for what, value in location.items()))
    return error


def _drawing(function: Callable[..., Any]) -> Draw:
    """The function as one of (value, draws)."""
    return partial(_with_rng, function) if takes_rng(function) else partial(_without_rng, function)


def _with_rng(function: Callable[..., Any], value: Any, draws: SampleRandom) -> Any:
    return function(value, rng=draws.rng())


def _without_rng(function: Callable[..., Any], value: Any, draws: SampleRandom) -> Any:
    return function(value)


def _chained(functions: Sequence[Draw], value: Any, draws: SampleRandom) -> Any:
    for function in functions:
        value = function(value, draws)
    return value


def _steps(kind: Field, decode: Decode | None, chain: Sequence[Callable[..., Any]]) -> list[Draw]:
    """What a value goes through. A transform that decodes by itself gets the picture's bytes."""
    steps = [_drawing(function) for function in chain]
    if not isinstance(kind, Image) or decode is None:
        return steps
    if kind.encoded and decode == "numpy" and chain and isinstance(chain[0], Transform) and chain[0].encoded:
        reused_generator = len(chain) == 1 and not chain[0].calls
        return [partial(_apply, chain[0], kind.mode, reused_generator), *steps[1:]]
    if kind.encoded:
        return [partial(_without_rng, partial(decode_pil if decode == "pil" else decode_image, mode=kind.mode)), *steps]
    return [partial(_without_rng, pil_image), *steps] if decode == "pil" else steps


def _apply(transform: Transform, mode: str, reused_generator: bool, value: Any, draws: SampleRandom) -> Any:
    if not transform.random:
        return transform.apply(value, None, mode)
    return transform.apply(value, draws.reused_generator() if reused_generator else draws.rng(), mode)
