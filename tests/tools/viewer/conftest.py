"""Datasets to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import recordio
from tests.photos import encode, photo

ATTACK = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """90 JPEGs in three classes, with the names of their files, in several blocks."""
    schema = recordio.Schema(
        {"image": recordio.Image(), "label": recordio.Scalar("int64"), "file": recordio.Text(optional=True)}
    )
    metadata = {"classes": ["ant", "bee", "cat"], "conversion": {"names": ["file"]}}
    path = tmp_path / "photos.rio"
    with recordio.DatasetWriter(path, schema, metadata=metadata, block_bytes=1 << 15) as writer:
        for number in range(90):
            label = number // 30
            name = f'{metadata["classes"][label]}/it\'s "{number}".jpg'
            writer.write({"image": encode(photo(120, 160, number)), "label": label, "file": name})
    return path


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Tiny pictures of grey pixels."""
    with recordio.DatasetWriter(
        tmp_path / "digits.rio",
        recordio.Schema({"image": recordio.Image("L", (8, 8, 1)), "label": recordio.Scalar("uint8")}),
        metadata={"classes": [str(k) for k in range(10)]},
    ) as writer:
        for number in range(200):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 1), np.uint8)
            writer.write({"image": pixels, "label": number % 10})
    return tmp_path / "digits.rio"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """HTML in every name and value, and every kind of field."""
    fields = {
        f"image {ATTACK}": recordio.Image("RGBA", (9, 9, 4)),
        "label": recordio.Scalar("int64", optional=True),
        f"text {ATTACK}": recordio.Text(optional=True),
        "tree": recordio.Object(),
        "deep": recordio.Array("uint16", (None, None)),
        "raw": recordio.Bytes(),
    }
    path = tmp_path / "<b>&'\".rio"
    with recordio.DatasetWriter(path, recordio.Schema(fields), metadata={"classes": [ATTACK, 3, None]}) as writer:
        for number in range(20):
            values = [
                np.full((9, 9, 4), number, np.uint8),
                None if number % 5 == 4 else number % 4 - 1,
                None if number % 3 == 0 else ATTACK,
                {ATTACK: [ATTACK, None, {"a": b"x"}]},
                np.arange(20 * (number + 1), dtype="u2").reshape(20, -1),
                b"\x89PNG\r\n\x1a\n" + ATTACK.encode(),
            ]
            writer.write(dict(zip(fields, values, strict=True)))
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Texts in two classes, and numbers beside them."""
    with recordio.DatasetWriter(tmp_path / "texts.rio", metadata={"classes": ["bad", "good"]}) as writer:
        for number in range(3000):
            writer.write(
                {"text": f"Review {number} says: " + "well " * (number % 40), "label": number % 2, "x": number / 7}
            )
    return tmp_path / "texts.rio"


@pytest.fixture
def damaged(photos: Path) -> Path:
    """The photos, with a flipped bit in the page of samples in the middle."""
    (shard,) = photos.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.index(b"\xff\xd8\xff", len(data) // 2) + 99] ^= 1
    shard.write_bytes(data)
    return photos


Write = Callable[..., str]


@pytest.fixture
def page(tmp_path: Path) -> Write:
    """Runs the command and returns the page."""
    from recordio.tools.main import main

    def write(path: Path, *words: object, code: int = 0) -> str:
        output = tmp_path / "page.html"
        assert main(["view", str(path), "--output", str(output), "--overwrite", *map(str, words)]) == code
        return output.read_text("utf-8")

    return write
