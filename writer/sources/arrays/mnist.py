"""The idx files of MNIST and similar datasets, plain or .gz: `image`, raw pixels, and `label`.

The idx format: two zero bytes, a type code, the number of dimensions, each as a big-endian u32, the elements.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.image_field import Image
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.archives.compression import unpacked
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.files import file_names, is_folder, names_file, open_regular
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions

_IMAGES = re.compile(r"(?P<before>.*)(?P<part>train|t10k|test)-images(?P<dot>[-.])idx3-ubyte(?P<gz>\.gz)?")
_UNSIGNED_BYTES = 8
PARTS = {"train": "train", "t10k": "test", "test": "test"}


def is_images_file(name: str) -> bool:
    """Whether a file name is that of idx images."""
    return _IMAGES.fullmatch(name) is not None


def image_files(folder: str) -> dict[str, str]:
    """The idx image files of a folder by split; a plain file wins over its .gz. Raises SourceError for two sets."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(name for name in file_names(folder) if "-images" in name):
        match, path = _IMAGES.fullmatch(name), os.path.join(folder, name)
        if match and names_file(path):
            found.setdefault(PARTS[match["part"]], {}).setdefault(name.removesuffix(".gz"), path)
    for part, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(sorted(paths))
            raise SourceError(f"several sets of {part} images: {names}; give one of the files").at(file=folder)
    # Names are sorted: a plain file comes before its .gz.
    return {part: next(iter(paths.values())) for part, paths in sorted(found.items(), reverse=True)}


def labels_file(images: str) -> str | None:
    """The labels file of an images file, plain or .gz, None without one."""
    folder, name = os.path.split(images)
    plain = name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    candidates = [os.path.join(folder, plain), os.path.join(folder, plain + ".gz")]
    return next((path for path in candidates if names_file(path)), None)


def read_idx(path: str, ndim: int) -> npt.NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes, read-only. Raises SourceError."""
    try:
        with open(open_regular(path), "rb") as raw:
            chunks = unpacked(raw, "gzip" if path.endswith(".gz") else None)
            head = bytearray()
            while len(head) < 4 + 4 * ndim and (piece := next(chunks, b"")):
                head += piece
            shape = _shape(head, ndim)
            return np.frombuffer(_exactly(head[4 + 4 * ndim :], chunks, math.prod(shape)), np.uint8).reshape(shape)
    except SourceError as error:
        error.at(file=path)
        raise


def _shape(header: bytes | bytearray, ndim: int) -> tuple[int, ...]:
    if len(header) < 4 + 4 * ndim:
        raise SourceError(f"too short for an idx file of {ndim} dimensions: {len(header)} bytes")
    zeros, code, found = struct.unpack_from(">HBB", header)
    if zeros or code != _UNSIGNED_BYTES or found != ndim:
        raise SourceError(f"not an idx file of bytes in {ndim} dimensions: it begins with 0x{header[:4].hex()}")
    return struct.unpack_from(f">{ndim}I", header, 4)


def _exactly(data: bytearray, chunks: Iterator[bytes], nbytes: int) -> bytearray:
    """The data with the rest of the chunks: never allocates by the header's claim."""
    while len(data) <= nbytes and (piece := next(chunks, b"")):
        data += piece
    if len(data) != nbytes:
        more = "more" if len(data) > nbytes else str(len(data))
        raise SourceError(f"the idx header promises {nbytes} bytes of elements, there are {more}")
    return data


class Mnist(Source):
    """`image` is Image(shape=(rows, columns)); `label` exists if there is a labels file beside the images."""

    kind = "mnist"

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._images_path = self._find(path, options.part)
        self._labels_path = labels_file(self._images_path)
        if self._labels_path is None and path != self._images_path:
            raise SourceError("there is no labels file for these images").at(file=self._images_path)
        self._arrays: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None] | None = None
        self._name = os.path.basename(self._images_path)
        images, labels = self._loaded()
        self._length, self._shape = len(images), images.shape[1:]
        if not self._length:
            raise SourceError("there are no images").at(file=self._images_path)
        if not all(self._shape):
            raise SourceError(f"the images have no pixels: {self._shape}").at(file=self._images_path)
        label = {} if labels is None else {"label": Scalar("int64")}
        self.schema = Schema({"image": Image(shape=self._shape), **label})
        self.metadata = {}
        self.notes = () if label else ("there is no labels file beside the images",)

    @staticmethod
    def _find(path: str, part: str | None) -> str:
        if not is_folder(path):
            return path
        found = image_files(path)
        if part is None and len(found) > 1:
            raise SourceError(f"there are {' and '.join(found)} images; say which").at(file=path)
        images = found.get(part or next(iter(found), ""))
        if images is None:
            raise SourceError(f"there is no idx file of {part or ''} images").at(file=path)
        return images

    def _loaded(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        if self._arrays is None:
            images = read_idx(self._images_path, 3)
            labels = None if self._labels_path is None else read_idx(self._labels_path, 1)
            if labels is not None and len(labels) != len(images):
                raise SourceError(f"{len(labels)} labels for {len(images)} images").at(file=self._labels_path)
            self._arrays = images, labels
        return self._arrays

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None}

    def __len__(self) -> int:
        return self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.full(self._length, math.prod(self._shape) + 8, np.int64)

    def fingerprint(self) -> Fingerprint:
        paths = [self._images_path, *([self._labels_path] if self._labels_path else [])]
        return file_table([os.fsencode(path) for path in paths]).fingerprint()

    def key(self, index: int) -> str:
        return f"{self._name} row {index}"

    def sample(self, index: int) -> Sample:
        images, labels = self._loaded()
        return {"image": images[index]} | ({} if labels is None else {"label": int(labels[index])})
