"""Damaged input: every source parses, or raises a SourceError, and nothing else."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recordio import RecordIOError, SourceError
from recordio.writer.sources import open_source


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(12.0).reshape(3, 4))
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, x=np.arange(3), y=np.ones((3, 2)))
    return out.getvalue()


IDX = struct.pack(">HBB3I", 0, 8, 3, 3, 2, 2) + bytes(range(12))
WHOLE = {
    "a.csv": b'id,x,s\n1,2.5,"a\nb"\n2,,c\n3,1e5,"q""r"\n',
    "a.tsv": b"id\tx\n1\ttrue\n2\tfalse\n",
    "a.jsonl": b'{"a":1,"b":[1,2],"c":{"d":null}}\n{"a":2.5,"b":[3],"c":"x"}\n',
    "a.npy": npy(),
    "a.npz": npz(),
    "train-images-idx3-ubyte": IDX,
    "train-images-idx3-ubyte.gz": gzip.compress(IDX),
}


def damaged(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(out))
        kind = chance.randrange(3)
        if kind == 0:
            out[at] = chance.choice([0, 255, 10, 34, 44, chance.randrange(256)])
        elif kind == 1 and len(out) > 8:
            del out[at : at + chance.randint(1, 5)]
        else:
            out[at:at] = chance.randbytes(chance.randint(1, 4))
    return bytes(out)


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_file_gives_samples_or_our_error(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    read = refused = 0
    for _ in range(200):
        (tmp_path / name).write_bytes(damaged(WHOLE[name], chance))
        try:
            source = open_source(tmp_path / name)
        except SourceError:
            refused += 1
            continue
        for _, item in source.read(range(len(source))):
            read += 1
            assert isinstance(item, (dict, RecordIOError))
    assert read
    assert refused


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("shape", [(2**40,), (2**62, 4), (-1,), (2**40, 0), (4,)])
def test_oversized_header_claim_allocates_nothing(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    data = out.getvalue() + bytes(24)
    if name == "a.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", data)
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match="the header promises an array of float64"):
        open_source(tmp_path / name)


def test_trailing_elements_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy() * 2)
    with pytest.raises(SourceError, match="promises"):
        open_source(tmp_path / "a.npy")
