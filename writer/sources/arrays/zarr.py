"""Zarr, versions 2 and 3: each array with as many rows as the others is a field. The package zarr reads it, by slabs.

What the arrays say of themselves is read here first (zarr_metadata.py): the package would load pickles, and unpack any
chunk to whatever size it has.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Object, Text
from recordio.packages import optional
from recordio.writer.sources.arrays.array_rows import (
    ArrayRows,
    Column,
    attribute_metadata,
    common_length,
    joined,
    named_parts,
    refuse_sparse,
    without_rows,
)
from recordio.writer.sources.arrays.arrays import array_field
from recordio.writer.sources.arrays.zarr_chunks import check_chunks
from recordio.writer.sources.arrays.zarr_metadata import MARKS, ArrayMetadata, Hierarchy
from recordio.writer.sources.file_table import named_files
from recordio.writer.sources.files import is_file
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.source import Fingerprint, SourceOptions, SourceSpec

_ROOT = "data"  # the field of a store that is one array


class Zarr(ArrayRows):
    """The arrays of a store, or of one of its splits, by row. A field's name is its path: `group/data`."""

    kind = "zarr"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self.path = path
        self._arrays: dict[str, Any] = {}
        try:
            self._find(Hierarchy(path), options.part or "")
        except SourceError as error:
            raise error.at(file=path)

    def _find(self, store: Hierarchy, part: str) -> None:
        fields = _fields(store)
        if part not in fields:
            text = f"there are splits in it, {', '.join(fields)}; split= (--split) names one"
            raise SourceError(text if "" not in fields else "there are no splits in it")
        found = {name: store.arrays[path] for name, path in fields[part].items()}
        refuse_sparse(found)
        shapes = {name: (array.shape, array.itemsize) for name, array in found.items()}
        length = common_length(shapes)
        chosen = {name: array for name, array in found.items() if array.shape[:1] == (length,)}
        notes = [*without_rows(shapes, length)]
        columns = []
        self._table = named_files(os.fsencode(self.path), store.files)
        for name, array in chosen.items():
            try:
                notes += check_chunks(array, self._table, store.files)
                columns.append(self._column(name, array))
            except SourceError as error:
                raise error.at(field=name)
        variable = [f"{array.path}/".encode() for array in chosen.values() if array.variable]
        sizes = zip(self._table, self._table.sizes.tolist(), strict=True)
        self._set_columns(columns, length, sum(size for file, size in sizes if file.startswith(tuple(variable))))
        owners = {"/": store.attributes, **{name: array.attributes for name, array in chosen.items()}}
        self.metadata, left = attribute_metadata(owners)
        self.notes = (*notes, *left)

    def _column(self, name: str, array: ArrayMetadata) -> Column:
        dtype, shape = self._opened(array.path).dtype, array.shape[1:]
        rows = array.chunks[0]
        if dtype.kind in "TU" or array.variable == "text":
            nbytes = None if array.variable else array.row_nbytes
            field = Object() if shape else Text()
            return Column(name, array.path, field, _texts if shape else str, None, nbytes, rows)
        if dtype.kind in "SV" or array.variable:
            if shape or dtype.names is not None:
                raise SourceError("records, and bytes in more than one dimension, are not read")
            return Column(name, array.path, Bytes(), _bytes, None, None if array.variable else array.row_nbytes, rows)
        return Column(name, array.path, array_field(dtype, shape), None, None, array.row_nbytes, rows)

    def _opened(self, path: str) -> Any:
        if path not in self._arrays:
            zarr = optional("zarr", "Zarr stores", "zarr")
            store = zarr.storage.LocalStore(os.path.join(self.path, path), read_only=True)
            with warnings.catch_warnings(action="ignore"), reading():  # of types that no specification has yet
                self._arrays[path] = zarr.open_array(store=store, mode="r")
        return self._arrays[path]

    def _rows(self, path: str, start: int, end: int) -> npt.NDArray[Any]:
        array = self._opened(path)
        with reading():
            return np.asarray(array[start:end])

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_arrays": {}}

    def fingerprint(self) -> Fingerprint:
        return self._table.fingerprint()

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        """Of the whole store."""
        files = self._table.digest(np.arange(len(self._table)))
        return xxhash.xxh3_128_digest(files + indices.astype("<i8").tobytes())


def is_store(path: str) -> bool:
    """Whether a folder says that it is a Zarr store."""
    return any(is_file(os.path.join(path, name)) for name in MARKS)


def parts(path: str) -> dict[str, SourceSpec]:
    """The splits in a store, "" for the whole one. Raises SourceError."""
    return {part: SourceSpec(path, "zarr", SourceOptions(part=part or None)) for part in _fields(Hierarchy(path))}


def _fields(store: Hierarchy) -> dict[str, dict[str, str]]:
    """The path of each array by field, by split."""
    if "" in store.arrays:
        return {"": {_ROOT: ""}}
    tops = named_parts(dict.fromkeys(path.partition("/")[0] for path in store.arrays))
    return {
        part: {
            joined(field, path[len(top) + 1 :]) or top: path
            for field, top in names.items()
            for path in store.arrays
            if path == top or path.startswith(f"{top}/")
        }
        for part, names in tops.items()
    }


def _bytes(value: Any) -> bytes:
    return bytes(value.tobytes()) if isinstance(value, np.void) else bytes(value)


def _texts(value: Any) -> Any:
    return [_texts(one) for one in value] if isinstance(value, np.ndarray) else str(value)
