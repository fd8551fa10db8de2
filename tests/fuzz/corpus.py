"""The corpus: inputs to begin with, in a folder for each target, and in `broken` all that ever broke the law.

    python -m tests.fuzz.corpus

adds the inputs that are made from the golden datasets and from small pictures. A file is named by its digest.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import zstandard

from recordio.format.checksum import digest
from recordio.format.manifest import Manifest
from recordio.format.narrow import may_be_narrow, narrow_page
from recordio.format.quarantine import DamagedBlocks, Quarantine
from recordio.format.signature import Signature, Statement
from recordio.reader.verify import verify
from tests.faults.forging import SHARD, Anatomy
from tests.faults.samples import coded, every_kind, sample
from tests.fuzz.targets import FIELDS, TARGETS

HERE = Path(__file__).parent / "corpus"
BROKEN = Path(__file__).parent / "broken"
GOLDEN = Path(__file__).parents[1] / "golden"

Input = tuple[str, bytes]  # its folder, and its bytes


def stored(inputs: str, folder: Path = HERE) -> list[bytes]:
    """The inputs in one of the folders, in the order of their names."""
    return [path.read_bytes() for path in sorted((folder / inputs).glob("*"))]


def add(inputs: str, data: bytes, folder: Path = HERE) -> Path:
    """Stores an input, if it is not there."""
    path = folder / inputs / digest([data]).hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def made() -> Iterator[Input]:
    """Inputs for every target."""
    for folder in sorted(path for path in GOLDEN.iterdir() if (path / "manifest.json").is_file()):
        yield from _of_dataset({path.name: path.read_bytes() for path in folder.iterdir()})
        yield "report", json.dumps({"ok": True, **verify(folder).to_json(), "path": "x"}).encode()
    for files in (every_kind(None), coded(8)):
        yield from _of_dataset(files)
    for value in [sample(1)["object"], None, True, -1, 2**64 - 1, 0.5, "añ", b"\xff", [[]], {"a": {"b": [1, {}]}}]:
        yield "object", msgpack.packb(value)
    yield from _pages()
    for name, data in _pictures():
        yield "picture" if name in ("jpeg", "png", "webp") else "foreign_picture", data


def _of_dataset(files: dict[str, bytes]) -> Iterator[Input]:
    found = Manifest.decode(files["manifest.json"])
    yield "manifest", files["manifest.json"]
    yield "schema", json.dumps(found.schema.to_json()).encode()
    damaged = [DamagedBlocks(entry.number, 0, 1, "page checksum mismatch") for entry in found.shards]
    yield "quarantine", Quarantine.of(found, damaged).encode()
    sums = {entry.name: "0" * 64 for entry in found.shards}
    statement = Statement(found.dataset_id.hex(), "2026-11-27T13:50:00Z", "1" * 64, sums)
    yield "signature", Signature(statement.text(), bytes(64)).encode()
    for entry in found.shards:
        data = files[entry.name]
        anatomy = Anatomy(data, len(found.schema))
        yield "header", data[: anatomy.header]
        yield "shard", data
        for start in anatomy.starts[:1]:
            yield "block", data[start : start + anatomy.block_nbytes]


def _pages() -> Iterator[Input]:
    """A page of each of FIELDS, plain, coded and narrow."""
    anatomy = Anatomy(every_kind(None)[SHARD], 9)
    kinds = [Manifest.decode(every_kind(None)["manifest.json"]).schema[name] for name in sample(0)]
    at = anatomy.starts[0] + anatomy.block_nbytes
    contents = {}
    for column, kind in enumerate(kinds):
        nbytes = anatomy.entry(0, column)[0]
        contents[kind] = anatomy.data[at : at + nbytes]
        at += -(-nbytes // 64) * 64
    for number, kind in enumerate(FIELDS):
        content = contents.get(kind)
        if content is None:
            validity = b"\x03" + bytes(63) if kind.optional else b""
            body = bytes(2 * kind.row_nbytes) if kind.row_nbytes is not None else struct.pack("<3Q", 0, 0, 0)
            samples, content = 2, validity + body
        else:
            samples = 3
        yield "page", struct.pack("<BBHI", number, 0, samples, len(content)) + content
        frame = zstandard.compress(content)
        yield "page", struct.pack("<BBHI", number, 1, samples, len(content)) + frame
        narrow = narrow_page(kind, samples, content) if may_be_narrow(kind) else None  # type: ignore[arg-type]
        if narrow is not None:
            yield "page", struct.pack("<BBHI", number, 2, samples, len(content)) + narrow
            yield "page", struct.pack("<BBHI", number, 3, samples, len(content)) + zstandard.compress(narrow)


def _pictures() -> Iterator[Input]:
    """A small picture of every format, with the segments and chunks that are read."""
    from PIL import Image

    grey = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    colours = Image.merge("RGB", [grey, grey.rotate(180), grey])
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = colours.copy()
    clear.putalpha(grey)
    for name, picture, options in (
        ("jpeg", colours, {"exif": exif, "quality": 20}),
        ("jpeg", grey, {"progressive": True, "quality": 20}),
        ("jpeg", colours.convert("CMYK"), {"quality": 20}),
        ("png", clear, {"exif": exif}),
        ("png", grey.convert("P"), {"transparency": 0}),
        ("png", grey, {"save_all": True, "append_images": [grey.rotate(180)]}),
        ("webp", clear, {"lossless": True, "exif": exif}),
        ("webp", colours, {"quality": 20}),
        ("webp", colours, {"save_all": True, "append_images": [clear]}),
        ("gif", grey, {"save_all": True, "append_images": [grey.rotate(180)]}),
        ("bmp", colours, {}),
        ("tiff", colours, {"exif": exif}),
        ("tiff", grey, {"compression": "tiff_lzw"}),
        ("jpeg2000", colours, {}),
        ("ppm", colours, {}),
        ("ico", colours, {}),
        ("icns", colours.resize((16, 16)), {}),
        ("tga", colours, {}),
        ("pcx", grey, {}),
        ("sgi", colours, {}),
        ("xbm", grey.convert("1"), {}),
        ("msp", grey.convert("1"), {}),
        ("dds", colours, {}),
        ("avif", colours, {"quality": 20}),
        ("qoi", colours, {}),
    ):
        out = io.BytesIO()
        picture.save(out, name.upper(), **options)
        yield name, out.getvalue()


def main() -> None:
    for name, data in made():
        add(name, data)
    for name in sorted({target.inputs for target in TARGETS.values()}):
        inputs = stored(name)
        print(f"{name:16} {len(inputs):4} inputs {sum(map(len, inputs)):8} bytes")


if __name__ == "__main__":
    main()
