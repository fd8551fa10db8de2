"""How WebDataset groups the members of a tar into samples: by the name up to its first dot.

`base_plus_ext` and `group_by_keys` of the library are the model. Members that follow one another with one key are a
sample; the rest of the name, in lower case, is the field.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby, islice

from recordio.errors import SourceError
from recordio.writer.sources.archives.tar_members import FILE, TarMember, tar_members
from recordio.writer.sources.archives.unpacked_file import unpacked_file
from recordio.writer.sources.leftovers import is_clutter
from recordio.writer.sources.plain_files import shown
from recordio.writer.sources.split_names import split_word

AS_WEBDATASET = (
    "members with one name and several extensions follow one another, so this is WebDataset; "
    "--kind file_groups (kind=) reads it as the folder in it"
)
_KEY_AND_SUFFIX = re.compile(rb"((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(rb"__[^/]*__(?:$|/)")
_PEEKED = 2_000  # members that decide whether an archive is one of WebDataset


def key_and_suffix(name: bytes) -> tuple[bytes, str] | None:
    """The key of a sample and the field, None for a name that is passed over. Raises SourceError for odd extensions."""
    found = _KEY_AND_SUFFIX.match(name)
    if found is None or _META.match(name) or not found[2]:
        return None
    try:
        return found[1], found[2].decode("utf-8").lower()
    except UnicodeDecodeError as error:
        raise SourceError(f"an extension is not UTF-8: {shown(name)!r}") from error


def passed_over(member: TarMember) -> str:
    """Why a member is in no sample, in words."""
    if member.kind != FILE:
        return "no regular files"
    if _META.match(member.name):
        return "about the archive (__NAME__)"
    return "hidden, or without an extension"


def looks_like_webdataset(path: bytes) -> bool:
    """Whether most samples of a tar would have several fields, each key stands in one place, and no folder is a split.

    The folder that a tar was made of is another one: its pictures have classes, masks or a table. Raises SourceError.
    """
    file = unpacked_file(path)
    try:
        members = list(islice(tar_members(file.read, file.nbytes), _PEEKED))
    except SourceError as error:
        raise error.at(file=shown(path))
    names = [member.name for member in members if member.kind == FILE]
    names = [name for name in names if not is_clutter(name) and not _hidden(name)]
    parts = [key_and_suffix(name) for name in names]
    if None in parts:
        return False
    if max(Counter(parts).values(), default=0) != 1:
        return False
    runs = [(key, len(list(group))) for key, group in groupby(part[0] for part in parts if part)]
    once = max(Counter(key for key, _ in runs).values()) == 1
    return once and 2 * sum(count > 1 for _, count in runs) > len(runs) and not _has_splits(key for key, _ in runs)


def _hidden(name: bytes) -> bool:
    return name.rpartition(b"/")[2].startswith(b".") or _META.match(name) is not None


def _has_splits(keys: Iterable[bytes]) -> bool:
    tops = {key.removeprefix(b"./").partition(b"/")[0] for key in keys if b"/" in key.removeprefix(b"./")}
    return any(split_word(top.decode("utf-8", "replace")) is not None for top in tops)
