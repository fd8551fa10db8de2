"""LMDB: an entry a sample, its key and the bytes of its value. The package lmdb is not needed."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from recordio.format.fields import Bytes, Text
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import is_file, is_folder, open_regular, shown
from recordio.writer.sources.plain_files import read_at
from recordio.writer.sources.records.lmdb_pages import LmdbPages
from recordio.writer.sources.records.record_files import RecordFiles
from recordio.writer.sources.source import SourceOptions

DATA = "data.mdb"  # in the folder of an environment
_LOOKED_AT = 16  # values, for a note on what they are
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
_LOOKS: dict[str, Callable[[bytes], bool]] = {
    "pictures": lambda head: head.startswith(_PICTURES),
    "pickles, which are never loaded": lambda head: head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5",
    "Datum messages of Caffe": lambda head: head[:1] == b"\x08" and head[2:3] == b"\x10",
}


class Lmdb(RecordFiles):
    """`key`, a text, or bytes if one is no UTF-8, and `data`, the bytes of the value, in the order of the keys."""

    kind = "lmdb"

    def __init__(self, path: str, options: SourceOptions) -> None:
        super().__init__(os.path.join(path, DATA) if is_folder(path) else path, options)
        self._keys, ends = bytearray(), array("q")
        self._key_ends: array[int] | npt.NDArray[np.int64] = ends
        self._as_text = True
        self._scan()
        self._key_ends = np.array(ends, np.int64)
        self.schema = Schema({"key": Text() if self._as_text else Bytes(), "data": Bytes()})
        self.notes = tuple(self._say())

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        with open(open_regular(next(self.files.paths([number]))), "rb") as file:
            read = partial(read_at, file.fileno())
            for entry in LmdbPages(read, int(self.files.sizes[number])).entries():
                self._keys += entry.key
                self._key_ends.append(len(self._keys))  # type: ignore[union-attr]
                self._as_text = self._as_text and _is_utf8(entry.key)
                yield entry.start, entry.end

    def _say(self) -> Iterator[str]:
        """What the first values look like, as they stay bytes."""
        heads = [self._bytes(index)[:4] for index in range(min(len(self), _LOOKED_AT))]
        for what, test in _LOOKS.items():
            if heads and all(map(test, heads)):
                yield f"the values look like {what}: 'data' holds their bytes, as they are"
        if not self._as_text:
            yield "some keys are no UTF-8, so 'key' holds bytes"

    def _key(self, index: int) -> bytes:
        return bytes(self._keys[self._key_ends[index - 1] if index else 0 : self._key_ends[index]])

    def key(self, index: int) -> str:
        return f"{self.file_name(0)} key {shown(self._key(index))!r}"

    def sample(self, index: int) -> Sample:
        key = self._key(index)
        return {"key": key.decode("utf-8") if self._as_text else key, "data": self._bytes(index)}


def is_lmdb(path: str) -> bool:
    """Whether a folder holds an environment of LMDB."""
    return is_file(os.path.join(path, DATA))


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
