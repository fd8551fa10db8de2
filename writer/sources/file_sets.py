"""Several files of one kind as one source: shards of Parquet, TFRecord or tar in a folder, or named by a pattern.

Files whose names speak of splits, such as train-00000-of-00002.parquet, make one source for each split.
"""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterator

from recordio.errors import SourceError
from recordio.writer.sources.archives.webdataset_names import looks_like_webdataset
from recordio.writer.sources.files import exists, open_file
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.kinds import FILE_SET_KINDS, KIND, endings, file_kind
from recordio.writer.sources.leftovers import left_out
from recordio.writer.sources.records.kind_by_content import kind_by_content
from recordio.writer.sources.source import SourceOptions, SourceSpec
from recordio.writer.sources.split_names import SPLITS, split_word

_NUMBERED = re.compile(r"[-.]\d+-of-\d+$")  # behind the extension: mnist-train.tfrecord-00000-of-00010
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_SHOWN = 5
_MOST = 1_000_000  # files that a pattern may name
# What writers leave beside record files: no data, and no sign that the folder is of another kind.
_BESIDE = re.compile(
    rb"(?:.*/)?(?:(?:dataset_info|features|metadata)\.json|[^/]*\.labels\.txt|_success)", re.IGNORECASE
)


_ENDINGS = endings(FILE_SET_KINDS)


def set_kind(name: str) -> str | None:
    """The kind of a file that may be one of several, by its name; None for any other file."""
    kind = file_kind(_NUMBERED.sub("", name) if name[-1:].isdigit() else name)
    return kind if kind in FILE_SET_KINDS else None


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """A folder of files of one such kind, in folders of their own or not."""
    found: dict[str, list[bytes]] = defaultdict(list)
    if any(ending in _ENDINGS or ending[-1:].isdigit() for ending in folder.extensions):
        for name in folder.names:
            found[set_kind(os.fsdecode(name)) or ""].append(name)
    else:
        found[""] = folder.names
    others = found.pop("", [])
    if not found:
        found, others = _unnamed(folder, others)
    if not found:
        return None
    if len(found) > 1:
        counts = ", ".join(f"{len(names)} of {kind!r}" for kind, names in found.items())
        raise SourceError(f"files of several kinds: {counts}; give the folder or a pattern of one").at(file=folder.path)
    (kind, names), *_ = found.items()
    first = folder.file(names[0])
    if kind == "webdataset" and len(names) < max(2, len(others)) and not _is_webdataset(first):
        return None
    specs = {
        split: SourceSpec(folder.path, kind, SourceOptions(files=tuple(files)), _joined(files))
        for split, files in by_split([os.fsdecode(name) for name in names], folder.path).items()
    }
    most = Certainty.LIKELY if kind == "webdataset" or len(names) >= len(others) else Certainty.POSSIBLE
    certain = begins_right(first, kind)
    rest = [name for name in others if not _BESIDE.fullmatch(name)]
    return Match(kind, Certainty.CERTAIN if certain else most, len(names), rest, specs, left_out(others))


def _joined(files: list[str]) -> tuple[str, ...]:
    """A note that files of several folders make one dataset: on the hub these may be languages or configurations."""
    found = sorted({os.path.dirname(name) or "." for name in files})
    if len(found) == 1:
        return ()
    names = ", ".join(f"{name}/" for name in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
    return (f"the files of {len(found)} folders are one dataset: {names}; give one of them to convert it alone",)


def _is_webdataset(path: str) -> bool:
    """Whether a tar that lies beside other files is one of WebDataset; a damaged one is not."""
    try:
        return looks_like_webdataset(os.fsencode(path))
    except SourceError:
        return False


def forced(folder: Folder, kind: str) -> dict[str, SourceSpec]:
    """The sources of a folder that the caller says are of this kind: of the files called so, or of all if none is."""
    names = [name for name in folder.names if set_kind(os.fsdecode(name)) == kind] or folder.names
    found = by_split([os.fsdecode(name) for name in names], folder.path)
    notes = left_out(sorted(set(folder.names) - set(names)))
    return {
        split: SourceSpec(folder.path, kind, SourceOptions(files=tuple(files), forced=True), notes)
        for split, files in found.items()
    }


def _unnamed(folder: Folder, names: list[bytes]) -> tuple[dict[str, list[bytes]], list[bytes]]:
    """Numbered files whose names say no more, such as train-00000-of-01024, by their kind, and the others."""
    numbered = [name for name in names if name[-1:].isdigit() and _NUMBERED.search(os.fsdecode(name))]
    kind = kind_by_content(folder.file(numbered[0])) if numbered else None
    if kind is None:
        return {}, names
    taken = set(numbered)
    return {kind: numbered}, [name for name in names if name not in taken]


def begins_right(path: str, kind: str) -> bool:
    """Whether a file begins as its kind does. Raises SourceError where it cannot be read."""
    magic = KIND[kind].magic
    if not magic:
        return kind_by_content(path) == kind
    with open_file(path) as file:
        return file.read(len(magic)) == magic


def by_split(names: list[str], where: str) -> dict[str, list[str]]:
    """Names of files by the split that they stand for, in the order of SPLITS; all under "" if none stands for one.

    Raises SourceError where some do and others do not.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_split_of(name)].append(name)
    if "" in found and len(found) > 1:
        known = ", ".join(sorted(set(found) - {""}))
        text = f"{found[''][0]!r} belongs to no split, others do ({known}): give the files of one by a pattern"
        raise SourceError(text).at(file=where)
    return {split: found[split] for split in ("", *SPLITS) if split in found}


def _split_of(name: str) -> str:
    """The split in the name of a file, or else in the nearest of its folders; "" without one."""
    words = (split_word(part) for part in reversed(name.split("/")))
    return next((word[0] for word in words if word is not None), "")


def is_pattern(path: str) -> bool:
    """Whether a path that does not exist is a pattern: shards-{000..009}.tar, train-*.parquet."""
    return bool(_RANGE.search(path) or _CHOICE.search(path) or glob.has_magic(path))


def matching(pattern: str) -> SourceSpec:
    """The source of the files that a pattern names. Raises SourceError."""
    paths: list[str] = []
    for path in _expanded(pattern):
        paths += sorted(glob.glob(path)) if glob.has_magic(path) else [path]
        if len(paths) > _MOST:
            raise SourceError(f"the pattern names more than {_MOST:,} files").at(file=pattern)
    absent = [path for path in paths if not exists(path)]
    if absent or not paths:
        what = f"{len(absent)} of {len(paths)} files do not exist, the first is {absent[0]}" if absent else "no file"
        raise SourceError(f"the pattern names {what}").at(file=pattern)
    kinds = {set_kind(path) or kind_by_content(path) for path in paths}
    if len(kinds) != 1 or None in kinds:
        text = f"the files of a pattern must be of one kind out of {', '.join(FILE_SET_KINDS)}"
        raise SourceError(text).at(file=pattern)
    root = os.path.commonpath([os.path.dirname(path) or "." for path in paths])
    files = tuple(os.path.relpath(path, root) for path in paths)
    return SourceSpec(root, str(kinds.pop()), SourceOptions(files=files))


def _expanded(pattern: str) -> Iterator[str]:
    """The paths of a pattern with braces, as a shell would make them."""
    if found := _RANGE.search(pattern):
        first, last = int(found[1]), int(found[2])
        if last - first >= _MOST:
            raise SourceError(f"the pattern names more than {_MOST:,} files").at(file=pattern)
        inside: Iterator[str] | list[str] = (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
    elif found := _CHOICE.search(pattern):
        inside = found[1].split(",")
    else:
        yield pattern
        return
    for text in inside:
        yield from _expanded(pattern[: found.start()] + text + pattern[found.end() :])
