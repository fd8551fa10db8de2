"""The base of all field types, and text, bytes and objects. Numbers are in numeric.py, pictures in image_field.py.

On disk there are two kinds of field, and pages know no more than that: a *fixed* field takes `row_nbytes` bytes per
sample, a *variable* field any number. Each class has `pack`, which checks a value and encodes it, beside `unpack`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack

from recordio.arguments import describe
from recordio.errors import CorruptError, SchemaError


@dataclass(frozen=True, slots=True)
class Field:
    """A typed field. `optional` lets a sample leave it out or give None."""

    type: ClassVar[str]

    @property
    def row_nbytes(self) -> int | None:
        """Bytes of one value for a fixed field; None for a variable one."""
        return None

    @property
    def optional(self) -> bool:
        raise NotImplementedError

    def pack(self, value: Any) -> bytes:
        """One value as bytes. Raises SchemaError when the value does not fit."""
        raise NotImplementedError

    def unpack(self, data: bytes) -> Any:
        """The inverse of `pack`, for variable fields; fixed ones are read as whole columns. Raises CorruptError."""
        raise NotImplementedError

    def packer(self) -> Callable[[Any], bytes]:
        """The fastest equivalent of `pack`."""
        return self.pack

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": self.type}
        out.update(self._json())
        return out | {"optional": True} if self.optional else out

    def _json(self) -> dict[str, Any]:
        return {}

    def _refuse(self, value: Any) -> SchemaError:
        return SchemaError(f"expected {self}, got {describe(value)}")


@dataclass(frozen=True, slots=True)
class Text(Field):
    """A string, stored as UTF-8."""

    type: ClassVar[str] = "text"
    optional: bool = False

    def pack(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise self._refuse(value)
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise SchemaError(f"the text is not valid Unicode: {error}") from error

    def unpack(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptError(f"text is not UTF-8: {error}") from error

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True, slots=True)
class Bytes(Field):
    """Any bytes."""

    type: ClassVar[str] = "bytes"
    optional: bool = False

    def pack(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self._refuse(value)
        return bytes(value)

    def unpack(self, data: bytes) -> bytes:
        return data

    def __str__(self) -> str:
        return "bytes"


def _members(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A map of msgpack as an object of JSON: its keys are of type str, each once. Raises ValueError."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice in a map")
    if set(map(type, out)) - {str}:
        raise ValueError("a key that is not a string")
    return out


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError(f"an extension type, {code}")


@dataclass(frozen=True, slots=True)
class Object(Field):
    """Anything that JSON can say, and bytes: None, bool, int, float, str, bytes, lists, dicts with str keys.

    Stored as msgpack; a tuple comes back as a list.
    """

    type: ClassVar[str] = "object"
    optional: bool = False

    def pack(self, value: Any) -> bytes:
        try:
            data = msgpack.packb(value)
            self.unpack(data)
        except (TypeError, ValueError, OverflowError, RecursionError, CorruptError) as error:
            raise SchemaError(f"expected {self}, got {describe(value)}: {error}") from error
        return bytes(data)

    def unpack(self, data: bytes) -> Any:
        try:
            return msgpack.unpackb(data, object_pairs_hook=_members, ext_hook=_refuse_extension, max_ext_len=0)
        except MemoryError:  # no fault of the data
            raise
        except Exception as error:  # msgpack raises ValueError, its own types and bare Exception subclasses
            raise CorruptError(f"object is not valid msgpack: {error}") from error

    def __str__(self) -> str:
        return "object (JSON-like)"
