"""Reads the pickles of CIFAR safely: plain containers and NumPy arrays of bytes, nothing else.

Two defences. Opcodes are checked first: only plain values may be built, and memo numbers are limited, because the
unpickler allocates for them. Then the few globals that NumPy arrays need resolve to stand-ins in this file, so a pickle
never creates, calls or changes an object of any library.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError

_MAX_MEMO = 1 << 22
_ALLOWED = frozenset(
    """PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD""".split()
)


class _Dtype:
    """Stands in for numpy.dtype: remembers its code."""

    def __init__(self, code: Any = None, *ignored: Any) -> None:
        self.code = code.decode("latin-1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Ignored: byte order is meaningless for single bytes."""


class _Array:
    """Stands in for numpy.ndarray: remembers its state, (version, shape, dtype, fortran, bytes)."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reconstruct:
    """Stands in for numpy's _reconstruct."""

    def __new__(cls, *ignored: Any) -> Any:
        return _Array()

    def __setstate__(self, state: Any) -> None:
        """Defined so that a pickle cannot set attributes here."""


class _Encode:
    """Stands in for _codecs.encode; Python 3 pickles bytes with it in protocol 2."""

    def __new__(cls, text: Any = "", *ignored: Any) -> Any:
        return text.encode("latin-1")

    def __setstate__(self, state: Any) -> None:
        """Defined so that a pickle cannot set attributes here."""


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise SourceError(f"the pickle asks for {module}.{name}, which is not allowed")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise SourceError("the pickle refers to something outside it")


def _check_opcodes(data: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _ALLOWED:
            raise SourceError(f"the pickle holds the opcode {opcode.name}, which is not allowed")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > _MAX_MEMO:
            raise SourceError(f"the pickle numbers its values up to {argument}")


def load_pickle(data: bytes) -> dict[bytes, Any]:
    """The dict in a CIFAR pickle. Keys are bytes, arrays are stand-ins to pass to `byte_array`. Raises SourceError."""
    try:
        _check_opcodes(data)
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(value, dict):
            raise SourceError(f"the pickle holds a {type(value).__name__}, not a dict")
        return {key.encode() if isinstance(key, str) else key: item for key, item in value.items()}
    except SourceError:
        raise
    except Exception as error:  # a crafted pickle can make the unpickler raise nearly anything
        raise SourceError(f"the pickle cannot be read: {type(error).__name__}: {error}") from error


def byte_array(value: Any) -> npt.NDArray[np.uint8]:
    """The uint8 array of a stand-in, read-only. Raises SourceError."""
    try:
        _, shape, dtype, fortran, data = value.state
        code = dtype.code
        fits = type(data) is bytes and all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) == len(data)
    except (AttributeError, TypeError, ValueError) as error:
        raise SourceError("the pickle has no array where pixels should be") from error
    if code not in ("u1", "uint8") or not fits:
        raise SourceError("the pickled array is not one of whole bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")
