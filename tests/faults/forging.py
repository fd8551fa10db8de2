"""Forges datasets: arbitrary bytes with correct checksums.

Written from FORMAT.md alone, without the library's encoders, so that a check missing on both sides is noticed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

ID = bytes(range(16))
HEADER = struct.Struct("<8sIIQQ16sQQ")
BLOCK = struct.Struct("<8s16sQQQQII")
ENTRY = struct.Struct("<QQQII")
FOOTER = struct.Struct("<16sQIIQQQQQQQ16s8s8s")
SHARD = "shard-00000.rio"
MANIFEST = "manifest.json"

Files = dict[str, bytes]


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 64)


def seal(data: bytes) -> bytes:
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(data))


class Page(NamedTuple):
    """Stored bytes, claimed decoded length, and codec."""

    stored: bytes
    nbytes: int
    codec: int = 0


class Block(NamedTuple):
    samples: int
    pages: Sequence[Page]


def plain(content: bytes) -> Page:
    return Page(content, len(content))


def variable(*values: bytes) -> Page:
    """A plain page of a variable field."""
    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(value))
    return plain(struct.pack(f"<{len(ends)}Q", *ends) + b"".join(values))


def header(text: bytes, number: int = 0) -> bytes:
    body = pad(HEADER.pack(b"\x89RIO\r\n\x1a\n", 1, 0, 0, 0, ID, number, len(text)) + text + bytes(8))[:-8]
    body = body[:12] + struct.pack("<I", len(body) + 8) + body[16:]
    return body + seal(body)


def shard(text: bytes, fields: int, blocks: Sequence[Block], number: int = 0) -> tuple[bytes, dict[str, Any]]:
    """A shard file whose header holds `text`, and its manifest entry."""
    head = header(text, number)
    out, rows, first = bytearray(head), b"", 0
    for position, (samples, pages) in enumerate(blocks):
        entries = b"".join(
            ENTRY.pack(len(p.stored), p.nbytes, xxhash.xxh3_64_intdigest(pad(p.stored)), p.codec, 0) for p in pages
        )
        block = BLOCK.pack(b"\x89RIOBLK\n", ID, number, position, len(out), first, samples, fields)
        block = pad(block + entries + bytes(8))[:-8]
        out += block + seal(block) + b"".join(pad(p.stored) for p in pages)
        rows += struct.pack("<Q", samples) + seal(block) + entries
        first += samples
    index = pad(rows)
    end = len(out) + len(index) + 128
    digest = xxhash.xxh3_128_digest(head[-8:] + index)
    tail = FOOTER.pack(
        ID, number, 1, fields, 0, 0, end, len(out), len(index), first, len(blocks), digest, bytes(8), b"\x89RIOEND\n"
    )
    entry = {
        "number": number,
        "bytes": end,
        "samples": first,
        "content_bytes": sum(page.nbytes for block in blocks for page in block.pages),
        "digest": digest.hex(),
        "blocks": [[block.samples, 1] for block in blocks],
    }
    return bytes(out) + index + seal(tail) + tail, entry


def seal_manifest(body: bytes) -> bytes:
    """A whole manifest from its JSON object without the closing brace."""
    body = body.rstrip() + b",\n"
    return body + b'"checksum": "%016x"}\n' % xxhash.xxh3_64_intdigest(body)


def manifest(value: Mapping[str, Any]) -> bytes:
    text = json.dumps({k: v for k, v in value.items() if k != "checksum"}, ensure_ascii=True)
    return seal_manifest(text[:-1].encode())


def manifest_value(schema: Any, *entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": "recordio",
        "version": 1,
        "required_features": 0,
        "dataset_id": ID.hex(),
        "samples": sum(entry["samples"] for entry in entries),
        "schema": schema,
        "metadata": {},
        "shards": list(entries),
    }


def forge(schema: Any, blocks: Sequence[Block], /, **entry: Any) -> Files:
    """A dataset of one shard; `entry` overrides members of its manifest entry."""
    text = json.dumps({"metadata": {}, "schema": schema}).encode()
    data, honest = shard(text, len(schema), blocks)
    return {MANIFEST: manifest(manifest_value(schema, honest | entry)), SHARD: data}


def one_value(field: Mapping[str, Any], value: bytes) -> Files:
    """A dataset of one sample with one variable field, whose value is any bytes."""
    return forge([{"name": "x", **field}], [Block(1, [variable(value)])])


@dataclass(frozen=True)
class Spot:
    """An integer in a shard: its region, name, offset and struct letter."""

    region: str
    name: str
    offset: int
    letter: str

    def patch(self, data: bytearray, value: int) -> None:
        struct.pack_into(
            "<" + self.letter, data, self.offset, value & (0xFFFFFFFF if self.letter == "I" else 2**64 - 1)
        )


class Anatomy:
    """The layout of a good shard, to change integers in it and recompute the checksums."""

    def __init__(self, data: bytes, fields: int) -> None:
        self.data, self.fields = data, fields
        self.header = int(struct.unpack_from("<I", data, 12)[0])
        self.index, self.index_nbytes, _, self.blocks = struct.unpack_from("<4Q", data, len(data) - 64)
        self.footer = len(data) - 128
        self.block_nbytes = -(-(72 + 32 * fields) // 64) * 64
        self.starts: list[int] = []
        at = self.header
        for k in range(self.blocks):
            self.starts.append(at)
            at += self.block_nbytes + sum(-(-self.entry(k, f)[0] // 64) * 64 for f in range(fields))
        assert at == self.index

    def entry(self, block: int, field: int) -> tuple[int, ...]:
        return ENTRY.unpack_from(self.data, self.index + block * (16 + 32 * self.fields) + 16 + 32 * field)

    def spots(self) -> list[Spot]:
        """Every integer of the shard: header, block headers, page entries, index, footer."""
        out = self._run("header", "", 8, "version:I nbytes:I compatible:Q required:Q")
        out += self._run("header", "", 48, "number:Q json_nbytes:Q")
        for k, at in enumerate(self.starts):
            row = self.index + k * (16 + 32 * self.fields)
            out += self._run("block", f"{k} ", at + 24, "shard:Q block:Q offset:Q first:Q samples:I fields:I")
            out += self._run("index", f"{k} ", row, "samples:Q checksum:Q")
            for f in range(self.fields):
                words = "stored_nbytes:Q nbytes:Q checksum:Q codec:I reserved:I"
                out += self._run("block", f"{k} page {f} ", at + 64 + 32 * f, words)
                out += self._run("index", f"{k} page {f} ", row + 16 + 32 * f, words)
        words = "number:Q version:I fields:I compatible:Q required:Q file:Q"
        words += " index_offset:Q index_nbytes:Q samples:Q blocks:Q"
        return out + self._run("footer", "", self.footer + 24, words)

    def _run(self, region: str, prefix: str, at: int, words: str) -> list[Spot]:
        out = []
        for word in words.split():
            name, letter = word.split(":")
            out.append(Spot(region, prefix + name, at, letter))
            at += struct.calcsize("<" + letter)
        return out

    def page_spots(self) -> list[tuple[str, Spot, Spot]]:
        """Each integer of a page entry, with its two copies: in the block header and in the index."""
        spots = {(spot.region, spot.name): spot for spot in self.spots()}
        return [(n, spots["block", n], s) for (r, n), s in spots.items() if r == "index" and "page" in n]

    def sealed(self, *patches: tuple[Spot, int]) -> bytes:
        """The shard with these integers changed and all checksums and digests recomputed."""
        data = bytearray(self.data)

        def stage() -> None:
            for spot, value in patches:
                spot.patch(data, value)

        stage()
        data[self.header - 8 : self.header] = seal(bytes(data[: self.header - 8]))
        for k, at in enumerate(self.starts):
            end, row = at + self.block_nbytes, self.index + k * (16 + 32 * self.fields)
            data[end - 8 : end] = seal(bytes(data[at : end - 8]))
            data[row + 8 : row + 16] = data[end - 8 : end]
        stage()
        digest = xxhash.xxh3_128_digest(
            bytes(data[self.header - 8 : self.header] + data[self.index : self.index + self.index_nbytes])
        )
        data[self.footer + 96 : self.footer + 112] = digest
        stage()
        data[self.footer : self.footer + 8] = seal(bytes(data[self.footer + 8 :]))
        return bytes(data)


def resealed(files: Files, anatomy: Anatomy, *patches: tuple[Spot, int]) -> Files:
    """The dataset with the patched shard, and its new digest in the manifest."""
    data = anatomy.sealed(*patches)
    value = json.loads(files[MANIFEST])
    value["shards"][0]["digest"] = data[-32:-16].hex()
    return files | {SHARD: data, MANIFEST: manifest(value)}
