"""Reads the pickles of CIFAR safely: plain containers and NumPy arrays of bytes, nothing else.

Python's unpickler is not used: it hashes whatever a file makes the key of a dict. Of a tuple in a tuple a million times
that ends the process, and of one with shared halves it takes for ever. `pickletools` takes the file apart, and what is
in it is built here, of plain values alone. The few globals that NumPy arrays need stand for values in this file, so a
pickle never creates, calls or changes an object of any library.
"""

from __future__ import annotations

import math
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.writer.sources.foreign_errors import reading

_MAX_MEMO = 1 << 22
_MAX_OPCODES = 1 << 21  # ten times those of CIFAR-100
_MAX_DIMENSIONS = 8
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_PLAIN = frozenset(
    """BININT BININT1 BININT2 LONG1 BINFLOAT BINBYTES SHORT_BINBYTES BINBYTES8
    BINUNICODE SHORT_BINUNICODE BINUNICODE8""".split()
)
_STRINGS = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))  # of Python 2, whose strings were bytes
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = frozenset(("BINGET", "LONG_BINGET"))
_PUTS = frozenset(("BINPUT", "LONG_BINPUT", "MEMOIZE"))
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "array",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",  # as Python 3 pickles bytes in protocol 2
}


class _Global:
    """A global that may be called: "array", "dtype" or "bytes"."""

    def __init__(self, makes: str) -> None:
        self.makes = makes


class _Dtype:
    """Stands for a numpy.dtype: its code. Byte order is meaningless for single bytes."""

    def __init__(self, code: Any) -> None:
        self.code = code.decode("latin-1") if isinstance(code, bytes) else code


class _Array:
    """Stands for a numpy.ndarray: its state, (version, shape, dtype, fortran, bytes)."""

    state: Any = None


class _Machine:
    """What a pickle builds, opcode by opcode. `nbytes`: those of the pickle, as many of which may be made anew."""

    def __init__(self, nbytes: int) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = nbytes

    def step(self, name: str, argument: Any) -> None:
        """Carries out an opcode. Raises SourceError for one that is not allowed, IndexError and the like for damage."""
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _STRINGS:
            self.stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._join(len(self.stack) - _TUPLES[name], tuple)
        elif name in _PUTS:
            self._put(argument)
        elif name in _GETS:
            self.stack.append(self._memo[argument])
        elif name not in _IGNORED:
            self._rarer(name, argument)

    def _rarer(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self._marks.append(len(self.stack))
        elif name == "POP":
            _ = self._marks.pop() if self._marks[-1:] == [len(self.stack)] else self.stack.pop()
        elif name in ("TUPLE", "LIST"):
            self._join(self._marks.pop(), tuple if name == "TUPLE" else list)
        elif name == "DICT":
            start = self._marks.pop()
            self.stack.insert(start, {})
            self._fill(start + 1, dict)
        elif name in ("SETITEM", "SETITEMS"):
            self._fill(len(self.stack) - 2 if name == "SETITEM" else self._marks.pop(), dict)
        elif name in ("APPEND", "APPENDS"):
            self._fill(len(self.stack) - 1 if name == "APPEND" else self._marks.pop(), list)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            found = argument.split(" ", 1) if name == "GLOBAL" else self._cut(len(self.stack) - 2)
            self.stack.append(_global(*found))
        elif name == "REDUCE":
            function, arguments = self._cut(len(self.stack) - 2)
            self.stack.append(self._made(function, arguments))
        elif name == "BUILD":
            self._build(self.stack.pop())
        else:
            raise SourceError(f"the pickle holds the opcode {name}, which is not allowed")

    def _cut(self, start: int) -> list[Any]:
        """Takes off the stack from a place on."""
        if start < 0:
            raise IndexError("it takes values that are not there")
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def _join(self, start: int, kind: type) -> None:
        self.stack.append(kind(self._cut(start)))

    def _fill(self, start: int, kind: type) -> None:
        """Adds what is on the stack from a place on to the container before it."""
        items = self._cut(start)
        container: Any = self.stack[-1]
        found: type = type(container)
        if found is not kind:
            raise SourceError(f"the pickle adds to a {found.__name__} as to a {kind.__name__}")
        if kind is list:
            container.extend(items)
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes):  # anything else may take any time to hash
                raise SourceError("the pickle holds a dict whose keys are no texts")
            container[key] = value

    def _put(self, number: int | None) -> None:
        number = len(self._memo) if number is None else number
        if number > _MAX_MEMO:
            raise SourceError(f"the pickle numbers its values up to {number}")
        self._memo[number] = self.stack[-1]

    def _made(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Global or type(arguments) is not tuple:
            raise SourceError("the pickle calls what is no function")
        if function.makes == "array":
            return _Array()
        if function.makes == "dtype":
            return _Dtype(arguments[0])
        data = arguments[0].encode("latin-1")
        self._left -= len(data)
        if self._left < 0:
            raise SourceError("the pickle makes more bytes than it has")
        return data

    def _build(self, state: Any) -> None:
        value = self.stack[-1]
        if type(value) is _Array:
            value.state = state
        elif type(value) is not _Dtype:
            raise SourceError(f"the pickle changes a {type(value).__name__}")


def _global(module: Any, name: Any) -> _Global:
    if type(module) is not str or type(name) is not str:
        raise SourceError("the pickle asks for a global without a name")
    if (module, name) not in _GLOBALS:
        raise SourceError(f"the pickle asks for {module}.{name}, which is not allowed")
    return _Global(_GLOBALS[module, name])


def load_pickle(data: bytes) -> dict[bytes, Any]:
    """The dict in a CIFAR pickle. Keys are bytes, arrays are stand-ins to pass to `byte_array`. Raises SourceError."""
    machine = _Machine(len(data))
    with reading("the pickle cannot be read"):
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number >= _MAX_OPCODES:
                raise SourceError(f"the pickle holds more than {_MAX_OPCODES:,} opcodes, and no CIFAR does")
            machine.step(opcode.name, argument)
        value = machine.stack.pop()
        if type(value) is not dict:
            raise SourceError(f"the pickle holds a {type(value).__name__}, not a dict")
        return {key.encode() if isinstance(key, str) else key: item for key, item in value.items()}


def byte_array(value: Any) -> npt.NDArray[np.uint8]:
    """The uint8 array of a stand-in, read-only. Raises SourceError."""
    try:
        _, shape, dtype, fortran, data = value.state
        code = dtype.code
        counts = len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
        fits = type(data) is bytes and counts and math.prod(shape) == len(data)
    except (AttributeError, TypeError, ValueError) as error:
        raise SourceError("the pickle has no array where pixels should be") from error
    if code not in ("u1", "uint8") or not fits:
        raise SourceError("the pickled array is not one of whole bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")
