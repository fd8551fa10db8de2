"""Mutators that know a format: they take an input apart, change a part of it, and seal the checksums again.

Without them nearly every changed input would end at its first checksum. One in sixteen is left unsealed all the same.
An input that cannot be taken apart is changed blindly.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack
import zstandard

from tests.faults import forging
from tests.faults.forging import Anatomy, Block, Page, Spot
from tests.fuzz.mutations import EDGES, MOST_NBYTES, Change, changed_integer, changed_json

Mutator = Callable[[bytes, Random, Change], bytes]

_SEAL_NBYTES = 32
_UNSEALED = 1 / 16
_MOST_ROWS = 64  # of an index that is taken apart


def _unsealed(rng: Random) -> bool:
    return rng.random() < _UNSEALED


def raw(data: bytes, rng: Random, blind: Change) -> bytes:
    """Of a format without checksums."""
    return blind(data, rng)


def json_text(data: bytes, rng: Random, blind: Change) -> bytes:
    """A text of JSON without checksum."""
    return _changed_text(data, rng, blind, json.dumps)


def _changed_text(data: bytes, rng: Random, blind: Change, dumps: Callable[[Any], str]) -> bytes:
    if rng.random() < 0.7:
        try:
            value = json.loads(data)
            for _ in range(rng.choice((0, 0, 0, 1, 2))):
                value = json.loads(changed_json(value, rng))
            return changed_json(value, rng, dumps).encode("utf-8", "surrogatepass")[:MOST_NBYTES]
        except (ValueError, RecursionError):
            pass
    return blind(data, rng)


def _manifest_text(value: Any) -> str:
    """As the writer lays it out, which is read by another way than other JSON."""
    if not isinstance(value, dict) or not isinstance(value.get("shards"), list):
        return json.dumps(value)
    lines = [f'"{key}": {json.dumps(item)}' for key, item in value.items() if key not in ("shards", "checksum")]
    shards = ",\n".join(map(json.dumps, value["shards"]))
    return "{" + ",\n".join(lines) + f',\n"shards": [\n{shards}]}}'


def sealed_json(data: bytes, rng: Random, blind: Change) -> bytes:
    """A text of JSON that ends in its checksum: a manifest, a quarantine, a signature."""
    if _unsealed(rng):
        return blind(data, rng)
    dumps = _manifest_text if rng.random() < 0.8 else json.dumps
    body = data[:-_SEAL_NBYTES].rstrip(b",\n") + b"}"
    return forging.seal_manifest(_changed_text(body, rng, blind, dumps).removesuffix(b"}"))


def signature(data: bytes, rng: Random, blind: Change) -> bytes:
    """A signature's file, or the statement that is a text in it."""
    try:
        value = json.loads(data)
        if rng.random() < 0.5:
            value["statement"] = changed_json(json.loads(value["statement"]), rng)
            return forging.seal_manifest(json.dumps(value | {"checksum": 0}).split(', "checksum"')[0].encode())
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return sealed_json(data, rng, blind)


def _header_parts(data: bytes) -> tuple[bytes, bytes] | None:
    """The fixed part of a shard's header and its JSON."""
    if len(data) < 72:
        return None
    nbytes = struct.unpack_from("<Q", data, 56)[0]
    return (data[:64], data[64 : 64 + nbytes]) if nbytes <= len(data) - 72 else None


def header(data: bytes, rng: Random, blind: Change) -> bytes:
    """A shard's header: its integers, or its JSON, of whatever length that becomes."""
    parts = _header_parts(data)
    if parts is None or _unsealed(rng):
        return blind(data, rng)
    fixed, text = parts
    if rng.random() < 0.3:
        at, form = rng.choice(((0, "<Q"), (8, "<I"), (12, "<I"), (16, "<Q"), (24, "<Q"), (48, "<Q"), (56, "<Q")))
        out = bytearray(data)
        old = struct.unpack_from(form, out, at)[0]
        struct.pack_into(form, out, at, changed_integer(old, struct.calcsize(form), rng))
        return _sealed_header(bytes(out))
    text = _changed_text(text, rng, blind, json.dumps)
    body = fixed[:56] + struct.pack("<Q", len(text)) + text
    body = forging.pad(body + bytes(8))
    return _sealed_header(body[:12] + struct.pack("<I", len(body)) + body[16:])


def _sealed_header(data: bytes) -> bytes:
    nbytes = min(struct.unpack_from("<I", data, 12)[0], len(data))
    return data[: nbytes - 8] + forging.seal(data[: nbytes - 8]) + data[nbytes:] if nbytes >= 72 else data


def block(data: bytes, rng: Random, blind: Change) -> bytes:
    """A block's header."""
    out = bytearray(data if rng.random() < 0.5 else blind(data, rng))
    if len(out) < 64 or _unsealed(rng):
        return blind(data, rng)
    for at, form in ((56, "<I"), (60, "<I"), (24, "<Q"), (32, "<Q"), (40, "<Q"), (48, "<Q")):
        if rng.random() < 0.2:
            old = struct.unpack_from(form, out, at)[0]
            struct.pack_into(form, out, at, changed_integer(old, struct.calcsize(form), rng))
    end = -(-(72 + 32 * struct.unpack_from("<I", out, 60)[0]) // 64) * 64
    if end <= MOST_NBYTES:
        out += bytes(max(0, end - len(out)))
        out[end - 8 : end] = forging.seal(bytes(out[: end - 8]))
    return bytes(out)


def page(data: bytes, rng: Random, blind: Change) -> bytes:
    """An input of the target `page`: of a coded page the content, of a variable one an offset, or any byte."""
    if len(data) < 8 or rng.random() < 0.2:
        return blind(data, rng)
    kind, codec, samples, nbytes = struct.unpack_from("<BBHI", data)
    stored = data[8:]
    if codec in (1, 3):
        stored, content_nbytes = _changed_frame(stored, nbytes, rng, blind)
        nbytes = content_nbytes if codec == 1 else nbytes
    elif codec == 2:
        stored = blind(stored, rng)
        if rng.random() < 0.2:
            stored, codec = zstandard.compress(stored, rng.choice((1, 19))), 3
    else:
        stored = _changed_offsets(stored, samples, rng) if rng.random() < 0.4 else blind(stored, rng)
        nbytes = len(stored)
        if rng.random() < 0.1 and stored:
            stored, codec = zstandard.compress(stored, rng.choice((1, 19))), 1
    if rng.random() < 0.15:
        kind = rng.randrange(256)
    if rng.random() < 0.1:
        samples = max(0, samples + rng.choice((-1, 1, 8, 64))) & 0xFFFF
    return struct.pack("<BBHI", kind, codec, samples, nbytes & 0xFFFFFFFF) + stored[:MOST_NBYTES]


def _changed_frame(stored: bytes, nbytes: int, rng: Random, blind: Change) -> tuple[bytes, int]:
    if rng.random() < 0.4:
        nbytes = changed_integer(nbytes, 4, rng) if rng.random() < 0.3 else nbytes
        return blind(stored, rng), nbytes
    try:
        if zstandard.frame_content_size(stored) <= MOST_NBYTES:
            content = blind(zstandard.decompress(stored), rng)
            return zstandard.compress(content, rng.choice((1, 3, 19))), len(content)
    except zstandard.ZstdError:
        pass
    return blind(stored, rng), nbytes


def _changed_offsets(stored: bytes, samples: int, rng: Random) -> bytes:
    out, start = bytearray(stored), rng.choice((0, -(-samples // 512) * 64))
    at = start + 8 * rng.randrange(samples + 1)
    if at + 8 <= len(out):
        old = struct.unpack_from("<Q", out, at)[0]
        struct.pack_into("<Q", out, at, changed_integer(old, 8, rng))
    return bytes(out)


def packed_object(data: bytes, rng: Random, blind: Change) -> bytes:
    """A value in msgpack: parts of it changed and packed anew, or its bytes."""
    if rng.random() < 0.3:
        with contextlib.suppress(Exception):  # whatever it raises, it cannot be taken apart
            value = msgpack.unpackb(data, strict_map_key=False, ext_hook=msgpack.ExtType)
            return bytes(msgpack.packb(_changed_object(value, rng)))[:MOST_NBYTES]
    if rng.random() < 0.2:
        heads = (b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xdf\x00\x00\x00\x02", b"\xc7\x01\x05", b"\xd6\xff")
        return (rng.choice(heads) * rng.choice((1, 2, 500, 1100)) + data)[:MOST_NBYTES]
    return blind(data, rng)


def _changed_object(value: Any, rng: Random) -> Any:
    others = [None, True, -1, 0.5, float("nan"), "", "a", b"\xff", [], {}, [value], {"a": value}, {"": value}]
    others += [{"a": value, "b": value}, {1: value}, {b"a": 1}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)]
    if isinstance(value, list) and value and rng.random() < 0.6:
        at = rng.randrange(len(value))
        return [*value[:at], _changed_object(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.6:
        key = rng.choice(list(value))
        return value | {key: _changed_object(value[key], rng)}
    return rng.choice((*others, rng.choice(EDGES)))


def anatomy_of(data: bytes) -> Anatomy | None:
    """The parts of a shard whose parts lie where its footer says."""
    if len(data) < 256:
        return None
    fields, blocks = (
        struct.unpack_from("<I", data, len(data) - 92)[0],
        struct.unpack_from("<Q", data, len(data) - 40)[0],
    )
    if blocks > _MOST_ROWS or not 0 < fields <= 4096 or blocks * (16 + 32 * fields) > len(data):
        return None
    try:
        return Anatomy(data, fields)
    except (AssertionError, struct.error, OverflowError):
        return None


def shard(data: bytes, rng: Random, blind: Change) -> bytes:
    """A shard: its JSON or a page changed and everything built around it anew, or integers of any part of it."""
    anatomy = anatomy_of(data)
    if anatomy is None or _unsealed(rng):
        return blind(data, rng)
    if rng.random() < 0.5:
        return _rebuilt(anatomy, rng, blind)
    if rng.random() < 0.5:
        _, in_block, in_index = rng.choice(anatomy.page_spots() or [("", *_any_two(anatomy, rng))])
        value = _other(data, in_index, rng)
        return anatomy.sealed((in_block, value), (in_index, value))
    spots = rng.sample(anatomy.spots(), rng.choice((1, 1, 2)))
    return anatomy.sealed(*((spot, _other(data, spot, rng)) for spot in spots))


def _any_two(anatomy: Anatomy, rng: Random) -> tuple[Spot, Spot]:
    one, two = rng.sample(anatomy.spots(), 2)
    return one, two


def _other(data: bytes, spot: Spot, rng: Random) -> int:
    size = 4 if spot.letter == "I" else 8
    return changed_integer(int.from_bytes(data[spot.offset : spot.offset + size], "little"), size, rng)


def _rebuilt(anatomy: Anatomy, rng: Random, blind: Change) -> bytes:
    data, fields = anatomy.data, anatomy.fields
    parts = _header_parts(data)
    text = parts[1] if parts else b""
    blocks: list[Block] = []
    for number, start in enumerate(anatomy.starts):
        samples, at, pages = struct.unpack_from("<I", data, start + 56)[0], start + anatomy.block_nbytes, []
        for column in range(fields):
            stored_nbytes, nbytes, _, codec, _ = anatomy.entry(number, column)
            pages.append(Page(data[at : at + stored_nbytes], nbytes, codec))
            at += -(-stored_nbytes // 64) * 64
        blocks.append(Block(samples, pages))
    if not blocks or rng.random() < 0.3:
        text = _changed_text(text, rng, blind, json.dumps)
    else:
        _change_blocks(blocks, rng, blind)
    return forging.shard(text, fields, blocks)[0][: 2 * MOST_NBYTES]


def _change_blocks(blocks: list[Block], rng: Random, blind: Change) -> None:
    where = rng.randrange(len(blocks))
    samples, pages = blocks[where].samples, list(blocks[where].pages)
    if rng.random() < 0.1:
        blocks.insert(where, blocks[where])
        return
    if rng.random() < 0.1:
        samples = min(max(0, samples + rng.choice((-1, 1, 8))), (1 << 32) - 1)
    column = rng.randrange(len(pages))
    changed = page(
        struct.pack("<BBHI", 0, pages[column].codec & 255, samples & 0xFFFF, 0) + pages[column].stored, rng, blind
    )
    if len(changed) >= 8:
        _, codec, _, nbytes = struct.unpack_from("<BBHI", changed)
        pages[column] = Page(changed[8:], nbytes, codec)
    blocks[where] = Block(samples, pages)
