"""Whether the storage of an HDF5 dataset is what its shape promises, before any of it is read.

Chunks are unpacked by libraries that do not stop at the size that a chunk should have. So none may be stored in more
bytes than it has, and large ones in the format of gzip are unpacked here first, up to that size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.archives.deflate import SMALL, prove_deflate

_MAX_CHUNK = 1 << 28
_ADDED = 1 << 16  # bytes that storing may add to a chunk, beside a tenth
_DEFLATE, _FLETCHER32 = 1, 3
_MISSING_SHARE = 0.5  # of the chunks may never have been written


def check_storage(data: Any, file_nbytes: int) -> Iterator[str]:
    """Notes about a dataset. Raises SourceError for one that reads other files, or cannot be read."""
    if data.is_virtual:
        raise SourceError("a virtual dataset, put together of others and maybe of other files: copy it to a plain one")
    if data.external:
        raise SourceError(f"its data is in another file, {data.external[0][0]!r}, which is not read")
    _require_filters(data)
    if data.chunks is None:
        nbytes = math.prod(data.shape) * data.dtype.itemsize
        if nbytes and data.id.get_storage_size() < min(nbytes, file_nbytes):
            raise SourceError("it was never written: all of it is the fill value")
        if nbytes > file_nbytes:
            raise SourceError(f"its shape promises {nbytes:,} bytes, the file has {file_nbytes:,}")
        return
    yield from _check_chunks(data)


def _require_filters(data: Any) -> None:
    """Raises SourceError for a filter that is not there; those of hdf5plugin are, where it is installed."""
    from h5py import h5z

    filters = _filters(data)
    for code, name in filters:
        if not h5z.filter_avail(code):
            try:
                import_module("hdf5plugin")
            except ImportError as error:
                what = f"stored with the filter {name or code} ({code}), which h5py does not have"
                raise SourceError(f"{what}: pip install hdf5plugin") from error
            if not h5z.filter_avail(code):
                raise SourceError(f"stored with the filter {name or code} ({code}), which is not installed")
    codes = [code for code, _ in filters]
    if _DEFLATE in codes and [code for code in codes[codes.index(_DEFLATE) + 1 :] if code != _FLETCHER32]:
        raise SourceError("it is packed with gzip and then changed by another filter, which is not read")


def _filters(data: Any) -> list[tuple[int, str]]:
    plan = data.id.get_create_plist()
    found = (plan.get_filter(number) for number in range(plan.get_nfilters()))
    return [(code, name.decode("utf-8", "replace")) for code, _, _, name in found]


def _check_chunks(data: Any) -> Iterator[str]:
    chunk_nbytes = math.prod(data.chunks) * data.dtype.itemsize
    if chunk_nbytes > _MAX_CHUNK:
        raise SourceError(
            f"its chunks have {chunk_nbytes:,} bytes, more than {_MAX_CHUNK:,}: h5repack makes smaller ones"
        )
    most = chunk_nbytes + chunk_nbytes // 10 + _ADDED
    large: list[int] = []

    def see(chunk: Any) -> bool | None:
        if chunk.size > most:
            large.append(chunk.size)
        return True if large else None  # anything but None ends the search

    data.id.chunk_iter(see)
    if large:
        raise SourceError(f"a chunk of {chunk_nbytes:,} bytes is stored in {large[0]:,}: the file is damaged or false")
    promised = math.prod(-(-side // chunk) for side, chunk in zip(data.shape, data.chunks, strict=True))
    there = data.id.get_num_chunks()
    if there < _MISSING_SHARE * promised:
        raise SourceError(f"{promised - there:,} of its {promised:,} chunks were never written")
    if there < promised:
        yield f"{data.name}: {promised - there:,} of {promised:,} chunks were never written, and are the fill value"


def prove_chunks(data: Any, start: int, end: int) -> None:
    """Unpacks the large chunks of some rows up to the size they should have. Raises SourceError for more."""
    if data.chunks is None or not any(code == _DEFLATE for code, _ in _filters(data)):
        return
    chunk_nbytes = math.prod(data.chunks) * data.dtype.itemsize
    if chunk_nbytes <= SMALL:
        return
    steps = [range(start // data.chunks[0] * data.chunks[0], end, data.chunks[0])]
    steps += [range(0, side, chunk) for side, chunk in zip(data.shape[1:], data.chunks[1:], strict=True)]
    for corner in itertools.product(*steps):
        info = data.id.get_chunk_info_by_coord(corner)
        if info.size is not None and info.size > SMALL:
            prove_deflate(data.id.read_direct_chunk(corner)[1], chunk_nbytes)
