"""Finds folders that belong together by their names and their files' stems: pictures, masks, boxes, texts.

Labels of YOLO may lie beside the pictures too: then one folder, that with the name "", has both roles.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from recordio.errors import SourceError
from recordio.writer.sources.files import read_file
from recordio.writer.sources.folder import Folder
from recordio.writer.sources.folders.boxes import CLASS_FILES, yolo_lines
from recordio.writer.sources.folders.grouping import MASK_ENDING
from recordio.writer.sources.media import PICTURES, TEXTS, extension, is_picture, is_text
from recordio.writer.sources.split_names import named_splits

_PICTURES = frozenset("images image imgs img jpegimages rgb input inputs photos pictures frames".split())
_MASKS = frozenset(
    "masks mask segmentation segmentations segmentationclass seg segs labels label annotations annotation annots gt "
    "groundtruth ground_truth target targets trimaps labelids maps".split()
)
_TEXTS = frozenset("captions caption texts text txt descriptions prompts labels annotations".split())
_JSONS = frozenset("annotations annotation json labels meta metadata".split())
PEEKED = 64  # files that are looked into
_SHARED = 0.5  # of a folder's files must belong to a picture
_OUTSIDE = 0.01  # of a picture: how far a box may reach out of it
_BESIDE: dict[str, Callable[[bytes], bool]] = {
    "image": is_picture,
    "yolo": lambda name: is_text(name) and os.fsdecode(os.path.basename(name)) not in CLASS_FILES,
}


class Role(NamedTuple):
    """What a folder gives to a sample: "image", "mask", "text", "json", "yolo" or "voc"."""

    folder: bytes
    what: str


class Layout(NamedTuple):
    pictures: Role
    others: tuple[Role, ...]
    splits: dict[str, bytes]  # folder inside each role's folder, or the list of ImageSets, by the split's name

    @property
    def kind(self) -> str:
        found = {role.what for role in self.others}
        return "yolo" if "yolo" in found else "voc" if "voc" in found else "paired_folders"

    def below(self, role: Role, part: str | None, name: bytes) -> bytes | None:
        """The path of a role's file inside the role's folder, and that of the part; None for any other file."""
        split = self.splits.get(part or "", b"")
        start = role.folder + b"/" if role.folder else b""
        start += split + b"/" if split and not split.endswith(b".txt") else b""
        if not name.startswith(start) or not (role.folder or _BESIDE[role.what](name)):
            return None
        return name[len(start) :]


def stem_of(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def mask_stem(stem: bytes, stems: set[bytes] | dict[bytes, int]) -> bytes:
    """The stem of the picture that a mask belongs to: its own, or that without "_mask" at its end."""
    return stem if stem in stems else MASK_ENDING.sub(b"", stem)


def find_layout(folder: Folder) -> Layout | None:
    named = {name: name.lower() for name in folder.folders}
    pictures = [name for name, plain in named.items() if plain in _PICTURES and _most(folder.folders[name], is_picture)]
    if len(pictures) != 1:
        return _labels_beside(folder)
    first = Role(os.fsencode(pictures[0]), "image")
    stems = {stem_of(name) for name in folder.folders[pictures[0]] if is_picture(name)}
    others = []
    for name, plain in named.items():
        what = None if name == pictures[0] else _what(folder, name, plain)
        if what is not None and _pairs(folder.folders[name], stems):
            others.append(Role(os.fsencode(name), what))
    kinds = {role.what for role in others}
    if {"yolo", "voc"} <= kinds:
        text = "there are labels of YOLO and of Pascal VOC here, whose classes may differ; move one of the two away"
        raise SourceError(text).at(file=folder.path)
    others = [max((r for r in others if r.what == what), key=lambda r: _size(folder, r)) for what in sorted(kinds)]
    return Layout(first, tuple(others), _splits(folder, first, others)) if others else _labels_beside(folder)


def _labels_beside(folder: Folder) -> Layout | None:
    """Pictures with labels of YOLO beside most of them, as labelImg and Darknet write them."""
    if not any(map(is_picture, folder.own)) and named_splits(folder.folders, folder.path):
        return None  # each is a source of its own
    labels = [name for name in folder.having(TEXTS) if _BESIDE["yolo"](name)] if folder.having(PICTURES) else []
    stems = {stem_of(name) for name in folder.having(PICTURES)} if labels else set()
    paired = [name for name in labels if stem_of(name) in stems]
    if not paired or len(paired) < _SHARED * max(len(labels), len(stems)):
        return None
    if not _mostly_boxes([folder.file(name) for name in paired[:PEEKED]]):
        return None
    return Layout(Role(b"", "image"), (Role(b"", "yolo"),), {})


def _mostly_boxes(paths: list[str]) -> bool:
    """Whether most of the files hold classes and shares of a picture, and some do at all."""
    lines: list[list[float]] = []
    good = 0
    for path in paths:
        with suppress(SourceError):
            lines += (found := yolo_lines(read_file(path)))
            good += all(len(line) >= 5 and all(-_OUTSIDE <= n <= 1 + _OUTSIDE for n in line[1:5]) for line in found)
    return bool(lines) and 2 * good > len(paths)


def _size(folder: Folder, role: Role) -> tuple[int, bool]:
    """Of two folders with masks the larger one is taken, else the one that is called so."""
    return len(folder.folders[os.fsdecode(role.folder)]), b"mask" in role.folder.lower()


def _most(names: list[bytes], test: Callable[[bytes], bool]) -> bool:
    return 2 * sum(map(test, names)) > len(names)


def _pairs(names: list[bytes], stems: set[bytes]) -> bool:
    return sum(mask_stem(stem_of(name), stems) in stems for name in names) >= _SHARED * len(names)


def _what(folder: Folder, name: str, plain: str) -> str | None:
    """What the files of a folder are about the pictures, by its name and its most common extension."""
    names = folder.folders[name]
    common = Counter(map(extension, names)).most_common(1)[0][0]
    if plain in _MASKS and _most(names, is_picture):
        return "mask"
    if common == b".xml" and plain in _JSONS:
        return "voc"
    if common == b".json" and plain in _JSONS:
        return "json"
    if common != b".txt" or plain not in _TEXTS:
        return None
    files = [folder.file(os.path.join(os.fsencode(name), file)) for file in islice(names, PEEKED)]
    return "yolo" if plain in ("labels", "annotations") and _mostly_numbers(files) else "text"


def _mostly_numbers(paths: list[str]) -> bool:
    """Whether most of the files hold lines of a class and coordinates; the others fail their samples by name."""
    good = 0
    for path in paths:
        with suppress(SourceError):
            good += all(len(line) >= 5 for line in yolo_lines(read_file(path)))
    return 2 * good > len(paths)


def _splits(folder: Folder, pictures: Role, others: list[Role]) -> dict[str, bytes]:
    """The splits inside the folders: the same folder in each, or VOC's lists of pictures."""
    inside = {name.partition(b"/")[0] if b"/" in name else b"" for name in folder.folders[os.fsdecode(pictures.folder)]}
    found = named_splits(map(os.fsdecode, sorted(inside)), folder.path)
    if found and len(found) == len(inside):
        return {split: os.fsencode(name) for split, name in found.items()}
    lists = {
        split: b"ImageSets/Main/%s.txt" % split.encode()
        for split in ("train", "val", "test")
        if b"Main/%s.txt" % split.encode() in folder.folders.get("ImageSets", ())
    }
    return lists if any(role.what == "voc" for role in others) else {}
