"""The field that holds all values of one column of records, found while the records are scanned.

JSON values have their own, in json_types.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.numeric import Array, Scalar
from recordio.images.formats import HEAD_NBYTES, UNREADABLE, sniff
from recordio.writer.sources.pictures import PictureColumn, PictureSurvey
from recordio.writer.sources.source import Source, SourceOptions

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # no tab, no newline, no carriage return


class ArrayColumn:
    """NumPy arrays and scalars: a dimension that differs is free, the dtype holds all values exactly.

    Attributes:
        seen: how many values there were.
    """

    def __init__(self, name: str) -> None:
        self.seen = 0
        self._name = name
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int | None, ...] = ()

    def see(self, value: np.ndarray[Any, Any] | np.generic) -> None:
        """Raises SourceError for a value that no field holds together with those before it."""
        if self._dtype is None:
            self._dtype, self._shape = value.dtype, value.shape
        elif value.dtype != self._dtype:
            self._dtype = self._common(self._dtype, value.dtype)
        if value.shape != self._shape:
            self._shape = self._free(value.shape)
        self.seen += 1

    def _common(self, before: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
        found = np.promote_types(before, other)
        if found.kind not in (before.kind, other.kind) or (found.kind in "fc" and before.kind != other.kind):
            raise SourceError(f"{other} here, {before} in records before it").at(field=self._name)
        return found

    def _free(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        if len(shape) != len(self._shape):
            text = f"{len(shape)} dimensions here, {len(self._shape)} in records before it"
            raise SourceError(text).at(field=self._name)
        return tuple(one if one == other else None for one, other in zip(shape, self._shape, strict=True))

    def field(self, records: int) -> Field:
        """The field of the values seen in so many records: optional if there were fewer values."""
        optional = self.seen < records
        if not self._shape:
            return Scalar(self._dtype, optional=optional)
        shape = tuple(None if n == 0 else n for n in self._shape)  # always empty: nothing says how many it may hold
        return Array(self._dtype, shape, optional=optional)


class BytesColumn:
    """Byte strings: text if all are UTF-8 without control characters, pictures if all begin as such, else bytes."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.seen = 0
        self._name = name
        self._texts = self._pictures = 0
        self._survey = PictureSurvey(name, options)

    def see(self, value: bytes) -> None:
        if self._texts == self.seen and _is_text(value):
            self._texts += 1
        if sniff(value[:HEAD_NBYTES]) not in (None, *UNREADABLE):
            self._pictures += 1
            self._survey.see_data(value)
        self.seen += 1

    @property
    def text(self) -> bool:
        """Whether all values are text."""
        return self._texts == self.seen

    def column(self, optional: bool) -> PictureColumn:
        """The field, how its pictures are treated, and notes."""
        if self.text:
            return PictureColumn(Text(optional=optional))
        if self._pictures == self.seen:
            return self._survey.column(optional)
        notes: tuple[str, ...] = ()
        if 2 * self._pictures > self.seen:
            text = f"{self._pictures} of {self.seen} values of {self._name!r} are pictures, so it is kept as bytes"
            notes = (text,)
        return PictureColumn(Bytes(optional=optional), notes=notes)


def _is_text(value: bytes) -> bool:
    if _CONTROL.search(value):
        return False
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def adopt(source: Source, name: str, column: PictureColumn) -> Field:
    """The field of a column; the source is told how its pictures are treated, and what to say of them."""
    if not isinstance(column.field, (Text, Bytes)):
        source.pictures = {**source.pictures, name: column.kind}
    source.notes += column.notes
    return column.field
