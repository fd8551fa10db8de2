"""Lists and dicts as LitData's serializer `json` packs them: a tag of one byte, then the value. Older ones are JSON."""

from __future__ import annotations

import struct
from typing import Any

from recordio.errors import SourceError
from recordio.format import strict_json

_MAX_DEPTH = 64
_JSON, _TEXTS, _INTS, _FLOATS, _BOOLS, _DICT, _RECORDS, _TEXT, _INT, _FLOAT, _BOOL, _NULL = range(12)
_NUMBERS = {_INT: ("<q", 8), _FLOAT: ("<d", 8), _BOOL: ("<?", 1)}
_LISTS = {_INTS: ("q", 8), _FLOATS: ("d", 8), _BOOLS: ("?", 1)}
_IN_RECORDS = {0x10: _NULL, 0x11: _TEXT, 0x12: _INT, 0x13: _FLOAT, 0x14: _BOOL}


def nested(data: bytes) -> Any:
    """The value in these bytes. Raises SourceError, ValueError for JSON that is none."""
    if not data or data[0] > 0x20:
        return strict_json.parse(data.decode("utf-8"))
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise SourceError(f"{len(data) - reader.at} bytes follow a value")
    return value


class _Reader:
    """Reads values one after another, and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def _take(self, nbytes: int) -> bytes:
        if nbytes > len(self._data) - self.at:
            raise SourceError("a value leads out of its record")
        self.at += nbytes
        return self._data[self.at - nbytes : self.at]

    def _count(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _text(self) -> str:
        return self._take(self._count()).decode("utf-8")

    def value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise SourceError(f"values are nested deeper than {_MAX_DEPTH} levels")
        return self._tagged(self._take(1)[0], depth)

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag == _NULL:
            return None
        if tag == _TEXT:
            return self._text()
        if tag == _JSON:
            return strict_json.parse(self._text())
        if tag in _NUMBERS:
            form, nbytes = _NUMBERS[tag]
            return struct.unpack(form, self._take(nbytes))[0]
        if tag == _DICT:
            return {self._text(): self.value(depth + 1) for _ in range(self._few(5))}
        if tag == _TEXTS:
            return [self._text() for _ in range(self._few(4))]
        if tag in _LISTS:
            letter, nbytes = _LISTS[tag]
            count = self._few(nbytes)
            return list(struct.unpack(f"<{count}{letter}", self._take(count * nbytes)))
        if tag == _RECORDS:
            return self._records(depth)
        raise SourceError(f"a value of the unknown kind {tag}")

    def _few(self, nbytes: int) -> int:
        """A count of things that take so many bytes at least."""
        count = self._count()
        if count * nbytes > len(self._data) - self.at:
            raise SourceError(f"{count} values in {len(self._data) - self.at} bytes")
        return count

    def _records(self, depth: int) -> list[dict[str, Any]]:
        count = self._few(1)
        keys = [self._text() for _ in range(self._few(4))]
        if not keys:
            raise SourceError("records without keys")
        return [{key: self._tagged(self._kind(), depth) for key in keys} for _ in range(count)]

    def _kind(self) -> int:
        tag = self._take(1)[0]
        if tag not in _IN_RECORDS:
            raise SourceError(f"a value of the unknown kind {tag}")
        return _IN_RECORDS[tag]
