"""COCO's annotation files: a sample is an image with its `boxes`, `labels` and whatever else is said of each object.

The file names the images; they lie beside it, or in a folder beside it or beside its folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError, StorageError
from recordio.format.fields import Object, Text
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.files import open_file, read_file
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.named_files import FileIndex, NamedFiles
from recordio.writer.sources.folders.pictures import add_pictures
from recordio.writer.sources.folders.text import json_value
from recordio.writer.sources.leftovers import counted, left_out
from recordio.writer.sources.media import PICTURES
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec
from recordio.writer.sources.split_names import named_splits, split_word

_PEEK = 1 << 16
_JSON = frozenset((b".json",))
_SHOWN, _SHOWN_CHARACTERS = 20, 80  # of the keys that are left out


def _parts(path: str) -> tuple[list[Any], list[Any], list[Any], tuple[str, ...]]:
    """The lists of images, annotations and categories, and the other keys."""
    try:
        document = json_value(read_file(path))
        images, annotations = document["images"], document["annotations"]
        categories = document.get("categories", [])
        if not all(isinstance(part, list) for part in (images, annotations, categories)):
            raise TypeError
    except SourceError as error:
        error.at(file=path)
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError("not COCO: no object with lists of images and annotations").at(file=path) from error
    return images, annotations, categories, tuple(key for key in document if key not in _KEYS)


_KEYS = ("images", "annotations", "categories")


def _id(value: Any) -> int:
    if type(value) is not int:
        raise SourceError(f"not COCO: the id of an image is {value!r}, not an integer")
    return value


class Coco(Source):
    """`image`, `image_id`, `file_name`; `boxes` (N, 4), x, y, width, height in pixels; `labels` (N,); `annotations`.

    `labels` count from 0 in the order of the categories' ids; `metadata["category_ids"]` has the ids themselves.
    `annotations` holds what else the file says of each object, such as area and segmentation.
    """

    kind = "coco"
    boxed = True

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._path = path
        images, annotations, categories, others = _parts(path)
        try:
            ordered = sorted(categories, key=lambda category: category["id"])
            self._labels = {category["id"]: label for label, category in enumerate(ordered)}
            self.metadata: dict[str, Any] = {}
            if ordered:
                self.metadata = {
                    "classes": [str(category["name"]) for category in ordered],
                    "category_ids": list(self._labels),
                }
            self._names = [str(image["file_name"]) for image in images]
            self._ids = [_id(image["id"]) for image in images]
            if len(set(self._ids)) < len(self._ids):
                raise SourceError("two images have one id").at(file=path)
            by_image = defaultdict(list)
            for annotation in annotations:
                by_image[_id(annotation["image_id"])].append(annotation)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"not COCO: an image, annotation or category without {error}").at(file=path) from error
        if not images:
            raise SourceError("there are no images in it").at(file=path)
        self._with_boxes = any("bbox" in found for found in annotations)
        self._find_files(path, options.root)
        packed = [msgpack.packb(by_image.pop(number, [])) for number in self._ids]
        self._ends = np.cumsum(np.fromiter(map(len, packed), np.int64, len(packed)))
        self._packed = b"".join(packed)  # pickles at once, unlike millions of dicts
        boxes = {"boxes": Array("float64", (None, 4)), "labels": Array("int64", (None,))} if self._with_boxes else {}
        names = {"image_id": Scalar("int64"), "file_name": Text()}
        image = add_pictures(self, "image", self._named.files, options)
        self.schema = Schema({"image": image} | boxes | names | {"annotations": Object()})
        self.notes += self._say(images, others, sum(map(len, by_image.values())))

    def _find_files(self, path: str, root: str | None) -> None:
        """Looks beside the file, then beside its folder."""
        folder = os.path.dirname(os.path.abspath(path))
        hint = os.path.splitext(os.path.basename(path))[0]
        self._root = root or folder
        self._named = NamedFiles(FileIndex(self._root), self._names, hint)
        if not self._named.hits and root is None and not os.path.isfile(folder):  # an archive is not left
            above = NamedFiles(FileIndex(os.path.dirname(folder)), self._names, hint)
            if above.hits > self._named.hits:
                self._named, self._root = above, os.path.dirname(folder)
        self._named.require_one_folder()
        if not len(self._named.files):
            raise SourceError("its images are neither beside it nor beside its folder").at(file=path)

    def _say(self, images: list[Any], others: tuple[str, ...], orphans: int) -> tuple[str, ...]:
        keys = sorted({key for image in images for key in image} - {"file_name", "id"})
        notes = [f"images are in {self._named.folder or self._root}"]
        notes += [f"the file does not name these; {note}" for note in left_out(self._named.beside)]
        if keys:
            notes.append(f"of the images, these keys are not kept: {_some(keys)}")
        if others:
            notes.append(f"of the file, these keys are not kept: {_some(others)}")
        if orphans:
            notes.append(f"left out: {counted(orphans, 'annotation')} of no image of the file")
        return tuple(notes)

    def __len__(self) -> int:
        return len(self._ids)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return self._named.files.nbytes(self._named.numbers) + np.diff(self._ends, prepend=0)

    def fingerprint(self) -> Fingerprint:
        own = file_table([os.fsencode(self._path)])
        return Fingerprint.joined(files.fingerprint() for files in (own, self._named.files))

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        out = xxhash.xxh3_128(self._named.files.digest_of_some(self._named.numbers[indices]))
        for index in indices.tolist():
            out.update(repr((self._ids[index], self._names[index], self._objects(index))).encode())
        return out.digest()

    def _objects(self, index: int) -> bytes:
        """The annotations of an image, packed."""
        return self._packed[int(self._ends[index - 1]) if index else 0 : int(self._ends[index])]

    def key(self, index: int) -> str:
        return self._names[index]

    def sample(self, index: int) -> Sample:
        number = int(self._named.numbers[index])
        if number < 0:
            raise self._named.missing(self._names[index])
        sample: dict[str, Any] = {"image": self._named.files.read(number)}
        found = msgpack.unpackb(self._objects(index), strict_map_key=False)
        if self._with_boxes:
            try:
                boxes = np.array([annotation.pop("bbox") for annotation in found], np.float64).reshape(-1, 4)
                labels = [self._labels[annotation.pop("category_id")] for annotation in found]
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(
                    f"an annotation has no box of four numbers, or an unknown category: {error}"
                ) from error
            sample |= {"boxes": boxes, "labels": np.array(labels, np.int64)}
        for annotation in found:
            annotation.pop("image_id", None)
        return sample | {"image_id": self._ids[index], "file_name": self._names[index], "annotations": found}


def _some(keys: Sequence[str]) -> str:
    """The first keys: a stranger's file may have a million."""
    return ", ".join(key[:_SHOWN_CHARACTERS] for key in keys[:_SHOWN]) + (", ..." if keys[_SHOWN:] else "")


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """JSON files that begin as COCO's do, and pictures."""
    files = [os.fsdecode(name) for name in folder.having(_JSON) if name.count(b"/") < 2]
    pictures = set(folder.having(PICTURES)) if files else set()
    found = [name for name in files if pictures and begins_like_coco(folder.file(name))] if len(files) < 100 else []
    if not found:
        return None
    instances = [name for name in found if "instances" in name] or found
    splits = named_splits(instances, folder.path) or _one_each(instances)
    if not splits and len(instances) > 1:
        names = ", ".join(map(repr, instances))
        raise SourceError(f"several files with annotations: {names}; give the path of one, with --kind coco").at(
            file=folder.path
        )
    chosen = splits or {"": instances[0]}
    rest = [name for name in folder.names if name not in pictures and os.fsdecode(name) not in chosen.values()]
    specs = {split: SourceSpec(folder.file(name), "coco", SourceOptions()) for split, name in chosen.items()}
    apart = _of_other_splits(sorted(pictures), chosen)
    taken = len(pictures) - len(apart)
    return Match("coco", Certainty.CERTAIN, taken, rest, specs, left_out([*apart, *rest]))


def _of_other_splits(pictures: list[bytes], splits: dict[str, str]) -> list[bytes]:
    """The pictures in folders of splits that have no annotations, such as test2017/."""
    if "" in splits:
        return []
    tops = {name.partition(b"/")[0] for name in pictures if b"/" in name}
    words = {top: split_word(os.fsdecode(top)) for top in tops}
    apart = {top for top, word in words.items() if word is not None and word[0] not in splits}
    return [name for name in pictures if name.partition(b"/")[0] in apart]


def _one_each(names: list[str]) -> dict[str, str]:
    """One file for each split, by a word in its name: instances_train2017.json."""
    words = {name: split_word(os.path.basename(name)) for name in names}
    splits = {word[0]: name for name, word in words.items() if word is not None}
    return splits if len(splits) == len(names) else {}


def begins_like_coco(path: str) -> bool:
    """Whether a JSON file has COCO's keys, as far as its beginning and its end tell."""
    try:
        with open_file(path) as file:
            head = file.read(_PEEK)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _PEEK))
            ends = head + file.read(_PEEK)
    except StorageError:
        raise
    except (OSError, SourceError):
        return False
    found = sum(f'"{key}"'.encode() in ends for key in _KEYS)
    return head.lstrip()[:1] == b"{" and (found >= 2 or (b'"images"' in ends and b'"file_name"' in ends))
