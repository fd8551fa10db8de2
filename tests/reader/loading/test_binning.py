"""Batches by length and packed rows: the same for any ranks and workers, resumable, every sample once."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import DataLoader, SchemaError, ShardDataset
from tests.effort import LONG

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

LENGTHS = np.minimum(np.random.default_rng(5).lognormal(3, 1, 900).astype(np.int64), 200)
LENGTHS[[3, 4]] = 0
ROWS = {"sequence_length": 256, "batch_size": 2}
BINS: dict[str, dict[str, Any]] = {
    "padded": {"batch_tokens": 600, "bucket_by": "tokens"},
    "rows": ROWS,
    "split": ROWS | {"sequence_length": 64, "on_overlong": "split"},
    "truncated": ROWS | {"sequence_length": 64, "on_overlong": "truncate"},
    "counted": {"batch_size": 8, "bucket_by": "tokens"},
}
SMALL: dict[str, Any] = {"seed": 1, "window_bytes": 40_000, "lanes": 6}  # some windows, and lanes in them
every_kind = pytest.mark.parametrize("kind", BINS)


def write(folder: Path, lengths: Any, **options: Any) -> None:
    """Documents of these lengths, each of its own number over and over."""
    with recordio.DatasetWriter(
        folder,
        {"tokens": recordio.Array("int32", (None,)), "number": recordio.Scalar("int64")},
        **{"block_bytes": 2000, "shard_samples": 200} | options,
    ) as writer:
        for number, length in enumerate(lengths):
            writer.write({"tokens": np.full(length, number, np.int32), "number": number})


@pytest.fixture(scope="module", params=[None, "zstd"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("documents")
    write(found, LENGTHS, compression=request.param)
    return found


@pytest.fixture(scope="module")
def ds(folder: Path) -> ShardDataset:
    return ShardDataset(folder)


def loader_of(ds: ShardDataset, kind: str, **options: Any) -> DataLoader:
    given = {"shuffle": True} | SMALL | BINS[kind] | options
    return DataLoader(ds._only(["tokens"]) if "sequence_length" in given else ds, **given)


def documents(batch: dict[str, Any]) -> list[list[tuple[int, int]]]:
    """(number, tokens) of each document of a batch, as they lie in its rows; of no tokens there is nothing to see."""
    if "number" in batch:
        values = zip(batch["number"].tolist(), batch["tokens"], strict=True)
        return [[(number, len(tokens)) for number, tokens in values]]
    out = []
    for row, owner in zip(batch["tokens"], batch["document_ids"], strict=True):
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        ends = np.append(starts[1:], len(row))
        out.append([(int(row[a]), int(b - a)) for a, b in zip(starts, ends, strict=True) if owner[a] >= 0])
    return out


def epoch(loader: DataLoader) -> list[list[list[tuple[int, int]]]]:
    return [documents(batch) for batch in loader]


def joined(ranks: list[list[Any]]) -> list[Any]:
    """The batches of all ranks, as they take turns."""
    assert len({len(one) for one in ranks}) == 1
    return [one for turn in zip(*ranks, strict=True) for one in turn]


@every_kind
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_bins_of_one(ds: ShardDataset, kind: str, world: int) -> None:
    options = {"batch_size": 1} if "sequence_length" in BINS[kind] else {}  # rows take turns, not batches of them
    one = epoch(loader_of(ds, kind, **options))
    ranks = [epoch(loader_of(ds, kind, rank=rank, world_size=world, **options)) for rank in range(world)]
    found = joined(ranks)
    assert found[: len(one)] == one
    assert found[len(one) :] == one[: len(found) - len(one)]  # padding: the first bins again
    assert len(found) - len(one) < world
    assert len(loader_of(ds, kind, rank=0, world_size=world, **options)) == len(ranks[0])


@every_kind
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_sample_comes_once(ds: ShardDataset, kind: str, shuffle: bool) -> None:
    loader = loader_of(ds, kind, shuffle=shuffle)
    size = BINS[kind].get("sequence_length", 10**9)
    for _ in range(2):
        count = len(loader)
        batches = epoch(loader)
        assert len(batches) == count
        tokens = np.zeros(len(LENGTHS), np.int64)
        times = np.zeros(len(LENGTHS), np.int64)
        for sample, length in (one for batch in batches for row in batch for one in row):
            tokens[sample] += length
            times[sample] += 1
        split = kind == "split"
        assert tokens.tolist() == (LENGTHS if split else np.minimum(LENGTHS, size)).tolist()
        least = 1 if "number" in ds.schema and "sequence_length" not in BINS[kind] else np.minimum(LENGTHS, 1)
        assert (times == (np.ceil(LENGTHS / size) if split else least)).all()


def test_epochs_differ(ds: ShardDataset) -> None:
    loader = loader_of(ds, "rows")
    assert epoch(loader) != epoch(loader)


@every_kind
@pytest.mark.parametrize(
    "workers",
    [
        {"num_workers": 1, "worker_type": "thread"},
        {"num_workers": 4, "worker_type": "thread"},
        {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
    ],
    ids=["thread", "threads", "processes"],
)
def test_workers_change_nothing(ds: ShardDataset, kind: str, workers: dict[str, Any]) -> None:
    pads = {"pad_value": -1}
    plain, ours = loader_of(ds, kind, **pads), loader_of(ds, kind, **pads, **workers)
    for want, batch in zip(plain, ours, strict=True):
        assert list(batch) == list(want)
        for name, column in want.items():
            assert batch[name].dtype == column.dtype
            assert np.array_equal(batch[name], column)


@every_kind
def test_resuming_is_exact_at_every_batch(ds: ShardDataset, kind: str) -> None:
    loader = loader_of(ds, kind)
    want, states = [], [json.loads(json.dumps(loader.state_dict()))]
    for batch in loader:
        want.append(documents(batch))
        states.append(json.loads(json.dumps(loader.state_dict())))
    assert states[-1]["epoch"] == 1
    ours = loader_of(ds, kind)
    for done in range(0, len(states) - 1, 1 if LONG else max(1, len(states) // 12)):
        ours.load_state_dict(states[done])
        assert epoch(ours) == want[done:]


@every_kind
def test_a_copy_goes_on_by_itself(ds: ShardDataset, kind: str) -> None:
    loader = loader_of(ds, kind, pad_value=0)
    iterator = iter(loader)
    next(iterator)
    copied = pickle.loads(pickle.dumps(loader))
    copied.load_state_dict(loader.state_dict())
    for want, batch in zip(iterator, copied, strict=True):
        assert all(np.array_equal(batch[name], column) for name, column in want.items())


def test_a_run_goes_on_with_other_ranks_and_rows_a_batch(ds: ShardDataset) -> None:
    rows = [row for batch in epoch(loader_of(ds, "rows", batch_size=1)) for row in batch]
    first = [loader_of(ds, "rows", batch_size=1, rank=rank, world_size=2) for rank in range(2)]
    running: list[Iterator[Any]] = [iter(one) for one in first]
    delivered = [row for _ in range(5) for one in running for row in documents(next(one))]
    state = first[0].state_dict()
    assert state == first[1].state_dict()
    ours = loader_of(ds, "rows", batch_size=3)
    ours.load_state_dict(state)
    assert delivered + [row for batch in epoch(ours) for row in batch] == rows


@every_kind
def test_state_of_other_bins_is_refused(ds: ShardDataset, kind: str) -> None:
    loader = loader_of(ds, kind, shuffle=False)
    next(iter(loader))
    state = loader.state_dict()
    others: list[dict[str, Any]] = [{"window_bytes": 41_000}, *({"batch_tokens": 601},) * (kind == "padded")]
    for other in others:
        with pytest.raises(SchemaError, match="another bins"):
            loader_of(ds, kind, shuffle=False, **other).load_state_dict(state)
    with pytest.raises(SchemaError, match="position is 100000, of "):
        loader_of(ds, kind, shuffle=False).load_state_dict(state | {"position": 100_000})
    with pytest.raises(SchemaError, match="another bins"):
        loader_of(ds, kind, shuffle=False).load_state_dict({k: v for k, v in state.items() if k != "bins"})
    with pytest.raises(SchemaError, match="another bins"):
        DataLoader(ds, seed=1).load_state_dict(DataLoader(ds, seed=1).state_dict() | {"bins": state["bins"]})


def test_views_and_weights_have_the_lengths_of_their_samples(ds: ShardDataset) -> None:
    view = ds.filter(lambda columns: columns["number"] % 3 == 1, fields=["number"])
    order = np.random.default_rng(0).permutation(len(view))
    for part in (view, view.select(order), ds[5:700:7], ds[800:100:-3]):
        batches = [documents(batch)[0] for batch in DataLoader(part, shuffle=True, batch_tokens=600, **SMALL)]
        assert sorted(one for batch in batches for one in batch) == sorted(
            (n, LENGTHS[n]) for n in part.column("number").tolist()
        )
        assert all(len(batch) * max(length for _, length in batch) <= 600 for batch in batches)
    weights = np.arange(len(ds)) % 4
    drawn = [
        one
        for batch in DataLoader(ds, shuffle=True, weights=weights, batch_tokens=600, **SMALL)
        for one in documents(batch)[0]
    ]
    assert len(drawn) == len(ds)
    assert all(length == LENGTHS[number] and number % 4 for number, length in drawn)


@pytest.mark.parametrize("lengths", [[], [7], [0], [200], [0] * 40])
def test_few_or_empty_or_long_samples(tmp_path: Path, lengths: list[int]) -> None:
    write(tmp_path, lengths)
    ds = ShardDataset(tmp_path)
    for kind in BINS:
        for world in (1, 2, 3):
            ranks = [list(loader_of(ds, kind, rank=rank, world_size=world, pad_value=0)) for rank in range(world)]
            assert len({len(one) for one in ranks}) == 1
            assert bool(ranks[0]) == bool(lengths)
    rows = list(loader_of(ds, "split"))
    assert [len(batch["tokens"]) for batch in rows] == ([2, 2] if lengths == [200] else [1] * bool(lengths))


def test_bins_say_how_full_they_are_and_what_was_cut(ds: ShardDataset, caplog: pytest.LogCaptureFixture) -> None:
    tokens = int(LENGTHS.sum())
    counts = loader_of(ds, "padded").bins
    assert counts is not None
    assert (counts.samples, counts.tokens, counts.overlong, counts.left_out) == (len(ds), tokens, 0, 0)
    assert 0 < counts.padding < 0.2
    split = loader_of(ds, "split").bins
    assert split is not None
    assert (split.overlong, split.left_out) == (np.count_nonzero(LENGTHS > 64), 0)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "recordio"):
        loader = loader_of(ds, "truncated")
    cut = loader.bins
    assert cut is not None
    assert cut.tokens + cut.left_out == tokens
    assert f"cuts off {cut.left_out} of {tokens} tokens, of {cut.overlong} samples" in caplog.text
    assert DataLoader(ds).bins is None


def test_overlong_samples_are_refused_by_name_and_number(ds: ShardDataset) -> None:
    longest = int(np.argmax(LENGTHS))
    count = int(np.count_nonzero(LENGTHS > 64))
    with pytest.raises(
        SchemaError, match=f"{count} of 900 samples are longer than sequence_length=64 .* sample {longest} "
    ):
        loader_of(ds, "rows", sequence_length=64)
    with pytest.raises(SchemaError, match=r"longer than batch_tokens=64 .* give at least 200, or leave them out"):
        loader_of(ds, "padded", batch_tokens=64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_tokens": 9, "sequence_length": 9}, "not both"),
        ({"batch_tokens": 999, "batch_size": 4}, "leave out batch_size"),
        ({"batch_tokens": 999, "batch_size": None}, "single samples"),
        ({"on_overlong": "split"}, "for packed rows"),
        ({"on_overlong": "truncate", "batch_tokens": 999}, "for packed rows"),
        ({"on_overlong": "drop", "sequence_length": 9}, "on_overlong"),
        ({"sequence_length": 1 << 30, "batch_size": 4}, "rows of 1073741824 tokens"),
        ({"sequence_length": 999}, "not 'number'"),
        ({"bucket_by": "absent"}, "absent"),
        ({"batch_tokens": 999, "shuffle": True, "lane_affinity": True}, "without lane_affinity and pool_bytes"),
        ({"batch_tokens": 999, "sampler": [1]}, "a sampler decides"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"pad_value": 0, "collate_fn": list}, "without collate_fn"),
        ({"pad_value": 1.5}, "cannot hold pad_value=1.5"),
        ({"pad_value": {"tokens": 1 << 40}}, "cannot hold"),
        ({"pad_value": "x"}, "expected a number"),
    ],
)
def test_options_that_exclude_each_other_are_refused(ds: ShardDataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        DataLoader(ds, **options)


def test_indices_of_bins_are_refused(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="cannot be made of indices"):
        next(loader_of(ds, "padded").indices())


def test_a_collate_fn_gets_the_samples_of_a_batch_by_length(ds: ShardDataset) -> None:
    sums = DataLoader(ds, batch_tokens=600, collate_fn=lambda samples: [len(one["tokens"]) for one in samples])
    found = list(sums)
    assert sorted(length for batch in found for length in batch) == sorted(LENGTHS.tolist())
    assert all(len(batch) * max(batch) <= 600 for batch in found)


def test_any_loader_pads(ds: ShardDataset) -> None:
    """Also one of several datasets, and one with a sampler, in the order that they give."""
    part = ds[10:40]
    for loader in (
        DataLoader(part + part, 7, pad_value=-1),
        DataLoader(part, 7, sampler=range(30), pad_value={"tokens": -1}),
    ):
        for batch in loader:
            lengths = LENGTHS[batch["number"]]
            assert batch["tokens_length"].tolist() == lengths.tolist()
            assert batch["tokens"].shape == (len(lengths), lengths.max())
            filled = np.arange(lengths.max()) < lengths[:, None]
            assert np.array_equal(batch["tokens"], np.where(filled, batch["number"][:, None], -1))


def test_rows_of_what_a_map_makes(ds: ShardDataset) -> None:
    """Text that is tokenized on the way has no array in its schema."""

    def tokenized(sample: dict[str, Any]) -> dict[str, Any]:
        return {"ids": sample["tokens"] + 1, "labels": sample["tokens"].astype(np.float32)}

    for values in (-5, {"ids": -5, "labels": -5.0}):
        loader = DataLoader(ds.map(tokenized), shuffle=True, pad_value=values, bucket_by="tokens", **ROWS, **SMALL)
        for want, batch in zip(loader_of(ds, "rows"), loader, strict=True):
            rest = want["document_ids"] < 0
            assert np.array_equal(batch["ids"], np.where(rest, -5, want["tokens"] + 1))
            assert np.array_equal(batch["labels"], np.where(rest, -5, want["tokens"]))
            assert np.array_equal(batch["cu_seqlens"], want["cu_seqlens"])


@every_kind
def test_samples_that_fail_are_skipped(ds: ShardDataset, kind: str) -> None:
    def refuse(sample: dict[str, Any]) -> dict[str, Any]:
        if len(sample["tokens"]) and sample["tokens"][0] % 100 == 7:
            raise ValueError("a bad sample")
        return sample

    loader = loader_of(ds.map(refuse) if "sequence_length" not in BINS[kind] else ds, kind, on_error="skip")
    if "sequence_length" in BINS[kind]:
        loader = DataLoader(ds._only(["tokens"]).map(refuse), shuffle=True, on_error="skip", **SMALL, **BINS[kind])
    found = {number for batch in epoch(loader) for row in batch for number, _ in row}
    expected = {
        n for n, length in enumerate(LENGTHS.tolist()) if n % 100 != 7 and (length or "number" in loader.dataset.schema)
    }
    assert found == expected
    assert loader.stats.skipped >= 9
