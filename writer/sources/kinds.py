"""The kinds of source: which class reads each, and whether it is a file, a folder, or a set of files.

Only the module of the kind that is used gets imported, so a kind may need a package that others do not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from recordio.writer.sources.archives.archive_paths import TAR_ENDINGS
from recordio.writer.sources.archives.compression import COMPRESSED
from recordio.writer.sources.records.kind_by_content import RIEGELI


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of source is read, and what it is on disk.

    Attributes:
        module: the module in recordio.writer.sources.
        reader: the class in it.
        place: "file", "folder" or "both"; "files" is one file, or several in a folder that make one source.
        extensions: those of its files, in lower case; a file with another one is not recognised by its name.
        magic: the first bytes of its files, b"" where they do not tell.
    """

    module: str
    reader: str
    place: str
    extensions: tuple[str, ...] = ()
    magic: bytes = b""


KIND: dict[str, Kind] = {
    "image_folder": Kind("folders.class_folders", "ImageFolder", "folder"),
    "audio_folder": Kind("folders.class_folders", "AudioFolder", "folder"),
    "text_folder": Kind("folders.class_folders", "TextFolder", "folder"),
    "file_groups": Kind("folders.file_groups", "FileGroups", "folder"),
    "paired_folders": Kind("folders.paired_folders", "PairedFolders", "folder"),
    "yolo": Kind("folders.paired_folders", "PairedFolders", "folder"),
    "voc": Kind("folders.paired_folders", "PairedFolders", "folder"),
    "coco": Kind("folders.coco", "Coco", "file"),
    "indexed_files": Kind("folders.indexed_files", "IndexedFiles", "file"),
    "csv": Kind("tables.delimited", "CsvTable", "file", (".csv",)),
    "tsv": Kind("tables.delimited", "TsvTable", "file", (".tsv",)),
    "jsonl": Kind("tables.json_lines", "JsonLines", "file", (".jsonl", ".ndjson")),
    "tfrecord": Kind("records.tfrecord", "TFRecord", "files", (".tfrecord", ".tfrecords", ".tfrec", ".tfr")),
    "array_record": Kind("records.array_records", "ArrayRecords", "files", (".array_record", ".arrayrecord"), RIEGELI),
    "bagz": Kind("records.bagz", "Bagz", "files", (".bagz",)),
    "mds": Kind("records.mds", "Mds", "folder"),
    "litdata": Kind("records.litdata", "LitData", "folder"),
    "parquet": Kind("arrow.arrow_tables", "Parquet", "files", (".parquet", ".pq"), b"PAR1"),
    "arrow": Kind("arrow.arrow_tables", "ArrowIpc", "files", (".arrow", ".feather", ".ipc"), b"ARROW1"),
    "hf_dataset": Kind("arrow.hf_dataset", "HfDataset", "folder"),
    "text_lines": Kind("tables.text_lines", "TextLines", "file", (".txt",)),
    "npy": Kind("arrays.arrays", "NpyFile", "file", (".npy",)),
    "npz": Kind("arrays.arrays", "NpzFile", "file", (".npz",)),
    "webdataset": Kind("archives.webdataset", "WebDataset", "files", TAR_ENDINGS),
    "hdf5": Kind("arrays.hdf5", "Hdf5", "file", (".h5", ".hdf5", ".he5"), b"\x89HDF\r\n\x1a\n"),
    "zarr": Kind("arrays.zarr", "Zarr", "folder"),
    "lmdb": Kind("records.lmdb", "Lmdb", "both", (".lmdb", ".mdb")),
    "mnist": Kind("arrays.mnist", "Mnist", "both"),
    "cifar10": Kind("arrays.cifar", "Cifar", "both"),
    "cifar100": Kind("arrays.cifar", "Cifar", "both"),
}
KINDS = tuple(KIND)
FOLDER_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "folder")
FILE_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "file")
FILE_SET_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "files")
TABLE_KINDS = ("csv", "tsv", "jsonl")
LINE_KINDS = (*TABLE_KINDS, "text_lines")  # read as lines of text, compressed or not
EXTENSIONS = {extension: name for name, kind in KIND.items() for extension in kind.extensions}


def endings(kinds: Iterable[str]) -> frozenset[bytes]:
    """The last extensions, in lower case, of all files whose `file_kind` may be one of these."""
    own = (extension for kind in kinds for extension in KIND[kind].extensions)
    return frozenset(b"." + name.rpartition(".")[2].encode() for name in (*own, *COMPRESSED))


def file_kind(name: str) -> str | None:
    """The kind of a file by its name, None where that does not tell. Lines of text and TFRecord may be compressed."""
    _, dot, extensions = name[name.rfind("/") + 1 :].lstrip(".").partition(".")
    return _kind_of_extensions(dot + extensions)


def table_kind(name: str) -> str | None:
    """The kind of a table by its file's name, None for anything else."""
    kind = file_kind(name)
    return kind if kind in TABLE_KINDS else None


@lru_cache(1024)
def _kind_of_extensions(extensions: str) -> str | None:
    """Folders of a million files have a few extensions, and are asked by several kinds."""
    stem, extension = os.path.splitext(f"name{extensions.lower()}")
    inner = os.path.splitext(stem)[1]
    if extension in COMPRESSED and EXTENSIONS.get(inner) in (*LINE_KINDS, "tfrecord"):
        return EXTENSIONS[inner]
    return EXTENSIONS.get(inner + extension) or EXTENSIONS.get(extension)
