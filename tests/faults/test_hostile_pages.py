"""Hostile pages with correct checksums: an error before anything large is allocated, never a crash."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import zstandard

from tests.faults.bounded import bounded
from tests.faults.forging import SHARD, Block, Files, Page, forge, one_value, plain, variable
from tests.faults.reading import open_files, outcome, read, told, verify_files, wrong
from tests.faults.samples import png

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
NUMBERS = [{"name": "x", "type": "scalar", "dtype": "uint8"}]
LIMIT = 1 << 28
WINDOWS = ["DataLoader", "shuffled"]


def zstd(data: bytes, level: int = 3, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=level, **options).compress(data)


def skippable(data: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def frame(content_size: int, window: int | None = None, blocks: bytes = b"") -> bytes:
    """A zstd frame with any claimed content size (8 bytes wide) and any window descriptor."""
    single = window is None
    return (
        ZSTD_MAGIC
        + bytes([0xC0 | 0x20 * single])
        + (b"" if single else bytes([window]))
        + struct.pack("<Q", content_size)
        + blocks
    )


def coded(stored: bytes, nbytes: int = 4) -> Files:
    """Four one-byte samples in a coded page with these stored bytes."""
    return forge(NUMBERS, [Block(4, [Page(stored, nbytes, 1)])])


RLE_4 = struct.pack("<I", 4 << 3 | 1 << 1 | 1)[:3] + b"z"  # the last block: four times "z"
GOOD = zstd(b"abcd")

FRAMES = {
    "no bytes": b"",
    "no frame": b"abcd",
    "magic alone": ZSTD_MAGIC,
    "a cut frame": GOOD[:-1],
    "a frame and junk": GOOD + b"junk",
    "a frame and a byte": GOOD + b"\0",
    "a frame and an empty frame": GOOD + zstd(b""),
    "a frame and a skippable one": GOOD + skippable(b"abcd"),
    "two halves": zstd(b"ab") + zstd(b"cd"),
    "a frame twice": GOOD * 2,
    "a skippable frame": skippable(b"abcd"),
    "a skippable frame before a good one": skippable(b"abcd") + GOOD,
    "a skippable frame that claims 2^32-1": struct.pack("<II", 0x184D2A50, 2**32 - 1) + GOOD,
    "too short": zstd(b"abc"),
    "too long": zstd(b"abcde"),
    "unknown size": zstd(b"abcd", write_content_size=False),
    "claims 0": frame(0, blocks=RLE_4),
    "claims 5": frame(5, blocks=RLE_4),
    "claims 3": frame(3, blocks=RLE_4),
    "claims 2^62": frame(1 << 62, blocks=RLE_4),
    "claims 2^64-1": frame(2**64 - 1, blocks=RLE_4),
    "a window of 2^31": frame(4, window=0xA8, blocks=RLE_4),
    "a window of 2^41": frame(4, window=0xF8, blocks=RLE_4),
    "a window of 1 MiB": frame(4, window=0x50, blocks=RLE_4),
    "a reserved block": frame(4, blocks=struct.pack("<I", 4 << 3 | 3 << 1 | 1)[:3] + b"abcd"),
    "a dictionary": ZSTD_MAGIC + bytes([0x23, 1, 2, 3, 4, 4]) + RLE_4,
    "the magic of version 0.7": b"\x27" + GOOD[1:],
    "a bomb in many blocks": frame(4, blocks=(struct.pack("<I", 131072 << 3 | 1 << 1)[:3] + b"z") * 1000),
}


def test_forged_frames_decode() -> None:
    expected = read(coded(GOOD))
    assert {kind for kind, _ in expected.values()} == {"data"}
    assert open_files(coded(frame(4, blocks=RLE_4)))[3] == {"x": np.uint8(ord("z"))}


@pytest.mark.parametrize("verify", ["first", "never"])
@pytest.mark.parametrize("name", FRAMES)
def test_dishonest_frames_are_refused_however_read(name: str, verify: str) -> None:
    files = coded(FRAMES[name])
    assert told(files, verify=verify) == []
    assert not verify_files(files).ok


def bombs() -> list[str]:
    """Decompression bombs, read under a memory limit."""
    zeros = zstd(bytes(LIMIT))
    row = [{"name": "x", "type": "array", "dtype": "uint8", "shape": [LIMIT]}]
    big = [{"name": "x", "type": "array", "dtype": "uint8", "shape": [1 << 30]}]
    coder = zstandard.ZstdCompressor(level=1).compressobj(size=1 << 30)
    giga = b"".join([*(coder.compress(bytes(1 << 20)) for _ in range(1 << 10)), coder.flush()])
    out = [f"a gigabyte {fault}" for fault in told(forge(big, [Block(1, [Page(giga, 1 << 30, 1)])]))]
    out += [f"a gigabyte as 4 {fault}" for fault in told(coded(giga))]
    out += [f"a page that lies {fault}" for fault in told(coded(zeros))]
    lies = forge(row, [Block(1, [Page(zeros, LIMIT, 1)])] * 40, content_bytes=1)
    out += [f"many, and the manifest lies {fault}" for fault in wrong(lies, None, WINDOWS)]
    for name in FRAMES:
        out += [f"{name} {fault}" for fault in told(coded(FRAMES[name]), ["take", "DataLoader"])]
    return out


def crowds() -> list[str]:
    """Huge numbers of samples of 0 or 1 bytes: shuffling them must count its own memory."""
    empty = [{"name": "x", "type": "array", "dtype": "uint8", "shape": [0]}]
    ones = zstd(bytes(1 << 24))
    out = [f"empty {fault}" for fault in wrong(forge(empty, [Block(1 << 24, [plain(b"")])] * 60), None, WINDOWS)]
    blocks = [Block(1 << 24, [Page(ones, 1 << 24, 1)])] * 8
    return out + [
        f"one byte {fault}" for fault in wrong(forge(NUMBERS, blocks), None, ["take", "[i]", "DataLoader", "shuffled"])
    ]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_zstd_bombs_are_refused_before_allocation() -> None:
    assert bounded("test_hostile_pages", "bombs") == []


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_samples_without_bytes_do_not_exhaust_memory() -> None:
    assert bounded("test_hostile_pages", "crowds", 5 << 29) == []


OBJECTS = {
    "nothing": b"",
    "the reserved byte": b"\xc1",
    "two values": b"\x01\x01",
    "a cut string": b"\xa5abc",
    "bad UTF-8": b"\xa1\xff",
    "a surrogate": b"\xa3\xed\xa0\x80",
    "bad UTF-8 in a key": b"\x81\xa1\xff\x01",
    "depth 10^5, arrays": b"\x91" * 100_000 + b"\xc0",
    "depth 10^5, maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "an array of 2^32-1": b"\xdd\xff\xff\xff\xff",
    "arrays of 2^32-1 in each other": b"\xdd\xff\xff\xff\xff" * 1000,
    "a map of 2^32-1": b"\xdf\xff\xff\xff\xff",
    "a string of 2^32-1": b"\xdb\xff\xff\xff\xff",
    "bytes of 2^32-1": b"\xc6\xff\xff\xff\xff",
    "an extension of 2^32-1": b"\xc9\xff\xff\xff\xff\x05",
    "an integer key": b"\x81\x01\x01",
    "a nil key": b"\x81\xc0\x01",
    "a bytes key": b"\x81\xc4\x01a\x01",
    "a list as a key": b"\x81\x91\x01\x01",
    "a timestamp as a key": b"\x81\xd6\xff\0\0\0\0\x01",
    "an extension": b"\xd4\x05a",
    "an empty extension": b"\xc7\x00\x05",
    "a timestamp of 4 bytes": b"\xd6\xff\0\0\0\0",
    "a timestamp of 8 bytes": b"\xd7\xff" + bytes(8),
    "a timestamp of 12 bytes": b"\xc7\x0c\xff" + bytes(12),
    "a timestamp in ext8, 4 bytes": b"\xc7\x04\xff" + bytes(4),
    "a timestamp in ext8, 8 bytes": b"\xc7\x08\xff" + bytes(8),
    "a timestamp in ext16": b"\xc8\x00\x04\xff" + bytes(4),
    "a timestamp in ext32": b"\xc9\x00\x00\x00\x0c\xff" + bytes(12),
    "a timestamp in a list in a map": b"\x81\xa1a\x91\xc7\x04\xff" + bytes(4),
    "a timestamp of too many nanoseconds": b"\xd7\xff" + b"\xff" * 8,
    "a deep timestamp": b"\x91" * 500 + b"\xd6\xff\0\0\0\0",
}
for _depth in (400, 600, 900, 1000):
    OBJECTS[f"depth {_depth} around what looks like a timestamp"] = b"\x91" * _depth + b"\xc4\x02\xd6\xff" + b"\xc1"


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beyond_json_are_refused(name: str) -> None:
    assert told(one_value({"type": "object"}, OBJECTS[name]), verify="never") == []


@pytest.mark.parametrize("depth", [10, 400, 600, 900, 1000, 1024, 5000])
@pytest.mark.parametrize("head", [b"\x91", b"\x81\xa1a"])
@pytest.mark.parametrize("inner", [b"\xc0", b"\xc4\x02\xd6\xff", b"\xc4\x02\xd7\xff", b"\xc4\x03\xc7\x0c\xff"])
def test_deep_objects_never_crash(depth: int, head: bytes, inner: bytes) -> None:
    for found in wrong(one_value({"type": "object"}, head * depth + inner), None, ["take", "[i]"]):
        raise AssertionError(found)


def objects() -> list[str]:
    """Nested lists that each claim as many items as there are bytes, and would take eight times the bytes each."""
    nested = b"".join(b"\xdd" + struct.pack(">I", 1 << 20) for _ in range(1000)) + bytes(1 << 20)
    out = [f"nested {fault}" for fault in told(one_value({"type": "object"}, nested))]
    return out + [
        f"{name} {fault}" for name in OBJECTS for fault in told(one_value({"type": "object"}, OBJECTS[name]), ["take"])
    ]


@pytest.mark.timeout(300)
def test_objects_do_not_exhaust_memory() -> None:
    assert bounded("test_hostile_pages", "objects") == []


def test_bad_object_does_not_affect_the_next() -> None:
    page = variable(b"\x93\x01\x02", b"\x93\x01\x02\x03", b"\xd6\xff\0\0\0\0", b"\xa1a")
    ds = open_files(forge([{"name": "x", "type": "object"}], [Block(4, [page])]))
    for _ in range(3):
        assert [outcome(lambda i=i: ds[i])[0] for i in range(4)] == ["error", "data", "error", "data"]
        assert ds[1] == {"x": [1, 2, 3]}
        assert ds[3] == {"x": "a"}


U64 = struct.Struct("<Q").pack
FREE = {"type": "array", "dtype": "int16", "shape": [None, None]}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        U64(0),
        U64(1) + U64(1),
        U64(1) + U64(1) + b"abc",
        U64(0) + U64(1) + b"ab",
        U64(0) + U64(2**64 - 1),
        U64(2**64 - 1) + U64(0),
        U64(0) + U64(2**63),
        U64(2**63) + U64(2) + b"ab",
        U64(2**32) + U64(2**32),
        U64(2**63) + U64(2**63),
        U64(2**64 - 1) + U64(2**64 - 1) + b"ab",
    ],
)
@pytest.mark.parametrize("kind", [FREE, {"type": "image", "shape": [None, None]}], ids=["array", "image"])
def test_free_dimensions_that_do_not_fit_the_bytes_are_refused(value: bytes, kind: dict[str, object]) -> None:
    assert told(one_value(kind, value)) == []


def test_array_without_elements_is_read() -> None:
    assert open_files(one_value(FREE, U64(0) + U64(7)))[0]["x"].shape == (0, 7)


def _offsets(*ends: int, body: bytes = b"abcdef") -> bytes:
    return b"".join(struct.pack("<Q", end & (2**64 - 1)) for end in ends) + body


@pytest.mark.parametrize("verify", ["first", "never"])
@pytest.mark.parametrize(
    "content",
    [
        _offsets(0, 3, 7),
        _offsets(0, 3, 5),
        _offsets(1, 3, 6),
        _offsets(0, 7, 6),
        _offsets(0, -1, 6),
        _offsets(0, 2**63, 6),
        _offsets(0, 2**63 - 1, 6),
        _offsets(0, 2**64 - 1, 2**64 - 1),
        _offsets(6, 3, 0),
        _offsets(2**62, 2**62, 6),
        _offsets(0, 3, 6, body=b""),
        _offsets(0, 3),
    ],
)
@pytest.mark.parametrize("coding", [0, 1])
@pytest.mark.parametrize("kind", ["text", "bytes", "object"])
def test_offsets_outside_their_page_are_refused(kind: str, coding: int, content: bytes, verify: str) -> None:
    page = Page(zstd(content), len(content), 1) if coding else plain(content)
    assert told(forge([{"name": "x", "type": kind}], [Block(2, [page])]), verify=verify) == []


@pytest.mark.parametrize("value", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"ab\xc3"])
def test_invalid_utf_8_is_refused(value: bytes) -> None:
    assert told(one_value({"type": "text"}, value), verify="never") == []


@pytest.mark.parametrize("way", ["take", "[i]", "column", "DataLoader"])
@pytest.mark.parametrize(
    "kind",
    [
        {"type": "text"},
        {"type": "object"},
        {"type": "image", "mode": "RGB"},
        {"type": "array", "dtype": "int8", "shape": [None]},
    ],
    ids=lambda kind: kind["type"],
)
def test_bad_value_names_its_shard_and_field(kind: dict[str, object], way: str) -> None:
    page = variable(b"\xc1\xff")
    for field, stored in ((kind, page), (kind | {"optional": True}, plain(b"\x01" + bytes(63) + page.stored))):
        status, error = read(forge([{"name": "x", **field}], [Block(1, [stored])]), [way])[way]
        assert status == "error"
        assert (error.place.file, error.place.field) == (SHARD, "x"), error


def test_optional_page_shorter_than_its_validity_is_refused() -> None:
    for kind in ({"type": "text"}, {"type": "scalar", "dtype": "uint8"}):
        for nbytes in (0, 1, 8, 63, 64):
            files = forge([{"name": "x", "optional": True, **kind}], [Block(9, [plain(bytes(nbytes))])])
            assert told(files) == []


def big_png(height: int, width: int) -> bytes:
    """A small picture with any size in its header."""
    small = png(2, 2)
    head = small[12:16] + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]


PICTURES = {
    "nothing": b"",
    "text": b"hello",
    "a PNG of 2^31 by 2^31": big_png(2**31 - 1, 2**31 - 1),
    "a PNG of 60,000 by 60,000": big_png(60_000, 60_000),
    "a PNG of 16,384 by 16,384 without rows": big_png(16_384, 16_384),
    "a PNG of no rows": big_png(0, 5),
    "a cut PNG": png(4, 4)[:-20],
    "a PNG's first bytes": png(4, 4)[:16],
    "a JPEG's first bytes": b"\xff\xd8\xff",
    "a JPEG of 65,535 by 65,535": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"
    + b"\x01\x11\x00" * 3
    + b"\xff\xd9",
    "a WebP's first bytes": b"RIFF\xff\xff\xff\xffWEBP",
    "a WebP of 16 million by 16 million": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6,
}


def pictures() -> list[str]:
    ways = ["take", "[i]", "DataLoader"]
    out = []
    for name, data in PICTURES.items():
        for decode in ("numpy", "pil"):
            files = one_value({"type": "image", "mode": "RGB"}, data)
            out += [f"{name} {fault}" for fault in told(files, ways, decode=decode)]
    return out


@pytest.mark.timeout(300)
def test_picture_with_a_false_size_is_refused() -> None:
    assert bounded("test_hostile_pages", "pictures", 5 << 29) == []


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pixels_of_any_channels_become_pil_images_or_an_error(channels: int) -> None:
    files = forge([{"name": "x", "type": "image", "shape": [2, 2, channels]}], [Block(1, [plain(bytes(4 * channels))])])
    assert wrong(files, None, ["take", "[i]"], decode="pil") == []


def test_zero_dimension_beside_a_huge_one_never_crashes() -> None:
    for dims in ([0, 2**62], [0, 10**30], [2**62, 0], [0, 2**32, 2**32]):
        schema = [{"name": "x", "type": "array", "dtype": "uint8", "shape": dims}]
        assert wrong(forge(schema, [Block(3, [plain(b"")])]), None) == [], dims
