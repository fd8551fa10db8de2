"""LitData chunks that are not laid out plainly, rewritten as if they were: number of records, offsets, records.

Frames: batches of records that are compressed together. Arrow: rows of plain values, which lie in an Arrow file behind
records without bytes; pyarrow reads them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from recordio.errors import SchemaError, SourceError
from recordio.format.fields import Object
from recordio.packages import pyarrow
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.records.indexed_shards import ShardColumn
from recordio.writer.sources.records.inferred import JsonValues
from recordio.writer.sources.records.packed_files import zstd_pieces

FRAMES, ARROW = "frames", "arrow"
_FRAMED_MAGIC = b"LDFZ01\0\0"
_ARROW_MAGIC = b"LDARW01\0"
_PREFIX = struct.Struct("<8sHHIII")  # magic, version, flags, records, records of a frame, frames
_FRAME = struct.Struct("<IIQII")  # first record, records, offset, bytes, unpacked bytes
_MAX_ARROW_NBYTES = 1 << 30


def layout_of(raw: IO[bytes]) -> str | None:
    """FRAMES, ARROW, or None for a chunk that is laid out plainly, or compressed as a whole."""
    if raw.read(len(_FRAMED_MAGIC)) == _FRAMED_MAGIC:
        return FRAMES
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - len(_ARROW_MAGIC)))
    return ARROW if raw.read() == _ARROW_MAGIC else None


def unframed(raw: IO[bytes]) -> Iterator[bytes]:
    """The plain chunk. Raises SourceError."""
    size = os.fstat(raw.fileno()).st_size
    prefix = raw.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise SourceError("it ends within its header")
    _, version, _, count, _, frames = _PREFIX.unpack(prefix)
    if version != 1 or _PREFIX.size + 4 * (count + 1) + _FRAME.size * frames > size:
        raise SourceError(f"version {version} with {count} records in {frames} frames, and {size} bytes in all")
    offsets = np.frombuffer(raw.read(4 * (count + 1)), "<u4").astype(np.int64)
    table = raw.read(_FRAME.size * frames)
    first = 4 * (count + 2)
    if offsets[0] or first + offsets[-1] >= 1 << 32 or (np.diff(offsets) < 0).any():
        raise SourceError("the index of its records is damaged")
    yield struct.pack("<I", count) + (offsets + first).astype("<u4").tobytes()
    done = 0
    for record, records, at, nbytes, unpacked in _FRAME.iter_unpack(table):
        end = record + records
        expected = int(offsets[end] - offsets[record]) if record == done and end <= count else -1
        if unpacked != expected or at + nbytes > size:
            raise SourceError(f"the frame of record {record} is damaged")
        raw.seek(at)
        for piece in zstd_pieces(raw.read(nbytes), unpacked):
            unpacked -= len(piece)
            yield piece
        if unpacked:
            raise SourceError(f"the frame of record {record} lacks {unpacked} bytes")
        done = end
    if done != count:
        raise SourceError(f"its frames hold {done} of {count} records")


def arrow_columns(raw: IO[bytes]) -> list[ShardColumn]:
    """A column for each of the Arrow file. Raises SourceError, MissingPackageError without the extra arrow."""
    with _arrow(raw) as reader:
        return [ShardColumn(name, Object().unpack, JsonValues()) for name in reader.schema.names]


def arrow_records(raw: IO[bytes], names: list[str]) -> Iterator[bytes]:
    """The plain chunk, of which each value is packed as an Object is. Raises SourceError."""
    with _arrow(raw) as reader:
        if reader.schema.names != names:
            raise SourceError(f"its columns are {reader.schema.names}, those of the first chunk are {names}")
        sizes = [len(row) for row in _rows(reader)]
        offsets = 4 * (len(sizes) + 2) + np.append(0, np.cumsum(np.array(sizes, np.int64)))
        if offsets[-1] >= 1 << 32:
            raise SourceError(f"its rows have {offsets[-1]} bytes: expected less than 4 GiB")
        yield struct.pack("<I", len(sizes)) + offsets.astype("<u4").tobytes()
        yield from _rows(reader)


@contextmanager
def _arrow(raw: IO[bytes]) -> Iterator[Any]:
    """A reader of the Arrow file in a chunk: at its end, before its length and a mark. Raises SourceError."""
    end = raw.seek(0, os.SEEK_END) - len(_ARROW_MAGIC) - 4
    raw.seek(max(0, end))
    nbytes = int.from_bytes(raw.read(4), "little")
    if not 0 < nbytes <= min(end, _MAX_ARROW_NBYTES):
        raise SourceError(f"the Arrow file in it has {nbytes} bytes: expected 1 to {min(end, _MAX_ARROW_NBYTES)}")
    raw.seek(end - nbytes)
    data = raw.read(nbytes)
    with reading("the Arrow file in it cannot be read"):
        reader = pyarrow().ipc.open_file(pyarrow().py_buffer(data))
        names = reader.schema.names
        if len(set(names)) != len(names):
            raise SourceError(f"columns of the same name: {names!r:.80}")
        yield reader


def _rows(reader: Any) -> Iterator[bytes]:
    pack = Object().pack
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        batch.validate(full=True)  # or offsets that lie would be followed out of its buffers
        for row in batch.to_pylist():
            try:
                cells = [pack(value) for value in row.values()]
            except SchemaError as error:
                raise SourceError(f"a value of an Arrow row cannot be stored: {error.fault}") from error
            yield struct.pack(f"<{len(cells)}I", *map(len, cells)) + b"".join(cells)
