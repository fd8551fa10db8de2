"""From stored columns to the user's samples: images decoded, transforms and maps applied.

Every sample draws from a generator of its own, so its result depends neither on its batch nor on its worker.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from functools import partial
from itertools import dropwhile
from typing import Any, Literal

import numpy as np

from recordio.determinism import key
from recordio.errors import DecodeError
from recordio.format.checksum import digest
from recordio.format.fields import Field, Object
from recordio.format.image_field import Image
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.images.decode import decode_image, decode_pil, pil_image
from recordio.images.transform import StepRandom, Transform, function_name, takes_rng
from recordio.reader.columns import ColumnBuilder, Empty, collate, uncollate, values_of
from recordio.reader.joining import Cast
from recordio.reader.open_dataset import OpenDataset

Decode = Literal["numpy", "pil"]
_FUNCTION = 1 << 63  # above the numbers of maps
RandomFunction = Callable[[Any, "SampleRandom"], Any]  # (value, random) -> value


class CalledForMissing(partial[Any]):
    """A function of a field that is called for missing values too, with None."""


@dataclass(frozen=True, slots=True)
class SampleOrigin:
    """The origin of the samples of a batch.

    Attributes:
        store: the dataset.
        numbers: int64 (n,), sample numbers in the dataset.
        index: int64 (n,), indices in the view.
        epoch_key: the key of the epoch; None outside an epoch: random transforms are seeded by Python's `random`.
        dataset: the dataset's name in errors, if it is part of a combined dataset.
    """

    store: OpenDataset
    numbers: Indices
    index: Indices
    epoch_key: int | None = None
    dataset: str | None = None
    _keys: dict[int, int] = dataclass_field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, k: int) -> int:
        """The key of the generators of sample k: key(seed, epoch, index). The same for all its fields."""
        if self.epoch_key is not None:
            return key(int(self.index[k]), after=self.epoch_key)
        if k not in self._keys:
            self._keys[k] = random.getrandbits(64)
        return self._keys[k]

    def location(self, k: int) -> dict[str, Any]:
        """The location of sample k, for errors."""
        named = {} if self.dataset is None else {"dataset": self.dataset}
        return named | self.store.location(int(self.numbers[k]))


class _ReusedGenerator(threading.local):
    """One generator per thread, rekeyed for each sample: six times as fast as making a generator."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._start = self._bits.state

    def rekeyed(self, key: int) -> np.random.Generator:
        """Philox with this key; valid until the next call."""
        self._start["state"]["key"][0] = key
        self._bits.state = self._start
        return self._generator


_reused = _ReusedGenerator()


@dataclass(slots=True)
class SampleRandom(StepRandom):
    """The random source of sample k, for the functions of a field (map 0) or for one map (1, 2, ...)."""

    origin: SampleOrigin
    k: int
    map: int = 0
    _generator: np.random.Generator | None = None
    _uses: Counter[str] = dataclass_field(default_factory=Counter)

    def random(self) -> float:
        return self.rng().random()

    def own(self, name: str) -> np.random.Generator:
        """The generator of the n-th use of this function in the field: alike in each field that uses it."""
        self._uses[name] += 1
        stream = _FUNCTION | int.from_bytes(digest([f"{name} {self._uses[name]}".encode()])[:7], "little")
        return np.random.Generator(np.random.Philox(key=self.origin.key(self.k) | stream << 64))

    def rng(self) -> np.random.Generator:
        if self._generator is None:
            self._generator = np.random.Generator(np.random.Philox(key=self.origin.key(self.k) | self.map << 64))
        return self._generator

    def reused_generator(self) -> np.random.Generator:
        """The same stream from a reused generator.

        Only safe if the function is the field's only one, and neither keeps it nor processes another sample.
        """
        return _reused.rekeyed(self.origin.key(self.k))


@dataclass(frozen=True, slots=True)
class Processing:
    """The processing of a view, in this order: casts, functions of fields, maps.

    Attributes:
        transformed: the fields with transforms.
        calls_others: whether a function is not of this package, and may draw from the process's generators.
    """

    fields: Mapping[str, RandomFunction]
    maps: Sequence[RandomFunction]
    transformed: frozenset[str]
    casts: Mapping[str, Cast]
    calls_others: bool

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
            if functions := _functions(kind, decode, chain):
                fields[name] = functions[0] if len(functions) == 1 else _chain(functions)
        transformed = frozenset(name for name, _ in transforms if name in schema.fields)
        used = {name: cast for name, cast in casts.items() if name in schema.fields}
        steps = [partial(_mapping, function, takes_rng(function)) for function in maps]
        others = bool(steps) or any(not isinstance(one, Transform) or one.calls for _, one in transforms)
        return cls(fields, steps, transformed, used, others)

    def ragged(self, schema: Schema) -> frozenset[str]:
        """The fields whose values may be delivered without an object for each: no function takes them."""
        if self.maps:
            return frozenset()
        return frozenset(one for one in schema if one not in self.fields and not isinstance(schema[one], Object))

    @property
    def is_plain(self) -> bool:
        """Whether samples are delivered as stored."""
        return not (self.fields or self.maps or self.casts)

    def columns(self, columns: Columns, origin: SampleOrigin, empty: Empty = np.empty) -> Columns:
        """Applies the functions of the fields to stored columns. Arrays of one shape are stacked."""
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
        """A batch from stored columns."""
        if not self.maps:
            return self.columns(columns, origin)
        return collate(self.samples(columns, origin)) if len(origin) else {}

    def samples(self, columns: Columns, origin: SampleOrigin) -> list[Any]:
        """The samples of a batch from stored columns."""
        samples: list[Any] = uncollate(self.columns(columns, origin), len(origin))
        if self.maps:
            for k, sample in enumerate(samples):
                samples[k] = self._mapped(sample, origin, k)
        return samples

    def sample(self, sample: dict[str, Any], origin: SampleOrigin) -> Any:
        """The sample from a stored sample."""
        for name, cast in self.casts.items():
            sample[name] = cast.value(sample[name])
        for name, function in self.fields.items():
            sample[name] = self._field(name, function, sample[name], origin, 0)
        return self._mapped(sample, origin, 0)

    def _field(self, name: str, function: RandomFunction, value: Any, origin: SampleOrigin, k: int) -> Any:
        if value is None and not _sees_missing(function):
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
    """The error of a user's function, with a note of its sample."""
    with contextlib.suppress(Exception):  # some errors refuse notes
        error.add_note("recordio: " + ", ".join(f"{what} {value}" for what, value in location.items()))
    return error


def _mapping(function: Callable[..., Any], random: bool, sample: Any, source: SampleRandom) -> Any:
    return function(sample, rng=source.rng()) if random else function(sample)


def _with_random(function: Callable[..., Any]) -> RandomFunction:
    """Adapts a field's function to (value, random)."""
    if isinstance(function, Transform):
        return partial(_apply, function, "RGB", False)
    kind = CalledForMissing if isinstance(function, CalledForMissing) else partial
    return kind(_with_rng if takes_rng(function) else _without_rng, function)


def _with_rng(function: Callable[..., Any], value: Any, source: SampleRandom) -> Any:
    return function(value, rng=source.own(function_name(function)))


def _without_rng(function: Callable[..., Any], value: Any, source: SampleRandom) -> Any:
    return function(value)


def _chain(functions: Sequence[RandomFunction]) -> RandomFunction:
    kind = CalledForMissing if any(map(_sees_missing, functions)) else partial
    return kind(_chained, functions)


def _sees_missing(function: RandomFunction) -> bool:
    return isinstance(function, CalledForMissing)


def _chained(functions: Sequence[RandomFunction], value: Any, source: SampleRandom) -> Any:
    if value is None:
        functions = list(dropwhile(lambda one: not _sees_missing(one), functions))
    for function in functions:
        value = function(value, source)
    return value


def _functions(kind: Field, decode: Decode | None, chain: Sequence[Callable[..., Any]]) -> list[RandomFunction]:
    """The decoder and the transforms of a field. A transform that decodes by itself gets the encoded image."""
    functions = [_with_random(function) for function in chain]
    if not isinstance(kind, Image) or decode is None:
        return functions
    if kind.encoded and decode == "numpy" and chain and isinstance(chain[0], Transform) and chain[0].encoded:
        reused_generator = len(chain) == 1 and not chain[0].calls
        return [partial(_apply, chain[0], kind.mode, reused_generator), *functions[1:]]
    if kind.encoded:
        decoder = partial(decode_pil if decode == "pil" else decode_image, mode=kind.mode)
        return [partial(_without_rng, decoder), *functions]
    return [partial(_without_rng, pil_image), *functions] if decode == "pil" else functions


def _apply(transform: Transform, mode: str, reused_generator: bool, value: Any, source: SampleRandom) -> Any:
    if not transform.random:
        return transform.apply(value, None, mode)
    if reused_generator:
        return transform.apply(value, source.reused_generator(), mode)
    return transform.apply(value, source if transform.calls else source.rng(), mode)
