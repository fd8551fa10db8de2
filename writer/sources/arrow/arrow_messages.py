"""Where the record batches of an Arrow IPC file or stream lie, from the headers of its messages alone.

    message := continuation? int32 length  header (a flatbuffer)  body
    file    := "ARROW1" and two zero bytes  message*  footer (a flatbuffer)  int32 length  "ARROW1"
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
_TAIL = struct.Struct("<i6s")
_CONTINUATION = b"\xff\xff\xff\xff"
_END_MARK = _CONTINUATION + bytes(4)
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


def is_file(read: Read) -> bool:
    """Whether this is an IPC file, which has a footer, and no stream. Raises SourceError for what is neither."""
    head = read(0, 8)
    if head[:4] == b"FEA1":
        raise SourceError("Feather of version 1, which is not read: write it anew with pyarrow.feather.write_feather")
    return head.startswith(MAGIC)


def stream_messages(read: Read, nbytes: int) -> tuple[list[Message], bool]:
    """The messages of a stream of this length, in order, and whether there is a mark behind the last.

    Raises SourceError.
    """
    found: list[Message] = []
    at = 0
    while at < nbytes:
        head = read(at, 8)
        if head in (_END_MARK, _OLD_END_MARK) or head[:4] == _OLD_END_MARK:
            return found, True
        if head[:4] != _CONTINUATION:
            raise SourceError(f"no Arrow message at byte {at}: cut off, damaged, or of a version before 0.15")
        found.append(_message_at(read, at, nbytes))
        if len(found) > _MAX_MESSAGES:
            raise SourceError(f"it has more than {_MAX_MESSAGES:,} messages")
        at = found[-1].end
    return found, False


def file_messages(read: Read, nbytes: int) -> tuple[list[Message], list[Message]]:
    """The dictionaries and the record batches of a file of this length, by its footer. Raises SourceError."""
    tail = read(max(nbytes - _TAIL.size, 0), _TAIL.size)
    if not tail.endswith(MAGIC) or len(tail) < _TAIL.size:
        raise SourceError("cut off: an Arrow file ends with ARROW1")
    length, _ = _TAIL.unpack(tail)
    end = nbytes - _TAIL.size - length
    if not 0 < length <= _MAX_HEADER_NBYTES or end < len(MAGIC):
        raise SourceError(f"the footer says it has {length} bytes, more than there are")
    try:
        footer = _Table.root(read(end, length))
        dictionaries, batches = footer.blocks(2), footer.blocks(3)
    except (struct.error, ValueError) as error:
        raise SourceError(f"the footer is damaged: {error}") from error
    if len(dictionaries) + len(batches) > _MAX_MESSAGES:
        raise SourceError(f"it has more than {_MAX_MESSAGES:,} messages")
    found = ([_message_at(read, at, end) for at in places] for places in (dictionaries, batches))
    return next(found), next(found)


def _message_at(read: Read, at: int, end: int) -> Message:
    """The message at an offset of a file whose messages end at another. Raises SourceError."""
    if not 0 <= at < end:
        raise SourceError(f"the footer lists a message at byte {at}, outside of the file")
    head = read(at, 8)
    begin = at + 8 if head[:4] == _CONTINUATION else at + 4
    length = int.from_bytes(head[begin - at - 4 : begin - at], "little", signed=True)
    if not 0 < length <= min(_MAX_HEADER_NBYTES, end - begin):
        raise SourceError(f"the message at byte {at} says its header has {length} bytes, more than there are")
    message = _message(read(begin, length), at, begin + length)
    if message.end > end:
        raise SourceError(f"cut off: the message at byte {at} ends at {message.end}, the file at {end}")
    return message


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

    def blocks(self, field: int) -> list[int]:
        """The offsets in a vector of structs of offset, length of header, and length of body."""
        at = self._place(field)
        if at is None:
            return []
        at += self._unpack("<I", at)
        count = self._unpack("<I", at)
        if at + 4 + 24 * count > len(self._data):
            raise ValueError("a list of it is longer than the footer")
        return [offset for offset, _, _ in struct.iter_unpack("<qi4xq", self._data[at + 4 : at + 4 + 24 * count])]
