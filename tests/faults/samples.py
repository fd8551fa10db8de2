"""A small dataset of every kind of field, in plain and in coded pages."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import zstandard

import recordio
from tests.faults.forging import Anatomy, Block, Files, Page, forge, variable

SCHEMA = recordio.Schema(
    {
        "number": recordio.Scalar("int16"),
        "maybe": recordio.Scalar("float32", optional=True),
        "free": recordio.Array("int16", (None, 2)),
        "text": recordio.Text(),
        "note": recordio.Text(optional=True),
        "raw": recordio.Bytes(),
        "png": recordio.Image("L"),
        "pixels": recordio.Image(shape=(2, 2)),
        "object": recordio.Object(),
    }
)


def png(height: int, width: int, value: int = 0) -> bytes:
    """A grey PNG of one value."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + bytes([value]) * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def sample(i: int) -> dict[str, Any]:
    return {
        "number": i - 1,
        "maybe": None if i % 2 else i / 2,
        "free": np.arange(4 * (i % 2), dtype=np.int16).reshape(-1, 2),
        "text": "añ" * (i % 3),
        "note": None if i % 3 == 1 else f"n{i}",
        "raw": bytes([i]) * 3,
        "png": png(2, 3, i),
        "pixels": np.full((2, 2), i, np.uint8),
        "object": {"a": [1, None, i], "b": b"x"},
    }


def written(samples: Any, schema: Any = None, **options: Any) -> Files:
    """The files of a dataset of these samples."""
    with TemporaryDirectory() as folder:
        with recordio.DatasetWriter(folder, schema, **options) as writer:
            for item in samples:
                writer.write(item)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@cache
def every_kind(compression: str | None, count: int = 3) -> Files:
    """One shard of one block, with a page of each kind."""
    return written([sample(i) for i in range(count)], SCHEMA, compression=compression, metadata={"m": 1})


@cache
def coded(count: int = 40) -> Files:
    """One shard of two fields in two blocks, all pages coded; forged, since a writer leaves small pages plain."""
    numbers = [struct.pack("<q", i // 8) for i in range(count)]
    blocks = []
    for part in (numbers[: count // 2], numbers[count // 2 :]):
        pages = [b"".join(part), variable(*[b"abc" * 9] * len(part)).stored]
        blocks.append(Block(len(part), [Page(zstandard.compress(page), len(page), 1) for page in pages]))
    schema = [{"name": "number", "type": "scalar", "dtype": "int64"}, {"name": "text", "type": "text"}]
    return forge(schema, blocks)


@cache
def narrow(count: int = 40, codec: int = 2) -> Files:
    """One shard of two fields in two blocks, all pages narrow; forged, since a writer leaves small pages plain.

    With codec 3 they are in zstd frames.
    """
    blocks = []
    for base in (0, -70):
        near = bytes(range(count // 2)) + struct.pack("<q", base)
        pairs = struct.pack(f"<{count}H", *range(900, 900 + count)) + struct.pack("<i", base)
        stored = [zstandard.compress(page) if codec == 3 else page for page in (near, pairs)]
        blocks.append(Block(count // 2, [Page(page, 4 * count, codec) for page in stored]))
    schema = [
        {"name": "number", "type": "scalar", "dtype": "int64"},
        {"name": "pair", "type": "array", "dtype": "int32", "shape": [2]},
    ]
    return forge(schema, blocks)


WIDE = 300  # text length worth coding


def coded_pages(data: bytes, fields: int) -> int:
    """The number of coded pages, to make sure that an attack on coded pages meets no plain ones."""
    anatomy = Anatomy(data, fields)
    return sum(anatomy.entry(b, f)[3] for b in range(anatomy.blocks) for f in range(fields))


def some(folder: Path | str, count: int = 30, start: int = 0, wide: int = 0, **options: Any) -> Path:
    """A dataset of `number` and `text` on disk, ten samples per shard, texts of at least `wide` characters."""
    with recordio.DatasetWriter(folder, **{"shard_samples": 10, **options}) as writer:
        for i in range(start, start + count):
            writer.write({"number": i, "text": f"value {i}".ljust(wide)})
    folder = Path(folder)
    assert options.get("compression") != "zstd" or coded_pages(next(folder.glob("*.rio")).read_bytes(), 2)
    return folder
