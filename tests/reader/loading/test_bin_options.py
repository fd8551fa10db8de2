"""What batches by length, padding and packed rows cannot do is refused, by the name of the field, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import CorruptError, DataLoader, SchemaError, ShardDataset


def documents(folder: Path, samples: Sequence[dict[str, Any]], schema: Any = None, **options: Any) -> ShardDataset:
    with recordio.DatasetWriter(folder, schema, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return ShardDataset(folder)


def of_lengths(lengths: Sequence[int], **more: Any) -> list[dict[str, Any]]:
    return [{"ids": np.arange(n)} | {name: make(n) for name, make in more.items()} for n in lengths]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ids_length", {"pad_value": 0}),
        ("position_ids", {"sequence_length": 64}),
        ("cu_seqlens", {"sequence_length": 9}),
    ],
)
def test_no_field_is_lost_to_an_array_that_is_added(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    stored = documents(tmp_path / "stored", of_lengths(range(1, 9), **{name: lambda n: 777}))
    with pytest.raises(SchemaError, match=f"batches get {name} of their own.*fields="):
        DataLoader(stored, bucket_by="ids", **options)
    ids = ShardDataset(tmp_path / "stored", fields=["ids"])
    assert len(next(iter(DataLoader(ids, **options))))

    def added(sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {name: 777}

    with pytest.raises(SchemaError, match=f"batches get {name} of their own.*in a map"):
        next(iter(DataLoader(ids.map(added), **options)))
    removed = stored.map(lambda sample: {"ids": sample["ids"]})
    assert len(next(iter(DataLoader(removed, bucket_by="ids", **options))))


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_by_length_are_full_with_drop_last(tmp_path: Path, shuffle: bool) -> None:
    lengths = np.random.default_rng(0).integers(0, 90, 1000).tolist()
    samples = [{"ids": np.arange(length), "number": n} for n, length in enumerate(lengths)]
    ds = documents(tmp_path, samples, block_bytes=3000)

    def loader(**more: Any) -> DataLoader:
        options = {"bucket_by": "ids", "drop_last": True, "shuffle": shuffle, "lanes": 6, "window_samples": 400} | more
        return DataLoader(ds, 8, seed=3, **options)

    one = loader()
    batches = [batch["number"].tolist() for batch in one]
    assert {len(batch) for batch in batches} == {8}
    assert len(batches) == len(loader())
    found = [n for batch in batches for n in batch]
    assert len(set(found)) == len(found) == loader().bins.samples == 1000 - loader().bins.dropped
    assert 0 < loader().bins.dropped < 100
    ranks = [[batch["number"].tolist() for batch in loader(rank=rank, world_size=3)] for rank in range(3)]
    assert [batch for turn in zip(*ranks, strict=True) for batch in turn] == batches[: len(batches) // 3 * 3]
    batches_of_two = iter(one := loader())
    next(batches_of_two), next(batches_of_two)
    resumed = loader()
    resumed.load_state_dict(one.state_dict())
    assert [batch["number"].tolist() for batch in resumed] == batches[2:]
    with pytest.raises(SchemaError, match="bins"):
        loader(drop_last=False).load_state_dict(one.state_dict())
    assert loader(drop_last=False).bins.dropped == 0


@pytest.mark.parametrize("size", [9, 200])
def test_windows_of_too_few_samples_have_no_full_batch(tmp_path: Path, size: int) -> None:
    ds = documents(tmp_path, of_lengths(range(100)), block_bytes=1000)
    loader = DataLoader(ds, size, bucket_by="ids", drop_last=True, shuffle=True, seed=0, window_samples=1)
    batches = [sorted(map(len, batch["ids"])) for batch in loader]
    assert len(batches) == len(loader) == (100 - loader.bins.dropped) // 9
    assert bool(batches) == (size == 9)
    for begin in range(len(batches)):
        resumed = DataLoader(ds, size, bucket_by="ids", drop_last=True, shuffle=True, seed=0, window_samples=1)
        resumed.load_state_dict(loader.state_dict() | {"epoch": 0, "position": begin})
        assert [sorted(map(len, batch["ids"])) for batch in resumed] == batches[begin:]


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_lengths_on_a_damaged_page_are_an_error_that_says_the_way_on(tmp_path: Path, compression: str | None) -> None:
    samples = of_lengths([100] * 50, number=lambda n: n)
    schema = {"ids": recordio.Array("int64", (None,)), "number": recordio.Scalar("int64")}
    ds = documents(tmp_path, samples, schema, block_bytes=4000, compression=compression)
    at = int(ds.store.shard(0).index.page_offsets[1, 0])
    (path,) = tmp_path.glob("*.rio")
    whole = bytearray(path.read_bytes())
    whole[at + 20] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(CorruptError, match="block 1, field 'ids'") as caught:
        DataLoader(ShardDataset(tmp_path), batch_tokens=400, bucket_by="ids", on_error="skip")
    assert "on_damage='skip', or name an integer" in caught.value.__notes__[0]
    for loader in (
        DataLoader(ShardDataset(tmp_path), batch_tokens=400, bucket_by="number", on_error="skip"),
        DataLoader(ShardDataset(tmp_path, on_damage="skip"), batch_tokens=400, bucket_by="ids"),
    ):
        assert 0 < sum(len(batch["ids"]) for batch in loader) < 50


def test_documents_that_are_equally_long_are_as_others(tmp_path: Path) -> None:
    ds = documents(tmp_path, of_lengths([8] * 20))
    assert ds.schema["ids"].shape == (8,)  # type: ignore[attr-defined]
    (rows,) = DataLoader(ds, 10, sequence_length=16)
    assert rows["ids"].tolist() == [[*range(8)] * 2] * 10
    assert rows["cu_seqlens"].tolist() == [*range(0, 161, 8)]
    (cut,) = DataLoader(ds, 20, sequence_length=6, on_overlong="truncate", bucket_by="ids")
    assert cut["ids"].tolist() == [[*range(6)]] * 20
    batches = list(DataLoader(ds, batch_tokens=40, pad_value=0))
    assert [batch["ids"].shape for batch in batches] == [(5, 8)] * 4
    assert batches[0]["ids_length"].tolist() == [8] * 5


def test_optional_arrays_are_refused_unless_a_map_fills_them(tmp_path: Path) -> None:
    samples = [{"ids": np.arange(n), "extra": np.arange(n) if n % 2 else None} for n in range(2, 20)]
    schema = {"ids": recordio.Array("int64", (None,)), "extra": recordio.Array("int64", (None,), optional=True)}
    ds = documents(tmp_path, samples, schema)
    refused: list[dict[str, Any]] = [{"pad_value": 0}, {"pad_value": {"extra": 0}}, {"sequence_length": 64}]
    for options in refused:
        with pytest.raises(SchemaError, match="field 'extra' is optional"):
            DataLoader(ds, bucket_by="ids", **options)

    def filled(sample: dict[str, Any]) -> dict[str, Any]:
        return {"ids": sample["ids"], "extra": sample["ids"] if sample["extra"] is None else sample["extra"]}

    for options in refused[1:]:
        (batch,) = DataLoader(ds.map(filled), 18, bucket_by="ids", **options)
        assert len(batch["extra"].shape) == 2
        with pytest.raises(SchemaError, match="field 'extra' is missing in some samples"):
            next(iter(DataLoader(ds.map(dict), 18, bucket_by="ids", **options)))
    (batch,) = DataLoader(ds, 18, pad_value={"ids": 0})
    assert batch["ids"].shape == (18, 19)
    assert isinstance(batch["extra"], list)


def test_a_field_that_says_too_little_is_named(tmp_path: Path) -> None:
    ds = documents(tmp_path, of_lengths(range(1, 50), said=lambda n: n // 2))
    ids = ShardDataset(tmp_path, fields=["ids"])
    for overlong in ("raise", "truncate"):
        with pytest.raises(SchemaError, match=r"longer than field 'said' says.*Name a field by bucket_by="):
            list(DataLoader(ids, sequence_length=30, bucket_by="said", on_overlong=overlong))  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match=r"more than batch_tokens=30 .* longer than field 'said' says"):
        assert sum(len(batch["ids"]) for batch in DataLoader(ds, batch_tokens=30, bucket_by="said", pad_value=0)) == 49
    twice = ids.map(lambda sample: {"ids": np.repeat(sample["ids"], 2)})
    with pytest.warns(RuntimeWarning, match="field 'ids' says, or a map has made them longer"):
        list(DataLoader(twice, batch_tokens=50, pad_value=0))


def test_another_padded_field_may_be_longer_than_the_one_that_counts(tmp_path: Path) -> None:
    ds = documents(tmp_path, of_lengths(range(1, 50), frames=lambda n: np.zeros(3 * n)))
    assert sum(len(batch["ids"]) for batch in DataLoader(ds, batch_tokens=60, bucket_by="ids", pad_value=0)) == 49


@pytest.mark.parametrize("value", [True, np.True_, [1], "0", {"ids": None}, {"ids": False}])
def test_padding_is_a_number(tmp_path: Path, value: Any) -> None:
    ds = documents(tmp_path, of_lengths(range(1, 9)))
    for options in ({}, {"sequence_length": 16}):
        with pytest.raises(SchemaError, match="expected a number"):
            DataLoader(ds, pad_value=value, **options)
        (batch,) = DataLoader(ds, 8, pad_value=np.int8(-1), **options)
        assert batch["ids"].min() == -1


@pytest.mark.parametrize("lengths", [np.random.default_rng(2).integers(0, 300, 80), np.full(80, 100)])
@pytest.mark.parametrize("compression", [None, "zstd", "narrow"])
def test_pieces_are_those_of_documents_that_were_copied(tmp_path: Path, lengths: Any, compression: str | None) -> None:
    """Without maps rows are filled from the pages themselves."""
    samples = [{"ids": np.arange(n) + k} for k, n in enumerate(lengths.tolist())]
    ds = documents(tmp_path, samples, block_bytes=9000, shard_samples=30, compression=compression)
    options: dict[str, Any] = {"shuffle": True, "seed": 0, "window_samples": 20, "sequence_length": 32}
    copied = list(DataLoader(ds.map(dict), 3, on_overlong="split", **options))
    assert sum((batch["document_ids"] >= 0).sum() for batch in copied) == lengths.sum()
    for view in (ds, ds.ragged()):
        for want, batch in zip(copied, DataLoader(view, 3, on_overlong="split", **options), strict=True):
            for name, values in want.items():
                assert np.array_equal(batch[name], values)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_piece_copies_none_of_the_rest(tmp_path: Path, compression: str | None, monkeypatch: Any) -> None:
    kind = recordio.Array("int64", (None,))
    ds = documents(tmp_path, of_lengths([100_000]), {"ids": kind}, compression=compression)
    loader = DataLoader(ds, 4, sequence_length=100, on_overlong="split")
    with monkeypatch.context() as patch:
        patch.setattr(recordio.Array, "unpack", None)  # what copies a document
        rows = np.concatenate([batch["ids"] for batch in loader])
    assert sorted(rows[:, 0].tolist()) == list(range(0, 100_000, 100))
    assert loader.bins is not None
    assert (loader.bins.samples, loader.bins.bins, loader.stats.samples) == (1, 1000, 1000)
