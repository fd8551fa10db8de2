"""Narrow pages that contradict their field or their size, with correct checksums: refused, however they are read.

Each is forged as it is and in a zstd frame.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from recordio import CorruptError, ShardDataset, UnsupportedError
from tests.faults.forging import Block, Files, Page, forge
from tests.faults.reading import open_files, read, told, verify_files

MINIMAL = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "minimal_reader.py"))
NARROW, NARROW_ZSTD = 2, 3


def field(**members: Any) -> list[dict[str, Any]]:
    return [{"name": "x"} | members]


SHORT, LONG = field(type="scalar", dtype="int16"), field(type="scalar", dtype="int64")
FOUR = bytes([1, 2, 3, 4])
BASE = bytes(2)


class Case(NamedTuple):
    """A dataset of one page: its schema, the narrow page, the bytes claimed for its content, and its samples."""

    schema: Any
    stored: bytes
    nbytes: int
    samples: int

    def files(self, codec: int) -> Files:
        stored = self.stored if codec == NARROW else zstandard.compress(self.stored)
        return self.framed(stored, codec)

    def framed(self, stored: bytes, codec: int = NARROW_ZSTD) -> Files:
        return forge(self.schema, [Block(self.samples, [Page(stored, self.nbytes, codec)])])


def narrow(schema: Any, stored: bytes, nbytes: int, samples: int = 4) -> Case:
    return Case(schema, stored, nbytes, samples)


GOOD = {
    "bytes of int16": narrow(SHORT, FOUR + BASE, 8),
    "words of int64": narrow(LONG, bytes(8) + bytes(8), 32),
    "double words of int64": narrow(LONG, bytes(16) + b"\xff" * 8, 32),
    "a width that is larger than needed": narrow(LONG, bytes(8) + bytes(8), 32),
    "a sum that wraps around": narrow(SHORT, b"\xff" * 4 + b"\xff\x7f", 8),
    "missing values": narrow(field(type="scalar", dtype="int16", optional=True), b"\5" + bytes(63) + FOUR + BASE, 72),
}
BAD = {
    "no bytes": narrow(SHORT, b"", 8),
    "no base": narrow(SHORT, FOUR, 8),
    "half a base": narrow(SHORT, FOUR + b"\0", 8),
    "a byte too many": narrow(SHORT, FOUR + BASE + b"\0", 8),
    "a distance too few": narrow(SHORT, FOUR[1:] + BASE, 8),
    "as wide as the dtype": narrow(SHORT, FOUR * 2 + BASE, 8),
    "wider than the dtype": narrow(SHORT, FOUR * 4 + BASE, 8),
    "three bytes wide": narrow(LONG, FOUR * 3 + bytes(8), 32),
    "eight bytes wide": narrow(LONG, FOUR * 8 + bytes(8), 32),
    "a base of another dtype": narrow(LONG, FOUR + BASE, 32),
    "content of another size": narrow(SHORT, FOUR + BASE, 9),
    "content of no size": narrow(SHORT, FOUR + BASE, 0),
    "content of 2^63 bytes": narrow(SHORT, FOUR + BASE, 1 << 63),
    "content of 2^60 bytes": narrow(SHORT, FOUR + BASE, 1 << 60),
    "integers of a byte": narrow(field(type="scalar", dtype="int8"), FOUR + b"\0", 4),
    "bools": narrow(field(type="scalar", dtype="bool"), FOUR, 4),
    "floats": narrow(field(type="scalar", dtype="float32"), FOUR + bytes(4), 16),
    "complex numbers": narrow(field(type="scalar", dtype="complex64"), FOUR + bytes(8), 32),
    "pixels": narrow(field(type="image", shape=[1, 1]), FOUR + b"\0", 4),
    "arrays without elements": narrow(field(type="array", dtype="int16", shape=[0]), BASE, 0),
    "arrays with a free dimension": narrow(field(type="array", dtype="int16", shape=[None]), FOUR + BASE, 72),
    "text": narrow(field(type="text"), FOUR + BASE, 44),
    "no validity": narrow(field(type="scalar", dtype="int16", optional=True), FOUR + BASE, 72),
    "over the limit of a coded page": narrow(
        field(type="array", dtype="int16", shape=[1 << 28]), bytes(1 << 8) + BASE, 1 << 29, samples=1
    ),
}


SOUND = GOOD["words of int64"]
FRAME = zstandard.compress(SOUND.stored)
BAD_FRAMES = {
    "no frame": SOUND.framed(SOUND.stored),
    "nothing": SOUND.framed(b""),
    "a frame cut short": SOUND.framed(FRAME[:-1]),
    "two frames": SOUND.framed(FRAME * 2),
    "a frame and a byte": SOUND.framed(FRAME + b"\0"),
    "a frame of the content": SOUND.framed(zstandard.compress(bytes(32))),
    "a frame that states no size": SOUND.framed(
        zstandard.ZstdCompressor(write_content_size=False).compress(SOUND.stored)
    ),
    "a frame that states 2^62 bytes": SOUND.framed(FRAME[:4] + b"\xe0" + (1 << 62).to_bytes(8, "little") + FRAME[6:]),
    "a frame that states another width than it has": SOUND.framed(FRAME[:5] + bytes([4 * 1 + 8]) + FRAME[6:]),
}
BAD_FILES = (
    {name: case.files(NARROW) for name, case in BAD.items()}
    | {f"{name}, coded": case.files(NARROW_ZSTD) for name, case in BAD.items()}
    | BAD_FRAMES
)


def write(files: Files, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("codec", [NARROW, NARROW_ZSTD])
@pytest.mark.parametrize("name", GOOD)
def test_sound_pages_are_read_alike_by_both_readers(name: str, codec: int, tmp_path: Path) -> None:
    files = GOOD[name].files(codec)
    assert {kind for kind, _ in read(files).values()} == {"data"}
    assert verify_files(files).ok
    expected = [row["x"] for row in MINIMAL["read_dataset"](write(files, tmp_path))[1]]
    found = open_files(files)
    assert [found[i]["x"] for i in range(4)] == expected
    for io in ("mmap", "pread"):
        assert ShardDataset(tmp_path, io=io).take([0, 1, 2, 3])["x"].tolist() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("verify", ["first", "never"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_other_pages_are_refused_however_read(name: str, verify: str) -> None:
    assert told(BAD_FILES[name], verify=verify) == []
    assert not verify_files(BAD_FILES[name]).ok


@pytest.mark.parametrize("name", BAD_FILES)
def test_minimal_reader_refuses_them_too(name: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, KeyError, zstandard.ZstdError)):
        list(MINIMAL["read_dataset"](write(BAD_FILES[name], tmp_path))[1])


def test_a_narrow_page_of_the_wrong_size_says_where(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match=r"narrow page of 4 samples has 4 bytes"):
        open_files(BAD_FILES["no base"])[0]
    with pytest.raises(CorruptError, match=r"zstd frame of 4 bytes holds no narrow page of 4 samples.*field 'x'"):
        open_files(BAD_FILES["no base, coded"])[0]
    with pytest.raises(CorruptError, match=r"a coded narrow page: .* has none.*field 'x'"):
        open_files(BAD_FILES["text, coded"])[0]


def test_the_next_codec_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="unknown codec 4"):
        open_files(forge(SHORT, [Block(4, [Page(FOUR + BASE, 8, 4)])]))[0]
