"""Whether the chunks of a Zarr array unpack to no more than they should, by what their first bytes say.

The package asks for as much memory as a chunk says that it needs. Chunks in the format of gzip do not say, so large
ones are unpacked here first, up to the size that they should have.
"""

from __future__ import annotations

import math
import os
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import zstandard

from recordio.errors import SourceError
from recordio.writer.sources.archives.deflate import SMALL, prove_deflate
from recordio.writer.sources.arrays.zarr_metadata import ArrayMetadata
from recordio.writer.sources.file_table import FileTable
from recordio.writer.sources.files import open_regular, shown
from recordio.writer.sources.plain_files import read_at

_MAX_CHUNK = 1 << 28
_ADDED = 1 << 16  # bytes that storing may add to a chunk, beside a tenth
_HEAD = 32
_MAX_INDEX = 1 << 26
_SPARSE = 1000  # one chunk of so many at least is there; those that are all fill value need not be
_CHUNK = re.compile(rb"(?:c[/.])?[0-9]+(?:[/.][0-9]+)*")
_NOT_THERE = (1 << 64) - 1
_MAX_WINDOW = 1 << 27
_Read = Callable[[int, int], bytes]


def check_chunks(array: ArrayMetadata, files: FileTable, names: Sequence[bytes]) -> Iterator[str]:
    """Notes about the chunks of an array. Raises SourceError for one that is false, or too large.

    `names` are those of all files, in order.
    """
    piece = array.inner or array.chunks
    nbytes = math.prod(piece) * array.itemsize
    if nbytes > _MAX_CHUNK:
        raise SourceError(f"its chunks have {nbytes:,} bytes, and may have {_MAX_CHUNK:,}")
    most = _MAX_CHUNK if array.variable else nbytes
    start = f"{array.path}/".encode() if array.path else b""
    there = 0
    for number in range(bisect_left(names, start), len(names)):
        name = names[number]
        if not name.startswith(start):
            break
        if not _CHUNK.fullmatch(name[len(start) :]):
            continue
        there += 1
        try:
            _check_file(array, os.path.join(files.root, name), int(files.sizes[number]), most)
        except SourceError as error:
            raise error.at(file=shown(name))
    promised = math.prod(-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True))
    if there * _SPARSE < promised:
        raise SourceError(f"of its {promised:,} chunks {there:,} are there: its shape is not that of its data")
    if there < promised:
        yield f"{array.path}: {promised - there:,} of {promised:,} chunks are not there, and are the fill value"


def _check_file(array: ArrayMetadata, path: bytes, size: int, most: int) -> None:
    with open(open_regular(path), "rb", buffering=0) as file:
        read = partial(read_at, file.fileno())
        pieces = [(0, size)]
        if array.inner:
            pieces = _in_shard(read, size, array)
        for start, nbytes in pieces:
            if nbytes > most + most // 10 + _ADDED:
                raise SourceError(f"a chunk of at most {most:,} bytes is stored in {nbytes:,}: it is damaged or false")
            if array.packer in ("gzip", "zlib"):
                if nbytes > SMALL:
                    prove_deflate(read(start, nbytes), most, gzip=array.packer == "gzip")
            elif (said := _unpacked(array, read, start, nbytes, most)) > most + _ADDED:
                raise SourceError(f"a chunk of at most {most:,} bytes would unpack to {said:,}: it is damaged or false")


def _in_shard(read: _Read, size: int, array: ArrayMetadata) -> list[tuple[int, int]]:
    """Where the pieces of a shard begin, and their lengths, by its index. Raises SourceError."""
    count = math.prod(outer // own for outer, own in zip(array.chunks, array.inner, strict=True))
    nbytes = 16 * count
    if nbytes > _MAX_INDEX:
        raise SourceError(f"a shard has {count:,} pieces, which are too many")
    start = 0 if array.index_first else size - nbytes - array.index_checksum
    index = read(start, nbytes) if start >= 0 else b""
    if len(index) < nbytes:
        raise SourceError("a shard is cut off")
    pairs = np.frombuffer(index, "<u8").reshape(-1, 2)
    pairs = pairs[pairs[:, 0] != _NOT_THERE]
    if len(pairs) and (int(pairs.max()) > size or int(pairs.sum(axis=1).max()) > size):
        raise SourceError("a piece of a shard lies behind its end")
    return [(int(start), int(length)) for start, length in pairs.tolist()]


def _unpacked(array: ArrayMetadata, read: _Read, start: int, nbytes: int, most: int) -> int:
    """To how many bytes a chunk says that it unpacks; 0 for one that is not packed. Raises SourceError."""
    head = read(start, min(nbytes, _HEAD))
    try:
        if array.packer == "zstd":
            said = zstandard.frame_content_size(head)
            return said if said >= 0 else _tried(read(start, nbytes), most)
        offset = {"blosc": 4, "lz4": 0}.get(array.packer)
        return 0 if offset is None else int(struct.unpack_from("<I", head, offset)[0])
    except (struct.error, zstandard.ZstdError) as error:
        raise SourceError(f"a chunk is damaged: {error}") from error


def _tried(packed: bytes, most: int) -> int:
    """To how many bytes a chunk of zstd unpacks that does not say, up to `most` and one."""
    with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(packed) as reader:
        made = 0
        while made <= most and (part := reader.read(1 << 20)):
            made += len(part)
    return made
