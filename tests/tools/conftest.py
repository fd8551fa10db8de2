"""Small datasets for the command line tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio


def png(height: int, width: int) -> bytes:
    """A black PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SCHEMA = recordio.Schema(
    {
        "image": recordio.Image("L"),
        "label": recordio.Scalar("int64"),
        "words": recordio.Text(optional=True),
        "vector": recordio.Array("float32", (4,)),
    }
)


def samples(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "image": png(8, 16),
            "label": number % 2,
            "words": None if number % 5 == 4 else f"sample {number}",
            "vector": np.arange(4, dtype="float32") + number,
        }


def write(path: Path, count: int) -> Path:
    with recordio.DatasetWriter(path, SCHEMA, metadata={"classes": ["cat", "dog"]}, block_bytes=1024) as writer:
        for sample in samples(count):
            writer.write(sample)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of 20 samples in several blocks."""
    return write(tmp_path / "pets", 20)


@pytest.fixture
def split_dataset(tmp_path: Path) -> Path:
    """A folder of two splits, of 20 and 6 samples."""
    write(tmp_path / "both" / "test", 6)
    write(tmp_path / "both" / "train", 20)
    return tmp_path / "both"


@pytest.fixture
def hostile_dataset(tmp_path: Path) -> Path:
    """A dataset with control characters in every name and value."""
    attack = "\x1b]0;pwned\x07\x1b[2J\r\n\x9b31m\u202e"
    schema = recordio.Schema(
        {f"words{attack}": recordio.Text(), "label": recordio.Scalar("int64"), f"tree{attack}": recordio.Object()}
    )
    metadata = {"classes": [attack], attack: attack, "deep": {attack: [attack]}}
    with recordio.DatasetWriter(tmp_path / f"named{attack}", schema, metadata=metadata, compression=None) as writer:
        writer.write({f"words{attack}": attack, "label": 0, f"tree{attack}": {attack: attack}})
    return tmp_path / f"named{attack}"


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
