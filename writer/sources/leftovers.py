"""What of an input is no part of any sample, in words: files by extension and by name, hidden names, known clutter."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable

from recordio.writer.sources.plain_files import shown

_SHOWN = 3  # names for each extension
_EXTENSIONS_SHOWN = 12
# Files that lie beside the data of many datasets and are never data.
_CLUTTER = re.compile(
    rb"(?:.*/)?(?:(?:readme|licen[cs]e|copying|citation|changelog|authors|contributing|notice|dataset_?card)"
    rb"(?:[._-][a-z0-9._-]*)?|thumbs\.db|desktop\.ini|ehthumbs\.db|icon\r|md5sums?|sha\d+sums?|[^/]*\.(?:md|md5|sha1|sha256))"
    rb"|(?:.*/)?__macosx/.*",
    re.IGNORECASE | re.DOTALL,
)
# In lower case, one of these is in every name that _CLUTTER matches.
_CLUTTER_WORDS = (
    b"readme licen copying citation changelog authors contributing notice dataset thumbs.db desktop.ini icon\r md5sum "
    b"sha .md __macosx"
).split(b" ")
# Extensions of files that are for people to read; a picture called license_0.jpg is a picture.
_DOCUMENTS = frozenset(b" .txt .md .rst .html .pdf .db .ini .md5 .sha1 .sha256 .cff .bib".split(b" "))


def is_clutter(name: bytes) -> bool:
    """Whether a file is known by its name to be no data: a README, a licence, Thumbs.db, a Mac's __MACOSX."""
    if _CLUTTER.fullmatch(name) is None:
        return False
    return b"__macosx/" in name.lower() or os.path.splitext(name)[1].lower() in _DOCUMENTS or name.endswith(b"\r")


def may_hold_clutter(names: bytes) -> bool:
    """Whether any of many names, end to end, may be clutter: a quick look before `is_clutter` is asked of each."""
    plain = names.lower()
    return any(word in plain for word in _CLUTTER_WORDS)


def by_extension(names: Iterable[bytes]) -> str:
    """'2 .txt (a.txt, b.txt), 1 without extension (LICENSE)', most first; "" for no names."""
    groups: dict[bytes, list[bytes]] = defaultdict(list)
    counts: dict[bytes, int] = defaultdict(int)
    for name in names:
        extension = os.path.splitext(name)[1].lower()
        counts[extension] += 1
        if len(groups[extension]) < _SHOWN:
            groups[extension].append(name)
    order = sorted(counts, key=lambda extension: (-counts[extension], extension))
    parts = [_part(extension, counts[extension], groups[extension]) for extension in order[:_EXTENSIONS_SHOWN]]
    rest = sum(counts[extension] for extension in order[_EXTENSIONS_SHOWN:])
    return ", ".join(parts + ([f"{rest} with other extensions"] if rest else []))


def _part(extension: bytes, count: int, names: list[bytes]) -> str:
    more = ", ..." if count > len(names) else ""
    return f"{count} {shown(extension) or 'without extension'} ({', '.join(map(shown, names))}{more})"


def counted(number: int, noun: str) -> str:
    """1 -> "1 picture", 3 -> "3 pictures"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def left_out(names: Iterable[bytes]) -> tuple[str, ...]:
    """A note about files that become no part of a sample, none without files."""
    text = by_extension(names)
    return (f"left out: {text}",) if text else ()


def hidden(names: list[bytes]) -> tuple[str, ...]:
    """A note about hidden files and folders, none without them."""
    if not names:
        return ()
    more = ", ..." if len(names) > _SHOWN else ""
    return (f"hidden, left out: {', '.join(map(shown, names[:_SHOWN]))}{more} ({len(names)} in all)",)
