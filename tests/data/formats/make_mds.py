"""Writes the folders in mds/ with MosaicML Streaming, and beside them what it reads from them.

    python make_mds.py

Written with mosaicml-streaming 0.13.
"""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plain_json import to_json
from streaming import LocalDataset, MDSWriter

OUT = Path(__file__).parent / "mds"
SCALARS = "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()
COLUMNS = {
    "bytes": "bytes", "str": "str", "int": "int", "str_int": "str_int", "str_float": "str_float",
    "str_decimal": "str_decimal", "json": "json", "jpeg": "jpeg", "png": "png", "pil": "pil", "jpegs": "list[jpeg]",
    "jpegarray": "jpegarray", "pngs": "list[png]", "pils": "list[pil]", "fixed": "ndarray:int16:2,3",
    "typed": "ndarray:float32", "dynamic": "ndarray",
} | {name: name for name in SCALARS}  # fmt: skip


def picture(k: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (4 + k, 3), (40 * k, 20, 30) if mode == "RGB" else 40 * k)


def jpeg(k: int) -> bytes:
    out = BytesIO()
    picture(k).save(out, "JPEG")
    return out.getvalue()


def sample(k: int) -> dict[str, Any]:
    return {
        "bytes": bytes([k, 255]),
        "str": f"Nr. {k} ü",
        "int": -k,
        "str_int": 10**k,
        "str_float": k / 3,
        "str_decimal": Decimal(k) / 7,
        "json": {"k": k, "list": [1, "two", None]},
        "jpeg": jpeg(k),
        "png": picture(k, "L"),
        "pil": picture(k),
        "jpegs": [Image.open(BytesIO(jpeg(j))) for j in range(k % 3)],
        "jpegarray": [jpeg(j) for j in range(1 + k % 2)],
        "pngs": [picture(j) for j in range(k % 2)],
        "pils": [picture(j, "L") for j in range(k % 2)],
        "fixed": np.arange(6, dtype=np.int16).reshape(2, 3) - k,
        "typed": np.arange(k + 1, dtype=np.float32) / 3,
        "dynamic": np.full((1 + k % 2, 300), k, np.uint16),
    } | {name: getattr(np, name)(k + (0.5 if name.startswith("float") else 0)) for name in SCALARS}


def plain(value: Any) -> Any:
    """A value as the expected file has it: a picture is its pixels."""
    if isinstance(value, Image.Image):
        return np.asarray(value)
    if isinstance(value, Decimal):
        return str(value)
    return [plain(found) for found in value] if isinstance(value, list) else value


def write(name: str, count: int, columns: dict[str, str], **options: Any) -> list[dict[str, Any]]:
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    with MDSWriter(out=str(folder), columns=columns, **options) as writer:
        for k in range(count):
            row = sample(k)
            writer.write({column: row[column] for column in columns})
    if not options.get("compression"):
        return [{key: plain(value) for key, value in row.items()} for row in LocalDataset(str(folder))]
    return [{key: plain(sample(k)[key]) for key in columns} for k in range(count)]


if __name__ == "__main__":
    few = {"int": "int", "str": "str"}
    expected = {
        "all": write("all", 5, COLUMNS, size_limit=8000, hashes=["sha1", "xxh64"]),
        "zstd": write("zstd", 40, few, size_limit=300, compression="zstd:3", hashes=["sha1"]),
        "gz": write("gz", 10, few, compression="gz"),
    }
    (OUT / "expected.json").write_text(json.dumps(to_json(expected)) + "\n")
