"""CIFAR-10 and CIFAR-100: binary or pickled, an unpacked folder or the downloaded .tar.gz.

`image` is Image(shape=(32, 32, 3)), uint8, HWC. CIFAR-10 has `label`; CIFAR-100 has `fine_label` and `coarse_label`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.format.image_field import Image
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.arrays.pickled import byte_array, load_pickle
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.files import is_file, names_file, read_file
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions

_PIXELS = 3 * 32 * 32
Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Version:
    """One of the four distributions of CIFAR, and its file names."""

    kind: str
    pickled: bool
    folder: str
    train: tuple[str, ...]
    test: str
    names: tuple[str, ...]

    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, *self.names)

    def has(self, folder: str, name: str) -> bool:
        """Whether a file belongs to this version. Names such as "train" only count inside its folder."""
        return name in self.files() and (folder == self.folder or self.kind == "cifar10")

    def part_of(self, name: str) -> str | None:
        if name in self.train:
            return "train"
        return "test" if name == self.test else None


_BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6))
VERSIONS = (
    Version(
        kind="cifar10",
        pickled=False,
        folder="cifar-10-batches-bin",
        train=tuple(f"{name}.bin" for name in _BATCHES),
        test="test_batch.bin",
        names=("batches.meta.txt",),
    ),
    Version(
        kind="cifar10",
        pickled=True,
        folder="cifar-10-batches-py",
        train=_BATCHES,
        test="test_batch",
        names=("batches.meta",),
    ),
    Version(
        kind="cifar100",
        pickled=False,
        folder="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        names=("fine_label_names.txt", "coarse_label_names.txt"),
    ),
    Version(
        kind="cifar100",
        pickled=True,
        folder="cifar-100-python",
        train=("train",),
        test="test",
        names=("meta",),
    ),
)
LABELS = {"cifar10": ("label",), "cifar100": ("fine_label", "coarse_label")}


def _members(path: str) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """(folder, name, reader) of each CIFAR file in a folder or an archive, or in its CIFAR subfolder."""
    for version in VERSIONS:
        for inside in (os.path.abspath(path), os.path.join(path, version.folder)):
            for name in version.files():
                file = os.path.join(inside, name)
                if names_file(file):
                    yield os.path.basename(inside), name, lambda file=file: read_file(file)  # type: ignore[misc]


def find_version(path: str) -> Version | None:
    """The version of CIFAR at a path, None without one. Raises SourceError."""
    found = (version for folder, name, _ in _members(path) for version in VERSIONS if version.has(folder, name))
    return next(found, None)


def parts(path: str) -> list[str]:
    """The parts at a path, of "train" and "test". Raises SourceError."""
    version = find_version(path)
    found = (
        {version.part_of(name) for folder, name, _ in _members(path) if version.has(folder, name)} if version else ()
    )
    return [part for part in ("train", "test") if part in found]


def _from_binary(data: bytes, labels: int) -> Part:
    record = labels + _PIXELS
    if len(data) % record:
        raise SourceError(f"{len(data)} bytes are not a whole number of records of {record} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, labels:], rows[:, :labels][:, ::-1].astype(np.int64)  # the coarse label comes first


def _from_pickle(data: bytes, labels: int) -> Part:
    found = load_pickle(data)
    names = (b"labels",) if labels == 1 else (b"fine_labels", b"coarse_labels")
    missing = [name.decode() for name in (b"data", *names) if name not in found]
    if missing:
        raise SourceError(f"the pickle lacks {' and '.join(missing)}")
    columns = [found[name] for name in names]
    if not all(isinstance(column, list) and set(map(type, column)) <= {int} for column in columns):
        raise SourceError("the pickled labels are not integers")
    pixels = byte_array(found[b"data"])
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS or any(len(column) != len(pixels) for column in columns):
        raise SourceError(f"the pickled pixels have shape {pixels.shape} for {len(columns[0])} labels")
    try:
        return pixels, np.array(columns, np.int64).T
    except OverflowError as error:
        raise SourceError("a pickled label is far too large") from error


def _names_from_pickle(data: bytes) -> dict[str, list[str]]:
    found = load_pickle(data)
    keys = {"classes": (b"label_names", b"fine_label_names"), "coarse_classes": (b"coarse_label_names",)}
    out = {}
    for name, candidates in keys.items():
        values: Any = next((found[key] for key in candidates if key in found), None)
        if isinstance(values, list) and values and all(isinstance(value, (str, bytes)) for value in values):
            out[name] = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    return out


def _names_from_text(name: str, data: bytes) -> dict[str, list[str]]:
    key = "coarse_classes" if name.startswith("coarse") else "classes"
    return {key: data.decode("utf-8", "replace").split()}


class Cifar(Source):
    """One part, "train" or "test", of CIFAR, loaded into memory in each process."""

    def __init__(self, path: str, options: SourceOptions) -> None:
        version = find_version(path)
        if version is None:
            raise SourceError("no CIFAR files are here").at(file=path)
        self._path = path
        self._version = version
        self.kind = version.kind
        self._part = options.part or self._only_part(path)
        self.metadata = {}
        self._arrays: Part | None = None
        pixels, _ = self._loaded()
        self._length = len(pixels)
        fields = {name: Scalar("int64") for name in LABELS[self.kind]}
        self.schema = Schema({"image": Image(shape=(32, 32, 3)), **fields})

    @staticmethod
    def _only_part(path: str) -> str:
        found = parts(path)
        if len(found) != 1:
            raise SourceError(f"there are {' and '.join(found) or 'no'} batches; say which").at(file=path)
        return found[0]

    def _loaded(self) -> Part:
        if self._arrays is None:
            batches, metadata = self._load()
            names = sorted(batches)
            pixels = np.concatenate([batches[name][0] for name in names]).reshape(-1, 3, 32, 32)
            labels = np.concatenate([batches[name][1] for name in names])
            if not len(pixels):
                raise SourceError("there are no images").at(file=self._path)
            self._arrays = pixels, labels
            self.metadata = self.metadata or metadata
        return self._arrays

    def _load(self) -> tuple[dict[str, Part], dict[str, list[str]]]:
        version, labels = self._version, len(LABELS[self.kind])
        batches: dict[str, Part] = {}
        metadata: dict[str, list[str]] = {}
        for folder, name, read in _members(self._path):
            if not version.has(folder, name):
                continue
            try:
                if version.part_of(name) == self._part:
                    batches[name] = (_from_pickle if version.pickled else _from_binary)(read(), labels)
                elif name in version.names:
                    data = read()
                    metadata |= _names_from_pickle(data) if version.pickled else _names_from_text(name, data)
            except (SourceError, SchemaError) as error:
                error.at(file=os.path.join(self._path, name))
                raise
        if not batches:
            raise SourceError(f"there are no {self._part} batches").at(file=self._path)
        return batches, metadata

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None}

    def __len__(self) -> int:
        return self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.full(self._length, _PIXELS + 8 * len(LABELS[self.kind]), np.int64)

    def fingerprint(self) -> Fingerprint:
        if os.path.isfile(self._path):  # an archive
            return file_table([os.fsencode(self._path)]).fingerprint()
        folders = (self._path, os.path.join(self._path, self._version.folder))
        paths = [os.path.join(folder, name) for folder in folders for name in self._version.files()]
        files = [os.fsencode(path) for path in paths if is_file(path)]
        return file_table(files).fingerprint()

    def key(self, index: int) -> str:
        return f"{self._part} row {index}"

    def sample(self, index: int) -> Sample:
        pixels, labels = self._loaded()
        image = {"image": pixels[index].transpose(1, 2, 0)}
        return image | {name: int(labels[index, k]) for k, name in enumerate(LABELS[self.kind])}
