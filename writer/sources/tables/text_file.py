"""A text file as UTF-8 bytes that any process can read at any offset, whatever it is packed with or encoded in.

What is UTF-8 already is read where it lies. Anything else is unpacked and recoded once, into a nameless temporary file:
other processes of this machine open the same one, those of other machines make their own.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from recordio.errors import SourceError
from recordio.writer.sources.archives.compression import packed_with, unpacked
from recordio.writer.sources.archives.scratch import ReopenedFile, Scratch, written
from recordio.writer.sources.files import open_regular
from recordio.writer.sources.tables.encodings import marked_encoding, readings, unmarked_encoding

HEAD = 1 << 18  # what is looked at to find delimiters and headers
_CHUNK = 1 << 20
_MAX_LINE_CHUNKS = 1024  # of _CHUNK: a line is held in memory
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an .xlsx workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an .xls workbook: save the sheet as CSV",
    b"PAR1": "a Parquet file, not text",
    b"ARROW1": "an Arrow file, not text",
    b"SQLite format 3\0": "an SQLite database, not text",
    b"\x89HDF": "an HDF5 file, not text",
}


class TextFile(ReopenedFile):
    """A file of lines.

    Attributes:
        start: where the text begins, behind a byte order mark.
        notes: what was guessed about it.
    """

    def __init__(self, path: str, encoding: str | None = None) -> None:
        self._path = path
        self._packed: str | None = None
        self._encoding = encoding
        self.start = 0
        self.notes: tuple[str, ...] = ()
        try:
            self._look(encoding)
        except SourceError as error:
            raise error.at(file=path)

    def _look(self, encoding: str | None) -> None:
        head = self._read_source()
        self._packed = packed_with(head)
        if self._packed:
            head = next(self._source(), b"")
            self.notes += (f"unpacked, as it is {self._packed}",)
        _require_text(head, encoding)
        self._encoding = encoding or marked_encoding(head) or "utf-8"
        if encoding is None and self._encoding == "utf-8" and not self._all_utf8():
            found = unmarked_encoding(self.lines())
            if found is not None:
                number = next(k for k, line in enumerate(self.lines(), 1) if not line.isascii())
                self.notes += (
                    f"the text is not UTF-8 (line {number}): read as {found}; encoding= (--encoding) says otherwise",
                )
                self._encoding = found
                self.close()
        self.start = 3 if self.read(0, 3) == codecs.BOM_UTF8 else 0

    def _read_source(self) -> bytes:
        with open(open_regular(self._path), "rb") as raw:
            return raw.read(64)

    def _source(self) -> Iterator[bytes]:
        """The unpacked bytes of the file. Raises SourceError for damage."""
        with open(open_regular(self._path), "rb") as raw:
            yield from unpacked(raw, self._packed)

    def _made(self) -> int:
        if self._packed is None and self._encoding == "utf-8":
            return open_regular(self._path)
        chunks = self._source()
        if self._encoding != "utf-8":
            chunks = _recoded(chunks, self._encoding or "utf-8")
        fd = written(chunks)
        self._scratch = Scratch.of(fd)
        return fd

    def _all_utf8(self) -> bool:
        decoder = codecs.getincrementaldecoder("utf-8")()
        at = 0
        try:
            while chunk := self.read(at, _CHUNK):
                decoder.decode(chunk)
                at += len(chunk)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return False
        return True

    def lines(self, start: int | None = None) -> Iterator[bytes]:
        r"""The lines from an offset, with what ends them: \n, \r\n or, as on old Macs, \r."""
        at = self.start if start is None else start
        open_line: list[bytes] = []
        while chunk := self.read(at, _CHUNK):
            at += len(chunk)
            if b"\n" not in chunk and b"\r" not in chunk and not (open_line and open_line[-1].endswith(b"\r")):
                open_line.append(chunk)
                if len(open_line) > _MAX_LINE_CHUNKS:
                    raise SourceError(f"a line is longer than {_MAX_LINE_CHUNKS * _CHUNK >> 30} GiB")
                continue
            lines = b"".join((*open_line, chunk)).splitlines(keepends=True)
            # The \n of an \r\n may begin the next chunk.
            open_line = [] if lines[-1].endswith(b"\n") else [lines.pop()]
            yield from lines
        if open_line:
            yield from b"".join(open_line).splitlines(keepends=True)


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


def row_text(row: bytes) -> str:
    """Raises SourceError for bytes that are not UTF-8."""
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError as error:
        text = f"the row is not UTF-8: {error.reason} at its byte {error.start}, {readings(row, error.start)}"
        raise SourceError(f"{text}; encoding= (--encoding) says what it is") from error
