"""Finds the files that a table or annotations name: by path, in a folder of theirs, or without the extension."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.lazy import lazy
from recordio.writer.sources.file_table import FileTable
from recordio.writer.sources.files import scan_folder, shown
from recordio.writer.sources.media import extension, is_picture, is_sound
from recordio.writer.sources.split_names import split_word

_SAMPLE = 256  # names that decide on the folder
_MAX_FOLDERS = 10_000
_MASKS = re.compile(rb"mask|seg|annot|label|ground_?truth|(?:^|[/_-])gt(?:$|[/_-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a name becomes a path below the root: the start and the end to add; None looks for the base name anywhere."""

    start: bytes | None = b""
    end: bytes = b""


class FileIndex:
    """The pictures and sounds below a folder, listed once.

    Attributes:
        root: the folder.
        table: all files.
        paths: the number of each picture and sound, by its path.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.table: FileTable = scan_folder(os.fsencode(root))
        self.paths = {name: number for number, name in enumerate(self.table) if is_picture(name) or is_sound(name)}

    @lazy
    def folders(self) -> list[bytes]:
        """The folders with files in or below them, with a slash at the end, the shortest first."""
        found = {b""}
        for path in self.paths:
            while b"/" in path and len(found) < _MAX_FOLDERS:
                path = path.rpartition(b"/")[0]
                found.add(path + b"/")
        return sorted(found, key=lambda name: (len(name), name))

    @lazy
    def ends(self) -> list[bytes]:
        """What names without an extension may lack, the most common first."""
        found = [end for end, _ in Counter(map(extension, self.paths)).most_common(8)]
        return [b"", *found, *(end.upper() for end in found)]

    @lazy
    def bases(self) -> dict[bytes, list[int]]:
        """The numbers of the files with a base name, with and without the extension."""
        found: dict[bytes, list[int]] = defaultdict(list)
        for path, number in self.paths.items():
            base = os.path.basename(path)
            for name in {base, os.path.splitext(base)[0]}:
                found[name].append(number)
        return found

    def anywhere(self, name: bytes) -> int:
        """The number of the only file with a base name, -1 for none or several."""
        found = self.bases.get(os.path.basename(name), []) if name else []
        return found[0] if len(found) == 1 else -1


class NamedFiles:
    """Files below a folder, by the names that something else has for them.

    Attributes:
        files: the files that were named.
        numbers: for each name its file in `files`, -1 if there is none; int64.
        hits: the share of the names that have a file.
        coverage: the share of the folder's pictures and sounds that are named.
        folder: the folder that the names count from, for display.
        beside: pictures and sounds in that folder that were not named.
        elsewhere: pictures and sounds in other folders.
        exact: whether the names have their extensions.
        clash: why it cannot be said which files are meant; "" if it can.
    """

    def __init__(self, index: FileIndex, names: Sequence[str], hint: str = "", share: float = 1.0) -> None:
        """`hint` decides between folders with the same names in them: train.csv means those of train_images/.

        `share`: how much of all the names these are.
        """
        self._index = index
        self._hint = split_word(hint)
        self._several: set[bytes] = set()
        self.clash = ""
        wanted = [_plain(name) for name in names]
        rule = self._best_rule([name for name in wanted if name][:: max(1, len(wanted) // _SAMPLE)])
        found = np.fromiter((self._find(rule, name) for name in wanted), np.int64, len(wanted))
        keep = np.zeros(len(index.table), bool)
        keep[found[found >= 0]] = True
        self.files = index.table.select(keep)
        self.numbers: npt.NDArray[np.int64] = np.append(np.cumsum(keep) - 1, -1)[found]
        self.hits = float((self.numbers >= 0).mean()) if len(wanted) else 0.0
        self.exact = not rule.end and rule.start is not None
        start = rule.start or b""
        self.folder = shown(start)
        rest = [name for name, number in index.paths.items() if not keep[number]]
        self.beside = [name for name in rest if name.startswith(start)]
        self.elsewhere = [name for name in rest if not name.startswith(start)]
        named = len(self.files) / share
        self.coverage = min(1.0, named / max(1, len(self.files) + len(self.beside)))
        del self._index  # the list of all files is not to be pickled

    def _find(self, rule: _Rule, name: bytes) -> int:
        if not name:
            return -1
        found = -1 if rule.start is None else self._index.paths.get(rule.start + name + rule.end, -1)
        if found < 0:
            found = self._index.anywhere(name)
            if found < 0 and os.path.basename(name) in self._index.bases:
                self._several.add(name)
        return found

    def require_one_folder(self) -> None:
        """Raises SourceError if the names fit the files of two folders equally."""
        if self.clash:
            raise SourceError(self.clash)

    def missing(self, name: str) -> SourceError:
        """The error of a name without a file."""
        where = f" in {self.folder}" if self.folder else ""
        if _plain(name) in self._several:
            return SourceError(f"there are several files called {name!r}, and none{where or ' at this path'}")
        return SourceError(f"there is no file {name!r}{where}")

    def _best_rule(self, wanted: list[bytes]) -> _Rule:
        """The rule that finds most. Of equal ones the folder that the hint names; masks come last."""
        paths, index = self._index.paths, self._index
        sample = wanted[:: max(1, len(wanted) // 16)] if len(index.folders) > 16 else wanted
        scores: dict[_Rule, tuple[float, bool, bool]] = {}
        for start in index.folders:
            for end in index.ends:
                hits = sum(start + name + end in paths for name in sample) / max(1, len(sample))
                if hits:
                    scores[_Rule(start, end)] = (hits, self._hinted(start), _MASKS.search(start) is None)
        most = max(scores.values(), default=(0.0, False, False))
        if sum(index.anywhere(name) >= 0 for name in sample) / max(1, len(sample)) > most[0]:
            return _Rule(None)
        best = [rule for rule, score in scores.items() if score == most]
        starts = sorted({rule.start or b"" for rule in best})
        if len(starts) > 1:
            listed = " and ".join(shown(start) or "the folder itself" for start in starts[:3])
            self.clash = f"the names fit the files of {listed} in {index.root}; --root (root=) says which are meant"
        return best[0] if best else _Rule()

    def _hinted(self, start: bytes) -> bool:
        words = [split_word(os.fsdecode(part)) for part in start.split(b"/")]
        return self._hint is not None and any(word is not None and word[0] == self._hint[0] for word in words)


def _plain(name: str) -> bytes:
    """A name as a path of this system; b"" for none."""
    return os.fsencode(os.path.normpath(name.replace("\\", "/"))) if name else b""
