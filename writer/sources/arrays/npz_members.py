"""The arrays of a `.npz` file, unpacked once, end to end, into a nameless temporary file: they need no memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.layout import MAX_FIELDS
from recordio.writer.sources.archives.scratch import ReopenedFile, Scratch, written
from recordio.writer.sources.archives.zip_archive import require_honest
from recordio.writer.sources.arrays.npy import NpyHeader, mapped
from recordio.writer.sources.files import open_regular
from recordio.writer.sources.foreign_errors import reading

_SUFFIX = ".npy"
_CHUNK = 1 << 20
_ALIGNED = 64


class NpzMembers(ReopenedFile):
    """The members that are arrays."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._places: dict[str, tuple[int, NpyHeader]] = {}  # where each begins

    def _made(self) -> int:
        with reading("not a readable archive of NumPy arrays"), open(open_regular(self._path), "rb") as file:
            archive = zipfile.ZipFile(file)
            infos = [info for info in archive.infolist() if info.filename.endswith(_SUFFIX)]
            require_honest(infos, os.fstat(file.fileno()).st_size)
            self._place(archive, infos)
            fd = written(_chunks(archive, infos))
        self._scratch = Scratch.of(fd)
        return fd

    def _place(self, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
        """Reads the headers, before anything is unpacked: most files that are false are found out by them."""
        if len(infos) > MAX_FIELDS:
            raise SourceError(f"there are {len(infos):,} arrays, and a dataset has at most {MAX_FIELDS:,} fields")
        start = 0
        self._places = {}
        for info in infos:
            name = info.filename.removesuffix(_SUFFIX)
            if name in self._places:
                raise SourceError(f"two arrays are called {name[:200]!r}")
            try:
                with archive.open(info) as member:
                    self._places[name] = start, NpyHeader.read(member, info.file_size)
            except SourceError as error:
                raise error.at(field=name)
            start += info.file_size + -info.file_size % _ALIGNED

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, memory-mapped and read-only. Raises SourceError."""
        with reading(), open(self._descriptor, "rb", closefd=False) as file:
            return {name: mapped(file, header, start) for name, (start, header) in self._places.items()}


def _chunks(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Iterator[bytes]:
    """The members, each filled up to a multiple of 64 bytes. Their lengths and checksums are compared."""
    for info in infos:
        made = 0
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                made += len(chunk)
                yield chunk
        if made != info.file_size:
            raise SourceError(f"{info.filename[:200]!r} has {made} bytes, and {info.file_size} were announced")
        yield bytes(-made % _ALIGNED)
