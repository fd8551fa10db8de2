"""The length of each sample: by the field that says it, with no value made, and none that is damaged believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import CorruptError, SchemaError, ShardDataset
from recordio.reader.loading.lengths import lengths_of

WORDS = ["", "a", "naïve", "日本語", "twelve bytes"]
SCHEMA: dict[str, Any] = {
    "tokens": recordio.Array("uint16", (None,)),
    "frames": recordio.Array("float32", (None, 3)),
    "text": recordio.Text(),
    "raw": recordio.Bytes(),
    "said": recordio.Scalar("uint8"),
    "signed": recordio.Scalar("int32"),
    "fixed": recordio.Array("int8", (3,)),
    "square": recordio.Array("int8", (3, None, None)),
    "rare": recordio.Text(optional=True),
}


def sample(n: int) -> dict[str, Any]:
    return {
        "tokens": np.zeros(n % 7, np.uint16),
        "frames": np.zeros((n % 5, 3), np.float32),
        "text": WORDS[n % 5],
        "raw": bytes(n % 11),
        "said": n % 200,
        "signed": 3 - n if n > 90 else n,
        "fixed": np.zeros(3, np.int8),
        "square": np.zeros((3, 2, n % 3), np.int8),
        "rare": None,
    }


@pytest.fixture(scope="module", params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("lengths")
    with recordio.DatasetWriter(folder, SCHEMA, block_bytes=500, shard_samples=40, compression=request.param) as writer:
        for n in range(100):
            writer.write(sample(n))
    return ShardDataset(folder, fields=["said"])  # the field that says the length need not be read


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("name", ["tokens", "frames", "text", "raw", "said", "fixed"])
def test_lengths_are_those_of_the_values(ds: ShardDataset, name: str, io: Any) -> None:
    every = np.arange(100)
    want = np.array(
        [len(v.encode()) if isinstance(v := sample(n)[name], str) else v if name == "said" else len(v) for n in every]
    )
    opened = ShardDataset(ds._path, io=io)
    for view, indices in (
        (opened, every),
        (opened[50:10:-3], every[50:10:-3]),
        (opened.select([7, 99, 7]), every[[7, 99, 7]]),
        (opened[:0], every[:0]),
    ):
        assert lengths_of(view, name).tolist() == want[indices].tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("square", "has no length"),
        ("rare", "is optional"),
        ("signed", "has the length -88, of sample 91"),
        ("absent", "absent"),
    ],
)
def test_fields_without_a_length_are_refused(ds: ShardDataset, name: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        lengths_of(ds, name)


def test_damaged_offsets_are_not_believed(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path, {"text": recordio.Text()}, compression=None, block_bytes=500) as writer:
        for n in range(100):
            writer.write({"text": "x" * (n % 30)})
    ds = ShardDataset(tmp_path)
    at = int(ds.store.shard(0).index.page_offsets[1, 0]) + 8 * 5
    (path,) = tmp_path.glob("*.rio")
    whole = bytearray(path.read_bytes())
    whole[at + 1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptError, match="block 1, field 'text'"):
        lengths_of(ShardDataset(tmp_path), "text")
    kept = ShardDataset(tmp_path, on_damage="skip")
    assert 0 < len(kept) < 100
    assert lengths_of(kept, "text").tolist() == [len(one) for one in kept.column("text")]
    batches = list(recordio.DataLoader(kept, batch_tokens=100, bucket_by="text"))
    assert sorted(text for batch in batches for text in batch["text"]) == sorted(kept.column("text"))


def flipped(ds: ShardDataset, block: int, row: int) -> None:
    """Flips a bit of an offset of a page: the others stay in order, and fill the page."""
    at = int(ds.store.shard(0).index.page_offsets[block, 0]) + 8 * row
    (path,) = Path(ds._path).glob("*.rio")
    whole = bytearray(path.read_bytes())
    whole[at] ^= 0x08
    path.write_bytes(whole)


def test_a_flipped_bit_gives_no_rank_other_bins(tmp_path: Path) -> None:
    kind = recordio.Array("uint8", (None,))
    with recordio.DatasetWriter(tmp_path, {"tokens": kind}, compression=None, block_bytes=2000) as writer:
        for n in range(200):
            writer.write({"tokens": np.zeros(40 + n % 5, np.uint8)})
    flipped(ShardDataset(tmp_path), 2, 3)
    for rank in range(2):
        with pytest.raises(CorruptError, match=r"checksum mismatch.*block 2, field 'tokens'"):
            recordio.DataLoader(ShardDataset(tmp_path), batch_tokens=500, rank=rank, world_size=2)
    assert len(lengths_of(ShardDataset(tmp_path, verify="never"), "tokens")) == 200  # it is not asked for
