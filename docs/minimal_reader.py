"""A reader of recordio datasets on one screen, written from FORMAT.md alone: it knows nothing of the library.

It checks every checksum and digest that it passes. `python docs/minimal_reader.py DATASET` prints one sample a line.
"""

import json
import math
import struct
import sys
from pathlib import Path

import msgpack
import numpy as np
import zstandard
from xxhash import xxh3_64_intdigest as checksum_of, xxh3_128_digest as digest_of

HEADER, BLOCK = struct.Struct("<8sIIQQ16sQQ"), struct.Struct("<8s16sQQQQII")
PAGE, FOOTER = struct.Struct("<QQQII"), struct.Struct("<Q16sQIIQQQQQQQ16s8s8s")
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
MEMBERS = {"scalar": ["dtype"], "array": ["dtype shape"], "image": ["mode", "shape"]}  # of a field, by its type
MEMBERS |= {"text": [""], "bytes": [""], "object": [""]}


def check(condition, what):
    if not condition:
        raise ValueError(f"bad {what}")


def pad(n):
    return -(-n // 64) * 64


def unique(pairs):
    check(len(dict(pairs)) == len(pairs) and all(type(key) is str for key, _ in pairs), "keys")
    return dict(pairs)


def parse_json(text):
    return json.loads(bytes(text), object_pairs_hook=unique, parse_constant=lambda name: check(False, name))


def read_dataset(folder):
    """The metadata, and an iterator of the samples: dicts of numbers, arrays, str, bytes, objects and None."""
    text = Path(folder, "manifest.json").read_bytes()
    check(text[-32:] == b'"checksum": "%016x"}\n' % checksum_of(text[:-32]), "manifest")
    manifest = parse_json(text)
    check([manifest[key] for key in ("format", "version", "required_features")] == ["recordio", 1, 0], "version")
    for field in manifest["schema"]:
        check(" ".join(sorted({*field} - {"name", "type", "optional"})) in MEMBERS[field["type"]], "field")
        check(field.get("dtype", "uint8") in DTYPES, "dtype")
    check(manifest["samples"] == sum(shard["samples"] for shard in manifest["shards"]), "number of samples")
    return manifest["metadata"], (row for shard in manifest["shards"] for row in read_shard(folder, manifest, shard))


def read_shard(folder, manifest, shard):
    schema, identity = manifest["schema"], [bytes.fromhex(manifest["dataset_id"]), shard["number"]]
    data = np.memmap(Path(folder, f"shard-{shard['number']:05d}.rio"), np.uint8, "r").data
    footer = FOOTER.unpack(data[-128:])
    checksum, *who, version, fields, _, required, nbytes, end, index_nbytes, samples, blocks, digest, _, magic = footer
    check([checksum, magic, version, required] == [checksum_of(data[-120:]), b"\x89RIOEND\n", 1, 0], "footer")
    check([who, fields, digest.hex()] == [identity, len(schema), shard["digest"]], "shard")
    check([samples, nbytes, nbytes] == [shard["samples"], shard["bytes"], len(data)], "shard")

    magic, version, at, _, required, *who, json_nbytes = HEADER.unpack(data[:64])
    check([magic, version, required, who] == [b"\x89RIO\r\n\x1a\n", 1, 0, identity], "header")
    check(at == pad(64 + json_nbytes + 8), "header")
    check(data[at - 8 : at] == struct.pack("<Q", checksum_of(data[: at - 8])), "header")
    check(parse_json(data[64 : 64 + json_nbytes])["schema"] == schema, "header")

    index, row = data[end:-128], 16 + 32 * fields
    check(len(index) == index_nbytes == pad(blocks * row), "index")
    check(digest == digest_of(bytes(data[at - 8 : at]) + bytes(index)), "digest")
    runs = [samples for samples, blocks in shard["blocks"] for _ in range(blocks)]
    check(len(runs) == blocks and sum(runs) == samples, "blocks")
    first = 0
    for number, samples in enumerate(runs):
        header, entries = data[at : at + pad(48 + row + 8)], index[number * row + 16 : (number + 1) * row]
        start = BLOCK.pack(b"\x89RIOBLK\n", *identity, number, at, first, samples, fields)
        checksum = checksum_of(header[:-8])
        check(header[: 48 + row] == start + bytes(entries), "block header")
        check(header[-8:] == struct.pack("<Q", checksum), "block header")
        check(struct.unpack_from("<QQ", index, number * row) == (samples, checksum), "index")
        at, first, columns = at + len(header), first + samples, []
        for field, (stored_nbytes, nbytes, checksum, codec, reserved) in zip(schema, PAGE.iter_unpack(entries)):
            page, at = data[at : at + pad(stored_nbytes)], at + pad(stored_nbytes)
            check(checksum == checksum_of(page) and reserved == 0, "page")
            columns.append(read_page(field, samples, decoded(page[:stored_nbytes], nbytes, codec, field, samples)))
        yield from (dict(zip((field["name"] for field in schema), values)) for values in zip(*columns))
    check(at == end, "index")


def decoded(stored, nbytes, codec, field, samples):
    if codec in (1, 3):
        frame = zstandard.get_frame_parameters(stored)
        size = nbytes if codec == 1 else min(frame.content_size, nbytes + 8)
        check(frame.content_size == size <= 268435456 and frame.window_size <= max(size, 1024), "page")
        zstd = zstandard.ZstdDecompressor().decompressobj()
        stored = memoryview(zstd.decompress(stored))
        check(zstd.eof and not zstd.unused_data, "page")
    if codec in (2, 3):
        stored = widened(stored, nbytes, field, samples)
    check(codec in (0, 1, 2, 3) and len(stored) == nbytes, "page")
    return stored


def widened(stored, nbytes, field, samples):
    """The content of a narrow page: integers as distances of 1, 2 or 4 bytes from the base at its end."""
    check(field["type"] in ("scalar", "array") and None not in field.get("shape", []), "narrow page")
    dtype, start = np.dtype(field["dtype"]).newbyteorder("<"), pad(-(-samples // 8)) * bool(field.get("optional"))
    count = samples * math.prod(field.get("shape", []))
    check(dtype.kind in "iu" and nbytes == start + count * dtype.itemsize <= 268435456 and count, "narrow page")
    width = [w for w in (1, 2, 4) if w < dtype.itemsize and len(stored) == start + count * w + dtype.itemsize]
    check(len(width) == 1, "narrow page")
    distances = np.frombuffer(stored, f"<u{width[0]}", count, start).astype(dtype)
    base = np.frombuffer(stored, dtype, 1, len(stored) - dtype.itemsize)
    return memoryview(bytes(stored[:start]) + (distances + base).tobytes())


def read_page(field, samples, content):
    """The values of one field for the samples of one block; None where there is none."""
    present = [True] * samples
    if field.get("optional"):
        present = np.unpackbits(np.frombuffer(content, np.uint8, -(-samples // 8)), bitorder="little")
        content = content[pad(-(-samples // 8)) :]
    shape = field.get("shape", [] if field["type"] == "scalar" else [None])
    if None in shape:
        offsets, content = struct.unpack_from(f"<{samples + 1}Q", content), content[8 * (samples + 1) :]
    else:
        nbytes = math.prod(shape) * np.dtype(field.get("dtype", "uint8")).itemsize
        offsets = [k * nbytes for k in range(samples + 1)]
    check(offsets[0] == 0 and offsets[-1] == len(content) and sorted(offsets) == [*offsets], "offsets")
    for k in range(samples):
        yield read_value(field, content[offsets[k] : offsets[k + 1]]) if present[k] else None


def read_value(field, raw):
    if "shape" in field or "dtype" in field:
        dtype, shape = np.dtype(field.get("dtype", "uint8")).newbyteorder("<"), field.get("shape", [])
        dims = list(struct.unpack_from(f"<{shape.count(None)}Q", raw))
        raw, shape = raw[8 * len(dims) :], [dims.pop(0) if n is None else n for n in shape]
        check(len(raw) == math.prod(shape) * dtype.itemsize and math.prod(n or 1 for n in shape) <= 1 << 38, "value")
        return np.ndarray(shape, dtype, raw) if "shape" in field else np.frombuffer(raw, dtype).item()
    if field["type"] == "text":
        return str(raw, "utf-8")
    if field["type"] == "object":
        return msgpack.unpackb(raw, object_pairs_hook=unique, max_ext_len=0, ext_hook=lambda *_: check(False, "object"))
    return bytes(raw)


if __name__ == "__main__":
    for sample in read_dataset(sys.argv[1])[1]:
        print(sample)
