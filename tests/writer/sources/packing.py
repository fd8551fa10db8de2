"""Archives for tests: of a folder, and tar files with headers that no program would write."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import zstandard

BLOCK = 512
END = bytes(2 * BLOCK)
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def pack(root: str | Path, path: Path) -> Path:
    """The archive at `path` of all that is below a folder."""
    files = sorted(Path(root).rglob("*"))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(root))
        return path
    out = io.BytesIO()
    mode = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as tar:  # type: ignore[call-overload]
        tar.add(root, ".")
    path.write_bytes(zstandard.compress(out.getvalue()) if path.suffix == ".zst" else out.getvalue())
    return path


def header(name: bytes, nbytes: int, kind: bytes = b"0", link: bytes = b"", size: bytes | None = None) -> bytes:
    """A header of tar; `size` is its field of the length as it is written."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size if size is not None else b"%011o\0" % nbytes
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: bytes, data: bytes = b"", kind: bytes = b"0", link: bytes = b"") -> bytes:
    """A member of a tar, with its data."""
    return header(name, len(data), kind, link) + data + bytes(-len(data) % BLOCK)


def pax(kind: bytes = b"x", **records: bytes) -> bytes:
    """A pax header; an underscore in a keyword is a dot."""
    out = b""
    for key, value in records.items():
        body = b" " + key.replace("_", ".").encode() + b"=" + value + b"\n"
        length = len(body) + 1
        while length != len(str(length)) + len(body):
            length = len(str(length)) + len(body)
        out += str(length).encode() + body
    return member(b"x", out, kind)


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files, in order."""
    return b"".join(member(name.encode(), data) for name, data in files.items()) + END


def packed(tmp_path: Path, data: bytes, name: str = "x.tar") -> str:
    """The path of a file of these bytes."""
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


def zipped(tmp_path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive of these files, in order."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
