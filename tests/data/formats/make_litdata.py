"""Writes the folders in litdata/ with LitData, and beside them what it reads from them.

    python make_litdata.py

Written with litdata 0.2.76 and torch.
"""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataset, TokensLoader
from litdata.streaming import serializers
from litdata.streaming.cache import Cache
from PIL import Image
from plain_json import to_json

OUT = Path(__file__).parent / "litdata"
# Pictures by Pillow in place of torchvision, which not every build can load its codecs for.
serializers._decode_image_tensor = lambda data: Image.open(BytesIO(data))


def jpeg(k: int) -> Image.Image:
    out = BytesIO()
    Image.new("RGB", (4 + k, 3), (40 * k, 20, 30)).save(out, "JPEG")
    return Image.open(BytesIO(out.getvalue()))


def everything(k: int) -> dict[str, Any]:
    return {
        "int": -k,
        "float": k / 3,
        "str": f"Nr. {k} ü",
        "bytes": bytes([k, 255]),
        "bool": k % 2 == 0,
        "tensor": torch.full((2, k + 1), k / 3),
        "half": torch.full((2, 2), k, dtype=torch.float16),
        "vector": torch.arange(k + 1, dtype=torch.int32),
        "array": np.full((2, k + 1), k, np.uint16),
        "row": np.arange(k, dtype=np.float64),
        "jpeg": jpeg(k),
        "pil": Image.new("L", (4 + k, 3), 40 * k),
        "jpegs": [jpeg(j) for j in range(1 + k % 2)],
        "nested": {"a": k, "b": [k, f"x{k}"]},
    }


def small(k: int) -> dict[str, Any]:
    return {"vector": torch.arange(k, dtype=torch.int64), "str": "word " * k}


def plain(value: Any) -> Any:
    """A value as the expected file has it: a picture is its pixels, as Pillow has them."""
    if isinstance(value, Image.Image):
        return np.asarray(value)
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {key: plain(found) for key, found in value.items()}
    return [plain(found) for found in value] if isinstance(value, list | tuple) else value


def write(name: str, items: list[Any], loader: Any = None, **options: Any) -> list[Any]:
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    cache = Cache(str(folder), item_loader=loader, **({"chunk_size": 4} | options))
    for number, item in enumerate(items):
        cache[number] = item
    cache.done()
    cache.merge()
    with TemporaryDirectory() as copy:  # it unpacks in place, and removes what was packed
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        return [plain(item) for item in StreamingDataset(copy, item_loader=loader)]


if __name__ == "__main__":
    tokens = [torch.arange(10 * k, 11 * k, dtype=torch.int32) for k in range(1, 8)]
    rows = [{"id": k, "text": f"text {k}", "score": k / 3 if k else None, "tags": ["a"] * k} for k in range(6)]
    expected = {
        "all": write("all", [everything(k) for k in range(6)]),
        "pairs": write("pairs", [(torch.full((2, 2), k), k) for k in range(6)]),
        "frames": write("frames", [small(k) for k in range(9)], compression="zstd", compression_batch_size=3),
        "chunks": write("chunks", [small(k) for k in range(9)], compression="zstd", compression_level="chunk"),
        "samples": write("samples", [small(k) for k in range(9)], compression="zstd", compression_level="sample"),
        "tokens": write("tokens", tokens, TokensLoader(2), chunk_size=None, chunk_bytes=80),
        "rows": write("rows", rows, compression="zstd"),
    }
    (OUT / "expected.json").write_text(json.dumps(to_json(expected)) + "\n")
