"""Files of text: plain, JSON, one number. UTF-8, or UTF-16 if a byte order mark says so; the mark is no part of it."""

from __future__ import annotations

import codecs
from typing import Any

from recordio.errors import SourceError
from recordio.format import strict_json
from recordio.format.fields import Object
from recordio.format.numeric import Scalar


def plain_text(data: bytes) -> str:
    """Raises SourceError for bytes that are not UTF-8, nor UTF-16 with its mark."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise SourceError(f"the text is not {name}: {error.reason} at byte {error.start}") from error


def json_value(data: bytes) -> Any:
    """Raises SourceError for what is not JSON, or cannot be stored."""
    try:
        value = strict_json.parse(plain_text(data))
        Object().pack(value)
    except ValueError as error:
        raise SourceError(f"the JSON cannot be read: {error}") from error
    return value


def class_number(data: bytes) -> int:
    """The integer of a .cls file. Raises SourceError."""
    try:
        value = int(plain_text(data[:64]).strip())
        Scalar("int64").pack(value)
    except ValueError as error:
        raise SourceError(f"one integer of 64 bits is expected, as in a .cls file, not {data[:40]!r}") from error
    return value
