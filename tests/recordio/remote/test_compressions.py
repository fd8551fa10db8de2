"""Narrow and coded pages in a bucket: the samples are those of plain pages on disk, however they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import Array, CorruptError, DataLoader, Scalar, ShardDataset, Text
from recordio.format.codec import Codec
from tests.faults.reading import frozen
from tests.recordio.remote.buckets import Bucket

COUNT = 600
SCHEMA = {
    "tokens": Array("int32", (60,)),
    "label": Scalar("int64"),
    "maybe": Array("int16", (9,), optional=True),
    "text": Text(),
}
FORMS = {"narrow": {Codec.NARROW}, "auto": {Codec.NARROW, Codec.ZSTD}, "narrow+zstd": {Codec.NARROW_ZSTD, Codec.ZSTD}}


def write(place: Any, compression: str | None, **options: Any) -> None:
    random = np.random.default_rng(0)
    with recordio.DatasetWriter(
        place, SCHEMA, compression=compression, shard_samples=250, block_bytes=40_000, **options
    ) as writer:
        for n in range(COUNT):
            tokens = (random.random(60) ** 9 * 50_000).astype(np.int32)
            maybe = None if n % 5 == 2 else random.integers(-90, 90, 9, np.int16)
            writer.write({"tokens": tokens, "label": -n, "maybe": maybe, "text": f"the text of {n} " * 9})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("plain") / "data"
    write(folder, None)
    return ShardDataset(folder)


@pytest.fixture(scope="module", params=FORMS)
def written(request: pytest.FixtureRequest, bucket: Bucket) -> tuple[str, str]:
    """The compression, and the URL of a dataset that was written straight into the bucket."""
    url = bucket.url(f"compressions/{request.param}")
    write(url, request.param, storage=bucket.storage)
    return request.param, url


@pytest.fixture(params=["memory", "disk"])
def stored(request: pytest.FixtureRequest, written: tuple[str, str], bucket: Bucket, tmp_path: Path) -> ShardDataset:
    cache = tmp_path / "cache" if request.param == "disk" else None
    return ShardDataset(written[1], storage=bucket.storage, cache=cache)


def test_pages_are_of_the_form_that_was_asked_for(written: tuple[str, str], bucket: Bucket) -> None:
    compression, url = written
    store = ShardDataset(url, storage=bucket.storage, cache=None).store
    assert set(store.shard(0).index.pages["codec"].ravel().tolist()) >= FORMS[compression]
    assert recordio.verify(url, storage=bucket.storage).ok


def test_few_rows_columns_and_samples_are_those_of_plain_pages(stored: ShardDataset, plain: ShardDataset) -> None:
    for n in (COUNT - 1, 0, 311):
        assert frozen(stored[n]) == frozen(plain[n])
    for rows in ([7], [599, 3, 3, 260], np.random.default_rng(1).permutation(COUNT)):
        assert frozen(stored.take(rows)) == frozen(plain.take(rows))
    for name in SCHEMA:
        assert frozen(stored.column(name)) == frozen(plain.column(name))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_are_those_of_plain_pages(stored: ShardDataset, plain: ShardDataset, num_workers: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 4, "window_bytes": 1 << 16}
    loader = DataLoader(stored, 32, num_workers=num_workers, **options)
    for batch, expected in zip(loader, DataLoader(plain, 32, **options), strict=True):
        assert frozen(batch) == frozen(expected)


def test_a_flipped_bit_in_such_a_page_is_named(written: tuple[str, str], bucket: Bucket, plain: ShardDataset) -> None:
    compression, url = written
    index = ShardDataset(url, storage=bucket.storage, cache=None).store.shard(1).index
    for key, data in bucket.files(f"compressions/{compression}/").items():
        body = bytearray(data)
        if key.endswith("shard-00001.rio"):
            body[int(index.page_offsets[0, 0]) + 30] ^= 1
        bucket.client.put_object(Bucket=bucket.name, Key=f"damaged/{key}", Body=bytes(body))
    damaged = bucket.url(f"damaged/compressions/{compression}")
    ds = ShardDataset(damaged, storage=bucket.storage, cache=None)
    with pytest.raises(CorruptError, match=r"not those that were written.*block 0, field 'tokens'"):
        ds[250]
    assert frozen(ds[3]) == frozen(plain[3])
    problems = recordio.verify(damaged, storage=bucket.storage).problems
    assert {one.place.block for one in problems} == {0}
    assert "tokens" in {one.place.field for one in problems}


def test_reshard_out_of_the_bucket_and_into_it(
    written: tuple[str, str], bucket: Bucket, tmp_path: Path, plain: ShardDataset
) -> None:
    compression, url = written
    recordio.reshard(url, tmp_path / "plain", compression=None, storage=bucket.storage)
    recordio.reshard(tmp_path / "plain", f"{url}-again", compression=compression, storage=bucket.storage)
    again = ShardDataset(f"{url}-again", storage=bucket.storage, cache=None)
    every = np.arange(COUNT)
    assert frozen(again.take(every)) == frozen(plain.take(every))
    assert set(again.store.shard(0).index.pages["codec"].ravel().tolist()) >= FORMS[compression]
