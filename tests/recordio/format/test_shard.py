"""The structures of a shard: each round-trips, and any other bytes are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from recordio import Bytes, CorruptError, Scalar, Schema, SchemaError, Text, UnsupportedError
from recordio.format.block import BlockHeader, PageEntry, store_page
from recordio.format.checksum import checksum, digest
from recordio.format.codec import Compression, PageCoder
from recordio.format.index import Index
from recordio.format.layout import ALIGNMENT, CHECKSUM, FOOTER, HEADER, MAX_FIELDS, MAX_HEADER_JSON_NBYTES, padded
from recordio.format.shard import Footer, ShardHeader, shard_digest
from tests.strategies import schemas

ID = bytes(range(16))
SCHEMA = Schema({"number": Scalar("int32"), "text": Text(optional=True)})
HEAD = ShardHeader(ID, 3, SCHEMA, {"classes": ["ä", "b"]})
BLOCK = BlockHeader(ID, 3, 1, 64 * 9, 10, 2, (PageEntry(8, 8, 5, 0), PageEntry(70, 100, 6, 1)))


def sealed(data: bytes) -> bytes:
    """The bytes with the checksum in their last 8 recomputed."""
    return data[:-8] + CHECKSUM.pack(checksum(data[:-8]))


def put(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), schemas(), st.dictionaries(st.text(), JSON))
def test_shard_header_round_trips(dataset_id: bytes, number: int, schema: Schema, metadata: Any) -> None:
    header = ShardHeader(dataset_id, number, schema, metadata)
    data = header.encode()
    assert len(data) % ALIGNMENT == 0
    assert ShardHeader.nbytes(data[: HEADER.size]) == len(data)
    assert ShardHeader.decode(data + b"more") == header


def test_every_flipped_bit_of_a_shard_header_is_detected() -> None:
    data = HEAD.encode()
    for bit in range(8 * len(data)):
        with pytest.raises((CorruptError, UnsupportedError)):
            ShardHeader.decode(put(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8])))


def test_truncated_shard_header_is_corrupt() -> None:
    data = HEAD.encode()
    for nbytes in range(len(data)):
        with pytest.raises(CorruptError):
            ShardHeader.decode(data[:nbytes])


@pytest.mark.parametrize(
    ("offset", "new", "error"),
    [
        (8, b"\2", UnsupportedError),  # version
        (24, b"\1", UnsupportedError),  # a required feature
        (31, b"\x80", UnsupportedError),
        (12, b"\0\0\0\0", CorruptError),  # length
        (56, b"\xff" * 8, CorruptError),  # length of the JSON
        (64, b"[", CorruptError),
    ],
)
def test_newer_or_out_of_bounds_shard_header_is_refused(offset: int, new: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        ShardHeader.decode(sealed(put(HEAD.encode(), offset, new)))


def test_unknown_compatible_features_are_ignored() -> None:
    assert ShardHeader.decode(sealed(put(HEAD.encode(), 16, b"\xff" * 8))) == HEAD


@pytest.mark.parametrize(
    "metadata", [{"a": float("nan")}, {"a": object()}, {"a": b"x"}, {"a": "\ud800"}, {"a": {1, 2}}]
)
def test_shard_metadata_must_be_json(metadata: Any) -> None:
    with pytest.raises(SchemaError, match="not JSON"):
        replace(HEAD, metadata=metadata).encode()


def test_shard_metadata_over_the_limit_is_refused() -> None:
    with pytest.raises(SchemaError, match="limit"):
        replace(HEAD, metadata={"a": "x" * MAX_HEADER_JSON_NBYTES}).encode()


def test_block_header_round_trips() -> None:
    data = BLOCK.encode()
    assert len(data) == BLOCK.nbytes
    assert len(data) % ALIGNMENT == 0
    assert BlockHeader.decode(data + b"more") == BLOCK
    assert BLOCK.block_nbytes == len(data) + 64 + 128


def test_every_flipped_bit_of_a_block_header_is_detected() -> None:
    data = BLOCK.encode()
    for bit in range(8 * len(data)):
        with pytest.raises(CorruptError):
            BlockHeader.decode(put(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8])))


def test_truncated_block_header_is_corrupt() -> None:
    data = BLOCK.encode()
    for nbytes in range(len(data)):
        with pytest.raises(CorruptError):
            BlockHeader.decode(data[:nbytes])


@pytest.mark.parametrize("samples", [0, (1 << 24) + 1])
def test_block_without_samples_or_with_too_many_is_corrupt(samples: int) -> None:
    with pytest.raises(CorruptError, match="samples"):
        BlockHeader.decode(replace(BLOCK, samples=samples).encode())


def test_page_checksum_covers_padding() -> None:
    entry, parts = store_page(PageCoder(Compression.parse(None)), Bytes(), 1, b"abc")
    stored = b"".join(parts)
    assert stored == b"abc" + bytes(61)
    assert entry == PageEntry(3, 3, checksum(stored), 0)


def footer_and_index(blocks: int = 2) -> tuple[Footer, bytes, bytes]:
    """A footer, the header and the index of a shard of `blocks` blocks of 4 samples."""
    start = HEAD.encode()
    pages = (PageEntry(16, 16, 1, 0), PageEntry(64 + 40, 64 + 40, 2, 0))
    index = Index.encode(2, [(4, 77, pages)] * blocks)
    offset = len(start) + blocks * (BLOCK.nbytes + 64 + 128)
    nbytes = offset + len(index) + FOOTER.size
    digest = shard_digest(start, index)
    return Footer(ID, 3, 2, nbytes, offset, len(index), 4 * blocks, blocks, digest), start, index


@pytest.mark.parametrize("blocks", [0, 1, 2, 7])
def test_footer_and_index_round_trip(blocks: int) -> None:
    footer, start, data = footer_and_index(blocks)
    assert Footer.decode(footer.encode(), footer.file_nbytes) == footer
    index = Index.decode(data, footer, start, SCHEMA)
    assert index.samples.tolist() == [4] * blocks
    assert index.first.tolist() == list(range(0, 4 * blocks + 1, 4))
    step = BLOCK.nbytes + 192
    assert index.block_offsets.tolist() == [len(start) + i * step for i in range(blocks)]
    assert index.page_offsets.tolist() == [
        [at + BLOCK.nbytes, at + BLOCK.nbytes + 64] for at in index.block_offsets.tolist()
    ]
    assert (index.checksums == 77).all()


def test_every_flipped_bit_of_a_footer_is_detected() -> None:
    footer, _, _ = footer_and_index()
    data = footer.encode()
    for bit in range(8 * len(data)):
        with pytest.raises((CorruptError, UnsupportedError)):
            Footer.decode(put(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8])), footer.file_nbytes)


def test_every_flipped_bit_under_the_shard_digest_is_detected() -> None:
    footer, start, data = footer_and_index()
    for bit in range(8 * len(data)):
        with pytest.raises(CorruptError, match="digest"):
            Index.decode(put(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8])), footer, start, SCHEMA)
    for bit in range(64):
        at = len(start) - 8 + bit // 8
        with pytest.raises(CorruptError, match="digest"):
            Index.decode(data, footer, put(start, at, bytes([start[at] ^ 1 << bit % 8])), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [{"file_nbytes": 1}, {"index_offset": 1}, {"index_nbytes": 64}, {"blocks": 1}, {"fields": 0}, {"fields": 4097}],
    ids=str,
)
def test_inconsistent_footer_is_corrupt(change: dict[str, int]) -> None:
    footer, _, _ = footer_and_index()
    changed = footer._replace(**{k: v if k == "fields" else getattr(footer, k) + v for k, v in change.items()})
    with pytest.raises(CorruptError):
        Footer.decode(changed.encode(), footer.file_nbytes)


def first_page(stored: int, nbytes: int) -> list[Any]:
    return [(4, 0, (PageEntry(stored, nbytes, 0, 0), PageEntry(104, 104, 0, 0)))]


def second_page(stored: int, nbytes: int, codec: int = 0) -> list[Any]:
    return [(4, 0, (PageEntry(16, 16, 0, 0), PageEntry(stored, nbytes, 0, codec)))]


@pytest.mark.parametrize(
    ("rows", "samples", "match"),
    [
        ([(0, 0, (PageEntry(0, 0, 0, 0), PageEntry(72, 72, 0, 0)))], 0, "a block of 0 samples"),
        (second_page(104, 104), 5, "counts 4 samples, the footer 5"),
        (first_page(15, 15), 4, "4 samples has 15 bytes, expected 16"),
        (first_page(17, 17), 4, "4 samples has 17 bytes, expected 16"),
        (second_page(103, 103), 4, "4 samples has 103 bytes, expected 104"),
        (first_page(16, 17), 4, "contradicts itself"),
        (second_page(104, (1 << 28) + 1, 1), 4, "coded page over the limit"),
        (second_page(2**63, 2**63), 4, "larger than the shard"),
        (second_page(200, 200), 4, "do not fill the shard"),
    ],
)
def test_inconsistent_index_is_corrupt(rows: Any, samples: int, match: str) -> None:
    footer, start, _ = footer_and_index(1)
    data = Index.encode(2, rows)
    footer = footer._replace(samples=samples, digest=shard_digest(start, data))
    with pytest.raises(CorruptError, match=match):
        Index.decode(data, footer, start, SCHEMA)


def test_an_index_of_more_fields_than_the_schema_is_corrupt() -> None:
    footer, start, data = footer_and_index(0)
    with pytest.raises(CorruptError, match="the index has 3 fields, the schema 2"):
        Index.decode(data, footer._replace(fields=3), start, SCHEMA)


def test_unknown_codec_is_unsupported() -> None:
    footer, start, _ = footer_and_index(1)
    data = Index.encode(2, [(4, 0, (PageEntry(16, 16, 0, 4), PageEntry(104, 104, 0, 0)))])
    with pytest.raises(UnsupportedError, match="codec 4"):
        Index.decode(data, footer._replace(digest=shard_digest(start, data)), start, SCHEMA)


def test_shard_digest_covers_header_checksum_and_index() -> None:
    _, start, index = footer_and_index()
    assert shard_digest(start, index) == digest([start[-8:] + index])


@pytest.mark.parametrize(
    ("position", "value", "error", "match"),
    [
        (3, 2, UnsupportedError, "version"),
        (4, 0, CorruptError, "says 0 fields"),
        (4, MAX_FIELDS + 1, CorruptError, f"says {MAX_FIELDS + 1} fields"),
        (6, 1, UnsupportedError, "features"),
        (-1, b"recordio", CorruptError, "the footer is missing"),
    ],
)
def test_a_footer_that_is_newer_or_out_of_bounds_is_refused(position: int, value: Any, error: Any, match: str) -> None:
    footer, _, _ = footer_and_index()
    values = list(FOOTER.unpack(footer.encode()))
    values[position] = value
    body = FOOTER.pack(*values)[CHECKSUM.size :]
    with pytest.raises(error, match=match):
        Footer.decode(CHECKSUM.pack(checksum(body)) + body, footer.file_nbytes)


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"metadata": []}'])
def test_a_shard_header_without_metadata_is_corrupt(text: bytes) -> None:
    magic, version = HEADER.unpack_from(HEAD.encode())[:2]
    nbytes = int(padded(HEADER.size + len(text) + CHECKSUM.size))
    data = HEADER.pack(magic, version, nbytes, 0, 0, ID, 3, len(text)) + text
    data = data.ljust(nbytes, b"\0")
    with pytest.raises(CorruptError, match="no schema and metadata"):
        ShardHeader.decode(sealed(data))
