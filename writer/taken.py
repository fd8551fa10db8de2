"""Samples that a writer has taken before it knows their schema, in memory that the caller can change no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from recordio.format.fields import Bytes, Field, Object
from recordio.format.image_field import Image
from recordio.format.masks import plain_array
from recordio.format.numeric import is_array
from recordio.format.schema import Sample
from recordio.writer.packing import Packer, column_length

_PIECE = 1 << 14  # samples
_UNCHANGING = (int, float, complex, str, bytes, np.generic, type(None))
_UNCHANGED = frozenset({int, float, str, bytes})  # the commonest of them


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


@dataclass(frozen=True, slots=True)
class Taken:
    """A sample.

    Attributes:
        values: its values, but those that `row` says as well.
        row: its packed values, if `packer` has packed it.
    """

    values: Mapping[str, Any]
    row: list[bytes | None] | None = None
    packer: Packer | None = None

    @classmethod
    def packed(cls, sample: Sample, row: list[bytes | None], packer: Packer) -> Self:
        values = {}
        for (name, field), data in zip(packer.schema.items(), row, strict=True):
            value = sample.get(name)
            if type(value) in _UNCHANGED:
                values[name] = value
            elif not _is_said(field, value):
                values[name] = copied(field, value, data)
        return cls(values, row, packer)

    def sample(self) -> Sample:
        """The sample as it was given."""
        if self.packer is None or self.row is None:
            return self.values
        fields = zip(self.packer.schema.items(), self.row, strict=True)
        return {
            name: self.values[name] if name in self.values else field.view(data)  # type: ignore[attr-defined]
            for (name, field), data in fields
        }


def _is_said(field: Field, value: Any) -> bool:
    """Whether a packed array says all of this value."""
    return type(value) is np.ndarray and is_array(field) and value.dtype == field.dtype


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
