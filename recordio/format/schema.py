"""The schema: the named fields of a sample, declared, inferred from a sample, or read from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field as dataclass_field
from typing import Any, Self

import numpy as np

from recordio.arguments import describe
from recordio.errors import CorruptError, SchemaError, UnsupportedError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.image_field import Image
from recordio.format.layout import MAX_FIELDS, MAX_NAME_NBYTES
from recordio.format.masks import NOT_AN_ARRAY, plain_array
from recordio.format.numeric import Array, Scalar
from recordio.format.pil import fitting_mode

Sample = Mapping[str, Any]
Columns = dict[str, Any]


TYPES: dict[str, type[Field]] = {cls.type: cls for cls in (Scalar, Array, Text, Bytes, Image, Object)}


def _utf8(name: str) -> bytes:
    """The name in UTF-8; empty if it cannot be encoded."""
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        return b""


def infer_field(value: Any) -> Field:
    """The field of which `value` is an example, not optional. Raises SchemaError."""
    try:
        return _infer(value)
    except SchemaError:  # which is a ValueError, too
        raise
    except NOT_AN_ARRAY as error:
        raise SchemaError(f"{describe(value)} cannot become an array: {error}") from error


def _infer(value: Any) -> Field:
    if isinstance(value, str):
        return Text()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Bytes()
    if isinstance(value, int) and value >= 1 << 63:
        raise SchemaError(f"{describe(value)} is above the range of int64; give a schema with Scalar('uint64')")
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return Scalar(np.asarray(value).dtype if not isinstance(value, int) or isinstance(value, bool) else "int64")
    if type(value).__module__.startswith("PIL."):
        return Image(mode=fitting_mode(value))
    if hasattr(value, "__array__"):
        array = plain_array(value)
        return Array(array.dtype, array.shape) if array.shape else Scalar(array.dtype)
    if isinstance(value, (dict, list, tuple)):
        return Object()
    raise SchemaError(f"no field type can be inferred from {describe(value)}; give a schema")


@dataclass(frozen=True, eq=False)
class Schema(Mapping[str, Field]):
    """The fields of a dataset, by name, in order: `Schema({"image": Image(), "label": Scalar("int64")})`."""

    fields: Mapping[str, Field] = dataclass_field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = dict(self.fields)
        if not 0 < len(fields) <= MAX_FIELDS:
            raise SchemaError(f"a schema has 1 to {MAX_FIELDS} fields, not {len(fields)}")
        for name, kind in fields.items():
            if not isinstance(name, str) or not 0 < len(_utf8(name)) <= MAX_NAME_NBYTES:
                raise SchemaError(f"a field's name is a str of 1 to {MAX_NAME_NBYTES} bytes, not {name!r}")
            if not isinstance(kind, Field):
                raise SchemaError(f"expected a field type such as Scalar('int64'), got {kind!r}").at(field=name)
        object.__setattr__(self, "fields", fields)

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        """Order matters: pages follow it."""
        return isinstance(other, Schema) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return "Schema({" + ", ".join(f"{name!r}: {kind!r}" for name, kind in self.items()) + "})"

    @classmethod
    def infer(cls, sample: Sample) -> Self:
        """The schema of which `sample` is an example. No field is optional. Raises SchemaError.

        The mode of an image is one that loses nothing of this picture: "L" for a grey one, "RGBA" with transparency.
        """
        if not isinstance(sample, Mapping):
            raise SchemaError(f"a sample is a dict, not {describe(sample)}")
        fields = {}
        for name, value in sample.items():
            try:
                fields[name] = infer_field(value)
            except SchemaError as error:
                raise error.at(field=name)
        return cls(fields)

    def select(self, names: Iterable[str]) -> Self:
        """The schema of these fields, in this order. Raises SchemaError for a name that is not there."""
        names = [names] if isinstance(names, str) else list(names)
        if not names:
            raise SchemaError(f"no field is named; there are {', '.join(self)}")
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise SchemaError(f"no field named {', '.join(map(repr, missing))}; there are {', '.join(self)}")
        return type(self)({name: self.fields[name] for name in names})

    def to_json(self) -> list[dict[str, Any]]:
        return [{"name": name} | kind.to_json() for name, kind in self.items()]

    @classmethod
    def from_json(cls, entries: Any) -> Self:
        """The schema as read from a file. Raises CorruptError, or UnsupportedError for a field type of the future."""
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
        ):
            raise CorruptError("the schema is not a list of named fields")
        names = [entry["name"] for entry in entries]
        if len(set(names)) != len(names):
            raise CorruptError("the schema names a field twice")
        try:
            return cls({entry["name"]: _field_from_json(entry) for entry in entries})
        except SchemaError as error:
            raise CorruptError(f"the schema is not valid: {error.fault}", error.place) from error


def _field_from_json(entry: dict[str, Any]) -> Field:
    name = entry.get("type")
    kind = TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UnsupportedError(f"unknown field type {name!r}").at(field=entry["name"])
    options = {key: value for key, value in entry.items() if key not in ("name", "type")}
    missing = not any(set(options) - {"optional"} == needed for needed in _JSON_NEEDED.get(kind.type, [set()]))
    if missing or not all(_JSON_OPTIONS.get(key, lambda _: True)(value) for key, value in options.items()):
        raise SchemaError(f"a field of type {name!r} with options {options}").at(field=entry["name"])
    try:
        return kind(**options)
    except TypeError as error:
        raise SchemaError(f"field of type {name!r} with unknown options {sorted(options)}").at(
            field=entry["name"]
        ) from error


# The dtypes and options allowed in files; NumPy accepts far more.
_DTYPES = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES = ("bool", *_DTYPES, "float16", "float32", "float64", "complex64", "complex128")
_JSON_NEEDED: dict[str, list[set[str]]] = {
    "scalar": [{"dtype"}],
    "array": [{"dtype", "shape"}],
    "image": [{"mode"}, {"shape"}],
}
_JSON_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "dtype": lambda value: isinstance(value, str) and value in DTYPES,
    "shape": lambda value: isinstance(value, list) and all(n is None or type(n) is int for n in value),
    "mode": lambda value: isinstance(value, str),
    "optional": lambda value: type(value) is bool,
}
