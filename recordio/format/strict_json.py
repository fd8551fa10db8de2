"""JSON from a stranger: no duplicate keys, no NaN, no endless numbers, no depth that breaks the parser."""

from __future__ import annotations

import json
from typing import Any

from recordio.errors import CorruptError

_MAX_DIGITS = 40


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return out


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def loads(data: bytes, what: str) -> Any:
    """The value of UTF-8 JSON. Raises CorruptError, which calls the text `what`."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_int)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"the {what} is not valid JSON: {error}") from error
