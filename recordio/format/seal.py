"""The end of a JSON text that vouches for the rest: `"checksum": "<16 hex digits>"}` and a newline, 32 bytes.

The digits are XXH3-64 of everything before these bytes.
"""

from __future__ import annotations

from typing import Any

from recordio.errors import CorruptError, UnsupportedError
from recordio.format.checksum import checksum, require

SEAL_NBYTES = 32
_SEAL = '"checksum": "{:016x}"}}\n'


def sealed(body: bytes) -> bytes:
    """The text with its seal. `body` is an object without its closing brace, and ends in a comma and a newline."""
    return body + _SEAL.format(checksum(body)).encode("ascii")


def check_seal(data: bytes, what: str) -> None:
    """Raises CorruptError unless the text of `what` ends in its seal."""
    body, seal = data[:-SEAL_NBYTES], data[-SEAL_NBYTES:]
    expected = sealed(body)[-SEAL_NBYTES:]
    if seal[:13] != expected[:13] or seal[-3:] != expected[-3:]:
        raise CorruptError(f"the {what} does not end in its checksum: it was cut, or edited")
    try:
        stored = int(seal[13:29].decode("ascii"), 16)
    except ValueError as error:
        raise CorruptError(f"the {what}'s checksum is not 16 hex digits") from error
    require(what, stored, checksum(body))
    if seal != expected:
        raise CorruptError(f"the {what}'s checksum is not 16 lower-case hex digits")


def require_format(body: Any, what: str, name: str, version: int) -> dict[str, Any]:
    """The object of `what`, if it is one of this format and version. Raises CorruptError, UnsupportedError."""
    if not isinstance(body, dict) or body.get("format") != name:
        raise CorruptError(f'the {what} does not say "format": "{name}"')
    if body.get("version") != version:
        raise UnsupportedError(f"{what} version {body.get('version')!r}: this reader knows version {version}")
    return body
