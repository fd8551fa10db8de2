"""Recognises the names of splits: train, Training, train2017, seg_train, images_test, dev."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable

from recordio.errors import SourceError

# What a dataset's split is called, and what people call it. "val" before "valid": today's names stay what they are.
_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "valid", "validation": "validation", "dev": "val", "eval": "val", "evaluation": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
SPLITS = tuple(dict.fromkeys(_WORDS.values()))
_WORD = re.compile(r"[a-z]+")


def split_word(name: str) -> tuple[str, str] | None:
    """The split that a name stands for, and the rest: "train2017" -> ("train", "*2017"). None without one."""
    plain = name.lower()
    found = [match for match in _WORD.finditer(plain) if match[0] in _WORDS]
    if len(found) != 1:
        return None
    return _WORDS[found[0][0]], plain[: found[0].start()] + "*" + plain[found[0].end() :]


def named_splits(names: Iterable[str], where: str) -> dict[str, str]:
    """Names by the split that they stand for, in the order of SPLITS; empty if they stand for none.

    Plain words count by themselves. Words inside a name count if two names differ in nothing but the word. Raises
    SourceError when two names stand for one split.
    """
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in names:
        found = split_word(name)
        if found is not None:
            groups[found[1]].append((found[0], name))
    plain = groups.pop("*", [])
    others = [group for group in groups.values() if len({split for split, _ in group}) > 1]
    pairs = plain or (others[0] if len(others) == 1 else [])
    splits: dict[str, str] = {}
    for split, name in pairs:
        if split in splits:
            text = f"{splits[split]!r} and {name!r} both stand for the split {split!r}; rename one, or give one of them"
            raise SourceError(text).at(file=where)
        splits[split] = name
    return {split: splits[split] for split in SPLITS if split in splits}


def renamed(splits: dict[str, str]) -> tuple[str, ...]:
    """A note that tells which name became which split, none where they are the same."""
    other = [
        f"{os.path.basename(name)!r} is {split!r}" for split, name in splits.items() if os.path.basename(name) != split
    ]
    return (f"taken for splits by their names: {', '.join(other)}",) if other else ()
