"""The numeric fields, Scalar and Array, and the base class they share with plain pixels."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypeGuard

import numpy as np
import numpy.typing as npt

from recordio.arguments import describe
from recordio.errors import CorruptError, SchemaError
from recordio.format.exact import require_exact, require_exact_list, unsigned_list
from recordio.format.fields import Field
from recordio.format.layout import MAX_ROW_NBYTES
from recordio.format.masks import NOT_AN_ARRAY, has_masked, plain_array

Shape = tuple[int | None, ...]

_KIND_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}  # a number casts to its own rank or a higher one


def numeric_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The little-endian dtype: bool, integers, floats up to 64 bits or complex up to 128. Raises SchemaError."""
    try:
        found = np.dtype(dtype if dtype is not None else "no dtype")
    except (TypeError, ValueError) as error:
        raise SchemaError(f"not a dtype: {dtype!r}") from error
    if found.kind not in "biufc" or found.itemsize > (16 if found.kind == "c" else 8):
        raise SchemaError(f"dtype {found} is not storable: expected bool, int, uint, float or complex")
    return found.newbyteorder("<")


def checked_shape(shape: Iterable[int | None]) -> Shape:
    try:
        out = tuple(None if n is None else operator.index(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"not a shape: {shape!r}") from error
    if len(out) > 32 or any(n is not None and not 0 <= n <= MAX_ROW_NBYTES for n in out):
        raise SchemaError(f"not a shape: {out}")
    return out


@lru_cache(1024)
def _fixed_nbytes(dtype: np.dtype[Any], shape: Shape) -> int | None:
    """Bytes of one array; None if a dimension is free."""
    sizes = [n for n in shape if n is not None]
    nbytes = math.prod(sizes) * dtype.itemsize
    if math.prod(max(1, n) for n in sizes) * dtype.itemsize > MAX_ROW_NBYTES:  # like NumPy, which skips zeros
        raise SchemaError(f"an array of {dtype}{list(shape)} is over the limit of {MAX_ROW_NBYTES} bytes")
    return nbytes if len(sizes) == len(shape) else None


def _too_large(shape: Iterable[int]) -> bool:
    """Whether an array has too many elements, counted as NumPy does, which skips dimensions of zero."""
    return math.prod(max(1, n) for n in shape) > MAX_ROW_NBYTES


def check_size(field: Numeric) -> None:
    """Refuses arrays over the size limit and optional arrays without elements. Raises SchemaError."""
    if field.row_nbytes == 0 and field.optional:
        raise SchemaError(f"an array of shape {field.shape} has no elements, so it cannot be optional")


def _clean_bools(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bools as bytes 0 and 1. NumPy reads any nonzero byte as true, and Pillow gives 255 for mode "1"."""
    return array.view(np.uint8) != 0 if array.dtype.kind == "b" else array


class Numeric(Field):
    """Packing and unpacking, shared by scalars, arrays and plain pixels."""

    __slots__ = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        raise NotImplementedError

    @property
    def shape(self) -> Shape:
        raise NotImplementedError

    def _array(self, value: Any) -> npt.NDArray[Any]:
        try:
            array = plain_array(value)
            if self.dtype.kind == "u" and array.dtype.kind == "f" and not hasattr(value, "dtype"):
                array = unsigned_list(value, array)
            if array.dtype.kind in "fc" and self.dtype.kind in "fc" and not hasattr(value, "dtype"):
                require_exact_list(value, array, self.dtype)
            if array.dtype != self.dtype:
                array = self._cast(value, array)
        except SchemaError:
            raise
        except NOT_AN_ARRAY as error:
            raise self._refuse(value) from error
        if len(array.shape) != len(self.shape) or any(
            want is not None and want != got for want, got in zip(self.shape, array.shape, strict=True)
        ):
            raise self._refuse(value if isinstance(value, np.ndarray) else array)
        return array

    def _cast(self, value: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Plain Python numbers take the field's dtype if they fit; typed numbers must cast safely."""
        plain = not hasattr(value, "dtype")
        if array.size == 0 and plain:
            return array.astype(self.dtype)
        if array.dtype.kind in "iu" and self.dtype.kind in "fc":
            require_exact(array, self.dtype)
        if not plain or array.dtype.kind not in "biufc":
            if not np.can_cast(array.dtype, self.dtype, "safe"):
                raise self._refuse(value)
            return array.astype(self.dtype)
        if _KIND_RANKS[array.dtype.kind] > _KIND_RANKS[self.dtype.kind]:
            raise self._refuse(value)
        with np.errstate(over="ignore"):  # overflow is refused below
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
        if free and not array.size and _too_large(array.shape):
            raise SchemaError(f"an array of shape {array.shape} has dimensions over the limit of {MAX_ROW_NBYTES}")
        return struct.pack(f"<{len(free)}Q", *free) + _clean_bools(array).tobytes()

    def packer(self) -> Callable[[Any], bytes]:
        dtype, shape, pack = self.dtype, self.shape, self.pack

        def quick(value: Any) -> bytes:
            if type(value) is np.ndarray and value.shape == shape and value.dtype == dtype:
                return value.tobytes()
            return pack(value)

        return pack if self._free or dtype.kind == "b" else quick

    def unpack(self, data: bytes) -> Any:
        """An array with free dimensions: a u64 per free dimension, then the elements in C order."""
        return self.view(data).copy()

    def view(self, data: bytes | memoryview) -> npt.NDArray[Any]:
        """The same array, not copied."""
        start = 8 * self._free
        if len(data) < start:
            raise CorruptError(f"array too short: {len(data)} bytes, its dimensions alone take {start}")
        free = iter(struct.unpack_from(f"<{self._free}Q", data))
        shape = tuple(next(free) if want is None else want for want in self.shape)
        nbytes = len(data) - start
        if math.prod(shape) * self.dtype.itemsize != nbytes or _too_large(shape):
            raise CorruptError(f"array of {list(shape)} {self.dtype} does not fit its {nbytes} bytes")
        return np.frombuffer(data, self.dtype, offset=start).reshape(shape)

    def batch(self, values: Any) -> npt.NDArray[Any]:
        """A whole column as a contiguous array (n, *shape). For fixed fields. Raises SchemaError."""
        array = np.asanyarray(values)
        if has_masked(array):
            raise SchemaError("a value is missing: it is masked, and the field is not optional")
        array = np.asarray(array)
        if array.shape[1:] != self.shape or not np.can_cast(array.dtype, self.dtype, "safe"):
            raise SchemaError(f"expected a column of {self}, got {describe(array)}")
        if array.dtype.kind in "iu" and self.dtype.kind in "fc":
            require_exact(array, self.dtype)
        return _clean_bools(np.ascontiguousarray(array, self.dtype))


def is_array(kind: Field) -> TypeGuard[Numeric]:
    """Whether a field holds arrays: numbers, of pictures their pixels."""
    return isinstance(kind, Numeric) and not getattr(kind, "encoded", False)


def empty_shape(kind: Numeric) -> list[int]:
    """The shape of an array that is missing: nothing where its dimensions are free."""
    return [0 if size is None else size for size in kind.shape]


@dataclass(frozen=True, slots=True)
class Scalar(Numeric):
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
        """struct packs plain ints and floats ten times faster than NumPy, and checks the range."""
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
class Array(Numeric):
    """Numbers of one dtype. A dimension of None is free: it may differ from sample to sample."""

    type: ClassVar[str] = "array"
    dtype: Any
    shape: Any
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", numeric_dtype(self.dtype))
        object.__setattr__(self, "shape", checked_shape(self.shape))
        if not self.shape:
            raise SchemaError("an array has at least one dimension; use Scalar")
        check_size(self)

    def _json(self) -> dict[str, Any]:
        return {"dtype": self.dtype.name, "shape": list(self.shape)}

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"
