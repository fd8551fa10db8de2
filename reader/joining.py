"""Joins the fields and classes of combined datasets without loss, or refuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.arguments import describe
from recordio.errors import SchemaError
from recordio.format.fields import Field
from recordio.format.masks import masked_column, missing_rows
from recordio.format.numeric import Array, Numeric, Scalar
from recordio.format.ragged import Ragged
from recordio.format.schema import Schema
from recordio.reader.columns import values_of

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.processing import Processing

LABEL = "label"  # this field indexes metadata["classes"]


def listed(datasets: Any) -> list[Any]:
    """The datasets of a combined one. Raises SchemaError."""
    if not isinstance(datasets, Iterable):
        raise SchemaError(f"expected several datasets, got {describe(datasets)}")
    return list(datasets)


def weighted(pair: Any) -> tuple[Any, float]:
    """A dataset of a mixture and its weight. Raises SchemaError."""
    try:
        dataset, weight = pair
        return dataset, float(weight)
    except (TypeError, ValueError):
        raise SchemaError(f"the parts of a mixture are (dataset, weight) pairs, not {describe(pair)}") from None


def joined_field(a: Field, b: Field) -> Field | None:
    """The field that holds all values of both without loss, or None."""
    optional = a.optional or b.optional
    same: list[Any] = [replace(one, optional=optional) for one in (a, b)]  # type: ignore[call-arg]
    if same[0] == same[1]:
        return same[0]  # type: ignore[no-any-return]
    if type(a) is not type(b) or not isinstance(a, (Scalar, Array)) or not isinstance(b, (Scalar, Array)):
        return None
    dtype = np.result_type(a.dtype, b.dtype)
    if {a.dtype.kind, b.dtype.kind} - {"i", "u"} and a.dtype.kind != b.dtype.kind:
        return None  # a float would round integers
    if dtype.kind == "f" and a.dtype.kind != "f":
        return None  # int64 and uint64 would become float64
    if isinstance(a, Scalar):
        return Scalar(dtype, optional=optional)
    if len(a.shape) != len(b.shape):
        return None
    shape = tuple(n if n == m else None for n, m in zip(a.shape, b.shape, strict=True))
    return Array(dtype, shape, optional=optional)


@dataclass(frozen=True, slots=True)
class Cast:
    """Converts the stored values of a field to the field of a combined dataset.

    Attributes:
        stored: the field of the dataset.
        joined: the field of the combined dataset.
        labels: int64 (classes,), the combined label of each stored label; None to keep labels.
        ragged: whether columns of variable fields are `Ragged`.
    """

    stored: Field
    joined: Field
    labels: npt.NDArray[np.int64] | None = None
    ragged: bool = False

    def column(self, column: Any) -> Any:
        """Converts a column."""
        if self.ragged and self.joined.row_nbytes is None:
            return Ragged.of(self.joined, [self.value(value) for value in values_of(column)])
        if not isinstance(column, np.ndarray):
            same = self.labels is None and getattr(self.stored, "dtype", None) == getattr(self.joined, "dtype", None)
            return column if same else [self.value(value) for value in column]
        column = self._values(column)
        assert isinstance(self.joined, Numeric)
        if self.joined.row_nbytes is None and not len(column):
            return []
        gone = missing_rows(column) if isinstance(column, ma.MaskedArray) else np.zeros(len(column), bool)
        if self.joined.row_nbytes is None:
            return [None if one else value for value, one in zip(ma.getdata(column), gone.tolist(), strict=True)]
        return masked_column(ma.getdata(column), gone) if self.joined.optional else column

    def value(self, value: Any) -> Any:
        """Converts a single value."""
        return None if value is None else self._values(np.asarray(value))[()]

    def _values(self, values: Any) -> Any:
        assert isinstance(self.joined, Numeric)
        if self.labels is not None:
            values = self._relabelled(values)
        return values.astype(self.joined.dtype, copy=False)

    def _relabelled(self, values: Any) -> Any:
        assert self.labels is not None
        if isinstance(values, ma.MaskedArray):
            gone, found = ma.getmaskarray(values), np.zeros(values.shape, np.int64)
            found[~gone] = self._relabelled(ma.getdata(values)[~gone])
            return ma.MaskedArray(found, gone)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < len(self.labels):
            raise SchemaError(f"a label is not one of the {len(self.labels)} classes").at(field=LABEL)
        return self.labels[values]


class OptionalCast(Cast):
    """Makes ragged columns those of the field of a combined dataset that is optional, and changes nothing else."""

    def column(self, column: Any) -> Any:
        return column.as_kind(self.joined) if isinstance(column, Ragged) else column

    def value(self, value: Any) -> Any:
        return value


def join_schemas(schemas: Sequence[Schema], names: Sequence[str]) -> Schema:
    """The schema that holds all samples. Raises SchemaError, which names the datasets by `names`."""
    first = schemas[0]
    for schema, name in zip(schemas[1:], names[1:], strict=True):
        if list(schema) != list(first):
            raise SchemaError(
                f"the datasets differ in their fields: {', '.join(first)} in {names[0]}, "
                f"{', '.join(schema)} in {name}"
                "; choose the same with fields="
            )
    joined: dict[str, Field] = dict(first.items())
    for schema, name in zip(schemas[1:], names[1:], strict=True):
        for field, kind in schema.items():
            found = joined_field(joined[field], kind)
            if found is None:
                raise SchemaError(
                    f"{first[field]} in {names[0]} and {kind} in {name} cannot be joined without loss; "
                    "map both to one type, or choose other fields with fields="
                ).at(field=field)
            joined[field] = found
    return Schema(joined)


def require_same_processing(each: Sequence[Processing], schemas: Sequence[Schema], names: Sequence[str]) -> None:
    """Refuses a field transformed in only some datasets: it would be an array in one batch, a list in the next."""
    first = each[0]
    for own, schema, name in zip(each[1:], schemas[1:], names[1:], strict=True):
        for field in schema:
            if (field in first.transformed) != (field in own.transformed):
                raise SchemaError(
                    f"the field is transformed in one of {names[0]} and {name}, and not in the other; "
                    "transform both, or the combined dataset"
                ).at(field=field)
            if (field in first.fields) != (field in own.fields):
                raise SchemaError(f"{names[0]} and {name} decode the field differently; open both alike").at(
                    field=field
                )


def require_same_tuples(each: Sequence[tuple[str, ...] | None], names: Sequence[str]) -> None:
    """Refuses datasets whose samples are not tuples of the same fields, or no tuples of `tuples` at all."""
    for own, name in zip(each[1:], names[1:], strict=True):
        if own != each[0]:
            raise SchemaError(f"{names[0]} and {name} differ in their tuples; call tuples() of the combined dataset")


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes of a dataset, as part of a combined one.

    Attributes:
        classes: their names; None if the dataset names none.
        numbers: int64 (n,), the label of each stored label; None if labels are as stored.
    """

    classes: list[Any] | None
    numbers: npt.NDArray[np.int64] | None = None

    def onto(self, classes: list[Any]) -> ClassMap:
        """The same classes by their numbers among others."""
        if self.classes is None or self.classes == classes:
            return ClassMap(classes, self.numbers)
        numbers = np.array(_positions(self.classes, classes), np.int64)
        return ClassMap(classes, numbers if self.numbers is None else numbers[self.numbers])


def _positions(names: list[Any], classes: list[Any]) -> list[int]:
    """The place of each name among the classes, which hold them all."""
    try:
        places = {name: k for k, name in reversed([*enumerate(classes)])}
        return [places[name] for name in names]
    except TypeError:  # a class is a list or a dict
        return [classes.index(name) for name in names]


def _new(names: list[Any], classes: list[Any]) -> list[Any]:
    """The names that are not among the classes."""
    try:
        known = set(classes)
        return [name for name in names if name not in known]
    except TypeError:  # a class is a list or a dict
        return [name for name in names if name not in classes]


def joined_classes(maps: Sequence[ClassMap], names: Sequence[str], relabel: bool) -> list[Any] | None:
    """The common classes, or with `relabel` the union. None if a dataset names none.

    Raises SchemaError when a label means two classes.
    """
    named = [(one.classes, name) for one, name in zip(maps, names, strict=True) if one.classes is not None]
    if relabel:
        if len(named) < len(maps):
            raise SchemaError("relabel=True needs metadata['classes'] in every dataset")
        union: list[Any] = []
        for classes, _ in named:
            union += _new(classes, union)
        return union
    for classes, name in named[1:]:
        _require_same_classes(named[0], (classes, name))
    return named[0][0] if named and len(named) == len(maps) else None


def _require_same_classes(first: tuple[list[Any], str], other: tuple[list[Any], str]) -> None:
    (a, a_name), (b, b_name) = first, other
    if a == b:
        return
    label = next((k for k, (one, two) in enumerate(zip(a, b, strict=False)) if one != two), min(len(a), len(b)))
    raise SchemaError(
        f"label {label} is {_class(a, label)} in {a_name} and {_class(b, label)} in {b_name}: "
        "relabel=True of ConcatDataset and Mixture maps the labels to the classes of all"
    )


def _class(classes: Sequence[Any], label: int) -> str:
    return repr(classes[label]) if label < len(classes) else "no class"


def with_labels_of(schema: Schema, maps: Sequence[ClassMap]) -> Schema:
    """The schema with a label field that holds the numbers of all classes, if labels are mapped. Raises SchemaError."""
    if LABEL not in schema.fields or all(one.numbers is None for one in maps):
        return schema
    kind = schema[LABEL]
    if not isinstance(kind, Scalar) or kind.dtype.kind not in "iu":
        raise SchemaError(f"relabel=True needs labels that are integers, not {kind}").at(field=LABEL)
    largest = max(len(one.classes or ()) for one in maps) - 1
    dtype = np.result_type(kind.dtype, np.min_scalar_type(max(0, largest)))
    return Schema(dict(schema.items()) | {LABEL: Scalar(dtype, optional=kind.optional)})


def casts_to(schema: Schema, joined: Schema, labels: ClassMap, ragged: bool = False) -> dict[str, Cast]:
    """The casts from a dataset to a combined dataset, only for fields that change.

    Args:
        schema: the schema of the dataset.
        joined: the schema of the combined dataset.
        labels: the classes of the dataset.
        ragged: whether columns of variable fields are `Ragged`: these know whether the field is optional.
    """
    casts: dict[str, Cast] = {}
    for name, kind in schema.items():
        if _differ(kind, joined[name]):
            casts[name] = Cast(kind, joined[name], ragged=ragged)
        elif ragged and kind != joined[name]:
            casts[name] = OptionalCast(kind, joined[name])
    if labels.numbers is not None and LABEL in schema.fields:
        casts[LABEL] = Cast(schema[LABEL], joined[LABEL], labels.numbers)
    return casts


def _differ(stored: Field, joined: Field) -> bool:
    """Whether the columns differ. Variable-size columns are lists with None either way, optional or not."""
    if stored == joined or not isinstance(stored, Numeric) or not isinstance(joined, Numeric):
        return False
    return stored.row_nbytes is not None or stored.dtype != joined.dtype


def joined_parts(parts: Sequence[ShardDataset]) -> tuple[Schema, tuple[ShardDataset, ...]]:
    """The schema of all parts, and the parts with its types and labels. Maps may make anything of any fields."""
    names, schemas = [repr(part) for part in parts], [part.schema for part in parts]
    has_maps = any(part.processing.maps for part in parts)
    require_same_tuples([part.tuple_fields for part in parts], names)
    if len({part.is_ragged for part in parts}) > 1:
        raise SchemaError("some of the datasets are ragged and others are not; call ragged() of the combined dataset")
    try:
        if not has_maps:
            require_same_processing([part.processing for part in parts], schemas, names)
        schema = join_schemas(schemas, names)
    except SchemaError:
        if not has_maps:
            raise
        joined = [with_labels_of(part.schema, [part.class_map]) for part in parts]
    else:
        joined = [with_labels_of(schema, [part.class_map for part in parts])] * len(parts)
    typed = []
    for part, own in zip(parts, joined, strict=True):
        casts = casts_to(part.schema, own, part.class_map, part.is_ragged)
        typed.append(part.as_part(casts, part.class_map))
    return joined[0], tuple(typed)
