"""A folder of pictures and folders of something about each: masks, boxes (YOLO, Pascal VOC), texts, JSON.

A sample is a picture with the files of the same stem in the other folders. `key` is the picture's path without its
extension. Splits are folders inside each of them (`images/train`, `labels/train`), or the lists of VOC's ImageSets.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.format.fields import Field, Object, Text
from recordio.format.numeric import Array
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import read_file, scan_folder, shown
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.boxes import (
    CLASS_FILES,
    named_classes,
    voc_annotation,
    voc_boxes,
    voc_classes,
    yolo_boxes,
    yolo_lines,
    yolo_polygons,
)
from recordio.writer.sources.folders.paired_layout import Layout, Role, find_layout, mask_stem, stem_of
from recordio.writer.sources.folders.pictures import add_pictures
from recordio.writer.sources.folders.text import json_value, plain_text
from recordio.writer.sources.leftovers import counted, is_clutter, left_out
from recordio.writer.sources.media import is_picture
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec

_MAX_LIST = 1 << 28  # bytes of one of VOC's lists


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """Folders with the usual names whose files have the same stems."""
    layout = find_layout(folder)
    if layout is None:
        return None
    used = {os.fsencode(name) for name in CLASS_FILES} if layout.kind == "yolo" else set(layout.splits.values())
    parts = tuple(layout.splits or ("",))
    rest = [name for name in folder.names if name not in used and not _has_role(layout, parts, name)]
    rest += _unlisted(folder, layout)
    taken = len(folder.names) - len(rest)
    specs = {
        split: SourceSpec(folder.path, layout.kind, SourceOptions(part=split or None))
        for split in layout.splits or ("",)
    }
    return Match(layout.kind, Certainty.CERTAIN, taken, rest, specs, left_out(rest))


def _has_role(layout: Layout, parts: Sequence[str | None], name: bytes) -> bool:
    """Whether a file lies in a folder of the layout, in one of these parts."""
    roles = (layout.pictures, *layout.others)
    return any(layout.below(role, part, name) is not None for role in roles for part in parts)


def _unlisted(folder: Folder, layout: Layout) -> list[bytes]:
    """The pictures that are in none of VOC's lists."""
    lists = [name for name in layout.splits.values() if name.endswith(b".txt")]
    if not lists:
        return []
    listed = set().union(*(listed_stems(folder.file(name)) for name in lists))
    pairs = ((name, layout.below(layout.pictures, None, name)) for name in folder.names)
    return [name for name, below in pairs if below is not None and stem_of(below) not in listed]


def listed_stems(path: str) -> set[bytes]:
    """The stems in one of VOC's lists."""
    return {line.split()[0] for line in read_file(path, most=_MAX_LIST).splitlines() if line.split()}


class PairedFolders(Source):
    """Pictures with what lies beside them; see the module."""

    kind = "paired_folders"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self.path = path
        layout = find_layout(Folder(path))
        if layout is None:
            text = "there are no two folders such as images/ and masks/, labels/ or Annotations/ with the same stems"
            raise SourceError(text).at(file=path)
        self.kind, part = layout.kind, options.part
        self.boxed = self.kind in ("yolo", "voc")
        self._files = scan_folder(os.fsencode(path))
        self._find_samples(layout, part)
        self.metadata: dict[str, Any] = {}
        self._polygons = False
        image = self._survey("image", options)
        self.schema = Schema({"key": Text(), "image": image} | self._fields(layout, options))
        self.notes = (*self._unpaired(layout, part), *self.notes)

    def _find_samples(self, layout: Layout, part: str | None) -> None:
        """`_members`: for each role, the file of each sample, -1 for none."""
        listed = self._listed(layout.splits.get(part or "", b""))
        stems: dict[int, bytes] = {}
        for number, name in enumerate(self._files):
            below = layout.below(layout.pictures, part, name) if is_picture(name) else None
            if below is not None and (listed is None or stem_of(below) in listed):
                stems[number] = stem_of(below)
        if not stems:
            where = os.path.join(self.path, os.fsdecode(layout.pictures.folder), part or "")
            raise SourceError("there are no pictures in it").at(file=where)
        numbers, self._keys = list(stems), list(stems.values())
        self._index = {key: index for index, key in enumerate(self._keys)}
        if len(self._index) < len(self._keys):
            twice = next(key for key, count in Counter(self._keys).items() if count > 1)
            raise SourceError(f"two pictures have the stem {shown(twice)!r}; rename one").at(file=self.path)
        self._members = {"image": np.array(numbers, np.int64)}
        for role in layout.others:
            self._members[role.what] = np.full(len(numbers), -1, np.int64)
            for number, name in enumerate(self._files):
                below = layout.below(role, part, name)
                if below is not None:
                    stem = mask_stem(stem_of(below), self._index)
                    if stem in self._index and not is_clutter(name):
                        self._join(role.what, self._index[stem], number)

    def _join(self, what: str, index: int, number: int) -> None:
        if self._members[what][index] >= 0:
            other = shown(self._files.name(int(self._members[what][index])))
            text = f"two files are the {what} of one picture, this and {other!r}; rename or remove one"
            raise SourceError(text).at(file=shown(self._files.name(number)))
        self._members[what][index] = number

    def _listed(self, split: bytes) -> set[bytes] | None:
        """The stems in a list of VOC's ImageSets."""
        if not split.endswith(b".txt"):
            return None
        return listed_stems(os.path.join(self.path, os.fsdecode(split)))

    def _unpaired(self, layout: Layout, part: str | None) -> tuple[str, ...]:
        """Files of this part without a sample, and samples without a file."""
        used = {int(number) for members in self._members.values() for number in members}
        listed = layout.splits.get(part or "", b"").endswith(b".txt")
        beside = (
            ()
            if listed
            else left_out(
                name
                for number, name in enumerate(self._files)
                if number not in used and _has_role(layout, (part,), name)
            )
        )
        stems = set(self._keys)
        lost = sorted((self._listed(layout.splits.get(part or "", b"")) or set()) - stems)
        if lost:
            names = ", ".join(map(shown, lost[:3])) + (", ..." if lost[3:] else "")
            beside = (*beside, f"not there, though listed: {counted(len(lost), 'picture')} ({names})")
        missing = {_WORDS.get(what, what): int((members < 0).sum()) for what, members in self._members.items()}
        return (
            *beside,
            *(f"{counted(count, 'picture')} without a {what}" for what, count in missing.items() if count),
        )

    def _survey(self, what: str, options: SourceOptions, optional: bool = False) -> Field:
        """The field of a folder of pictures, by their headers."""
        numbers = self._members[what][self._members[what] >= 0].tolist()
        return add_pictures(self, what, self._files, options, optional, numbers)

    def _fields(self, layout: Layout, options: SourceOptions) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        for role in layout.others:
            optional = bool((self._members[role.what] < 0).any())
            if role.what == "mask":
                fields["mask"] = self._survey("mask", options, optional)
            elif role.what == "text":
                fields["text"] = Text(optional=optional)
            elif role.what == "json":
                fields["json"] = Object(optional=optional)
            else:
                fields |= self._yolo() if role.what == "yolo" else self._voc(role)
        return fields

    def _data(self, what: str, index: int) -> bytes | None:
        number = int(self._members[what][index])
        return self._files.read(number) if number >= 0 else None

    def _yolo(self) -> dict[str, Field]:
        lines: list[list[float]] = []
        for index in np.flatnonzero(self._members["yolo"] >= 0).tolist():
            with suppress(SourceError):  # reading the sample raises it again, subject to on_error
                lines += [line for line in yolo_lines(self._data("yolo", index) or b"") if len(line) != 5]
        self._polygons = any(len(line) > 6 for line in lines)
        if self._polygons:
            self.notes += ("labels are outlines or key points: their numbers are the field 'polygons'",)
        folders = [self.path, os.path.dirname(os.path.abspath(self.path))]
        classes, where = named_classes(folders)
        if classes is not None:
            self.metadata["classes"] = classes
        self.notes += (f"names of classes from {where}" if where else "no data.yaml or classes.txt names the classes",)
        boxes: Field = Object() if self._polygons else Array("float64", (None, 4))
        return {"polygons" if self._polygons else "boxes": boxes, "labels": Array("int64", (None,))}

    def _voc(self, role: Role) -> dict[str, Field]:
        found: set[str] = set()
        for number, name in enumerate(self._files):
            if not name.startswith(role.folder + b"/") or name[-4:].lower() != b".xml":
                continue
            try:  # of every split: a label must mean the same class in all
                found |= voc_classes(voc_annotation(self._files.read(number)))
            except SourceError:
                continue  # reading the sample raises it again, subject to on_error
        self.metadata["classes"] = sorted(found)
        self._labels = {name: number for number, name in enumerate(self.metadata["classes"])}
        return {
            "boxes": Array("float64", (None, 4)),
            "labels": Array("int64", (None,)),
            "annotation": Object(optional=True),
        }

    def __len__(self) -> int:
        return len(self._keys)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.asarray(sum(self._files.nbytes(members) for members in self._members.values())) + 32

    def fingerprint(self) -> Fingerprint:
        return self._files.fingerprint()

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        out = xxhash.xxh3_128(repr([self._keys[index] for index in indices.tolist()]).encode())
        for what, members in self._members.items():
            out.update(what.encode() + self._files.digest_of_some(members[indices]))
        return out.digest()

    def key(self, index: int) -> str:
        return shown(self._files.name(int(self._members["image"][index])))

    def file(self, index: int, field: str) -> str:
        members = self._members.get(field, self._members["image"])
        return shown(self._files.name(int(members[index]))) if members[index] >= 0 else self.key(index)

    def sample(self, index: int) -> Sample:
        try:
            values: dict[str, Any] = {"key": self._keys[index].decode("utf-8")}
        except UnicodeDecodeError as error:
            raise SourceError("the file's name is not UTF-8; rename it") from error
        for what, members in self._members.items():
            try:
                values |= self._value(what, self._data(what, index))
            except SourceError as error:
                error.at(file=shown(self._files.name(int(members[index]))))
                raise
        return values

    def _value(self, what: str, data: bytes | None) -> dict[str, Any]:
        if what == "yolo":
            shapes, labels = (yolo_polygons if self._polygons else yolo_boxes)(data or b"")  # no file: no objects
            self._check_labels(labels)
            return {"polygons" if self._polygons else "boxes": shapes, "labels": labels}
        if what == "voc":
            annotation = voc_annotation(data) if data is not None else {"object": []}
            boxes, labels = voc_boxes(annotation, self._labels)
            return {"boxes": boxes, "labels": labels} | ({"annotation": annotation} if data is not None else {})
        return {} if data is None else {what: _PARSE[what](data)}

    def _check_labels(self, labels: npt.NDArray[np.int64]) -> None:
        classes = self.metadata.get("classes")
        if classes is not None and len(labels) and labels.max() >= len(classes):
            raise SourceError(f"the class {labels.max()} has no name: there are {len(classes)}")


_WORDS = {"yolo": "label file, and so no boxes", "voc": "file of annotations, and so no boxes", "json": "JSON file"}
_PARSE: dict[str, Callable[[bytes], Any]] = {
    "image": bytes,
    "mask": bytes,
    "text": plain_text,
    "json": json_value,
}
