"""What a file is: a picture, a sound, a text, a table, or something that is not read by itself."""

from __future__ import annotations

from collections.abc import Collection

from recordio.images.formats import EXTENSIONS

PICTURES = frozenset(extension.encode() for extension in EXTENSIONS)
SOUNDS = frozenset((b".wav", b".flac", b".mp3", b".ogg", b".opus", b".m4a", b".aac", b".aif", b".aiff"))
TEXTS = frozenset((b".txt",))
_UNPACK = "unpack it, and give the folder"
_GIVE = "give its path: it is read as the folder in it, if its name ends so"
_ROWS = "read it with pandas or pyarrow, and save it as Parquet, or write its rows with recordio.DatasetWriter"
_OWN_LIBRARY = "read it with its own library, and write its samples with recordio.DatasetWriter"
TRUST = "it could run any program when it is read; if you trust it, load it and write its samples with DatasetWriter"
# What is not read by itself: what it is, what to do with it, and its extensions.
_CONTAINERS = (
    ("a Parquet table", "give it the extension .parquet, or say --kind parquet (kind=)", "parquet pq"),
    ("an Arrow table", "give it the extension .arrow, or say --kind arrow (kind=)", "arrow feather ipc"),
    ("an ORC table", _ROWS, "orc"),
    ("an Excel workbook", _ROWS, "xlsx xls ods"),
    ("an SQLite database", _ROWS, "sqlite sqlite3 db"),
    ("a tar archive", _GIVE, "tar tgz tbz2 txz tzst"),
    ("a zip archive", _GIVE, "zip"),
    ("a 7z archive", _UNPACK, "7z"),
    ("a RAR archive", _UNPACK, "rar"),
    ("a compressed file", "unpack it", "gz bz2 xz zst lz4 br"),
    ("an HDF5 file", "--kind hdf5 (kind=) reads its datasets", "hdf"),
    ("a MATLAB file", _OWN_LIBRARY, "mat"),
    ("a MosaicML shard", "give its folder, which holds index.json", "mds"),
    ("an FFCV file", _OWN_LIBRARY, "beton"),
    ("a Lance table", _OWN_LIBRARY, "lance"),
    ("an MXNet record file", _OWN_LIBRARY, "rec"),
    ("a pickle", TRUST, "pkl pickle pt pth joblib"),
    ("a JSON document", "save it as JSON Lines, an object a line, with the extension .jsonl", "json"),
    ("an XML document", _OWN_LIBRARY, "xml"),
    ("a text", "--kind text_lines (kind=) makes a sample of each line", "text"),
    ("a shard of a recordio dataset", "open its folder with recordio.ShardDataset", "rio"),
)
_BY_EXTENSION = {b"." + name.encode(): (what, way) for what, way, names in _CONTAINERS for name in names.split()}
_MAGIC = {
    b"PAR1": b".parquet",
    b"ARROW1": b".arrow",
    b"PK\x03\x04": b".zip",
    b"\x1f\x8b": b".gz",
    b"BZh": b".bz2",
    b"\xfd7zXZ": b".xz",
    b"\x28\xb5\x2f\xfd": b".zst",
    b"SQLite format 3": b".sqlite",
    b"\x89HDF": b".hdf",
    b"7z\xbc\xaf": b".7z",
    b"Rar!": b".rar",
    b"\x89RIO": b".rio",
    b"\x80\x04": b".pkl",
    b"\x80\x05": b".pkl",
}


def extension(name: bytes) -> bytes:
    """The last extension of a file name, in lower case, with its dot; as os.path.splitext has it, in a quarter of the
    time: folders are recognised by the names of all their files.
    """
    _, dot, ending = name[name.rfind(b"/") + 1 :].lstrip(b".").rpartition(b".")
    return (dot + ending).lower() if dot else b""


def extensions(names: Collection[bytes]) -> frozenset[bytes]:
    """The extensions of many paths to files that are not hidden. `extension` is called once for each ending."""
    ends = {name[-5:] for name in names}
    if not all(b"." in end for end in ends):
        ends = {name[name.rfind(b".") :] for name in names}
    return frozenset(extension(b"x" + end[end.rfind(b".") :]) for end in ends)


def is_picture(name: bytes) -> bool:
    """Whether a file is an image by its name."""
    return extension(name) in PICTURES


def is_sound(name: bytes) -> bool:
    """Whether a file is a sound by its name."""
    return extension(name) in SOUNDS


def is_text(name: bytes) -> bool:
    """Whether a file is a plain text by its name."""
    return extension(name) in TEXTS


def container(name: bytes, head: bytes = b"") -> tuple[str, str] | None:
    """What a file is that is not read by itself, and what to do with it: by its first bytes, then by its name."""
    by_head = next((found for magic, found in _MAGIC.items() if head.startswith(magic)), None)
    if by_head is None and head[257:262] == b"ustar":
        by_head = b".tar"
    return _BY_EXTENSION.get(by_head or extension(name)) or _BY_EXTENSION.get(extension(name))
