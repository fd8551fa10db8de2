"""What is fuzzed: for each target how its input is decoded, how it is changed, and what it is begun with.

A target returns, or raises a RecordIOError. What decodes in several ways has to give the same in each of them, and in
`docs/minimal_reader.py`: a difference is raised as `Disagreement`.
"""

from __future__ import annotations

import json
import runpy
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import recordio
from recordio.errors import CorruptError, RecordIOError
from recordio.format import codec, strict_json
from recordio.format.block import BlockHeader
from recordio.format.coded import decode_page
from recordio.format.fields import Field, Object
from recordio.format.index import Index, check_pages
from recordio.format.layout import FOOTER, MAX_BLOCK_SAMPLES, PAGE_DTYPE, index_dtype
from recordio.format.manifest import Manifest
from recordio.format.page import VariablePages, check_page, least_nbytes, pages
from recordio.format.quarantine import Quarantine
from recordio.format.rows import read_row
from recordio.format.schema import Schema
from recordio.format.shard import Footer, ShardHeader
from recordio.format.signature import Signature, Statement
from recordio.images.formats import HEAD_NBYTES, sniff
from recordio.images.header import read_header
from recordio.images.traits import header_and_traits, read_traits
from recordio.reader.ragged_column import gathered
from recordio.reader.value_checks import check_values
from recordio.reader.verify_report import proofs_of
from recordio.salvage.survey import survey
from recordio.statistics.records import Statistics
from recordio.storage.memory import MemoryStorage
from tests.faults import forging
from tests.faults.reading import frozen, open_files, verify_files
from tests.fuzz import mutators

MINIMAL = runpy.run_path(str(Path(__file__).parents[2] / "docs/minimal_reader.py"))
SHARD_NAME = "shard-00000.rio"

FIELDS: tuple[Field, ...] = (
    recordio.Scalar("int16"),
    recordio.Scalar("float32", optional=True),
    recordio.Scalar("bool"),
    recordio.Scalar("complex64"),
    recordio.Array("uint8", (3,)),
    recordio.Array("float64", (2, 2), optional=True),
    recordio.Array("int16", (0, 5)),
    recordio.Array("int16", (None, 2)),
    recordio.Array("float16", (None, 0, None), optional=True),
    recordio.Text(),
    recordio.Text(optional=True),
    recordio.Bytes(optional=True),
    recordio.Object(),
    recordio.Object(optional=True),
    recordio.Image("L"),
    recordio.Image(shape=(2, 2)),
    recordio.Image(shape=(None, None, 3), optional=True),
    recordio.Array("int64", (2,), optional=True),
)
_FEW = 64  # samples that are read one by one
_LITTLE = 1 << 20  # bytes that are decoded in several ways


class Disagreement(Exception):
    """Two ways of reading the same bytes differ."""


def require_same(what: str, one: Any, other: Any) -> None:
    if one != other and repr(one) != repr(other):  # NaN is not itself, but its text is
        raise Disagreement(f"{what}: {one!r:.300} and {other!r:.300}")


def outcome(read: Callable[[], Any]) -> Any:
    """What is read, frozen; None for an error of ours."""
    try:
        return frozen(read())
    except RecordIOError:
        return None


def plainly(read: Callable[[], Any]) -> Any:
    """What the minimal reader reads, frozen; None where it refuses, which it does by whatever Python raises."""
    try:
        return frozen(read())
    except Exception:  # noqa: BLE001
        return None


def manifest(data: bytes) -> None:
    found = Manifest.decode(data)
    body = json.loads(data)
    text = json.dumps({key: value for key, value in body.items() if key != "checksum"})  # as no writer lays it out
    again = Manifest.decode(forging.seal_manifest(text.removesuffix("}").encode("utf-8", "surrogatepass")))
    require_same("shards in another layout", list(found.shards), list(again.shards))
    require_same("what is written of what was read", Manifest.decode(found.encode()), found)
    for entry in found.shards:
        entry.footer(found.dataset_id, len(found.schema)).encode()
    if found.statistics is not None:
        Statistics.from_json(Statistics.from_json(found.statistics).to_json())


def quarantine(data: bytes) -> None:
    found = Quarantine.decode(data)
    require_same("what is written of what was read", Quarantine.decode(found.encode()), found)
    _ = found.digest, [one.file for one in found.damaged]


def signature(data: bytes) -> None:
    found = Signature.decode(data)
    require_same("what is written of what was read", Signature.decode(found.encode()), found)
    Statement.decode(found.statement)


def report(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return  # the command line says so
    proofs_of(value)


def schema(data: bytes) -> None:
    found = Schema.from_json(strict_json.loads(data, "schema"))
    require_same("what is written of what was read", Schema.from_json(found.to_json()), found)
    for kind in found.values():
        if int(least_nbytes(kind, MAX_BLOCK_SAMPLES)) >= 1 << 63:
            raise Disagreement(f"a page of {kind} overflows")


def header(data: bytes) -> None:
    found = ShardHeader.decode(data)
    again = ShardHeader.decode(found.encode())
    require_same("what is written of what was read", again.schema, found.schema)


def block(data: bytes) -> None:
    found = BlockHeader.decode(data)
    again = BlockHeader.decode(found.encode())
    require_same("what is written of what was read", again, found)


def index(data: bytes) -> None:
    footer = Footer.decode(data[-FOOTER.size :], len(data))
    head = ShardHeader.decode(data)
    start = data[: ShardHeader.nbytes(data)]
    found = Index.decode(data[footer.index_offset : -FOOTER.size], footer, start, head.schema)
    require_same("samples", int(found.first[-1]), footer.samples)
    ends = found.page_offsets.max(initial=0), found.block_offsets.max(initial=0)
    if max(ends) > footer.index_offset or found.page_offsets.min(initial=0) < 0:
        raise Disagreement("a page lies outside the shard")


def page(data: bytes) -> None:
    if len(data) < 8:
        return
    number, coded, samples, nbytes = struct.unpack_from("<BBHI", data)
    kind, stored, samples = FIELDS[number % len(FIELDS)], data[8:], max(samples, 1)
    content = _content(kind, samples, stored, nbytes if coded else len(stored), int(coded))
    read = MINIMAL["read_page"]
    found = outcome(lambda: _values(kind, samples, content))
    if samples <= _FEW:
        require_same(str(kind), found, plainly(lambda: list(read({"name": "x", **kind.to_json()}, samples, content))))
    if found is None:
        raise CorruptError("refused")
    check_values(kind, content, samples)


def _content(kind: Field, samples: int, stored: bytes, nbytes: int, coded: int) -> bytes:
    def ours() -> bytes:
        return stored if coded == 0 else codec.decode(stored, nbytes)

    table = np.array([[(len(stored), nbytes, 0, coded, 0)]], PAGE_DTYPE)
    if coded in (codec.Codec.NARROW, codec.Codec.NARROW_ZSTD):
        return _widened(kind, samples, stored, nbytes, table, coded)
    check_pages(table, np.array([1]), Schema({"x": recordio.Bytes()}) if nbytes >= 16 else _EMPTY)
    if coded and nbytes <= _LITTLE:
        target = bytearray(nbytes)
        into = outcome(lambda: codec.decode_into(stored, memoryview(target)) or target)
        require_same("a frame", outcome(lambda: bytearray(ours())), into)
        require_same("a frame", into, plainly(lambda: bytearray(MINIMAL["decoded"](stored, nbytes, coded, {}, 0))))
    return ours()


def _widened(kind: Field, samples: int, stored: bytes, nbytes: int, table: Any, coded: int) -> bytes:
    def ours() -> bytes:
        check_pages(table, np.array([samples]), Schema({"x": kind}))
        return decode_page(coded, kind, samples, memoryview(stored), nbytes)

    json = {"name": "x", **kind.to_json()}
    found = outcome(ours)
    if nbytes <= _LITTLE:
        theirs = plainly(lambda: bytes(MINIMAL["decoded"](stored, nbytes, coded, json, samples)))
        require_same("a narrow page", found, theirs)
    return ours()


_EMPTY = Schema({"x": recordio.Array("int8", (0,))})


def _values(kind: Field, samples: int, content: bytes) -> list[Any]:
    """The values of a page, read in three ways, for the minimal reader to compare."""
    table = np.array([[(len(content), len(content), 0, 0, 0)]], PAGE_DTYPE)
    check_pages(table, np.array([samples]), Schema({"x": kind}))
    check_page(kind, samples, content)
    reader = pages(kind, content, np.zeros(1, np.int64), np.array([samples]))
    rows = np.arange(samples)
    column = outcome(lambda: reader.take(np.zeros(samples, np.int64), rows))
    each = [outcome(lambda r=r: reader.get(0, r)) for r in range(min(samples, _FEW))]
    alone = [outcome(lambda r=r: read_row(kind, _read(content), 0, samples, r)) for r in range(min(samples, _FEW))]
    require_same("a value read alone", each, alone)
    if isinstance(reader, VariablePages) and not isinstance(kind, Object):
        ragged = outcome(lambda: gathered(kind, [(reader, np.zeros(samples, np.int64), rows)], None).to_list())
        if column is not None or not kind.optional:  # a list decodes text under a missing value too
            require_same("a ragged column", ragged, column)
    if samples <= _FEW and (column is None) != (None in each):
        raise Disagreement(f"a column and its values: {column!r:.200} and {each!r:.200}")
    return [_plain(reader.get(0, r)) for r in range(min(samples, _FEW))]


def _read(content: bytes) -> Callable[[int, int], bytes]:
    return lambda at, nbytes: content[at : at + nbytes]


def _plain(value: Any) -> Any:
    """As the minimal reader gives it."""
    return value.item() if isinstance(value, np.generic) else value


def packed_object(data: bytes) -> None:
    found = outcome(lambda: Object().unpack(data))
    require_same("an object", found, plainly(lambda: MINIMAL["read_value"]({"type": "object"}, data)))
    if found is None:
        raise CorruptError("refused")


def picture(data: bytes) -> None:
    sniff(data[:HEAD_NBYTES])
    for name in ("jpeg", "png", "webp"):
        read_traits(data, name)
    require_same("a header", outcome(lambda: read_header(data)), outcome(lambda: header_and_traits(data)[0]))
    read_header(data)


def foreign_picture(data: bytes) -> None:
    """The headers that Pillow reads, of the formats that become PNG."""
    from recordio.images.pillow import depth_of, format_of, lost_bits, opened

    name = format_of(data, "x")
    with opened(data, name) as found:
        depth_of(found, data[: 1 << 16])
        lost_bits(data[: 1 << 16], name)


def of_one_shard(data: bytes) -> forging.Files:
    """A dataset of this shard, whose manifest says what the shard says of itself."""
    if len(data) < 256:
        raise CorruptError("too short for a shard")
    footer = FOOTER.unpack(data[-FOOTER.size :])
    fields, samples, blocks, digest = footer[4], footer[10], footer[11], footer[12]
    if not 0 < fields <= 4096 or blocks * index_dtype(fields).itemsize > len(data) - 128 or footer[2] >= 1 << 62:
        raise CorruptError("no footer of a shard")
    row = index_dtype(fields)
    rows = np.frombuffer(data, row, blocks, min(footer[8], len(data) - blocks * row.itemsize))
    entry = {
        "number": footer[2],
        "bytes": len(data),
        "samples": samples,
        "content_bytes": min(sum(rows["pages"]["nbytes"].ravel().tolist()), (1 << 62) - 1),
        "digest": digest.hex(),
        "blocks": [[row, 1] for row in rows["samples"].tolist()],
    }
    _, _, text = ShardHeader.decode_fixed(data)
    declared = json.loads(text)["schema"] if _is_object(text) else None
    value = forging.manifest_value(declared, entry) | {"dataset_id": footer[1].hex()}
    return {forging.MANIFEST: forging.manifest(value), f"shard-{footer[2]:05d}.rio": data}


def _is_object(text: bytes) -> bool:
    found = strict_json.loads(text, "header")
    return isinstance(found, dict) and "schema" in found


def shard(data: bytes) -> None:
    files = of_one_shard(data)
    proven = outcome(lambda: verify_files(files).ok) == [("bool", True)]
    dataset = open_files(files, decode=None)
    few = range(min(len(dataset), _FEW))
    batch = outcome(lambda: dataset.take(few))
    each = outcome(lambda: [dataset[k] for k in few])
    require_same("whether a batch and its samples are read", batch is None, each is None)
    if proven and each is None:
        raise Disagreement("verify takes what reading refuses")
    if len(dataset) > _FEW:
        return
    plain = _minimal(files)
    # Reading leaves it to verify to compare block headers with the index, and the minimal reader most limits to us.
    if proven or (plain is not None and outcome(lambda: ShardHeader.decode(data)) is not None):
        require_same("the minimal reader", outcome(lambda: _as_plain(dataset)), plain)


def _as_plain(dataset: Any) -> Any:
    return [{name: _plain(value) for name, value in dataset[k].items()} for k in range(len(dataset))]


def _minimal(files: forging.Files) -> Any:
    with TemporaryDirectory(dir=_scratch()) as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        return plainly(lambda: list(MINIMAL["read_dataset"](folder)[1]))


@cache
def _scratch() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def salvage(data: bytes) -> None:
    """A shard without a manifest, as `repair` looks at it."""
    survey(MemoryStorage({SHARD_NAME: data}), "in memory", None, "full", None)


@dataclass(frozen=True)
class Target:
    """Attributes:
    read: decodes an input.
    change: how an input becomes another.
    inputs: the folder of the corpus with its inputs.
    """

    read: Callable[[bytes], None]
    change: mutators.Mutator
    inputs: str


TARGETS = {
    "manifest": Target(manifest, mutators.sealed_json, "manifest"),
    "quarantine": Target(quarantine, mutators.sealed_json, "quarantine"),
    "signature": Target(signature, mutators.signature, "signature"),
    "report": Target(report, mutators.json_text, "report"),
    "schema": Target(schema, mutators.json_text, "schema"),
    "header": Target(header, mutators.header, "header"),
    "index": Target(index, mutators.shard, "shard"),
    "block": Target(block, mutators.block, "block"),
    "page": Target(page, mutators.page, "page"),
    "object": Target(packed_object, mutators.packed_object, "object"),
    "picture": Target(picture, mutators.raw, "picture"),
    "foreign_picture": Target(foreign_picture, mutators.raw, "foreign_picture"),
    "shard": Target(shard, mutators.shard, "shard"),
    "salvage": Target(salvage, mutators.shard, "shard"),
}
