"""Which encoding a text is in that is not UTF-8: told by its mark, or by bytes that all likely encodings read alike."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LATIN = ("cp1252", "iso8859-15", "cp1250", "cp1254", "cp1257")  # Western, Central European, Turkish, Baltic
_OTHERS = ("cp1252", "cp1250", "cp1251")
# Latin scripts have one or two such letters in a row, beside plain ones. Others have long runs, and words of their own.
_NOT_LATIN = re.compile(rb"[\x80-\xff]{3}|(?<![A-Za-z\x80-\xff])[\x80-\xff]{1,2}(?![A-Za-z\x80-\xff])")


def marked_encoding(head: bytes) -> str | None:
    """The encoding that the byte order mark at the start of a file names, None without one."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def unmarked_encoding(lines: Iterable[bytes]) -> str | None:
    """The encoding of lines that are not UTF-8, None where it is not certain.

    "cp1252" if every byte beyond ASCII is a letter of a word in Latin script and the same one in all encodings for
    them. Some lines that are UTF-8 make the text a damaged UTF-8.
    """
    seen: set[int] = set()
    for line in lines:
        if line.isascii():
            continue
        if _NOT_LATIN.search(line) or _is_utf8(line):
            return None
        seen.update(line)
    letters = bytes(sorted(byte for byte in seen if byte >= 0x80))
    if not letters or letters[0] < 0xA0:
        return None
    return "cp1252" if len({letters.decode(name, "replace") for name in _LATIN}) == 1 else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def readings(line: bytes, at: int) -> str:
    """How encodings would read what is around a byte of a line, for a message."""
    start = max(line.rfind(space, 0, at) + 1 for space in (b" ", b",", b";", b"\t", b"\n", b"\r", b'"'))
    word = line[max(start, at - 12) : at + 12].split(b"\n")[0].rstrip(b"\r")
    return ", ".join(f"{word.decode(name, 'replace')!r} in {name}" for name in _OTHERS)
