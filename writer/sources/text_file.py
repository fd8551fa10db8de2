"""A text file as UTF-8 bytes that any process can read at any offset, whatever it is packed with or encoded in.

What is UTF-8 already is read where it lies. Anything else is unpacked and recoded once, into a nameless temporary file:
other processes of this machine open the same one, those of other machines make their own.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from recordio.errors import SourceError
from recordio.writer.sources.encodings import marked_encoding, readings, unmarked_encoding
from recordio.writer.sources.files import open_regular, refused

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
HEAD = 1 << 18  # what is looked at to find delimiters and headers
_CHUNK = 1 << 20
_PACKED_CHUNK = 1 << 16
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an .xlsx workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an .xls workbook: save the sheet as CSV",
    b"PAR1": "a Parquet file, not text",
    b"ARROW1": "an Arrow file, not text",
    b"SQLite format 3\0": "an SQLite database, not text",
    b"\x89HDF": "an HDF5 file, not text",
}


def _zstd_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    decoder = None
    while data := raw.read(_PACKED_CHUNK):
        while data:
            decoder = decoder or zstandard.ZstdDecompressor().decompressobj()
            yield decoder.decompress(data)
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise EOFError("it ends within a frame")


def _chunks(file: Any) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")


_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_OPEN: dict[str | None, Callable[[Any], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def _packed_with(head: bytes) -> str | None:
    """The name of the compression, None for a plain file. "BZh" alone may be text."""
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    return None if found == "bzip2" and head[4:10] != b"1AY&SY" else found


def _unpacked(raw: IO[bytes], packed: str | None) -> Iterator[bytes]:
    if packed == "zstd":
        return _zstd_chunks(raw)
    return _chunks(_OPEN[packed](raw) if packed else raw)


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Where a nameless file can be opened from: the process that holds it, its descriptor there, and which it is."""

    process: int
    fd: int
    identity: tuple[int, int, int]  # device, inode, size

    def open(self) -> int | None:
        """A descriptor of the file, None where it cannot be had."""
        try:
            fd = os.open(f"/proc/{self.process}/fd/{self.fd}", os.O_RDONLY)
        except OSError:
            return None
        if _identity(fd) == self.identity:
            return fd
        os.close(fd)
        return None


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size


class TextFile:
    """A file of lines.

    Attributes:
        start: where the text begins, behind a byte order mark.
        notes: what was guessed about it.
    """

    def __init__(self, path: str, encoding: str | None = None) -> None:
        self._path = path
        self._packed: str | None = None
        self._encoding = encoding
        self._scratch: _Scratch | None = None
        self._fd: int | None = None
        self.start = 0
        self.notes: tuple[str, ...] = ()
        try:
            self._look(encoding)
        except SourceError as error:
            raise error.at(file=path)

    def _look(self, encoding: str | None) -> None:
        head = self._read_source()
        self._packed = _packed_with(head)
        if self._packed:
            head = next(self._source(), b"")
            self.notes += (f"unpacked, as it is {self._packed}",)
        _require_text(head, encoding)
        self._encoding = encoding or marked_encoding(head) or "utf-8"
        self._make()
        if encoding is None and self._encoding == "utf-8" and not self._all_utf8():
            found = unmarked_encoding(self.lines())
            if found is not None:
                number = next(k for k, line in enumerate(self.lines(), 1) if not line.isascii())
                self.notes += (
                    f"the text is not UTF-8 (line {number}): read as {found}; encoding= (--encoding) says otherwise",
                )
                self._encoding = found
                self._make()
        self.start = 3 if self.read(0, 3) == codecs.BOM_UTF8 else 0

    def _read_source(self) -> bytes:
        with open(open_regular(self._path), "rb") as raw:
            return raw.read(64)

    def _source(self) -> Iterator[bytes]:
        """The unpacked bytes of the file. Raises SourceError for damage."""
        with open(open_regular(self._path), "rb") as raw:
            try:
                yield from _unpacked(raw, self._packed)
            except _DAMAGED as error:
                raise SourceError(f"the {self._packed or 'file'} data cannot be read to its end: {error}") from error

    def _make(self) -> None:
        """Opens the file, or makes the temporary one."""
        self.close()
        if self._packed is None and self._encoding == "utf-8":
            self._fd = open_regular(self._path)
            return
        chunks = self._source()
        if self._encoding != "utf-8":
            chunks = _recoded(chunks, self._encoding or "utf-8")
        self._fd = _written(chunks)
        self._scratch = _Scratch(os.getpid(), self._fd, _identity(self._fd))

    def _all_utf8(self) -> bool:
        decoder = codecs.getincrementaldecoder("utf-8")()
        at = 0
        try:
            while chunk := self._pread(at, _CHUNK):
                decoder.decode(chunk)
                at += len(chunk)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return False
        return True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fd": None}

    def _pread(self, start: int, nbytes: int) -> bytes:
        if self._fd is None:
            self._fd = self._scratch.open() if self._scratch else None
            if self._fd is None:
                self._make()
        try:
            return os.pread(self._fd, nbytes, start)  # type: ignore[arg-type]
        except OSError as error:
            raise refused(error) from error

    def read(self, start: int, nbytes: int) -> bytes:
        """The bytes from `start`, fewer only at the end of the file. Raises SourceError."""
        parts = [self._pread(start, nbytes)]
        while (missing := nbytes - sum(map(len, parts))) and parts[-1]:
            parts.append(self._pread(start + nbytes - missing, missing))
        return b"".join(parts)

    def lines(self, start: int | None = None) -> Iterator[bytes]:
        r"""The lines from an offset, with what ends them: \n, \r\n or, as on old Macs, \r."""
        at = self.start if start is None else start
        open_line: list[bytes] = []
        while chunk := self._pread(at, _CHUNK):
            at += len(chunk)
            if b"\n" not in chunk and b"\r" not in chunk and not (open_line and open_line[-1].endswith(b"\r")):
                open_line.append(chunk)
                continue
            lines = b"".join((*open_line, chunk)).splitlines(keepends=True)
            # The \n of an \r\n may begin the next chunk.
            open_line = [] if lines[-1].endswith(b"\n") else [lines.pop()]
            yield from lines
        if open_line:
            yield from b"".join(open_line).splitlines(keepends=True)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._scratch = None

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self.close()


def _require_text(head: bytes, encoding: str | None) -> None:
    for magic, what in _NO_TEXT.items():
        if head.startswith(magic):
            raise SourceError(f"this is {what}")
    if encoding is None and marked_encoding(head) in (None, "utf-8") and head[:4096].count(0) > len(head[:4096]) // 10:
        raise SourceError(
            "there are NUL bytes in it, so it is no text, or UTF-16 without a mark:"
            " then encoding='utf-16-le' (--encoding utf-16-le) reads it"
        )


def _recoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8. Raises SourceError that names the line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            lines += text.count("\n")
            yield text.encode("utf-8")
        yield decoder.decode(b"", True).encode("utf-8")
    except UnicodeError as error:
        if isinstance(error, UnicodeDecodeError):
            lines += error.object[: error.start].decode(encoding, "replace").count("\n")
        reason = getattr(error, "reason", error)
        text = f"line {lines} is not {encoding}: {reason}; encoding= (--encoding) says what it is"
        raise SourceError(text) from error


def _written(chunks: Iterable[bytes]) -> int:
    """A descriptor of a temporary file of these bytes, which vanishes when the last process closes it."""
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            try:
                file.write(chunk)
            except OSError as error:
                where = f"{tempfile.gettempdir()} (TMPDIR names another folder)"
                raise SourceError(f"cannot be unpacked in {where}: {error.strerror or error}") from error
        file.flush()
        return os.dup(file.fileno())


def row_text(row: bytes) -> str:
    """Raises SourceError for bytes that are not UTF-8."""
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError as error:
        text = f"the row is not UTF-8: {error.reason} at its byte {error.start}, {readings(row, error.start)}"
        raise SourceError(f"{text}; encoding= (--encoding) says what it is") from error
