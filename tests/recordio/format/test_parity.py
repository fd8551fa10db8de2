"""Parity as FORMAT.md says it, read here without the library; what is not so is refused."""

from __future__ import annotations

import json
import os
import runpy
import struct
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest as checksum_of, xxh3_128_digest as digest_of

import recordio
from recordio import CorruptError, RecordIOError, ShardDataset, UnsupportedError, repair, verify
from recordio.format.layout import PARITY_END, PARITY_MAGIC, PARITY_PIECE_NBYTES
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.format.parity import ParityEnd, ParityEntry, ParityHeader
from tests.faults.forging import manifest as forged_manifest
from tests.recordio.salvage.damage import files, numbers, write

TESTS = Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "parity"
MINIMAL = runpy.run_path(str(TESTS.parent / "docs" / "minimal_reader.py"))


def pad(n: int) -> int:
    return -(-n // 64) * 64


def given_back(folder: Path, number: int) -> bytes:
    """A shard by the parity of its group, read as FORMAT.md says it."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["compatible_features"] & 1
    (entry,) = [entry for entry in manifest["parity"]["files"] if number in entry["shards"]]
    data = (folder / f"parity-{entry['number']:05d}.xor").read_bytes()
    magic, version, begin, _, required, dataset_id, own, json_nbytes = struct.unpack("<8sIIQQ16sQQ", data[:64])
    assert (magic, version, required, own) == (b"\x89RIOPAR\n", 1, 0, entry["number"])
    assert dataset_id.hex() == manifest["dataset_id"]
    assert data[begin - 8 : begin] == struct.pack("<Q", checksum_of(data[: begin - 8]))
    shards = json.loads(data[64 : 64 + json_nbytes])["shards"]
    assert shards == [shard for shard in manifest["shards"] if shard["number"] in entry["shards"]]
    end = begin + pad(max(shard["bytes"] for shard in shards))
    pieces = [data[k : min(k + 262144, end)] for k in range(begin, end, 262144)]
    checksums = struct.pack(f"<{len(pieces)}Q", *map(checksum_of, pieces))
    assert data[end : end + len(checksums)] == checksums
    assert len(data) == entry["bytes"] == end + pad(len(checksums) + 32)
    digest, nbytes, checksum = struct.unpack("<16sQQ", data[-32:])
    assert (digest.hex(), nbytes, checksum) == (entry["digest"], len(data), checksum_of(data[end:-8]))
    assert digest == digest_of(data[begin - 8 : begin] + checksums)
    assert not any(data[end + len(checksums) : -32])
    others = [(folder / f"shard-{one:05d}.rio").read_bytes() for one in entry["shards"] if one != number]
    found = reduce(lambda a, b: a ^ b, [int.from_bytes(one, "little") for one in (data[begin:end], *others)])
    nbytes = next(shard["bytes"] for shard in shards if shard["number"] == number)
    return found.to_bytes(end - begin, "little")[:nbytes]


@pytest.mark.parametrize("number", range(3))
def test_a_shard_is_the_xor_of_its_group(number: int) -> None:
    assert given_back(GOLDEN, number) == (GOLDEN / f"shard-{number:05d}.rio").read_bytes()


def test_parity_of_several_pieces(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    write(folder, 30, parity=3, shard_samples=10)
    large = os.urandom(3 << 18)
    with recordio.DatasetWriter(folder, mode="append", shard_samples=10) as writer:
        for n in range(30, 65):
            writer.write({"number": n, "text": "", "bytes": large if n in (31, 64) else None})
    assert verify(folder).ok
    for number in range(7):
        assert given_back(folder, number) == (folder / f"shard-{number:05d}.rio").read_bytes()


def test_a_reader_that_knows_no_parity_passes_over_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "it", 60, parity=2)
    assert [sample["number"] for sample in MINIMAL["read_dataset"](folder)[1]] == list(range(60))
    value = json.loads((folder / FILE_NAME).read_bytes())
    (folder / FILE_NAME).write_bytes(forged_manifest(value | {"compatible_features": 6, "parity": "another's"}))
    assert numbers(folder) == list(range(60))  # the bit is not set: it is a member that is unknown
    assert [sample["number"] for sample in MINIMAL["read_dataset"](folder)[1]] == list(range(60))


def test_nothing_changes_without_parity(tmp_path: Path) -> None:
    plain, guarded = (files(write(tmp_path / name, **given)) for name, given in (("a", {}), ("b", {"parity": 2})))
    assert b"parity" not in plain[FILE_NAME]
    assert b"compatible" not in plain[FILE_NAME]
    assert all(guarded[name] == data for name, data in plain.items() if name != FILE_NAME)


LIES: dict[str, Any] = {
    "no object": [],
    "no group": {"files": []},
    "a group of nothing": {"group": 0, "files": []},
    "no files": {"group": 2},
    "a file of no shards": {"group": 2, "files": [{"shards": []}]},
    "a path": {"number": "../../etc/passwd"},
    "a negative number": {"number": -1},
    "a number too large": {"number": 1 << 70},
    "a path for a shard": {"shards": ["../shard-00000.rio"]},
    "a shard that there is not": {"shards": [0, 1, 77]},
    "a shard twice": {"shards": [0, 0]},
    "a shard that is no number": {"shards": [False, 1.0]},
    "a list of shards": {"shards": [[0]]},
    "a length of nothing": {"bytes": 0},
    "a digest that is none": {"digest": "00"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_about_parity_is_refused(tmp_path: Path, lie: str) -> None:
    folder = write(tmp_path / "it", 60, parity=2)
    value = json.loads((folder / FILE_NAME).read_bytes())
    wrong = LIES[lie]
    if isinstance(wrong, dict) and "group" not in wrong and "files" not in wrong:
        value["parity"]["files"][0] |= wrong
    else:
        value["parity"] = wrong
    (folder / FILE_NAME).write_bytes(forged_manifest(value))
    with pytest.raises(CorruptError, match=r"parity|shard"):
        ShardDataset(folder)
    assert not verify(folder).ok
    report = repair(folder, in_place=True)  # it is made anew of the shards and the parity that are there
    assert report.lost == ()
    assert verify(folder).ok
    assert (
        ShardDataset(folder).store.manifest.parity
        == Manifest.decode((write(tmp_path / "again", 60, parity=2) / FILE_NAME).read_bytes()).parity
    )


HEADERS: dict[str, Any] = {
    "an enormous shard": lambda shards: [shards[0] | {"bytes": 1 << 60}, *shards[1:]],
    "a path": lambda shards: [shards[0] | {"number": "../../x"}, *shards[1:]],
    "no shards": lambda shards: [],
    "a wrong digest": lambda shards: [shards[0] | {"digest": "00" * 16}, *shards[1:]],
    "another shard": lambda shards: [shards[0] | {"number": 2}, *shards[1:]],
    "shards that there are not": lambda shards: [shards[0] | {"number": 1000}, *shards[1:]],
}


def reheaded(data: bytes, change: Any) -> bytes:
    """A file of parity that says something else of its shards, all of its checksums made to fit."""
    begin, nbytes = struct.unpack_from("<I", data, 12)[0], struct.unpack_from("<Q", data, 56)[0]
    body = json.loads(data[64 : 64 + nbytes])
    text = json.dumps({"shards": change(body["shards"])}, separators=(",", ":")).encode()
    size = pad(64 + len(text) + 8)
    head = data[:12] + struct.pack("<I", size) + data[16:56] + struct.pack("<Q", len(text)) + text
    head = head.ljust(size - 8, b"\0")
    head += struct.pack("<Q", checksum_of(head))
    tail = pad(8 * -(-(len(data) - begin - 64) // 262144) + 32)
    checksums = data[-tail:][:8]
    end = data[-tail:-32] + digest_of(head[-8:] + checksums) + struct.pack("<Q", len(data) - begin + size)
    return head + data[begin:-tail] + end + struct.pack("<Q", checksum_of(end))


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("lie", HEADERS)
def test_parity_that_lies_about_its_shards_is_named_and_never_believed(
    tmp_path: Path, lie: str, with_manifest: bool
) -> None:
    folder = write(tmp_path / "it", 60, parity=2)
    path = folder / "parity-00000.xor"
    before, data = files(folder), path.read_bytes()
    assert reheaded(data, lambda shards: shards) == data
    path.write_bytes(reheaded(data, HEADERS[lie]))
    if not with_manifest:
        (folder / FILE_NAME).unlink()
    else:
        assert [problem.place.file for problem in verify(folder).problems] == [path.name]
    report = repair(folder, in_place=True)
    if with_manifest:
        assert (report.lost, files(folder)) == ((), before)
    assert numbers(folder) == list(range(60))
    assert verify(folder).ok


def test_forged_parity_gives_nothing_wrong_back(tmp_path: Path) -> None:
    """Noise under checksums that fit: no block of it proves itself."""
    folder = write(tmp_path / "it", 60, parity=2)
    path = folder / "parity-00000.xor"
    data = path.read_bytes()
    begin = struct.unpack_from("<I", data, 12)[0]
    noise = os.urandom(len(data) - begin - 64)
    end = struct.pack("<Q", checksum_of(noise)) + bytes(24)
    end += digest_of(data[begin - 8 : begin] + end[:8]) + struct.pack("<Q", len(data))
    path.write_bytes(data[:begin] + noise + end + struct.pack("<Q", checksum_of(end)))
    (folder / "shard-00000.rio").unlink()
    report = repair(folder)
    assert [(loss.file, loss.samples) for loss in report.lost] == [("shard-00000.rio", 20)]
    repair(folder, in_place=True)
    assert numbers(folder) == list(range(20, 60))


@pytest.mark.parametrize(
    ("offset", "value", "error"), [(0, b"x", CorruptError), (8, b"\2", UnsupportedError), (24, b"\1", UnsupportedError)]
)
def test_a_header_of_another_kind_is_refused(offset: int, value: bytes, error: type[RecordIOError]) -> None:
    data = bytearray((GOLDEN / "parity-00000.xor").read_bytes())
    data[offset : offset + 1] = value
    with pytest.raises(error):
        ParityHeader.decode(bytes(data))


def test_every_flipped_bit_of_an_end_is_found() -> None:
    good = ParityEnd([1, 2], bytes(16), 4096).encode()
    assert ParityEnd.decode(good, 2) == ([1, 2], bytes(16), 4096)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError, match="parity end"):
            ParityEnd.decode(bytes(bad), 2)


@pytest.mark.parametrize("entry", [None, [], "x", {}, {"shards": None}, {"shards": {}}])
def test_an_entry_without_a_list_of_shards_is_refused(entry: Any) -> None:
    with pytest.raises(CorruptError, match="a list of shards"):
        ParityEntry.from_json(entry)


def test_the_numbers_of_the_format() -> None:
    assert (PARITY_MAGIC, PARITY_PIECE_NBYTES, PARITY_END.size) == (b"\x89RIOPAR\n", 262144, 32)
