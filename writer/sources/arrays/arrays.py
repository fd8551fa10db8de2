"""NumPy files: the rows of a `.npy` are one field, `data`; each array of a `.npz` is a field.

Pickled objects are never read. A `.npy` file is memory-mapped, and so are the arrays of a `.npz`, once unpacked.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.numeric import Array, Scalar, Shape
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.arrays.npy import checked_dtype, map_array
from recordio.writer.sources.arrays.npz_members import NpzMembers
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions


def array_field(dtype: np.dtype[Any], shape: Shape, optional: bool = False) -> Field:
    """Scalar for no dimensions, else Array. Raises SourceError for a dtype that cannot be stored."""
    dtype = checked_dtype(dtype)
    return Array(dtype, shape, optional=optional) if shape else Scalar(dtype, optional=optional)


def _row_field(name: str, array: npt.NDArray[Any]) -> Field:
    try:
        if array.dtype.kind in "US" and array.ndim == 1:
            return Text() if array.dtype.kind == "U" else Bytes()
        return array_field(array.dtype, array.shape[1:])
    except SourceError as error:
        error.at(field=name)
        raise


def common_field(found: set[tuple[np.dtype[Any], tuple[int, ...]]], optional: bool) -> Field:
    """The field for arrays of these dtypes and shapes. Raises SourceError if their dimensions differ in number."""
    ranks = {len(shape) for _, shape in found}
    if len(ranks) > 1:
        raise SourceError(f"the .npy files have {' and '.join(map(str, sorted(ranks)))} dimensions; they must agree")
    dtype = np.result_type(*{dtype for dtype, _ in found})
    sides = map(set, zip(*{shape for _, shape in found}, strict=True))
    return array_field(dtype, tuple(side.pop() if len(side) == 1 else None for side in sides), optional)


def fitted(array: npt.NDArray[Any], name: str, field: Array | Scalar) -> npt.NDArray[Any]:
    """The array in the dtype of its field.

    Raises SourceError for one unlike the others: its header may have been unreadable when the field was found.
    """
    try:
        field.pack(array)  # before the cast, which rounds large integers
        return np.asarray(array).astype(field.dtype, casting="safe")
    except (SchemaError, TypeError) as error:
        raise SourceError(f"the array does not fit the others: {error}").at(field=name) from error


class _Rows(Source):
    """Arrays with one row per sample, loaded on first use in each process."""

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._path = path
        self._name = os.path.basename(path)
        self._table = file_table([os.fsencode(path)])
        self._arrays: dict[str, npt.NDArray[Any]] | None = None
        arrays = self._loaded()
        self._length = self._common_length(arrays)
        self.schema = Schema({name: _row_field(name, array) for name, array in arrays.items()})
        self.metadata = {}
        self._row_nbytes = sum(array.nbytes // self._length for array in arrays.values())

    def _load(self) -> dict[str, npt.NDArray[Any]]:
        raise NotImplementedError

    def _loaded(self) -> dict[str, npt.NDArray[Any]]:
        if self._arrays is None:
            try:
                self._arrays = self._load()
            except SourceError as error:
                error.at(file=self._path)
                raise
        return self._arrays

    def _common_length(self, arrays: dict[str, npt.NDArray[Any]]) -> int:
        if not arrays:
            raise SourceError("the file holds no arrays").at(file=self._path)
        flat = [name for name, array in arrays.items() if not array.ndim]
        if flat:
            raise SourceError("the array has no dimensions, so it has no rows").at(file=self._path, field=flat[0])
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise SourceError(f"the arrays have different lengths: {lengths}").at(file=self._path)
        length = next(iter(lengths.values()))
        if not length:
            raise SourceError("there are no rows").at(file=self._path)
        return length

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None}

    def __len__(self) -> int:
        return self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.full(self._length, self._row_nbytes, np.int64)

    def fingerprint(self) -> Fingerprint:
        return self._table.fingerprint()

    def key(self, index: int) -> str:
        return f"{self._name} row {index}"

    def sample(self, index: int) -> Sample:
        return {name: self._value(array[index]) for name, array in self._loaded().items()}

    @staticmethod
    def _value(value: Any) -> Any:
        """Text and bytes as Python objects, as their fields require."""
        return value.item() if value.dtype.kind in "US" else value


class NpyFile(_Rows):
    """A `.npy` file: `data`, one row per sample."""

    kind = "npy"

    def _load(self) -> dict[str, npt.NDArray[Any]]:
        return {"data": map_array(self._path)}


class NpzFile(_Rows):
    """A `.npz` file: a field for each array; all have the same first length."""

    kind = "npz"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._members = NpzMembers(path)
        super().__init__(path, options)

    def _load(self) -> dict[str, npt.NDArray[Any]]:
        return self._members.arrays()
