"""The `.npy` format. NumPy parses the header; it is checked against the file's length before elements are read.

Pickled objects are never read, and no memory is allocated for missing elements.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.format.numeric import numeric_dtype
from recordio.writer.sources.files import open_file, open_regular, shown

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAX_EMPTY_ROWS = 1 << 24


def checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype as stored. Raises SourceError for a dtype that cannot be stored."""
    try:
        return numeric_dtype(dtype)
    except SchemaError as error:
        raise SourceError(error.fault) from error


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """The header; the elements begin at byte `offset`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @classmethod
    def read(cls, file: IO[bytes], nbytes: int) -> NpyHeader:
        """Reads it from the start of a file of `nbytes`. Raises SourceError, also for missing elements."""
        try:
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        except Exception as error:  # NumPy parses the header as Python: SyntaxError and TokenError are possible
            raise SourceError(f"not a NumPy array: {error or type(error).__name__}") from error
        if dtype.hasobject:
            raise SourceError("the array holds pickled objects, which are not read")
        header = cls(dtype, shape, fortran, file.tell())
        header._check(nbytes - header.offset)
        return header

    def _check(self, nbytes: int) -> None:
        if any(n < 0 for n in self.shape) or math.prod(self.shape) * self.dtype.itemsize != nbytes:
            promised = f"an array of {self.dtype}{list(self.shape)}"
            raise SourceError(f"the header promises {promised}, there are {nbytes} bytes of elements")
        if not nbytes and self.shape and self.shape[0] > _MAX_EMPTY_ROWS:
            raise SourceError(f"{self.shape[0]} rows without elements")

    @property
    def order(self) -> str:
        return "F" if self.fortran else "C"


def read_array(data: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of a `.npy` file, read-only. Raises SourceError."""
    header = NpyHeader.read(io.BytesIO(data), len(data))
    if not math.prod(header.shape) or not header.dtype.itemsize:
        return np.zeros(header.shape, header.dtype)
    flat = np.frombuffer(data, header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def map_array(path: str) -> npt.NDArray[Any]:
    """The array of a `.npy` file, memory-mapped and read-only. Raises SourceError."""
    header = peek_header(path)
    if not math.prod(header.shape) or not header.dtype.itemsize:  # nothing to map
        return np.zeros(header.shape, header.dtype)
    try:
        order: Any = header.order
        with open(open_regular(path), "rb") as file:
            return np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be mapped: {error}").at(file=path) from error


def peek_header(path: bytes | str) -> NpyHeader:
    """The header of a `.npy` file. Raises SourceError."""
    with open_file(path) as file:
        try:
            nbytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            return NpyHeader.read(file, nbytes)
        except SourceError as error:
            error.at(file=shown(os.fsencode(path)))
            raise
