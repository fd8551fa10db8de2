"""A folder as the kinds of source see it when they are asked whether they recognise it.

What lies below the folder is listed once; few files, if any, are opened. A kind may hand the folder on to the source
that it becomes, which then need not list it again.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from recordio.errors import SourceError
from recordio.lazy import lazy
from recordio.writer.sources.files import scan_folder
from recordio.writer.sources.leftovers import is_clutter, may_hold_clutter
from recordio.writer.sources.media import extension, extensions
from recordio.writer.sources.source import SourceSpec


class Certainty(IntEnum):
    """How sure a kind is of a folder."""

    POSSIBLE = 1  # it can read the files, and nothing says that they mean something else
    LIKELY = 2  # the names and folders are laid out as this kind is
    CERTAIN = 3  # files that only this kind has were looked into


@dataclass(frozen=True, slots=True)
class Match:
    """What a kind makes of a folder.

    Attributes:
        kind: one of `recordio.writer.sources.KINDS`.
        certainty: how sure it is.
        taken: how many files become part of a sample.
        left_out: names of the files that become none, clutter aside.
        specs: the sources inside by split; "" is a source without splits.
        notes: what was decided, where a person might have meant something else.
    """

    kind: str
    certainty: Certainty
    taken: int
    left_out: Sequence[bytes] = ()
    specs: dict[str, SourceSpec] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class NamesBelow(Mapping[str, list[bytes]]):
    """The names below each folder, cut from the sorted names of all when they are asked for.

    `runs`: where the names of each folder stand among all.
    """

    def __init__(self, names: list[bytes]) -> None:
        self._names = names
        self.runs: dict[str, slice] = {}
        at = 0
        while at < len(names):
            first, slash, _ = names[at].partition(b"/")
            end = bisect_left(names, first + b"0", at) if slash else at + 1  # "0" comes after "/"
            if slash:
                self.runs[os.fsdecode(first)] = slice(at, end)
            at = end

    def __getitem__(self, folder: str) -> list[bytes]:
        start = len(os.fsencode(folder)) + 1
        return [name[start:] for name in self._names[self.runs[folder]]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


class Folder:
    """The names of the files below a folder, as paths relative to it, in the order of their bytes.

    Attributes:
        path: the folder.
        files: all files, clutter too, with what tells whether they were changed.
        names: all files but clutter and hidden ones; dangling links and pipes count as files.
        clutter: files that are known to be no data.
        hidden: hidden files and folders.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.hidden: list[bytes] = []
        self.files = scan_folder(os.fsencode(path), on_hidden=self.hidden.append)
        self.names = list(self.files)
        self.clutter = list(filter(is_clutter, self.names)) if may_hold_clutter(self.files.names) else []
        if self.clutter:
            self.names = [name for name in self.names if not is_clutter(name)]

    @lazy
    def extensions(self) -> frozenset[bytes]:
        """The extensions of the names, in lower case, with their dots."""
        return extensions(self.names)

    def having(self, extensions: frozenset[bytes]) -> list[bytes]:
        """The names with one of these extensions, in order. Costs nothing where all names have one, or none has."""
        if self.extensions <= extensions:
            return self.names
        if not self.extensions & extensions:
            return []
        return [name for name in self.names if extension(name) in extensions]

    def has(self, name: bytes) -> bool:
        """Whether there is a file of this name."""
        at = bisect_left(self.names, name)
        return self.names[at : at + 1] == [name]

    @lazy
    def folders(self) -> NamesBelow:
        """Names by the first folder on their way, without it. Names that are not UTF-8 keep their bytes."""
        return NamesBelow(self.names)

    @lazy
    def own(self) -> list[bytes]:
        """The files of the root itself."""
        if sum(run.stop - run.start for run in self.folders.runs.values()) == len(self.names):
            return []
        return [name for name in self.names if b"/" not in name]

    def file(self, name: bytes | str) -> str:
        """The path of a file below the folder."""
        return os.path.join(self.path, os.fsdecode(name))

    def require_files(self) -> None:
        """Raises SourceError for a folder without any."""
        if not self.names:
            others = " but clutter and hidden files" if self.clutter or self.hidden else ""
            raise SourceError(f"the folder is empty{others}").at(file=self.path)
