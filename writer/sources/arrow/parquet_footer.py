"""What the footer of a Parquet file says of its row groups. PyArrow would end the process over some that are damaged.

    file   := "PAR1"  columns  footer  int32 length  "PAR1"
    footer := FileMetaData, in Thrift's compact encoding

Structs come out as dicts by the numbers of their fields, as parquet.thrift gives them. Raises SourceError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recordio.errors import SourceError

MAGIC = b"PAR1"
_TAIL = struct.Struct("<I4s")
_MAX_FOOTER_NBYTES = 1 << 26
_MAX_DEPTH = 32
BYTE_ARRAY = 6
_FIXED_LENGTH = 7
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}  # of the types of numbers, in bytes, in memory
_MAX_VALUES_PER_BYTE = 1 << 14  # as of rows
INT96 = 3
_REPEATED = 2
Read = Callable[[int, int], bytes]  # the bytes at (offset, size), or fewer at the end


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of plain values.

    Attributes:
        path: the names on the way to it.
        type: its number in Thrift's enum Type.
        repeated: whether it lies in lists.
        width: the bytes of a value, None where they differ.
    """

    path: tuple[str, ...]
    type: int
    repeated: bool
    width: int | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A leaf in a row group: where it begins, its values, and how many are missing, None if that is not said."""

    start: int
    values: int
    missing: int | None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group: its rows, its unpacked bytes, and a chunk for each leaf."""

    rows: int
    nbytes: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class ParquetFooter:
    """The leaves and the row groups of a file."""

    leaves: tuple[Leaf, ...]
    groups: tuple[RowGroup, ...]

    @classmethod
    def read(cls, read: Read, nbytes: int) -> ParquetFooter:
        """That of a file of this length. Raises SourceError."""
        tail = read(max(nbytes - _TAIL.size, 0), _TAIL.size)
        if read(0, 4) != MAGIC or tail[4:] != MAGIC:
            found = "encrypted" if tail[4:] == b"PARE" else "cut off, or no Parquet file: it does not end with PAR1"
            raise SourceError(found)
        (length,) = struct.unpack_from("<I", tail)
        if length > min(_MAX_FOOTER_NBYTES, nbytes - _TAIL.size - 4):
            raise SourceError(
                f"it says its footer has {length} bytes, more than there are, or than {_MAX_FOOTER_NBYTES}"
            )
        try:
            return _footer(_Thrift(read(nbytes - _TAIL.size - length, length)).struct(), nbytes)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise SourceError(f"its footer is damaged: {error or type(error).__name__}") from error


def _footer(found: dict[int, Any], nbytes: int) -> ParquetFooter:
    leaves = _leaves(found[2])
    groups = tuple(_group(group, leaves, nbytes) for group in found.get(4, []))
    rows = sum(group.rows for group in groups)
    if rows != found[3]:
        raise ValueError(f"its row groups have {rows} rows, and it says {found[3]}")
    return ParquetFooter(leaves, groups)


def _leaves(elements: list[dict[int, Any]]) -> tuple[Leaf, ...]:
    """The leaves of the schema, which is listed depth first."""
    found: list[Leaf] = []
    above: list[tuple[tuple[str, ...], bool, int]] = []  # path, repeated, children left
    for number, element in enumerate(elements):
        path, repeated = (above[-1][0], above[-1][1]) if above else ((), False)
        if number:
            path = (*path, element[4].decode("utf-8"))
            repeated |= element.get(3) == _REPEATED
            above[-1] = (*above[-1][:2], above[-1][2] - 1)
        children = element.get(5, 0)
        if children:
            above.append((path, repeated, children))
        elif number:
            width = element[2] if element[1] == _FIXED_LENGTH else _WIDTHS.get(element[1])
            found.append(Leaf(path, element[1], repeated, width))
        while above and not above[-1][2]:
            above.pop()
        if len(above) > 2 * _MAX_DEPTH:
            raise ValueError("its schema is nested too deep")
        if not above and number + 1 < len(elements):
            raise ValueError("its schema has more than one root")
    return tuple(found)


def _group(group: dict[int, Any], leaves: tuple[Leaf, ...], nbytes: int) -> RowGroup:
    chunks = [chunk[3] for chunk in group[1]]
    if [chunk[1] for chunk in chunks] != [leaf.type for leaf in leaves]:
        raise ValueError("a row group does not have the columns of the schema")
    if any(1 in chunk for chunk in group[1]):
        raise ValueError("its columns lie in other files")
    if not 0 <= group[3] < 1 << 62 or not 0 <= group[2] < 1 << 62:
        raise ValueError("a row group with fewer than no rows")
    found = []
    for chunk in chunks:
        start = min(chunk[9], chunk.get(11) or chunk[9])
        if not 0 <= start <= start + chunk[7] <= nbytes:
            raise ValueError("a column lies outside of the file")
        if not 0 <= chunk[5] <= _MAX_VALUES_PER_BYTE * chunk[7]:
            raise ValueError(f"a column says it has {chunk[5]:,} values in {chunk[7]:,} bytes")
        missing = chunk.get(12, {}).get(3)
        if missing is not None and missing < 0:
            raise ValueError("fewer than no missing values")
        found.append(Chunk(start, chunk[5], missing))
    return RowGroup(group[3], group[2], tuple(found))


class _Thrift:
    """Reads Thrift's compact encoding. Raises IndexError and ValueError where it is damaged."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            found[number] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a value of the unknown kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self._at:  # an element takes a byte at least
            raise ValueError("a list is longer than the footer")
        kind = head & 15
        if kind in (1, 2):
            return [self._byte() == 1 for _ in range(count)]
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        found = self._data[self._at]
        self._at += 1
        return found

    def _bytes(self, nbytes: int) -> bytes:
        found = self._data[self._at : self._at + nbytes]
        if len(found) < nbytes:
            raise ValueError("a text is longer than the footer")
        self._at += nbytes
        return found

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return number | byte << shift

    def _zigzag(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)


def dictionary_nbytes(head: bytes) -> int:
    """The bytes of the dictionary that a chunk begins with, 0 if it begins with values.

    `head` is what the chunk begins with: the header of a page, whose kind and unpacked size come first.
    """
    thrift = _Thrift(head)
    numbers = []
    try:
        for _ in range(2):
            if thrift._byte() != 0x15:  # the next field, an i32
                return 0  # no header: reading the chunk says so
            numbers.append(thrift._zigzag())
    except (IndexError, ValueError):
        return 0
    return max(numbers[1], 0) if numbers[0] == 2 else 0
