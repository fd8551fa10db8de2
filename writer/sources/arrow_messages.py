"""Where the record batches of an Arrow IPC file or stream lie, from the headers of its messages alone.

    message := continuation  int32 length  header (a flatbuffer)  body
    file    := "ARROW1" and two zero bytes  message*  end mark  footer  int32 length  "ARROW1"
    stream  := message*  end mark?

The headers say how many rows each batch has, how many values are missing, and how long its body is, so a file of any
size is listed without reading its values. Raises SourceError for headers that do not fit the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recordio.errors import SourceError

MAGIC = b"ARROW1"
_FILE_HEAD = len(MAGIC) + 2
_CONTINUATION = b"\xff\xff\xff\xff"
_OLD_END_MARK = bytes(4)
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_MAX_HEADER_NBYTES = 1 << 26
_MAX_MESSAGES = 1 << 22
Read = Callable[[int, int], bytes]  # the bytes at (offset, size), or fewer at the end


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        offset: where it begins.
        body: where its body begins.
        end: where it ends.
        kind: 1 is the schema, 2 a dictionary, 3 a record batch.
        rows: the rows of a batch.
        missing: for each node of the schema, depth first, how many values are missing.
        buffers: the parts of the body, (offset, size) each, if they are compressed.
        dictionary: the dictionary's number.
        delta: whether a dictionary adds to the one before.
    """

    offset: int
    body: int
    end: int
    kind: int
    rows: int = 0
    missing: tuple[int, ...] = ()
    buffers: tuple[tuple[int, int], ...] = ()
    dictionary: int = -1
    delta: bool = False

    @property
    def is_schema(self) -> bool:
        return self.kind == _SCHEMA

    @property
    def is_dictionary(self) -> bool:
        return self.kind == _DICTIONARY


def messages(read: Read, nbytes: int) -> tuple[list[Message], bool]:
    """The messages of a file or stream of this length, in order, and whether there is a mark behind the last.

    Raises SourceError.
    """
    found: list[Message] = []
    at, end = _range(read, nbytes)
    while at < end:
        head = read(at, 8)
        if head[:4] == _OLD_END_MARK:
            return found, True
        if len(head) < 8 or head[:4] != _CONTINUATION:
            raise SourceError(
                f"no Arrow message at byte {at}: the file is cut off, damaged, or of a version before 0.15"
            )
        (length,) = struct.unpack_from("<i", head, 4)
        if length == 0:
            return found, True
        if not 0 < length <= min(_MAX_HEADER_NBYTES, end - at - 8):
            raise SourceError(f"the message at byte {at} says its header has {length} bytes, more than there are")
        message = _message(read(at + 8, length), at, at + 8 + length)
        if message.end > end:
            raise SourceError(f"cut off: the message at byte {at} ends at {message.end}, the file at {end}")
        found.append(message)
        if len(found) > _MAX_MESSAGES:
            raise SourceError(f"it has more than {_MAX_MESSAGES:,} messages")
        at = message.end
    return found, False


def _range(read: Read, nbytes: int) -> tuple[int, int]:
    """Where the messages begin and end. Raises SourceError."""
    head = read(0, _FILE_HEAD)
    if head[:4] == b"FEA1":
        raise SourceError("Feather of version 1, which is not read: write it anew with pyarrow.feather.write_feather")
    if not head.startswith(MAGIC):
        return 0, nbytes
    tail_nbytes = 4 + len(MAGIC)
    tail = read(max(nbytes - tail_nbytes, 0), tail_nbytes)
    if nbytes < _FILE_HEAD + tail_nbytes or not tail.endswith(MAGIC):
        raise SourceError("cut off: an Arrow file ends with ARROW1")
    (footer,) = struct.unpack_from("<i", tail)
    end = nbytes - tail_nbytes - footer
    if footer <= 0 or end < _FILE_HEAD:
        raise SourceError(f"the footer says it has {footer} bytes, more than there are")
    return _FILE_HEAD, end


def _message(header: bytes, offset: int, body: int) -> Message:
    try:
        table = _Table.root(header)
        kind, nbytes = table.number(1, "B"), table.number(3, "q")
        if nbytes < 0:
            raise ValueError("a length below 0")
        found = Message(offset, body, body + nbytes, kind)
        part = table.table(2)
        if kind == _DICTIONARY and part is not None:
            inside = part.table(1)
            return _with_batch(found, inside, part.number(0, "q"), bool(part.number(2, "B")))
        return _with_batch(found, part) if kind == _RECORDS else found
    except (struct.error, ValueError) as error:
        raise SourceError(f"the header of the message at byte {offset} is damaged: {error}") from error


def _with_batch(found: Message, batch: _Table | None, dictionary: int = -1, delta: bool = False) -> Message:
    if batch is None or batch.number(0, "q") < 0:
        raise ValueError("no batch in it")
    buffers = batch.pairs(2)
    if any(start < 0 or size < 0 or start + size > found.end - found.body for start, size in buffers):
        raise ValueError("a part of it lies outside")
    return Message(
        found.offset,
        found.body,
        found.end,
        found.kind,
        rows=batch.number(0, "q"),
        missing=tuple(missing for _, missing in batch.pairs(1)),
        buffers=buffers if batch.table(3) is not None else (),
        dictionary=dictionary,
        delta=delta,
    )


class _Table:
    """A table of a flatbuffer: fields by number. Raises struct.error and ValueError for what lies outside."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._unpack("<i", at)
        self._size = self._unpack("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _unpack(self, form: str, at: int) -> Any:
        if at < 0:
            raise ValueError("a place before its start")
        return struct.unpack_from(form, self._data, at)[0]

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = self._unpack("<H", self._vtable + entry) if entry < self._size else 0
        return self._at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        """A number, 0 if it is not there."""
        at = self._place(field)
        return 0 if at is None else int(self._unpack("<" + form, at))

    def table(self, field: int) -> _Table | None:
        at = self._place(field)
        return None if at is None else _Table(self._data, at + self._unpack("<I", at))

    def pairs(self, field: int) -> tuple[tuple[int, int], ...]:
        """A vector of structs of two int64."""
        at = self._place(field)
        if at is None:
            return ()
        at += self._unpack("<I", at)
        count = self._unpack("<I", at)
        if at + 4 + 16 * count > len(self._data):
            raise ValueError("a list of it is longer than the header")
        return tuple(struct.iter_unpack("<qq", self._data[at + 4 : at + 4 + 16 * count]))
