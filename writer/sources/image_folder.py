"""A folder for each class, as in torchvision's ImageFolder: `image` and `label`."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.image_field import Image, image_format
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import FileTable, folders, leads_nowhere, scan_folder, shown
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions

# STORABLE is stored unchanged. Other PICTURES raise an error: a user would expect them in the dataset.
STORABLE = (b".jpg", b".jpeg", b".png", b".webp")
PICTURES = (*STORABLE, b".bmp", b".gif", b".tif", b".tiff", b".ppm", b".pgm")


def is_picture(name: bytes) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(PICTURES)


def encoded_image(data: bytes) -> bytes:
    """The bytes, if they begin like a JPEG, PNG or WebP file. Raises SourceError."""
    if not data:
        raise SourceError("the file is empty")
    if image_format(data) is None:
        raise SourceError("not a JPEG, PNG or WebP image")
    return data


def class_names(root: bytes) -> list[str]:
    """The names of the class folders, sorted. Raises SourceError for a name that is not UTF-8."""
    try:
        return [name.decode("utf-8") for name in folders(root)]
    except UnicodeDecodeError as error:
        raise SourceError(f"a class folder's name is not UTF-8: {shown(error.object)!r}; rename it") from error


class ImageFolder(Source):
    """ROOT/<class>/**/*.jpg. `label` is the index in the sorted class names, `metadata["classes"]`."""

    kind = "image_folder"

    def __init__(self, path: str, options: SourceOptions) -> None:
        root = os.fsencode(path)
        found = class_names(root)
        classes = list(options.classes or found)
        self.schema = Schema({"image": Image(), "label": Scalar("int64")})
        self.metadata = {"classes": classes}
        files = scan_folder(root)
        numbers = {name.encode(): label for label, name in enumerate(classes)}
        pictures = ((name.partition(b"/")[0] if is_picture(name) else b"") for name in files)
        self._labels = np.fromiter((numbers.get(name, -1) for name in pictures), np.int32, len(files))
        self._refuse_lost_class(files)
        self.notes = self._others(files, self._labels < 0)
        self._files = files.select(self._labels >= 0)
        self._labels = self._labels[self._labels >= 0]
        self._refuse_empty(path, [numbers[name.encode()] for name in found])

    @staticmethod
    def _others(files: FileTable, others: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        masks = {
            "entries that are no regular files were passed over": others & (files.sizes < 0),
            "files are no images of a class folder": others & (files.sizes >= 0),
        }
        return tuple(
            f"{int(mask.sum())} {text}, the first is {shown(files.name(int(mask.argmax())))!r}"
            for text, mask in masks.items()
            if mask.any()
        )

    @staticmethod
    def _refuse_lost_class(files: FileTable) -> None:
        """A dangling link to a class folder would drop the class and renumber the others."""
        for index in np.flatnonzero(files.sizes < 0).tolist():
            name = files.name(index)
            path = os.path.join(files.root, name)
            if b"/" not in name and b"." not in name and leads_nowhere(path):
                text = (
                    "the symbolic link leads nowhere, and may stand for a class; restore what it leads to, or remove it"
                )
                raise SourceError(text).at(file=shown(path))

    def _refuse_empty(self, path: str, found: list[int]) -> None:
        if not len(self._files):
            raise SourceError("there are no images in the class folders").at(file=path)
        counts = np.bincount(self._labels, minlength=len(self.metadata["classes"]))
        empty = [self.metadata["classes"][label] for label in found if not counts[label]]
        if empty:
            names = ", ".join(map(repr, empty[:5]))
            raise SourceError(f"{len(empty)} class folders have no images ({names}); fill or remove them").at(file=path)

    def __len__(self) -> int:
        return len(self._files)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.maximum(self._files.sizes, 0) + 8

    def fingerprint(self) -> Fingerprint:
        return self._files.fingerprint()

    def key(self, index: int) -> str:
        return shown(self._files.name(index))

    def sample(self, index: int) -> Sample:
        return {"image": encoded_image(self._files.read(index)), "label": int(self._labels[index])}
