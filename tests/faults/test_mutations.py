"""Tests of the checks: with any one removed, some probe goes undetected."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
import xxhash

import recordio.format.block
import recordio.format.codec
import recordio.format.fields
import recordio.format.header
import recordio.format.index
import recordio.format.manifest
import recordio.format.schema
import recordio.format.shard
import recordio.format.strict_json
import recordio.reader.open_dataset
import recordio.reader.open_shard
import recordio.reader.opening
from tests.faults.forging import (
    MANIFEST,
    SHARD,
    Anatomy,
    Block,
    Files,
    Page,
    forge,
    manifest,
    one_value,
    plain,
    resealed,
    seal,
)
from tests.faults.reading import read, told, verify_files
from tests.faults.samples import written
from tests.faults.test_hostile_pages import FRAMES, _offsets, coded

SCHEMA = [{"name": "a", "type": "scalar", "dtype": "uint8"}, {"name": "t", "type": "text"}]
TEXT = plain(_offsets(0, 3, 6))


def good() -> Files:
    return forge(SCHEMA, [Block(2, [plain(b"ab"), TEXT])])


def flip(files: Files, name: str, byte: int) -> Files:
    data = bytearray(files[name])
    data[byte] ^= 1
    return files | {name: bytes(data)}


def _anatomy(files: Files) -> Anatomy:
    return Anatomy(files[SHARD], 2)


def _spot(files: Files, region: str, name: str, value: int) -> Files:
    anatomy = _anatomy(files)
    spot = next(s for s in anatomy.spots() if (s.region, s.name) == (region, name))
    return resealed(files, anatomy, (spot, value))


def _page_at(files: Files) -> int:
    anatomy = _anatomy(files)
    return anatomy.starts[0] + anatomy.block_nbytes


def flipped_index_digest() -> Files:
    """A changed page whose checksum in the index is right: only the digest can tell."""
    files = good()
    data = bytearray(files[SHARD])
    at = _page_at(files)
    data[at] ^= 1
    row = _anatomy(files).index + 16 + 16
    data[row : row + 8] = struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(data[at : at + 64])))
    return files | {SHARD: bytes(data)}


def swapped_shard() -> Files:
    """A good shard with the same length, id and number, but other values and so another digest."""
    return good() | {SHARD: forge(SCHEMA, [Block(2, [plain(b"xy"), TEXT])])[SHARD]}


def edited_manifest() -> Files:
    value = json.loads(good()[MANIFEST])
    return good() | {MANIFEST: manifest(value).replace(b'"metadata": {}', b'"metadata": {"a": 1}')}


def twice_in_json() -> Files:
    body = good()[MANIFEST][:-33].rstrip().rstrip(b",").replace(b'"version": 1', b'"version": 1, "version": 1')
    body += b",\n"
    return good() | {MANIFEST: body + b'"checksum": "%016x"}\n' % struct.unpack("<Q", seal(body))}


def same_number_twice() -> Files:
    value = json.loads(good()[MANIFEST])
    return good() | {MANIFEST: manifest(value | {"shards": value["shards"] * 2, "samples": 4})}


PROBES: dict[str, Callable[[], Files]] = {
    "a flipped bit of a page": lambda: flip(good(), SHARD, _page_at(good())),
    "a flipped bit of padding": lambda: flip(good(), SHARD, _page_at(good()) + 40),
    "a flipped bit of the footer": lambda: flip(good(), SHARD, len(good()[SHARD]) - 15),
    "a flipped bit of the header": lambda: flip(good(), SHARD, 16),
    "a page and its checksum changed": flipped_index_digest,
    "another shard": swapped_shard,
    "an edited manifest": edited_manifest,
    "a key twice": twice_in_json,
    "a shard twice": same_number_twice,
    "offsets past the page": lambda: forge(SCHEMA, [Block(2, [plain(b"ab"), plain(_offsets(0, 7, 6))])]),
    "coded offsets past the page": lambda: forge(
        SCHEMA, [Block(2, [plain(b"ab"), Page(recordio.format.codec.zstandard.compress(_offsets(0, 7, 6)), 30, 1)])]
    ),
    "a skippable frame": lambda: coded(FRAMES["a skippable frame before a good one"]),
    "a window of 1 MiB": lambda: coded(FRAMES["a window of 1 MiB"]),
    "a page too short": lambda: forge(SCHEMA, [Block(2, [plain(b"a"), TEXT])]),
    "an unknown codec": lambda: _spot(good(), "index", "0 page 0 codec", 7),
    "a wrong count of samples": lambda: _spot(good(), "index", "0 samples", 1),
    "the manifest's runs": lambda: forge(SCHEMA, [Block(2, [plain(b"ab"), TEXT])], blocks=[[1, 2]]),
    "the manifest's content": lambda: forge(SCHEMA, [Block(2, [plain(b"ab"), TEXT])], content_bytes=1),
    "a timestamp": lambda: one_value({"type": "object"}, b"\xd6\xff\0\0\0\0"),
    "a bytes key": lambda: one_value({"type": "object"}, b"\x81\xc4\x01a\x01"),
    "a key of an object twice": lambda: one_value({"type": "object"}, b"\x82\xa1a\x01\xa1a\x01"),
    "text": lambda: one_value({"type": "text"}, b"\xff"),
}


def untold() -> set[str]:
    """The probes that some way of reading does not detect."""
    out = set()
    for name, make in PROBES.items():
        files = make()
        if told(files, ["take", "DataLoader"]):
            out.add(name)
    return out


class _Equal:
    """Equal to everything: a comparison with it always passes."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def hex(self) -> str:
        return ""


def nothing(*_: Any, **__: Any) -> None:
    return None


MUTATIONS: dict[str, tuple[Any, str, Any]] = {
    "no page checksums": (recordio.reader.open_shard, "require", nothing),
    "no footer checksums": (recordio.format.shard, "require", nothing),
    "no header checksums": (recordio.format.header, "require", nothing),
    "no manifest checksum": (recordio.format.manifest, "check_seal", nothing),
    "no shard digest": (recordio.format.index, "shard_digest", lambda *_: _Equal()),
    "no check of pages": (recordio.reader.open_shard, "check_page", nothing),
    "no check of frames": (recordio.format.codec, "_check_frame", nothing),
    "no check of the index's pages": (recordio.format.index, "check_pages", nothing),
    "no check for keys that stand twice": (recordio.format.strict_json, "_object", dict),
    "no check for an object's keys": (recordio.format.fields, "_members", dict),
}


def test_every_probe_is_detected() -> None:
    assert untold() == set()
    assert {kind for kind, _ in read(good()).values()} == {"data"}
    assert verify_files(good()).ok


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_removing_a_check_lets_a_probe_pass(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, replacement = MUTATIONS[mutation]
    monkeypatch.setattr(module, name, replacement)
    assert untold()


def overlapping() -> Files:
    """Three coded pages; the second's size wraps around 2^64, so that together they still fill the shard."""
    frames = [recordio.format.codec.zstandard.compress(data) for data in (b"a", b"b", b"c")]
    schema = [{"name": name, "type": "scalar", "dtype": "uint8"} for name in "abc"]
    files = forge(schema, [Block(1, [Page(frame, 1, 1) for frame in frames])])
    anatomy = Anatomy(files[SHARD], 3)
    spots = {spot.name: spot for spot in anatomy.spots() if spot.region == "index"}
    sizes = {"0 page 1 stored_nbytes": 2**64 - 64, "0 page 2 stored_nbytes": 128 + len(frames[2])}
    return resealed(files, anatomy, *((spots[name], value) for name, value in sizes.items()))


def test_removing_the_size_sum_lets_pages_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(overlapping(), fields=["a"]) == []
    monkeypatch.setattr(recordio.format.index, "_check_counts", nothing)
    assert told(overlapping(), fields=["a"]) != []


def test_removing_the_shard_check_opens_a_swapped_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio.reader.opening, "check_shards", lambda *_: [])
    assert "open" not in read(swapped_shard(), ["take"])
    monkeypatch.undo()
    assert list(read(swapped_shard(), ["take"])) == ["open"]


def test_removing_the_footer_check_reads_a_swapped_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(file: Any, entry: Any, dataset_id: bytes) -> Any:
        data = file.read(file.nbytes - 128, 128)
        return recordio.format.shard.Footer.decode(data, file.nbytes)

    monkeypatch.setattr(recordio.storage.dataset_files, "check_footer", lenient)  # when the dataset is opened
    monkeypatch.setattr(recordio.storage.shard_files, "check_footer", lenient)  # when the shard is
    kind, value = read(swapped_shard(), ["take"])["take"]
    assert kind == "data"
    assert value != read(good(), ["take"])["take"][1]


def test_forger_and_writer_agree() -> None:
    """The same samples, forged and written, read alike."""
    files = written(
        [{"a": 97, "t": "abc"}, {"a": 98, "t": "def"}], {"a": recordio.Scalar("uint8"), "t": recordio.Text()}
    )
    assert read(files) == read(good())
