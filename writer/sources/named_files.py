"""Finds the files that a table or annotations name: by path, in a folder of theirs, or without the extension."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recordio.writer.sources.files import scan_folder, shown
from recordio.writer.sources.media import extension, is_picture, is_sound
from recordio.writer.sources.split_names import split_word

_SAMPLE = 256  # names that decide on the folder
_MAX_FOLDERS = 10_000


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a name becomes a path below the root: the start and the end to add; None looks for the base name anywhere."""

    start: bytes | None = b""
    end: bytes = b""


class NamedFiles:
    """Files below a folder, by the names that something else has for them.

    Attributes:
        files: the files that were named.
        numbers: for each name its file in `files`, -1 if there is none; int64.
        hits: the share of the names that have a file.
        folder: the folder that the names count from, for display.
        beside: pictures and sounds in that folder that were not named.
        elsewhere: pictures and sounds in other folders.
        exact: whether the names have their extensions.
    """

    def __init__(self, root: str, names: Sequence[str], hint: str = "") -> None:
        """`hint` decides between folders with the same names in them: train.csv means those of train_images/."""
        table = scan_folder(os.fsencode(root))
        usable = [number for number, name in enumerate(table) if is_picture(name) or is_sound(name)]
        self._paths = {table.name(number): number for number in usable}
        self._hint = split_word(hint)
        wanted = [os.fsencode(os.path.normpath(name)) if name else b"" for name in names]
        rule = self._best_rule(wanted[:: max(1, len(wanted) // _SAMPLE)])
        found = np.fromiter(map(self._finder(rule), wanted), np.int64, len(wanted))
        keep = np.zeros(len(table), bool)
        keep[found[found >= 0]] = True
        self.files = table.select(keep)
        places = np.append(np.cumsum(keep) - 1, -1)
        self.numbers: npt.NDArray[np.int64] = places[found]
        self.hits = float((self.numbers >= 0).mean()) if len(wanted) else 0.0
        self.folder = shown(rule.start or b"")
        self.exact = not rule.end and rule.start is not None
        rest = [table.name(number) for number in usable if not keep[number]]
        self.beside = [name for name in rest if name.startswith(rule.start or b"")]
        self.elsewhere = [name for name in rest if not name.startswith(rule.start or b"")]

    @property
    def coverage(self) -> float:
        """The share of the folder's pictures and sounds that are named."""
        return len(self.files) / max(1, len(self.files) + len(self.beside))

    def _best_rule(self, wanted: list[bytes]) -> _Rule:
        """The rule that finds most; of equal ones the folder that the hint names, then the shortest."""
        folders = {b""}
        for path in self._paths:
            while b"/" in path and len(folders) < _MAX_FOLDERS:
                path = path.rpartition(b"/")[0]
                folders.add(path + b"/")
        ends = [end for end, _ in Counter(map(extension, self._paths)).most_common(8)]
        ends = [b"", *ends, *(end.upper() for end in ends)]
        best, most = _Rule(), (0.0, False, 0)
        sample = wanted[:: max(1, len(wanted) // 16)] if len(folders) > 16 else wanted
        for start in sorted(folders, key=lambda name: (len(name), name)):
            for end in ends:
                hits = sum(start + name + end in self._paths for name in sample) / max(1, len(sample))
                score = (hits, self._hinted(start), 0)
                if score > most:
                    best, most = _Rule(start, end), score
        anywhere = self._finder(_Rule(None))
        share = sum(anywhere(name) >= 0 for name in sample) / max(1, len(sample))
        return _Rule(None) if share > most[0] else best

    def _hinted(self, start: bytes) -> bool:
        words = [split_word(os.fsdecode(part)) for part in start.split(b"/")]
        return self._hint is not None and any(word is not None and word[0] == self._hint[0] for word in words)

    def _finder(self, rule: _Rule) -> Callable[[bytes], int]:
        if rule.start is not None:
            return lambda name: self._paths.get(rule.start + name + rule.end, -1) if name else -1  # type: ignore[operator]
        bases: dict[bytes, list[int]] = defaultdict(list)
        for path, number in self._paths.items():
            base = os.path.basename(path)
            bases[base].append(number)
            bases[os.path.splitext(base)[0]].append(number)

        def find(name: bytes) -> int:
            found = bases.get(os.path.basename(name), []) if name else []
            return found[0] if len(found) == 1 else -1

        return find


def missing(name: str, where: str) -> str:
    """What to say of a name without a file."""
    return f"there is no file {name!r}" + (f" in {where}" if where else "")
