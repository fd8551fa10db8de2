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
from recordio.writer.sources.foreign_errors import reading

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAX_EMPTY_ROWS = 1 << 24
_MAX_ROWS = 1 << 31  # each takes some 30 bytes while it is converted


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
        with reading("not a NumPy array"):  # NumPy parses the header as Python: SyntaxError and TokenError are possible
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
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
        if self.shape and self.shape[0] > _MAX_ROWS:
            text = f"the array has {self.shape[0]:,} rows, and at most {_MAX_ROWS:,} are samples of one source"
            raise SourceError(f"{text}: give its rows more elements, or cut it into parts")

    @property
    def empty(self) -> bool:
        """Whether there are no bytes of elements."""
        return not math.prod(self.shape) or not self.dtype.itemsize

    @property
    def order(self) -> str:
        return "F" if self.fortran else "C"


def read_array(data: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of a `.npy` file, read-only. Raises SourceError."""
    header = NpyHeader.read(io.BytesIO(data), len(data))
    if header.empty:
        return np.zeros(header.shape, header.dtype)
    flat = np.frombuffer(data, header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def map_array(path: str) -> npt.NDArray[Any]:
    """The array of a `.npy` file, memory-mapped and read-only. Raises SourceError."""
    header = peek_header(path)
    try:
        with reading(), open(open_regular(path), "rb") as file:
            return mapped(file, header)
    except SourceError as error:
        raise error.at(file=path)


def mapped(file: IO[bytes], header: NpyHeader, start: int = 0) -> npt.NDArray[Any]:
    """The array of a `.npy` file that begins at a byte of an open file, memory-mapped and read-only."""
    if header.empty:  # nothing to map
        return np.zeros(header.shape, header.dtype)
    order: Any = header.order
    return np.memmap(file, header.dtype, "r", start + header.offset, header.shape, order)


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
