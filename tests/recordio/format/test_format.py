"""FORMAT.md is executable: its tables match the code, and its example is read and reproduced."""

from __future__ import annotations

import json
import re
import runpy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, Bytes, DatasetWriter, Image, Object, Scalar, SchemaError, ShardDataset, Text, verify
from recordio.format import layout
from recordio.format.block import BlockHeader
from recordio.format.codec import Codec
from recordio.format.fields import Field
from recordio.format.manifest import Manifest
from recordio.format.numeric import numeric_dtype
from recordio.format.schema import TYPES
from recordio.format.shard import Footer, ShardHeader

TOP = Path(__file__).parents[3]
SPEC = (TOP / "FORMAT.md").read_text("utf-8")
MINIMAL = runpy.run_path(str(TOP / "docs" / "minimal_reader.py"))

SCHEMA = {"label": Scalar("int16"), "name": Text(optional=True)}
SAMPLES: list[dict[str, Any]] = [{"label": 7, "name": "ab"}, {"label": -1, "name": None}]
LETTERS = {"u32": "I", "u64": "Q", "8 bytes": "8s", "16 bytes": "16s", "32 bytes each": "32s"}

Row = dict[str, str]


def section(heading: str) -> str:
    """The text under a heading, up to the next one."""
    found: str = re.split(r"^## ", SPEC.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.M)[0]
    return found


def tables(heading: str) -> list[list[Row]]:
    """The tables under a heading, each a list of rows by the names of the columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", section(heading), re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def ticked(text: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([^`]*)`", text)


def hex_bytes(text: str) -> bytes:
    """The bytes of a listing `offset  bytes  | comment`, in which `*` stands for more lines like the one before it."""
    out, last, repeat = bytearray(), b"", False
    for line in text.splitlines():
        if line == "*":
            repeat = True
            continue
        offset, data = int(line[:4], 16), bytes.fromhex(line[4:].partition("|")[0])
        if repeat:
            assert not any(last), f"{line[:4]}: `*` follows bytes that are not zero"
            out += last * ((offset - len(out)) // len(last))
        assert (len(out), len(data)) == (offset, 16), f"{line[:4]} does not follow what stands before it"
        out, last, repeat = out + data, data, False
    return bytes(out)


def example(language: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", section("Example"), re.M | re.S)
    return found[0]


SHARD = hex_bytes(example("hex"))
MANIFEST = example("json").encode()
(HEADER,), (INDEX,), (FOOTER,) = map(tables, ("Header", "Index", "Footer"))
BLOCK_HEADER, PAGE_ENTRY = tables("Block header")
STRUCTS = {
    "header": (HEADER, layout.HEADER),
    "block header": (BLOCK_HEADER, layout.BLOCK_HEADER),
    "page entry": (PAGE_ENTRY, layout.PAGE_ENTRY),
    "footer": (FOOTER, layout.FOOTER),
}


def by_table(table: list[Row], data: bytes) -> dict[str, Any]:
    """Unpacks the bytes by the table."""
    return {row["name"]: struct.unpack_from("<" + LETTERS[row["type"]], data, int(row["offset"]))[0] for row in table}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The example as a dataset."""
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "shard-00000.rio").write_bytes(SHARD)
    (tmp_path / "example" / "manifest.json").write_bytes(MANIFEST)
    return tmp_path / "example"


# the example


def test_library_reads_the_example(dataset: Path) -> None:
    read = ShardDataset(dataset)
    assert (list(read), read.metadata) == (SAMPLES, {"by": "hand"})
    assert {name: read.schema[name] for name in read.schema} == SCHEMA
    assert verify(dataset).ok


def test_minimal_reader_reads_the_example(dataset: Path) -> None:
    metadata, samples = MINIMAL["read_dataset"](dataset)
    assert (list(samples), metadata) == (SAMPLES, {"by": "hand"})


def test_example_states_its_samples() -> None:
    assert [json.loads(text) for text in ticked(section("Example"))[:2]] == SAMPLES


def test_writer_reproduces_the_example(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "new", SCHEMA, compression=None, metadata={"by": "hand"}) as writer:
        for sample in SAMPLES:
            writer.write(sample)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"manifest.json", "shard-00000.rio"}
    assert (tmp_path / "new" / "shard-00000.rio").read_bytes() == SHARD
    assert (tmp_path / "new" / "manifest.json").read_bytes() == MANIFEST


def refused(folder: Path) -> bool:
    try:
        list(MINIMAL["read_dataset"](folder)[1])
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("file", ["shard-00000.rio", "manifest.json"])
def test_every_byte_of_the_example_is_covered_by_a_checksum(dataset: Path, file: str) -> None:
    good = (dataset / file).read_bytes()
    unseen = []
    for at in range(len(good)):
        (dataset / file).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        if not refused(dataset) or verify(dataset).ok:
            unseen.append(at)
    assert unseen == []


def test_manifest_ends_in_32_bytes_of_checksum() -> None:
    body = MANIFEST[:-32]
    assert MANIFEST[-32:] == f'"checksum": "{MINIMAL["checksum_of"](body):016x}"}}\n'.encode()


# the tables


@pytest.mark.parametrize("name", STRUCTS)
def test_tables_match_struct_types_and_offsets(name: str) -> None:
    table, code = STRUCTS[name]
    letters = [LETTERS[row["type"]] for row in table]
    assert "<" + "".join(letters) == code.format
    assert [int(row["offset"]) for row in table] == [
        struct.calcsize("<" + "".join(letters[:i])) for i in range(len(letters))
    ]


@pytest.mark.parametrize(
    ("table", "dtype"), [(PAGE_ENTRY, layout.PAGE_DTYPE), (INDEX, layout.index_dtype(1))], ids=["page entry", "index"]
)
def test_tables_match_dtype_names_and_offsets(table: list[Row], dtype: np.dtype[Any]) -> None:
    assert tuple(row["name"] for row in table) == dtype.names
    assert [int(row["offset"]) for row in table] == [dtype.fields[name][1] for name in dtype.names]  # type: ignore[index]
    assert [struct.calcsize(LETTERS[row["type"]]) for row in table] == [dtype[name].itemsize for name in dtype.names]


def test_shard_header_matches_its_table() -> None:
    found, header = by_table(HEADER, SHARD), ShardHeader.decode(SHARD)
    assert (found["dataset_id"], found["shard_number"]) == (header.dataset_id, header.number)
    assert (found["version"], found["header_nbytes"]) == (layout.VERSION, ShardHeader.nbytes(SHARD))
    assert (found["compatible_features"], found["required_features"]) == (0, 0)
    assert json.loads(SHARD[64 : 64 + found["json_nbytes"]]) == {
        "metadata": header.metadata,
        "schema": header.schema.to_json(),
    }


def test_block_header_matches_its_table() -> None:
    start = by_table(HEADER, SHARD)["header_nbytes"]
    found, block = by_table(BLOCK_HEADER, SHARD[start:]), BlockHeader.decode(SHARD[start:])
    place = (block.dataset_id, block.shard, block.block, start)
    assert tuple(found.values()) == (layout.BLOCK_MAGIC, *place, block.first, block.samples, len(block.pages))
    for number, page in enumerate(block.pages):
        entry = by_table(PAGE_ENTRY, SHARD[start + 64 + 32 * number :])
        assert entry == page._asdict() | {"reserved": 0}


def test_footer_matches_its_table() -> None:
    found, footer = by_table(FOOTER, SHARD[-128:]), Footer.decode(SHARD[-128:], len(SHARD))
    for name in ("dataset_id", "fields", "file_nbytes", "index_offset", "index_nbytes", "samples", "blocks", "digest"):
        assert found[name] == getattr(footer, name), name
    assert (found["shard_number"], found["version"], found["reserved"]) == (footer.number, layout.VERSION, bytes(8))


@pytest.mark.parametrize(
    ("table", "magic"),
    [(HEADER, layout.SHARD_MAGIC), (BLOCK_HEADER, layout.BLOCK_MAGIC), (FOOTER, layout.FOOTER_MAGIC)],
    ids=["header", "block header", "footer"],
)
def test_magics_match_the_tables(table: list[Row], magic: bytes) -> None:
    (row,) = [row for row in table if row["name"] == "magic"]
    assert bytes.fromhex(ticked(row["value"])[0]) == magic


@pytest.mark.parametrize("fields", [1, 2, 3, 100, layout.MAX_FIELDS])
def test_block_header_size_matches_the_formula(fields: int) -> None:
    assert "pad(64 + 32 \u00d7 fields + 8)" in section("Block header")
    assert layout.block_header_nbytes(fields) == layout.padded(64 + 32 * fields + 8)
    assert layout.index_dtype(fields).itemsize == 16 + 32 * fields


def test_limits_match_the_code() -> None:
    told = {row["limit"]: int(row["value"]) for row in tables("Limits")[0]}
    assert told == {name: value for name, value in vars(layout).items() if name.startswith("MAX_")}


def test_numbers_in_the_text_match_the_code() -> None:
    assert f"multiple of **{layout.ALIGNMENT} bytes**" in SPEC
    assert f"last {layout.FOOTER.size} bytes of the file" in section("Footer")
    assert f"1 to {layout.MAX_BLOCK_SAMPLES:,}" in section("Block header")
    assert f"over {layout.MAX_CODED_PAGE_NBYTES:,} bytes" in section("Page")
    assert f"1 to {layout.MAX_NAME_NBYTES} bytes" in section("Schema")
    assert [row["value"] for row in PAGE_ENTRY if row["name"] == "codec"] == [
        ", ".join(f"{codec.value} {codec.label}" for codec in Codec)
    ]


def test_manifest_members_match_the_tables() -> None:
    whole, shard = tables("Manifest")
    manifest = json.loads(MANIFEST)
    assert [ticked(row["member"])[0] for row in whole] == list(manifest)
    assert [ticked(row["member"])[0] for row in shard] == list(manifest["shards"][0])
    assert json.loads(Manifest.decode(MANIFEST).encode()) == manifest


# the schema

KINDS: dict[str, Field] = {
    "`scalar`": Scalar("int8"),
    "`array`": Array("int8", (2,)),
    "`text`": Text(),
    "`bytes`": Bytes(),
    "`image` with `mode`": Image("L"),
    "`image` with `shape`": Image(shape=(2, 3)),
    "`object`": Object(),
}


def test_field_types_match_the_code() -> None:
    table = tables("Schema")[0]
    assert [row["type"] for row in table] == list(KINDS)
    assert list(dict.fromkeys(ticked(row["type"])[0] for row in table)) == list(TYPES)
    for row in table:
        kind = KINDS[row["type"]]
        members = ticked(row["members"].partition(":")[0])
        assert list(kind.to_json()) == ["type", *members], row
        assert kind.type == ticked(row["type"])[0]
        if row["page"] in ("fixed", "variable"):
            assert (kind.row_nbytes is None) == (row["page"] == "variable"), row


def test_free_dimension_makes_a_variable_field() -> None:
    for kind in (Array("int8", (2, None)), Image(shape=(None, 2))):
        assert kind.row_nbytes is None
    for fixed in (Array("int8", (2, 3)), Image(shape=(2, 3))):
        assert fixed.row_nbytes is not None


def test_image_modes_match_the_table() -> None:
    (row,) = [row for row in tables("Schema")[0] if row["type"] == "`image` with `mode`"]
    assert [Image(mode).mode for mode in ticked(row["members"])[1:]] == ["RGB", "L", "RGBA"]
    with pytest.raises(SchemaError, match="'RGB', 'L' or 'RGBA'"):
        Image("CMYK")


def test_dtypes_match_the_code() -> None:
    told = ticked(section("Schema").split("`dtype` is one of")[1].partition(". ")[0])

    def storable(dtype: np.dtype[Any]) -> bool:
        try:
            numeric_dtype(dtype)
        except SchemaError:
            return False
        return True

    every = {np.dtype(kind) for kind in {np.dtype(code).type for code in np.typecodes["All"]}}
    assert {dtype.name for dtype in every if storable(dtype)} == set(told)
    assert len(told) == len(set(told))
    assert [Scalar(name).to_json()["dtype"] for name in told] == told
