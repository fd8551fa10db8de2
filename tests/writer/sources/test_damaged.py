"""Damaged input: every source parses, or raises a SourceError, and nothing else."""

from __future__ import annotations

import gzip
import io
import pickle
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


def of_zeros(path: Path, nbytes: int, member: bytes | None = None) -> None:
    """A packed file of zeros: idx images, or a member of a zip archive."""
    if member is None:
        path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, nbytes, 1, 1) + bytes(nbytes)))
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member + bytes(nbytes))


def test_a_packed_array_of_zeros_is_refused_where_it_becomes_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (1 << 22,)})
    of_zeros(tmp_path / "a.npz", 1 << 22, out.getvalue())
    of_zeros(tmp_path / "train-images-idx3-ubyte.gz", 1 << 22)
    for name in ("a.npz", "train-images-idx3-ubyte.gz"):
        assert len(open_source(tmp_path / name)) == 1 << 22
    monkeypatch.setattr("recordio.writer.sources.archives.compression._FREE", 1 << 20)
    for name in ("a.npz", "train-images-idx3-ubyte.gz"):
        with pytest.raises(SourceError, match=r"unpacks to more than 250 times its size.*unpack it.*" + name):
            open_source(tmp_path / name)


def npz_of(method: int) -> bytearray:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.npy", npy())
    return bytearray(out.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_npz_packed_as_numpy_packs_none_is_refused(tmp_path: Path, method: int) -> None:
    data = npz_of(method)
    data[39:60] = b"\xff" * 21
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(SourceError, match="compressed in a way that is not read"):
        open_source(tmp_path / "a.npz")


def test_text_of_code_points_that_do_not_exist_is_an_error_of_the_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([65, 0x110000, 66], "<u4").view("<U1"))
    found = [item for _, item in open_source(tmp_path / "a.npy").read(range(3))]
    assert [isinstance(item, SourceError) for item in found] == [False, True, False]


def test_npz_is_read_alike_in_another_process(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(5), y=np.asfortranarray(np.ones((5, 2))), z=np.zeros((5, 0)))
    source = open_source(tmp_path / "a.npz")
    again = pickle.loads(pickle.dumps(source))
    for one in (source, again):
        sample = one.sample(3)
        assert sample["x"] == 3
        assert sample["y"].tolist() == [1.0, 1.0]
        assert sample["z"].shape == (0,)
