"""Writes webdataset/ with the library itself, and beside it what the library's decoders make of it.

pip install webdataset==1.0.2 pillow zstandard; python make_webdataset.py
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
import zstandard
from PIL import Image

HERE = Path(__file__).parent / "webdataset"


def picture(shade: int, form: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB" if form == "JPEG" else "L", (6, 4), shade).save(out, form)
    return out.getvalue()


def sample(number: int) -> dict[str, Any]:
    found = {
        "__key__": f"part.d/{number:06d}",
        "jpg": picture(number, "JPEG"),
        "seg.png": picture(number % 3, "PNG"),
        "cls": number % 10,
        "txt": f"picture {number}, ü",
        "json": {"number": number, "list": [1.5, None, "x"]},
        "npy": np.arange(4, dtype=np.int16).reshape(2, 2) * number,
    }
    return found if number % 2 else found | {"wav": b"RIFF" + bytes([number])}


def plain(suffix: str, data: bytes) -> Any:
    decode = wds.autodecode.decoders.get(suffix.rpartition(".")[2], bytes.hex)
    value = decode(data)
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_decoded(path: Path) -> list[dict[str, Any]]:
    """The samples of a file; bytes are in hexadecimal, arrays are lists."""
    return [
        {"key": found["__key__"]} | {key: plain(key, value) for key, value in found.items() if key[:2] != "__"}
        for found in wds.WebDataset(str(path), shardshuffle=False)
    ]


def main() -> None:
    HERE.mkdir(exist_ok=True)
    paths = [HERE / name for name in ("train-000000.tar", "train-000001.tar.gz", "val-000000.tar")]
    for path, numbers in zip(paths, ([0, 1], [2, 3], [4]), strict=True):
        with wds.TarWriter(str(path), mtime=0) as writer:
            for number in numbers:
                writer.write(sample(number))
    expected = {path.name: as_decoded(path) for path in paths}
    expected["val-000000.tar.zst"] = expected.pop("val-000000.tar")
    (HERE / "val-000000.tar.zst").write_bytes(zstandard.compress(paths[2].read_bytes()))
    paths[2].unlink()
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
