"""Samples that a writer has taken before it knows their schema, in memory that the caller can change no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.format.fields import Bytes, Field, Object
from recordio.format.image_field import Image
from recordio.format.masks import plain_array
from recordio.format.numeric import is_array
from recordio.format.schema import Sample
from recordio.writer.packing import PackedList, Packer, column_length

_PIECE = 1 << 14  # samples
_UNCHANGING = (int, float, complex, str, bytes, np.generic, type(None))
_UNCHANGED = frozenset({int, float, str, bytes})  # the commonest of them
_IN_PACKED = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as columns."""

    columns: Mapping[str, Any]

    def pieces(self) -> Iterator[Mapping[str, Any]]:
        """The same samples, few at a time: the memory of their packed values is used again and stays in the cache."""
        if not all(isinstance(column, (list, tuple, np.ndarray)) for column in self.columns.values()):
            yield self.columns
            return
        for begin in range(0, column_length(self.columns), _PIECE):
            yield {name: column[begin : begin + _PIECE] for name, column in self.columns.items()}


class Run:
    """Samples that one packer has packed, in few lists: the garbage collector would look at many.

    Attributes:
        packer: the packer.
        packed: for each sample, the packed value of each field.
        sizes: the bytes of each sample.
    """

    def __init__(self, packer: Packer) -> None:
        self.packer = packer
        self.packed: PackedList = []
        self.sizes: list[int] = []
        self._fields = [
            (name, field, field.dtype if is_array(field) else None) for name, field in packer.schema.items()
        ]
        self._values: list[Any] = []  # for each sample one of each field

    def add(self, sample: Sample) -> int:
        """Takes a sample, and returns its bytes. Raises SchemaError for one that does not fit, and takes nothing."""
        row: PackedList = []
        nbytes = self.packer.pack_into(sample, row)
        values = [
            value if type(value := sample.get(name)) in _UNCHANGED else _kept(field, dtype, value, data)
            for (name, field, dtype), data in zip(self._fields, row, strict=True)
        ]
        self.packed += row
        self.sizes.append(nbytes)
        self._values += values
        return nbytes

    def rows(self) -> Iterator[tuple[PackedList, int]]:
        """The packed values of each sample, and its bytes."""
        fields = len(self._fields)
        for k, nbytes in enumerate(self.sizes):
            yield self.packed[k * fields : (k + 1) * fields], nbytes

    def samples(self) -> Iterator[Sample]:
        """The samples as they were given, but that names left out are None, and arrays cannot be changed."""
        fields = len(self._fields)
        for k, (row, _) in enumerate(self.rows()):
            values = self._values[k * fields : (k + 1) * fields]
            yield {
                name: field.view(data) if value is _IN_PACKED else value  # type: ignore[attr-defined]
                for (name, field, _), value, data in zip(self._fields, values, row, strict=True)
            }


def samples_of(part: Sample | Run) -> Iterable[Sample]:
    """The samples of a run, or the one that was taken alone."""
    return part.samples() if isinstance(part, Run) else [part]


def _kept(field: Field, dtype: np.dtype[Any] | None, value: Any, packed: bytes | None) -> Any:
    """A value that the caller cannot change any more; _IN_PACKED for an array of which the packed form says all."""
    if type(value) is np.ndarray and dtype is not None and value.dtype == dtype:
        return _IN_PACKED
    return copied(field, value, packed)


def copied(kind: Field | None, value: Any, packed: bytes | None) -> Any:
    """A value that the caller cannot change any more. `packed`: it as bytes, None if it is missing."""
    if packed is None or value is None:
        return None
    if isinstance(kind, (Bytes, Image)):
        return packed
    if isinstance(value, _UNCHANGING):
        return value
    if isinstance(kind, Object):
        return kind.unpack(packed)
    return deepcopy(value) if isinstance(value, (list, tuple)) else np.array(plain_array(value))
