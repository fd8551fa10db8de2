"""The kinds of source: which class reads each, and whether it is a file, a folder, or a set of files.

Only the module of the kind that is used gets imported, so a kind may need a package that others do not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from recordio.writer.sources.archive_paths import TAR_ENDINGS
from recordio.writer.sources.compression import COMPRESSED
from recordio.writer.sources.kind_by_content import RIEGELI


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
    "image_folder": Kind("class_folders", "ImageFolder", "folder"),
    "audio_folder": Kind("class_folders", "AudioFolder", "folder"),
    "text_folder": Kind("class_folders", "TextFolder", "folder"),
    "file_groups": Kind("file_groups", "FileGroups", "folder"),
    "paired_folders": Kind("paired_folders", "PairedFolders", "folder"),
    "yolo": Kind("paired_folders", "PairedFolders", "folder"),
    "voc": Kind("paired_folders", "PairedFolders", "folder"),
    "coco": Kind("coco", "Coco", "file"),
    "indexed_files": Kind("indexed_files", "IndexedFiles", "file"),
    "csv": Kind("delimited", "CsvTable", "file", (".csv",)),
    "tsv": Kind("delimited", "TsvTable", "file", (".tsv",)),
    "jsonl": Kind("json_lines", "JsonLines", "file", (".jsonl", ".ndjson")),
    "tfrecord": Kind("tfrecord", "TFRecord", "files", (".tfrecord", ".tfrecords", ".tfrec", ".tfr")),
    "array_record": Kind("array_records", "ArrayRecords", "files", (".array_record", ".arrayrecord"), RIEGELI),
    "bagz": Kind("bagz", "Bagz", "files", (".bagz",)),
    "mds": Kind("mds", "Mds", "folder"),
    "litdata": Kind("litdata", "LitData", "folder"),
    "parquet": Kind("arrow_tables", "Parquet", "files", (".parquet", ".pq"), b"PAR1"),
    "arrow": Kind("arrow_tables", "ArrowIpc", "files", (".arrow", ".feather", ".ipc"), b"ARROW1"),
    "hf_dataset": Kind("hf_dataset", "HfDataset", "folder"),
    "text_lines": Kind("text_lines", "TextLines", "file", (".txt",)),
    "npy": Kind("arrays", "NpyFile", "file", (".npy",)),
    "npz": Kind("arrays", "NpzFile", "file", (".npz",)),
    "webdataset": Kind("webdataset", "WebDataset", "files", TAR_ENDINGS),
    "hdf5": Kind("hdf5", "Hdf5", "file", (".h5", ".hdf5", ".he5"), b"\x89HDF\r\n\x1a\n"),
    "zarr": Kind("zarr", "Zarr", "folder"),
    "lmdb": Kind("lmdb", "Lmdb", "both", (".lmdb", ".mdb")),
    "mnist": Kind("mnist", "Mnist", "both"),
    "cifar10": Kind("cifar", "Cifar", "both"),
    "cifar100": Kind("cifar", "Cifar", "both"),
}
KINDS = tuple(KIND)
FOLDER_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "folder")
FILE_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "file")
FILE_SET_KINDS = tuple(name for name, kind in KIND.items() if kind.place == "files")
TABLE_KINDS = ("csv", "tsv", "jsonl")
LINE_KINDS = (*TABLE_KINDS, "text_lines")  # read as lines of text, compressed or not
EXTENSIONS = {extension: name for name, kind in KIND.items() for extension in kind.extensions}


def file_kind(name: str) -> str | None:
    """The kind of a file by its name, None where that does not tell. Lines of text and TFRecord may be compressed."""
    stem, extension = os.path.splitext(name.lower())
    inner = os.path.splitext(stem)[1]
    if extension in COMPRESSED and EXTENSIONS.get(inner) in (*LINE_KINDS, "tfrecord"):
        return EXTENSIONS[inner]
    return EXTENSIONS.get(inner + extension) or EXTENSIONS.get(extension)
