"""Strict JSON for untrusted text: no duplicate keys, no NaN, limited digits and depth."""

from __future__ import annotations

import json
import math
from typing import Any

from recordio.errors import CorruptError

_MAX_DIGITS = 40
_MAX_DEPTH = 512  # Python's own limit depends on the caller's stack depth
# With every digit replaced by 0, only numbers that contain one of these can overflow a float64 or have too many digits.
# Searching for them takes a tenth of the time of a regular expression or a Python call per number.
_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_MAY_BE_TOO_LARGE = (b"e000", b"e+000", b"0" * _MAX_DIGITS)
_TOO_DEEP = f"it is nested deeper than {_MAX_DEPTH} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} stands twice in an object")
    return out


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large for a float64")
    return value


_QUICK = json.JSONDecoder(object_pairs_hook=_object)
_CAREFUL = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_int=_int)


def loads(data: bytes, what: str) -> Any:
    """Parses UTF-8 JSON from a file. Raises CorruptError, in which `what` names the text."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_int)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"the {what} is not valid JSON: {error}") from error


def parse(text: str) -> Any:
    """Parses JSON from a user. Raises ValueError for anything that would not be stored as written.

    Refuses duplicate keys, numbers out of the range of float64, integers of more than 40 digits, and more than 512
    levels of nesting. Accepts NaN, Infinity and -Infinity: they are not JSON, but Python and pandas write them, and
    fields can hold them.
    """
    alike = text.encode("utf-8", "surrogatepass").translate(_DIGITS_ALIKE)
    decoder = _CAREFUL if any(part in alike for part in _MAY_BE_TOO_LARGE) else _QUICK
    try:
        value = decoder.decode(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        _require_shallow(value)
    return value


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        containers = [found for found in level if isinstance(found, (dict, list))]
        if not containers:
            return
        level = [part for found in containers for part in (found.values() if isinstance(found, dict) else found)]
    raise ValueError(_TOO_DEEP)
