"""Digests of Python inputs and of the functions that make samples of them: whether both are what they were.

A digest covers values, not objects: numbers, text, bytes, arrays, paths and what lists, tuples, dicts and sets hold of
them. Where a text or a path names a file, its size and its `stamp` (files.py) count as well; not so in the code of a
function, which may name what it writes. Of anything else it cannot be told whether it is as before: no digest.

Of a function count its name and its bytecode, with defaults, closures and what `partial` adds; and, of the names that
it uses, the functions and classes of its own module, and plain values. What other modules do is not looked into.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import xxhash

from recordio.writer.sources.files import stamp
from recordio.writer.sources.source import Fingerprint

_MAX_PATH = 4096
_NUMBERS = (bool, int, float, complex)


class UnknownValue(Exception):
    """A value of which it cannot be told whether it is as before."""


class ValueDigest:
    """Takes values one by one. `content` does not depend on the times of files, `state` does."""

    def __init__(self, files: bool = True) -> None:
        """`files`: whether what the files are that are named counts."""
        self._files = files
        self._content = xxhash.xxh3_128()
        self._state = xxhash.xxh3_128()
        self._seen: set[int] = set()  # functions, which may name each other

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self._content.digest(), self._state.digest())

    def add(self, value: Any) -> None:
        """Raises UnknownValue."""
        kind = type(value)
        if value is None or value is ... or kind in _NUMBERS:
            self._put(kind.__name__, repr(value).encode())
        elif kind is str:
            self._put("str", value.encode("utf-8", "surrogatepass"))
            self._add_file(value)
        elif kind in (bytes, bytearray):
            self._put("bytes", value)
        elif isinstance(value, os.PathLike):
            self._put("path", os.fsencode(value))
            self._add_file(os.fspath(value))
        elif isinstance(value, (np.ndarray, np.generic)):
            self._add_array(np.asarray(value))
        elif kind in (list, tuple, range):
            self._add_all(kind.__name__, value)
        elif isinstance(value, Mapping):
            self._add_all("dict", (part for item in value.items() for part in item))
        elif kind in (set, frozenset):
            self._add_set(value)
        else:
            self._add_code(value)

    def _put(self, kind: str, data: bytes | bytearray) -> None:
        self._content.update(f"{kind} {len(data)} ".encode())
        self._content.update(data)

    def _add_file(self, path: Any) -> None:
        if not self._files or not 0 < len(path) <= _MAX_PATH:
            return
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # a text like any other
            return
        if not os.path.isdir(path):
            self._put("file", str(found.st_size).encode())
        self._state.update(stamp(found).to_bytes(8, "little"))

    def _add_array(self, array: Any) -> None:
        if array.dtype.hasobject:
            raise UnknownValue
        self._put(f"{array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())

    def _add_all(self, kind: str, values: Iterable[Any]) -> None:
        count = 0
        self._put(kind, b"")
        for value in values:
            self.add(value)
            count += 1
        self._put("end", str(count).encode())

    def _add_set(self, values: Iterable[Any]) -> None:
        found = []
        for value in values:
            one = ValueDigest(self._files)
            one.add(value)
            found.append(one.fingerprint.content)
        self._put("set", b"".join(sorted(found)))

    def _add_code(self, value: Any) -> None:
        """What can be called, and objects by their class and attributes."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, type)):
            self._put("function", f"{value.__module__}.{value.__qualname__}".encode())
        if isinstance(value, FunctionType):
            self._add_function(value)
        elif isinstance(value, MethodType):
            self.add(value.__self__)
        elif isinstance(value, partial):
            self._add_all("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, type):
            own = sorted(vars(value).items())
            self._add_all("class", [part for _, part in own if isinstance(part, FunctionType)])
        elif isinstance(value, CodeType):
            before, self._files = self._files, False
            self._add_all("code", (value.co_code, value.co_names, value.co_consts, value.co_freevars))
            self._files = before
        elif callable(value) and hasattr(value, "__dict__") and not hasattr(value, "__slots__"):
            self._add_all("object", (type(value), vars(value)))
        elif not isinstance(value, BuiltinFunctionType):
            raise UnknownValue

    def _add_function(self, function: FunctionType) -> None:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        self._add_all("parts", (function.__code__, function.__defaults__, function.__kwdefaults__, held))
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                self._add_global(function, name)

    def _add_global(self, user: FunctionType, name: str) -> None:
        """What a function finds by this name: code of its own module, or a plain value. Others only by their type."""
        value = user.__globals__[name]
        self._put("name", name.encode())
        code = isinstance(value, (FunctionType, type))
        if (code and value.__module__ == user.__module__) or not callable(value):
            digest = ValueDigest(files=False)
            digest._seen = self._seen
            try:
                digest.add(value)
            except UnknownValue:
                pass
            else:
                self._put("global", digest.fingerprint.content)
                return
        self._put("type", type(value).__qualname__.encode())


def _names(code: CodeType) -> set[str]:
    """The names that a function and those inside it use."""
    inside = [const for const in code.co_consts if isinstance(const, CodeType)]
    return {*code.co_names}.union(*map(_names, inside))


def fingerprint(*values: Any) -> Fingerprint | None:
    """That of the values, None where it cannot be told whether they are as before."""
    digest = ValueDigest()
    try:
        for value in values:
            digest.add(value)
    except (UnknownValue, RecursionError):
        return None
    return digest.fingerprint
