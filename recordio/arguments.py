"""Checks of user arguments, one per kind, and the short form of a value for error messages.

Every check returns the value in its plain form, or raises SchemaError naming the argument.
"""

from __future__ import annotations

import operator
import os
import re
import reprlib
from collections.abc import Collection
from typing import Any

import numpy as np

from recordio.errors import DatasetError, SchemaError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


def describe(value: Any) -> str:
    """A short form of any value, whatever its depth and size."""
    if value is np.ma.masked:
        return "a masked value"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = " ".join(_REPR.repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def integer(name: str, value: Any, least: int, most: int | None = None, *, optional: bool = False) -> Any:
    """An int from `least` to `most`; NumPy's integers count, bools do not. None if that is `optional`."""
    if optional and value is None:
        return None
    try:
        found = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = least - 1
    if found < least or (most is not None and found > most):
        bounds = f">= {least}" if most is None else f"from {least} to {_power(most)}"
        raise SchemaError(f"{name} is {value!r}: expected an integer {bounds}")
    return found


def _power(most: int) -> str:
    return f"2^{most.bit_length()} - 1" if most >= 1 << 31 and most & (most + 1) == 0 else str(most)


def integers(name: str, value: Any, lengths: Collection[int], *, least: int = 1, most: int = 1 << 16) -> Any:
    """An integer as (n,), or a tuple of integers of one of these lengths."""
    try:
        found = tuple(map(operator.index, value if hasattr(value, "__iter__") else (value,)))
    except TypeError:
        found = ()
    if len(found) not in lengths or not all(least <= n <= most for n in found):
        counts = " or ".join(map(str, lengths))
        raise SchemaError(f"{name} has {counts} integers of {least} to {most}, not {value!r}")
    return found


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """At least one number, each within the range of float32."""
    try:
        found = tuple(map(float, value))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(abs(n) < 1e30 for n in found):
        raise SchemaError(f"{name} is a sequence of finite numbers, not {value!r}")
    return found


def interval(name: str, value: Any) -> tuple[float, float]:
    """(low, high) with 0 < low <= high."""
    found = numbers(name, value)
    if len(found) != 2 or not 0 < found[0] <= found[1]:
        raise SchemaError(f"{name} is (low, high) with 0 < low <= high, not {value!r}")
    return found[0], found[1]


def folder_path(name: str, value: Any) -> str:
    """The path of a folder on this machine, as text. Raises DatasetError for none, or a URL."""
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise SchemaError(f"{name} is a path, not {describe(value)}") from None
    if not path:
        raise DatasetError(f"{name} is empty: expected the path of a folder")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise DatasetError(f"{name} is a URL: expected the path of a folder on this machine").at(file=path)
    return path


def choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of a few values."""
    if not any(value is one or (isinstance(value, str) and value == one) for one in choices):
        raise SchemaError(f"unknown {name} {value!r}: expected {', '.join(map(repr, choices))}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False, NumPy's too, and nothing that only counts as one of them."""
    if not isinstance(value, (bool, np.bool_)):
        raise SchemaError(f"{name} is True or False, not {value!r}")
    return bool(value)
