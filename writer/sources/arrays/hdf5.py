"""HDF5: each dataset with as many rows as the others is a field. The package h5py reads it, slab by slab.

Nothing outside of the file is read: links and datasets that lead to other files are refused. The file is scanned in a
process of its own (hdf5_scan.py), as HDF5's library crashes on false files.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.writer.sources.arrays.array_rows import ArrayRows
from recordio.writer.sources.arrays.hdf5_scan import Scan, opened, scan
from recordio.writer.sources.arrays.hdf5_storage import prove_chunks
from recordio.writer.sources.arrays.isolated import isolated
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.source import Fingerprint, SourceOptions, SourceSpec

_ALL_CACHES = 512 << 20  # of unpacked chunks
_CACHE = 64 << 20  # of them for each dataset, at most


class Hdf5(ArrayRows):
    """The datasets of a file, or of one of its splits, by row. A field's name is its path: `group/data`."""

    kind = "hdf5"
    fragile = True

    def __init__(self, path: str, options: SourceOptions) -> None:
        self.path = path
        self._table = file_table([os.fsencode(path)])
        self._file: Any = None
        found = _scanned(path, int(self._table.stamps[0]))
        part = options.part or ""
        if part not in found:
            text = f"there are splits in it, {', '.join(found)}; split= (--split) names one"
            raise SourceError(text if "" not in found else "there are no splits in it").at(file=path)
        one = found[part]
        if isinstance(one, SourceError):
            raise one
        self._set_columns(one.columns, one.length, one.variable_nbytes)
        self.metadata, self.notes = one.metadata, one.notes
        self._cache = min(_CACHE, _ALL_CACHES // len(self._slab_rows))

    def _rows(self, path: str, start: int, end: int) -> npt.NDArray[Any]:
        with reading():
            if self._file is None:
                self._file = opened(self.path, self._cache)
            data = self._file[path]
            prove_chunks(data, start, end)
            return np.asarray(data[start:end])

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_file": None}

    def fingerprint(self) -> Fingerprint:
        return self._table.fingerprint()


@lru_cache(1)
def _scanned(path: str, stamp: int) -> dict[str, Scan | SourceError]:
    """What is in a file, by split; kept for the sources of the splits, which are opened one after the other."""
    try:
        return isolated(scan, path)
    except SourceError as error:
        raise error.at(file=path)


def parts(path: str) -> dict[str, SourceSpec]:
    """The splits in a file, "" for the whole one. Raises SourceError."""
    found = _scanned(path, int(file_table([os.fsencode(path)]).stamps[0]))
    return {part: SourceSpec(path, "hdf5", SourceOptions(part=part or None)) for part in found}
