"""The fields of the features of TFRecord files, found by looking at all of their values.

A feature with one value in every record is a scalar, one with always the same number an array of that shape; else the
dimension is free. Several byte strings are an Object, a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Field, Object
from recordio.format.numeric import Array, Scalar
from recordio.writer.sources.records.inferred import BytesColumn
from recordio.writer.sources.records.tf_example import Feature, Kind
from recordio.writer.sources.source import Source, SourceOptions

_DTYPES = {"float": "float32", "int64": "int64"}


class _Counts:
    """The least and the most of some numbers."""

    def __init__(self) -> None:
        self.least, self.most = 1 << 62, 0

    def see(self, count: int) -> None:
        self.least, self.most = min(self.least, count), max(self.most, count)

    @property
    def same(self) -> int | None:
        """The number that all of them are, None if they differ or are 0."""
        return self.most if self.least == self.most and self.most else None


class Column:
    """What features and feature lists have in common: one kind, and how many records have it."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name = name
        self._kind: Kind | None = None
        self._seen = 0
        self._bytes = BytesColumn(name, options)

    @property
    def text(self) -> bool:
        """Whether the values are text."""
        return self._kind == "bytes" and self._bytes.text

    def fields(self, source: Source, records: int) -> dict[str, Field]:
        """The field or fields, by their names, as samples of so many records have them."""
        raise NotImplementedError

    def _require(self, kind: Kind) -> None:
        """Raises SourceError for another kind than that of the values before."""
        self._kind = self._kind or kind
        if kind != self._kind:
            raise SourceError(f"values of kind {kind} here, {self._kind} in records before it").at(field=self.name)

    def _decoded(self, values: Any) -> list[Any]:
        return [value.decode("utf-8") for value in values] if self.text else list(values)


class FeatureColumn(Column):
    """A feature of an Example, or of the context of a SequenceExample."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        super().__init__(name, options)
        self._counts = _Counts()

    def see(self, feature: Feature) -> None:
        """Looks at the values in one more record. Raises SourceError."""
        self._require(feature.kind)
        self._seen += 1
        self._counts.see(len(feature.values))
        if feature.kind == "bytes":
            for value in feature.values:
                self._bytes.see(value)

    def fields(self, source: Source, records: int) -> dict[str, Field]:
        optional = self._seen < records
        self._one = self._counts.same == 1
        if self._kind != "bytes":
            dtype = _DTYPES[str(self._kind)]
            shape = (self._counts.same,)
            self._field: Field = Scalar(dtype, optional) if self._one else Array(dtype, shape, optional=optional)
        elif self._one:
            self._field = self._bytes.field(source, optional)
        else:
            self._field = Object(optional=optional)
        return {self.name: self._field}

    def value(self, feature: Feature) -> Any:
        """What the field stores of a feature. Raises SourceError."""
        self._require(feature.kind)
        if feature.kind == "bytes":
            values = self._decoded(feature.values)
            return values[0] if self._one else values
        assert isinstance(feature.values, np.ndarray)
        return feature.values[0].item() if self._one else feature.values


class SequenceColumn(Column):
    """A feature list. Numbers are an array with a row a step; where the steps differ in length, all values in a row.

    Then the field NAME/lengths, int64 (steps,), says how many are of each step.
    """

    def __init__(self, name: str, options: SourceOptions) -> None:
        super().__init__(name, options)
        self._steps, self._inner = _Counts(), _Counts()

    def see(self, steps: list[Feature | None]) -> None:
        """Looks at the steps in one more record. Raises SourceError."""
        for feature in steps:
            if feature is not None:
                self._require(feature.kind)
        self._seen += 1
        self._steps.see(len(steps))
        for feature in steps:
            self._inner.see(len(feature.values) if feature else 0)
            if feature is not None and feature.kind == "bytes":
                for value in feature.values:
                    self._bytes.see(value)

    def fields(self, source: Source, records: int) -> dict[str, Field]:
        optional = self._seen < records
        if self._kind == "bytes":
            return {self.name: Object(optional=optional)}
        dtype, steps, inner = _DTYPES[self._kind or "int64"], self._steps.same, self._inner.same
        if inner is None and self._steps.most:
            lengths = Array("int64", (steps,), optional=optional)
            return {self.name: Array(dtype, (None,), optional=optional), f"{self.name}/lengths": lengths}
        shape = (steps,) if inner in (None, 1) else (steps, inner)
        return {self.name: Array(dtype, shape, optional=optional)}

    def values(self, steps: list[Feature | None]) -> dict[str, Any]:
        """What the field or fields store of the steps of a record. Raises SourceError."""
        for feature in steps:
            if feature is not None:
                self._require(feature.kind)
        if self._kind == "bytes":
            rows = [self._decoded(feature.values if feature else ()) for feature in steps]
            return {self.name: [row[0] for row in rows] if self._inner.same == 1 else rows}
        dtype = _DTYPES[self._kind or "int64"]
        flat = np.concatenate([np.empty(0, dtype), *(feature.values for feature in steps if feature)])
        inner = self._inner.same
        if inner is None and self._steps.most:
            lengths = np.array([len(feature.values) if feature else 0 for feature in steps], np.int64)
            return {self.name: flat, f"{self.name}/lengths": lengths}
        return {self.name: flat if inner in (None, 1) else flat.reshape(len(steps), inner)}
