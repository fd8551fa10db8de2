"""A folder as the kinds of source see it when they are asked whether they recognise it.

The names below the folder are listed once; few files, if any, are opened.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from recordio.errors import SourceError
from recordio.lazy import lazy
from recordio.writer.sources.files import walk
from recordio.writer.sources.leftovers import is_clutter
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


class Folder:
    """The names of the files below a folder, as paths relative to it, in the order of their bytes.

    Attributes:
        path: the folder.
        names: all files but clutter and hidden ones; dangling links and pipes count as files.
        clutter: files that are known to be no data.
        hidden: hidden files and folders.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: list[bytes] = []
        self.clutter: list[bytes] = []
        self.hidden: list[bytes] = []
        for name, _ in walk(os.fsencode(path), on_hidden=self.hidden.append):
            (self.clutter if is_clutter(name) else self.names).append(name)

    @lazy
    def top(self) -> dict[bytes, list[bytes]]:
        """Names by the first folder on their way, without it; those of the root itself under b""."""
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for name in self.names:
            first, slash, rest = name.partition(b"/")
            found[first if slash else b""].append(rest if slash else name)
        return dict(found)

    @lazy
    def folders(self) -> dict[str, list[bytes]]:
        """`top` without the root's own files, by names as text. Names that are not UTF-8 keep their bytes."""
        return {os.fsdecode(name): below for name, below in self.top.items() if name}

    @property
    def own(self) -> list[bytes]:
        """The files of the root itself."""
        return self.top.get(b"", [])

    def file(self, name: bytes | str) -> str:
        """The path of a file below the folder."""
        return os.path.join(self.path, os.fsdecode(name))

    def require_files(self) -> None:
        """Raises SourceError for a folder without any."""
        if not self.names:
            others = " but clutter and hidden files" if self.clutter or self.hidden else ""
            raise SourceError(f"the folder is empty{others}").at(file=self.path)
