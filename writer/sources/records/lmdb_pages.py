"""The pages of an LMDB file, version 1 (LMDB 0.9), of 64-bit little-endian machines.

    file    := meta page, meta page, pages: all of one size; the meta page with the higher transaction is valid
    page    := number u64, pad u16, flags u16, lower u16, upper u16, offsets of its nodes u16 each, ... nodes
    node    := low u16, high u16, flags u16, length of the key u16, key, data
    branch  := low, high and flags are the number of the page below
    leaf    := low and high are the length of the data; of large data the node holds the number of its first page
    large   := number u64, pad u16, flags u16, pages u32, data through the pages that follow

LMDB itself trusts every pointer in a file, and reads outside of it if one is wrong. Here each is checked, and no more
pages are visited, nor bytes of values given, than the file has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from recordio.errors import SourceError

MAGIC = b"\xde\xc0\xef\xbe"  # at byte 16
MAGIC_OFFSET = 16
_VERSION = 1
_META = struct.Struct("<II16x")  # magic, version, address, size of the map; then two databases and the transaction
_DATABASE = struct.Struct("<IHHQQQQQ")  # page size, flags, depth; pages of branches, of leaves, of large data; entries
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_BRANCH, _LEAF = 1, 2
_LARGE, _DATABASE_NODE, _SEVERAL = 1, 2, 4
_NO_PAGE = (1 << 64) - 1
_MAX_DEPTH = 32
_SHOWN = 5


class Database(NamedTuple):
    """The root of a tree of pages, and what it promises."""

    depth: int
    entries: int
    root: int

    @classmethod
    def read(cls, data: bytes, offset: int = 0) -> Database:
        _, _, depth, _, _, _, entries, root = _DATABASE.unpack_from(data, offset)
        return cls(depth, entries, root)


class Entry(NamedTuple):
    """A key, and where its value lies in the file."""

    key: bytes
    start: int
    end: int
    flags: int = 0


class LmdbPages:
    """The entries of an LMDB file of `size` bytes; `read(start, length)` gives its bytes. Raises SourceError."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._page_size, self._main = self._meta()

    def _meta(self) -> tuple[int, Database]:
        head = self._read(0, 512)
        offset = MAGIC_OFFSET + _META.size
        if len(head) < 512 or head[MAGIC_OFFSET:][: len(MAGIC)] != MAGIC:
            raise SourceError("not an LMDB file of a 64-bit little-endian machine")
        page_size = _DATABASE.unpack_from(head, offset)[0]
        if not 512 <= page_size <= 1 << 16 or page_size & (page_size - 1):
            raise SourceError(f"not an LMDB file: its pages would have {page_size} bytes")
        found = []
        for start in (0, page_size):
            meta = self._read(start + MAGIC_OFFSET, _META.size + 2 * _DATABASE.size + 16)
            if len(meta) < _META.size + 2 * _DATABASE.size + 16 or meta[: len(MAGIC)] != MAGIC:
                continue
            version = _META.unpack_from(meta)[1]
            if version != _VERSION:
                raise SourceError(f"an LMDB file of version {version}; version {_VERSION} is read")
            _, transaction = struct.unpack_from("<QQ", meta, _META.size + 2 * _DATABASE.size)
            found.append((transaction, Database.read(meta, _META.size + _DATABASE.size)))
        return page_size, max(found, key=lambda one: one[0])[1]

    def entries(self) -> Iterator[Entry]:
        """All entries in the order of their keys: of the file's only database, be it named or not."""
        database = self._database()
        count = nbytes = 0
        for entry in self._nodes(database):
            if entry.flags & (_DATABASE_NODE | _SEVERAL):
                what = "several values" if entry.flags & _SEVERAL else "a database for a value"
                raise SourceError(f"the key {entry.key[:40]!r} has {what}, which is not read")
            count += 1
            nbytes += entry.end - entry.start
            if nbytes > self._size:
                raise SourceError("the values have more bytes than the file: several keys share one")
            yield entry
        if count != database.entries:
            raise SourceError(f"the file promises {database.entries} entries, there are {count}")

    def _database(self) -> Database:
        first = next(self._nodes(self._main), None)
        if first is None or not first.flags & _DATABASE_NODE or first.flags & _SEVERAL:
            return self._main
        named = list(self._nodes(self._main))
        if len(named) > 1:
            names = ", ".join(repr(entry.key[:40].decode("utf-8", "replace")) for entry in named[:_SHOWN])
            more = ", ..." if named[_SHOWN:] else ""
            raise SourceError(f"there are {len(named)} databases in it ({names}{more}), and one is read: copy it out")
        if first.end - first.start != _DATABASE.size:
            raise SourceError("the database in it is damaged")
        return Database.read(self._read(first.start, _DATABASE.size))

    def _nodes(self, database: Database) -> Iterator[Entry]:
        """The nodes of all leaves below a root, in order."""
        if database.root == _NO_PAGE:
            return
        left = self._size // self._page_size  # visits
        stack = [(database.root, 1)]
        while stack:
            number, depth = stack.pop()
            left -= 1
            if left < 0 or depth > min(database.depth, _MAX_DEPTH):
                raise SourceError("the pages of the file lead in a circle, or deeper than it says")
            page, flags, offsets = self._page(number)
            if flags & _LEAF:
                yield from (self._leaf(page, offset, number) for offset in offsets)
            else:
                below = [self._below(page, offset, number) for offset in offsets]
                stack += [(child, depth + 1) for child in reversed(below)]

    def _page(self, number: int) -> tuple[bytes, int, tuple[int, ...]]:
        """A page of nodes, its flags, and where its nodes begin."""
        if (number + 1) * self._page_size > self._size:
            raise SourceError(f"page {number} lies behind the end of the file: it is cut off, or damaged")
        page = self._read(number * self._page_size, self._page_size)
        if len(page) < self._page_size:
            raise SourceError("changed while it was read: it is shorter now")
        own, _, flags, lower, _ = _PAGE.unpack_from(page)
        count = (lower - _PAGE.size) // 2
        if own != number or flags & (_BRANCH | _LEAF) not in (_BRANCH, _LEAF) or not 0 <= count < self._page_size // 2:
            raise self._damaged(number)
        if _PAGE.size + 2 * count > self._page_size:
            raise self._damaged(number)
        return page, flags, struct.unpack_from(f"<{count}H", page, _PAGE.size)

    def _node(self, page: bytes, offset: int, number: int) -> tuple[int, int, int, int]:
        """Low, high and flags of a node, and where its data begins."""
        if not _PAGE.size <= offset <= self._page_size - _NODE.size:
            raise self._damaged(number)
        low, high, flags, key_length = _NODE.unpack_from(page, offset)
        data = offset + _NODE.size + key_length
        if data > self._page_size:
            raise self._damaged(number)
        return low, high, flags, data

    def _below(self, page: bytes, offset: int, number: int) -> int:
        low, high, flags, _ = self._node(page, offset, number)
        return low | high << 16 | flags << 32

    def _leaf(self, page: bytes, offset: int, number: int) -> Entry:
        low, high, flags, data = self._node(page, offset, number)
        length = low | high << 16
        key = page[offset + _NODE.size : data]
        if not flags & _LARGE:
            start, end = number * self._page_size + data, (number + 1) * self._page_size
        elif data + 8 > self._page_size:
            raise self._damaged(number)
        else:
            start, end = struct.unpack_from("<Q", page, data)[0] * self._page_size + _PAGE.size, self._size
        if start + length > end:
            raise SourceError(f"the value of {key[:40]!r} lies behind the end of its page, or of the file")
        return Entry(key, start, start + length, flags)

    def _damaged(self, number: int) -> SourceError:
        return SourceError(f"page {number} of the file is damaged")
