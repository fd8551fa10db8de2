"""A folder for each class, as in torchvision's ImageFolder: pictures, sounds or texts, with their `label`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Scalar
from recordio.format.schema import Columns, Sample, Schema
from recordio.images.formats import EXTENSIONS
from recordio.writer.sources.files import folders, leads_nowhere, shown
from recordio.writer.sources.folder import Certainty, Folder, Match
from recordio.writer.sources.folders.grouping import MASK_ENDING, MASK_NAME
from recordio.writer.sources.folders.pictures import add_pictures
from recordio.writer.sources.folders.sounds import SOUND_FIELDS, sound_fields, sound_values
from recordio.writer.sources.folders.text import plain_text
from recordio.writer.sources.leftovers import is_clutter, left_out
from recordio.writer.sources.media import PICTURES, SOUNDS, TEXTS, extension
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions, SourceSpec

_FLAT_SHARE = 0.25  # more pictures than this beside the class folders, and the folders may well be no classes
_SIDECAR_SHARE = 0.5  # more pictures than this with a file of the same stem, and the two belong together
_NO_CLASSES = frozenset("all data dataset files images imgs jpg jpegs photos pics pictures png raw samples".split())
_MASK_ROLES = frozenset(
    "mask masks seg segmentation segmentations annotations gt gtfine groundtruth trimaps labels".split()
)
_ROLES = _MASK_ROLES | frozenset("images image img imgs leftimg8bit rgb".split())


class Medium(NamedTuple):
    """What lies in the class folders: the plural for messages, the field, what files belong to it, what is stored."""

    plural: str
    name: str
    field: Field
    extensions: frozenset[bytes]
    parse: Callable[[bytes], Any]


MEDIA = {
    "image_folder": Medium("images", "image", Image(), PICTURES, bytes),
    "audio_folder": Medium("sounds", "audio", Bytes(), SOUNDS, bytes),
    "text_folder": Medium("texts", "text", Text(), TEXTS, plain_text),
}


def class_names(root: bytes) -> list[str]:
    """The names of the class folders, sorted. Raises SourceError for a name that is not UTF-8."""
    try:
        return [name.decode("utf-8") for name in folders(root) if not is_clutter(name + b"/")]
    except UnicodeDecodeError as error:
        raise SourceError(f"a class folder's name is not UTF-8: {shown(error.object)!r}; rename it") from error


def _are_roles(folder: Folder) -> bool:
    """Whether the folders say what is in them, not of which class it is: images/ and masks/, or images/ alone.

    Nor are they classes if most pictures have another beside them that ends in _mask or the like.
    """
    names = [name.lower() for name in folder.folders]
    roles = [name for name in names if _ROLES & set(re.findall(r"[a-z]+", name)) or name in _NO_CLASSES]
    if roles and (len(names) == 1 or any(_MASK_ROLES & set(re.findall(r"[a-z0-9]+", name)) for name in names)):
        return True
    pictures = folder.having(PICTURES)
    if not MASK_NAME.search(b"\0".join(pictures)):
        return False
    masks = {stem for name in pictures if MASK_ENDING.search(stem := os.path.splitext(name)[0])}
    if not masks:
        return False
    stems = {os.path.splitext(name)[0] for name in pictures}
    return 2 * sum(MASK_ENDING.sub(b"", stem) in stems for stem in masks) >= len(stems) - len(masks)


def recognise(folder: Folder, options: SourceOptions) -> Match | None:
    """Class folders: nearly all pictures (sounds, texts) lie in folders, and few have a file of the same stem."""
    if _are_roles(folder):
        return None
    found = {kind: folder.having(medium.extensions) for kind, medium in MEDIA.items()}
    for kind, taken in sorted(found.items(), key=lambda item: -len(item[1])):
        inside = [name for name in taken if b"/" in name] if folder.own else taken
        if not inside or len(taken) - len(inside) > _FLAT_SHARE * len(taken):
            continue
        others = folder.having(folder.extensions - MEDIA[kind].extensions)
        if _mostly_beside(inside, others) or (len(folder.folders) < 2 and kind != "image_folder"):
            continue
        rest = others + ([name for name in taken if b"/" not in name] if folder.own else [])
        spec = SourceSpec(folder.path, kind, SourceOptions(folder=folder))
        return Match(kind, Certainty.LIKELY, len(inside), rest, {"": spec})
    return None


def _mostly_beside(inside: list[bytes], others: list[bytes]) -> bool:
    """Whether most of the files have another one of the same stem."""
    beside = {os.path.splitext(name)[0] for name in others}
    if not beside:
        return False
    stems = {os.path.splitext(name)[0] for name in inside}
    return len(stems & beside) > _SIDECAR_SHARE * len(stems)


class ClassFolders(Source):
    """ROOT/<class>/**/*.jpg. `label` is the index in the sorted class names, `metadata["classes"]`."""

    medium = MEDIA["image_folder"]
    nameless = True

    def __init__(self, path: str, options: SourceOptions) -> None:
        root = os.fsencode(path)
        found = class_names(root)
        classes = list(options.classes or found)
        self.metadata = {"classes": classes}
        folder = options.folder if isinstance(options.folder, Folder) else Folder(path)
        files = folder.files
        numbers = {name.encode(): label for label, name in enumerate(classes)}
        labels = self._labels_of(folder, numbers)
        for index in np.flatnonzero(files.sizes < 0).tolist():
            self._refuse_lost_class(os.path.join(files.root, files.name(index)), files.name(index))
        self._files = files.select(labels >= 0)
        self._labels = labels[labels >= 0]
        others = map(files.name, np.flatnonzero(labels < 0).tolist())
        self.notes = (*left_out(name for name in others if not is_clutter(name)), *self._doubts(classes))
        sounds = sound_fields(()) if self.medium.name == "audio" else {}
        formats = {EXTENSIONS[ending.decode()] for ending in folder.extensions & PICTURES}
        self.named = {self.medium.name: formats.pop()} if len(formats) == 1 else {}
        self.schema = Schema({self.medium.name: self._survey(options), **sounds, "label": Scalar("int64")})
        self._refuse_empty(path, [numbers[name.encode()] for name in found])

    def _labels_of(self, folder: Folder, numbers: dict[bytes, int]) -> npt.NDArray[np.int32]:
        """The number of each file's class, -1 for what belongs to none."""
        if not folder.clutter and folder.extensions <= self.medium.extensions:
            found = np.full(len(folder.names), -1, np.int32)
            for name, run in folder.folders.runs.items():
                found[run] = numbers.get(os.fsencode(name), -1)
            return found
        labels = (
            numbers.get(name.partition(b"/")[0], -1)
            if extension(name) in self.medium.extensions and not (folder.clutter and is_clutter(name))
            else -1
            for name in folder.files
        )
        return np.fromiter(labels, np.int32, len(folder.files))

    def _survey(self, options: SourceOptions) -> Field:
        """The field of the files; of pictures their headers tell."""
        if self.medium.name != "image":
            return self.medium.field
        return add_pictures(self, "image", self._files, options)

    def _doubts(self, classes: list[str]) -> tuple[str, ...]:
        """Notes about labels that may not be those that were meant."""
        if len(classes) == 1 and classes[0].lower() in _NO_CLASSES:
            return (
                f"the one folder, {classes[0]!r}, is taken for a class; --kind file_groups (kind=) makes no labels",
            )
        if self._files.names.count(b"/") == len(self._files):  # the one behind the class
            return ()
        deeper = sorted({name.rsplit(b"/", 1)[0] for name in self._files if name.count(b"/") > 1})
        names = ", ".join(map(shown, deeper[:3])) + (", ..." if deeper[3:] else "")
        return (
            f"labels are the outermost folders; {len(deeper)} folders inside them count as the same class: {names}",
        )

    @staticmethod
    def _refuse_lost_class(path: bytes, name: bytes) -> None:
        """A dangling link to a class folder would drop the class and renumber the others."""
        if b"/" not in name and b"." not in name and leads_nowhere(path):
            text = "the symbolic link leads nowhere, and may stand for a class; restore what it leads to, or remove it"
            raise SourceError(text).at(file=shown(path))

    def _refuse_empty(self, path: str, found: list[int]) -> None:
        if not len(self._files):
            raise SourceError(f"there are no {self.medium.plural} in the class folders").at(file=path)
        counts = np.bincount(self._labels, minlength=len(self.metadata["classes"]))
        empty = [self.metadata["classes"][label] for label in found if not counts[label]]
        if empty:
            names = ", ".join(map(repr, empty[:5]))
            raise SourceError(
                f"{len(empty)} class folders have no {self.medium.plural} ({names}); if they are classes, fill or "
                f"remove them; if they are none, see --kind (kind=): this was taken for {self.kind!r}"
            ).at(file=path)

    def __len__(self) -> int:
        return len(self._files)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.maximum(self._files.sizes, 0) + 8

    def fingerprint(self) -> Fingerprint:
        return self._files.fingerprint()

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        return xxhash.xxh3_128_digest(self._files.digest(indices) + self._labels[indices].astype("<i4").tobytes())

    def key(self, index: int) -> str:
        return shown(self._files.name(index))

    def batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns] | None:
        return None if self.medium.name == "audio" else self._batches(indices)

    def _batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns]:
        parse = self.medium.parse
        for run in self._files.runs(indices):
            yield {self.medium.name: list(map(parse, self._files.read_all(run))), "label": self._labels[run]}

    def sample(self, index: int) -> Sample:
        value = self.medium.parse(self._files.read(index))
        sounds = sound_values(value, SOUND_FIELDS) if self.medium.name == "audio" else {}
        return {self.medium.name: value, **sounds, "label": int(self._labels[index])}


class ImageFolder(ClassFolders):
    """Pictures in class folders."""

    kind = "image_folder"


class AudioFolder(ClassFolders):
    """Sound files in class folders, stored as they are, with what their headers say."""

    kind = "audio_folder"
    medium = MEDIA["audio_folder"]


class TextFolder(ClassFolders):
    """Text files in class folders, UTF-8."""

    kind = "text_folder"
    medium = MEDIA["text_folder"]
