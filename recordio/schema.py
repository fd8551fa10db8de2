"""The schema: the named, typed fields of a sample, and how one value of each becomes bytes and back.

On disk a field has one of two shapes, and nothing below this file knows more about it:
a *fixed* field gives every sample the same number of bytes (`row_nbytes`), a *variable* one gives any number.
Each field packs a value (checking it) and unpacks it; both stand side by side in its class.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field as dataclass_field
from typing import Any, ClassVar, Self

import msgpack
import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, SchemaError, UnsupportedError
from recordio.layout import MAX_FIELDS, MAX_NAME_NBYTES, MAX_ROW_NBYTES

Sample = Mapping[str, Any]
Columns = dict[str, Any]
Shape = tuple[int | None, ...]

IMAGE_FORMATS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"RIFF": "webp"}


def image_format(data: bytes) -> str | None:
    """"jpeg", "png" or "webp" by the first bytes, None for anything else."""
    name = next((name for magic, name in IMAGE_FORMATS.items() if data.startswith(magic)), None)
    return None if name == "webp" and data[8:12] != b"WEBP" else name


def numeric_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The little-endian dtype; bool, integers, floats up to 64 bits and complex up to 128, nothing else."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"not a dtype: {dtype!r}") from error
    if found.kind not in "biufc" or found.itemsize > (16 if found.kind == "c" else 8):
        raise SchemaError(f"dtype {found} is not storable: expected bool, int, uint, float or complex")
    return found.newbyteorder("<")


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


@dataclass(frozen=True, slots=True)
class Field:
    """A typed field. `optional` lets a sample leave it out or give None."""

    type: ClassVar[str]

    @property
    def row_nbytes(self) -> int | None:
        """Bytes of one value when all have the same number (a fixed field), else None."""
        return None

    @property
    def optional(self) -> bool:
        raise NotImplementedError

    def pack(self, value: Any) -> bytes:
        """One value as bytes. Raises SchemaError when the value does not fit."""
        raise NotImplementedError

    def unpack(self, data: bytes) -> Any:
        """One value from the bytes of `pack`. Raises CorruptError. Only variable fields are unpacked one by one."""
        raise NotImplementedError

    def packer(self) -> Callable[[Any], bytes]:
        """The quickest callable that does what `pack` does."""
        return self.pack

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": self.type}
        out.update(self._json())
        return out | {"optional": True} if self.optional else out

    def _json(self) -> dict[str, Any]:
        return {}

    def _refuse(self, value: Any) -> SchemaError:
        return SchemaError(f"expected {self}, got {_describe(value)}")


def _shape(shape: Iterable[int | None]) -> Shape:
    try:
        out = tuple(None if n is None else int(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"not a shape: {shape!r}") from error
    if len(out) > 32 or any(n is not None and n < 0 for n in out):
        raise SchemaError(f"not a shape: {out}")
    return out


def _fixed_nbytes(dtype: np.dtype[Any], shape: Shape) -> int | None:
    """Bytes of one array, None when a dimension is free."""
    sizes = [n for n in shape if n is not None]
    nbytes = math.prod(sizes) * dtype.itemsize
    if nbytes > MAX_ROW_NBYTES:
        raise SchemaError(f"an array of {dtype}{list(shape)} is over the limit of {MAX_ROW_NBYTES} bytes")
    return nbytes if len(sizes) == len(shape) else None


class _Numeric(Field):
    """Pack and unpack shared by the fields that hold numbers: scalars, arrays and plain pixels."""

    __slots__ = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        raise NotImplementedError

    @property
    def shape(self) -> Shape:
        raise NotImplementedError

    def _array(self, value: Any) -> npt.NDArray[Any]:
        try:
            array = np.asarray(value)
            if array.dtype != self.dtype:
                array = self._cast(value, array)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._refuse(value) from error
        if len(array.shape) != len(self.shape) or any(
            want is not None and want != got for want, got in zip(self.shape, array.shape, strict=True)
        ):
            raise self._refuse(value if isinstance(value, np.ndarray) else array)
        return array

    def _cast(self, value: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Plain Python numbers take the field's dtype if they fit; typed numbers must cast without loss."""
        plain = not hasattr(value, "dtype")
        if array.size == 0 and plain:
            return array.astype(self.dtype)
        if not plain or array.dtype.kind not in "biufc":
            if not np.can_cast(array.dtype, self.dtype, "safe"):
                raise self._refuse(value)
            return array.astype(self.dtype)
        ranks = "biufc"
        rank = "i" if array.dtype.kind == "u" else array.dtype.kind
        if ranks.index(rank) > ranks.index("i" if self.dtype.kind == "u" else self.dtype.kind):
            raise self._refuse(value)
        out = array.astype(self.dtype)
        if self.dtype.kind in "biu" and not np.array_equal(out, array):
            raise self._refuse(value)
        if self.dtype.kind in "fc" and (np.isinf(out) & ~np.isinf(array)).any():
            raise self._refuse(value)
        return out

    @property
    def row_nbytes(self) -> int | None:
        return _fixed_nbytes(self.dtype, self.shape)

    @property
    def _free(self) -> int:
        return sum(n is None for n in self.shape)

    def pack(self, value: Any) -> bytes:
        array = self._array(value)
        free = [got for want, got in zip(self.shape, array.shape, strict=True) if want is None]
        return struct.pack(f"<{len(free)}Q", *free) + array.tobytes()

    def packer(self) -> Callable[[Any], bytes]:
        dtype, shape, pack = self.dtype, self.shape, self.pack

        def quick(value: Any) -> bytes:
            if type(value) is np.ndarray and value.shape == shape and value.dtype == dtype:
                return value.tobytes()
            return pack(value)

        return pack if self._free else quick

    def unpack(self, data: bytes) -> Any:
        """An array with free dimensions: one u64 for each of them, then the elements in C order."""
        start = 8 * self._free
        if len(data) < start:
            raise CorruptError(f"array too short: {len(data)} bytes, its dimensions alone take {start}")
        free = iter(struct.unpack_from(f"<{self._free}Q", data))
        shape = tuple(next(free) if want is None else want for want in self.shape)
        if math.prod(shape) * self.dtype.itemsize != len(data) - start:
            raise CorruptError(f"array of {list(shape)} {self.dtype} does not fit its {len(data) - start} bytes")
        return np.frombuffer(data, self.dtype, offset=start).reshape(shape).copy()

    def batch(self, values: Any) -> npt.NDArray[Any]:
        """A whole column, dtype and shape (n, *shape), contiguous. For fixed fields. Raises SchemaError."""
        if not hasattr(values, "dtype"):
            return np.frombuffer(bytearray().join(map(self.packer(), values)), self.dtype).reshape(
                (len(values), *(n or 0 for n in self.shape))
            )
        array = np.asarray(values)
        if array.shape[1:] != self.shape or not np.can_cast(array.dtype, self.dtype, "safe"):
            raise SchemaError(f"expected a column of {self}, got {_describe(array)}")
        return np.ascontiguousarray(array, self.dtype)


@dataclass(frozen=True, slots=True)
class Scalar(_Numeric):
    """One number. `dtype` is a NumPy dtype of kind b, i, u, f or c; `int` is int64 and `float` is float64."""

    type: ClassVar[str] = "scalar"
    dtype: Any = "int64"
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", numeric_dtype(np.dtype("int64") if self.dtype is int else self.dtype))

    @property
    def shape(self) -> Shape:
        return ()

    def packer(self) -> Callable[[Any], bytes]:
        """struct takes plain ints and floats ten times faster than NumPy does, and checks the range as well."""
        letters = {"i": "_bh_i___q", "u": "_BH_I___Q", "f": "__e_f___d"}
        plain = {"i": int, "u": int, "f": float}.get(self.dtype.kind)
        if plain is None:
            return self.pack
        quick, pack = struct.Struct("<" + letters[self.dtype.kind][self.dtype.itemsize]).pack, self.pack

        def scalar(value: Any) -> bytes:
            if type(value) is plain:
                try:
                    return quick(value)
                except (struct.error, OverflowError):
                    raise self._refuse(value) from None
            return pack(value)

        return scalar

    def _json(self) -> dict[str, Any]:
        return {"dtype": self.dtype.name}

    def __str__(self) -> str:
        return str(self.dtype)


@dataclass(frozen=True, slots=True)
class Array(_Numeric):
    """Numbers of one dtype. A dimension of None is free: it may differ from sample to sample."""

    type: ClassVar[str] = "array"
    dtype: Any
    shape: Any
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", numeric_dtype(self.dtype))
        object.__setattr__(self, "shape", _shape(self.shape))
        _fixed_nbytes(self.dtype, self.shape)

    def _json(self) -> dict[str, Any]:
        return {"dtype": self.dtype.name, "shape": list(self.shape)}

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


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


@dataclass(frozen=True, slots=True)
class Image(_Numeric):
    """A picture: the bytes of a JPEG, PNG or WebP file as they are, or, with `shape`, plain uint8 pixels.

    `mode` is what encoded pictures decode to: "RGB" (H, W, 3), "L" (H, W, 1) or "RGBA" (H, W, 4).
    `shape` is (H, W) or (H, W, C); a dimension of None is free.
    """

    type: ClassVar[str] = "image"
    mode: str = "RGB"
    shape: Any = None
    optional: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("RGB", "L", "RGBA"):
            raise SchemaError(f"unknown image mode {self.mode!r}: expected 'RGB', 'L' or 'RGBA'")
        if self.shape is not None:
            object.__setattr__(self, "shape", _shape(self.shape))
            if len(self.shape) not in (2, 3):
                raise SchemaError(f"an image has 2 or 3 dimensions, not shape {self.shape}")

    @property
    def encoded(self) -> bool:
        """Whether the file's bytes are stored, rather than pixels."""
        return self.shape is None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("u1")

    @property
    def row_nbytes(self) -> int | None:
        return None if self.encoded else _Numeric.row_nbytes.fget(self)  # type: ignore[attr-defined]

    def pack(self, value: Any) -> bytes:
        if not self.encoded:
            return _Numeric.pack(self, value)
        if hasattr(value, "save") and hasattr(value, "convert"):
            return _png(value)
        if not isinstance(value, (bytes, bytearray, memoryview)) or image_format(bytes(value[:16])) is None:
            raise self._refuse(value)
        return bytes(value)

    def packer(self) -> Callable[[Any], bytes]:
        return self.pack if self.encoded else _Numeric.packer(self)

    def unpack(self, data: bytes) -> Any:
        """The encoded bytes as they are (the reader decodes them), or pixels."""
        return data if self.encoded else _Numeric.unpack(self, data)

    def _json(self) -> dict[str, Any]:
        return {"mode": self.mode} if self.encoded else {"shape": list(self.shape)}

    def __str__(self) -> str:
        if self.encoded:
            return f"image (JPEG, PNG or WebP bytes, read as {self.mode})"
        return f"image uint8[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


def _png(picture: Any) -> bytes:
    from io import BytesIO

    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


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
            raise SchemaError(f"expected {self}, got {_describe(value)}: {error}") from error
        return bytes(data)

    def unpack(self, data: bytes) -> Any:
        try:
            value = msgpack.unpackb(data, ext_hook=_no_extension)
        except Exception as error:  # msgpack raises ValueError, its own types and bare Exception subclasses
            raise CorruptError(f"object is not valid msgpack: {error}") from error
        # msgpack turns extension -1 into a Timestamp without asking ext_hook; only these headers can start one.
        if any(head in data for head in (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")) and _has_timestamp(value):
            raise CorruptError("object is not valid msgpack: extension type -1")
        return value

    def __str__(self) -> str:
        return "object (JSON-like)"


def _has_timestamp(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_timestamp, value.values()))
    if isinstance(value, list):
        return any(map(_has_timestamp, value))
    return isinstance(value, msgpack.Timestamp)


TYPES: dict[str, type[Field]] = {cls.type: cls for cls in (Scalar, Array, Text, Bytes, Image, Object)}


def _infer(value: Any) -> Field:
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return Scalar(np.asarray(value).dtype if not isinstance(value, int) or isinstance(value, bool) else "int64")
    if isinstance(value, str):
        return Text()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Bytes()
    if type(value).__module__.startswith("PIL."):
        return Image(mode=value.mode if value.mode in ("L", "RGBA") else "RGB")
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return Array(array.dtype, array.shape) if array.shape else Scalar(array.dtype)
    if isinstance(value, (dict, list, tuple)):
        return Object()
    raise SchemaError(f"no field type can be inferred from {_describe(value)}; give a schema")


@dataclass(frozen=True)
class Schema(Mapping[str, Field]):
    """The fields of a dataset, by name, in order: `Schema({"image": Image(), "label": Scalar("int64")})`."""

    fields: Mapping[str, Field] = dataclass_field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = dict(self.fields)
        if not 0 < len(fields) <= MAX_FIELDS:
            raise SchemaError(f"a schema has 1 to {MAX_FIELDS} fields, not {len(fields)}")
        for name, kind in fields.items():
            if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > MAX_NAME_NBYTES:
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

    def __repr__(self) -> str:
        return "Schema({" + ", ".join(f"{name!r}: {kind!r}" for name, kind in self.items()) + "})"

    @classmethod
    def infer(cls, sample: Sample) -> Self:
        """The schema of which `sample` is an example. No field is optional. Raises SchemaError."""
        if not isinstance(sample, Mapping):
            raise SchemaError(f"a sample is a dict, not {_describe(sample)}")
        fields = {}
        for name, value in sample.items():
            try:
                fields[name] = _infer(value)
            except SchemaError as error:
                raise error.at(field=name)
        return cls(fields)

    def select(self, names: Iterable[str]) -> Self:
        """The schema of these fields, in this order. Raises SchemaError for a name that is not there."""
        names = [names] if isinstance(names, str) else list(names)
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise SchemaError(f"no field named {', '.join(map(repr, missing))}; there are {', '.join(self)}")
        return type(self)({name: self.fields[name] for name in names})

    def to_json(self) -> list[dict[str, Any]]:
        return [{"name": name} | kind.to_json() for name, kind in self.items()]

    @classmethod
    def from_json(cls, entries: Any) -> Self:
        """The schema as read from a file. Raises CorruptError, or UnsupportedError for a field type of the future."""
        if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries):
            raise CorruptError("the schema is not a list of named fields")
        names = [entry["name"] for entry in entries]
        if len(set(names)) != len(names):
            raise CorruptError("the schema names a field twice")
        try:
            return cls({entry["name"]: _field_from_json(entry) for entry in entries})
        except SchemaError as error:
            raise CorruptError(f"the schema is not valid: {error.fault}", error.place) from error


def _field_from_json(entry: dict[str, Any]) -> Field:
    kind = TYPES.get(entry.get("type", ""))
    if kind is None:
        raise UnsupportedError(f"unknown field type {entry.get('type')!r}").at(field=entry["name"])
    options = {key: value for key, value in entry.items() if key not in ("name", "type")}
    if not isinstance(options.get("dtype", ""), str) or not isinstance(options.get("optional", False), bool):
        raise SchemaError("a field's dtype is a string and optional is a boolean").at(field=entry["name"])
    try:
        return kind(**options)
    except TypeError as error:
        raise SchemaError(f"field of type {kind.type!r} with unknown options {sorted(options)}").at(field=entry["name"]) from error
