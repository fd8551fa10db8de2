"""The field that holds all values of one column of records, found while the records are scanned."""

from __future__ import annotations

import re
from typing import Any, Protocol

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.numeric import Array, Scalar
from recordio.images.formats import HEAD_NBYTES, UNREADABLE, sniff
from recordio.writer.sources.folders.pictures import PictureSurvey
from recordio.writer.sources.source import Source, SourceOptions
from recordio.writer.sources.tables.json_types import JsonColumn

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # no tab, no newline, no carriage return


class Column(Protocol):
    """The values of one column, as far as they were seen."""

    @property
    def decided(self) -> bool:
        """Whether no other value can change the field."""

    def see(self, value: Any) -> None:
        """Looks at one more value. Raises SourceError for one that no field holds together with those before it."""

    def field(self, source: Source, optional: bool = False) -> Field:
        """The field that holds the values. The source is told how pictures are treated, and what to say of them."""


class KnownColumn:
    """Values of which the field is known."""

    decided = True

    def __init__(self, field: Field) -> None:
        self._field = field

    def see(self, value: Any) -> None:
        pass

    def field(self, source: Source, optional: bool = False) -> Field:
        return self._field


class ArrayColumn:
    """NumPy arrays and scalars: a dimension that differs is free, the dtype holds all values exactly."""

    decided = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int | None, ...] = ()

    def see(self, value: np.ndarray[Any, Any] | np.generic) -> None:
        if self._dtype is None:
            self._dtype, self._shape = value.dtype, value.shape
        elif value.dtype != self._dtype:
            self._dtype = self._common(self._dtype, value.dtype)
        if value.shape != self._shape:
            self._shape = self._free(value.shape)

    def _common(self, before: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
        found = np.promote_types(before, other)
        if before.kind != other.kind and not {before.kind, other.kind, found.kind} <= {"i", "u"}:
            raise SourceError(f"{other} here, {before} in records before it").at(field=self._name)
        return found

    def _free(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        if len(shape) != len(self._shape):
            text = f"{len(shape)} dimensions here, {len(self._shape)} in records before it"
            raise SourceError(text).at(field=self._name)
        return tuple(one if one == other else None for one, other in zip(shape, self._shape, strict=True))

    def field(self, source: Source, optional: bool = False) -> Field:
        if not self._shape:
            return Scalar(self._dtype, optional=optional)
        shape = tuple(None if n == 0 else n for n in self._shape)  # always empty: nothing says how many it may hold
        return Array(self._dtype, shape, optional=optional)


class PicturesColumn:
    """The bytes of picture files."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self._name = name
        self._survey = PictureSurvey(name, options)

    @property
    def decided(self) -> bool:
        return self._survey.decided

    def see(self, value: bytes) -> None:
        self._survey.see_data(value)

    def field(self, source: Source, optional: bool = False) -> Field:
        column = self._survey.column(optional)
        source.pictures = {**source.pictures, self._name: column.kind}
        source.notes += column.notes
        return column.field


class BytesColumn:
    """Byte strings: text if all are UTF-8 without control characters, pictures if all begin as such, else bytes.

    `texts`: whether text may be stored as bytes.
    """

    def __init__(self, name: str, options: SourceOptions, texts: bool = True) -> None:
        self._name = name
        self._seen = self._pictures = 0
        self.text = texts
        self._survey = PicturesColumn(name, options)

    @property
    def decided(self) -> bool:
        return self._seen > 0 and not self.text and not self._pictures

    def see(self, value: bytes) -> None:
        self._seen += 1
        if self.text and _is_text(value):
            return
        self.text = False
        if sniff(value[:HEAD_NBYTES]) not in (None, *UNREADABLE):
            self._pictures += 1
            self._survey.see(value)

    def field(self, source: Source, optional: bool = False) -> Field:
        if self.text:
            return Text(optional=optional)
        if self._pictures == self._seen:
            return self._survey.field(source, optional)
        if 2 * self._pictures > self._seen:
            text = f"{self._pictures} of {self._seen} values of {self._name!r} are pictures, so all are kept as bytes"
            source.notes += (text,)
        return Bytes(optional=optional)


class JsonValues:
    """What JSON can say: numbers, text and regular lists of numbers have their types, anything else is an Object."""

    decided = False

    def __init__(self) -> None:
        self._seen = 0
        self._column = JsonColumn()

    def see(self, value: Any) -> None:
        self._seen += 1
        self._column.see(value)

    def field(self, source: Source, optional: bool = False) -> Field:
        return self._column.field(self._seen)


def _is_text(value: bytes) -> bool:
    if _CONTROL.search(value):
        return False
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
