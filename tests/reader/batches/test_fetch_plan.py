"""Windows: any blocks at hand at once, from the maps or from an arena, checked before anything is read from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, CorruptError, DatasetWriter, Scalar, Schema, ShardDataset, Text
from recordio.reader.batches.fetch_plan import FetchPlan, Run, Work
from recordio.reader.batches.memory import Arena, arenas_of
from recordio.reader.page_table import PageTable
from tests.effort import examples
from tests.open_files import open_files
from tests.strategies import Sample, same_columns

SCHEMA = Schema(
    {
        "number": Scalar("int64"),
        "maybe": Array("int16", (2,), optional=True),
        "text": Text(),
        "noise": Array("uint8", (40,)),
    }
)
BLOCK, SHARD, SHARDS = 4, 12, 11
NOISE = np.random.default_rng(0).integers(0, 256, (SHARD * SHARDS, 40), np.uint8)


def row(i: int) -> Sample:
    maybe = None if i % 3 == 0 else np.full(2, i, np.int16)
    return {"number": np.int64(i), "maybe": maybe, "text": f"{i:03} " * 20, "noise": NOISE[i]}


ROWS = [row(i) for i in range(SHARD * SHARDS)]


@pytest.fixture(scope="module", params=["plain", "coded", "mixed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven shards of three blocks of four samples; "mixed" has plain, narrow and zstd pages."""
    path: Path = tmp_path_factory.mktemp("data")
    compression = {"plain": None, "coded": "zstd:1", "mixed": "auto"}[request.param]
    with DatasetWriter(path, SCHEMA, compression=compression, shard_samples=SHARD, block_bytes=400) as writer:
        for sample in ROWS:
            writer.write(sample)
    store = ShardDataset(path).store
    assert {entry.runs for entry in store.manifest.shards} == {((BLOCK, SHARD // BLOCK),)}
    codecs = set(store.shard(0).index.pages["codec"].ravel().tolist())
    assert codecs == {None: {0}, "zstd:1": {0, 1}, "auto": {0, 1, 2}}[compression]
    return path


def alone(work: Iterable[Work]) -> None:
    for piece in work:
        piece()


def plan_of(ds: ShardDataset, blocks: Any) -> FetchPlan:
    return FetchPlan(ds.store, ds.fields, np.array(blocks, np.int64))


def load(ds: ShardDataset, blocks: list[int], arena: Arena | None = None) -> PageTable:
    return loaded(plan_of(ds, blocks), arena or Arena())


def loaded(load: FetchPlan, arena: Arena, run: Run = alone) -> PageTable:
    return load.load(arena.reserve(load.layout.nbytes), run)


def samples_of(blocks: list[int]) -> tuple[Any, Any, list[Sample]]:
    """Slot, row and sample of all that is in these blocks, mixed."""
    slot, rows = np.repeat(np.arange(len(blocks)), BLOCK), np.tile(np.arange(BLOCK), len(blocks))
    order = np.random.default_rng(len(blocks)).permutation(len(slot))
    slot, rows = slot[order], rows[order]
    return slot, rows, [ROWS[blocks[s] * BLOCK + r] for s, r in zip(slot.tolist(), rows.tolist(), strict=True)]


BLOCKS = SHARD // BLOCK * SHARDS


@examples(40)
@given(
    st.lists(st.integers(0, BLOCKS - 1), min_size=1, unique=True),
    st.sampled_from(["mmap", "pread", "direct"]),
    st.sampled_from([1, 2, None]),
)
def test_window_of_any_blocks_has_their_samples(folder: Path, blocks: list[int], io: Any, most: int | None) -> None:
    ds = ShardDataset(folder, io=io, max_open_shards=most)
    slot, rows, want = samples_of(blocks)
    window = load(ds, blocks)
    assert same_columns(window.take(slot, rows), want, SCHEMA)
    assert same_columns(window.take(slot[:1], rows[:1]), want[:1], SCHEMA)
    assert same_columns(load(ds, blocks).take(slot, rows), want, SCHEMA)


@pytest.mark.parametrize("compression", [None, "zstd:1"])
def test_large_values_of_several_shards_keep_their_order(tmp_path: Path, compression: str | None) -> None:
    shape = (1 << 8, 1 << 9)  # copied one by one
    schema = Schema({"large": Array("uint8", shape), "maybe": Array("uint8", shape, optional=True)})
    with DatasetWriter(tmp_path, schema, compression=compression, shard_samples=3, block_bytes=1) as writer:
        for i in range(9):
            maybe = None if i % 4 == 1 else np.full(shape, 9 - i, np.uint8)
            writer.write({"large": np.full(shape, i, np.uint8), "maybe": maybe})
    window = load(ShardDataset(tmp_path), list(range(9)))
    slots, rows = np.array([8, 0, 4, 4, 1, 7]), np.zeros(6, np.int64)
    columns = window.take(slots, rows)
    assert columns["large"][:, 5, 5].tolist() == slots.tolist()
    assert columns["large"].shape == (6, *shape)
    assert columns["maybe"][:, 5, 5].tolist() == [1, 9, 5, 5, None, 2]
    columns["large"][:] = 99
    assert window.take(slots, rows)["large"][:, 5, 5].tolist() == slots.tolist()


def test_window_of_some_fields_has_only_these_fields(folder: Path) -> None:
    ds = ShardDataset(folder, fields=["text", "number"])
    slot, rows, want = samples_of([0, 5])
    assert same_columns(
        load(ds, [0, 5]).take(slot, rows), [{k: s[k] for k in ("text", "number")} for s in want], ["text", "number"]
    )


def test_threads_may_load_a_window_together(folder: Path) -> None:
    blocks = list(range(BLOCKS))
    slot, rows, want = samples_of(blocks)
    for io in ("mmap", "pread", "direct"):
        ds = ShardDataset(folder, io=io, max_open_shards=2)  # type: ignore[arg-type]
        with ThreadPoolExecutor(4) as pool:

            def together(work: Iterable[Work], pool: ThreadPoolExecutor = pool) -> None:
                for task in [pool.submit(piece) for piece in work]:
                    task.result()

            window = loaded(plan_of(ds, blocks), Arena(), together)
        assert same_columns(window.take(slot, rows), want, SCHEMA)


def test_has_work_until_every_page_is_in_place_and_checked(folder: Path) -> None:
    ds = ShardDataset(folder)
    plain = bool((ds.store.shard(0).index.pages["codec"] == 0).all())
    assert plan_of(ds, [0, 1]).has_work
    load(ds, [0, 1])
    assert plan_of(ds, [0, 1]).has_work != plain
    assert plan_of(ds, [1, 2]).has_work
    assert plan_of(ShardDataset(folder, verify="always"), [0, 1]).has_work


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_few_pages_that_have_been_read_before_are_quick(tmp_path: Path, io: Any) -> None:
    with DatasetWriter(tmp_path / "ds", {"text": Text()}, compression="zstd", block_bytes=20_000) as writer:
        for number in range(400):
            writer.write({"text": f"{number:05} " * 500})
    ds = ShardDataset(tmp_path / "ds", io=io)
    some, every = [0, 1, 2], list(range(len(ds.store.blocks.nbytes)))
    assert not plan_of(ds, some).is_quick
    load(ds, every)
    assert plan_of(ds, some).is_quick == (io == "mmap")
    assert not plan_of(ds, every).is_quick


@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
@pytest.mark.parametrize("shards", [1, SHARDS])
def test_damage_is_found_before_samples_are_taken(folder: Path, tmp_path: Path, io: Any, shards: int) -> None:
    shutil.copytree(folder, tmp_path / "own")
    index = ShardDataset(folder).store.shard(0).index
    for column, name in enumerate(SCHEMA):
        at = int(index.page_offsets[1, column])
        path = tmp_path / "own" / "shard-00000.rio"
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        ds = ShardDataset(tmp_path / "own", io=io)
        blocks = [1, *range(3, 3 * shards, 3)]
        for _ in range(2):  # an error is no proof
            window = load(ds, blocks)
            if shards > 1:  # the damage concerns its own block alone
                window.take(np.arange(1, len(blocks)), np.zeros(len(blocks) - 1, np.int64))
            with pytest.raises(CorruptError, match="page checksum mismatch") as caught:
                window.take(np.array([0]), np.array([0]))
            place = caught.value.place
            assert (place.file, place.block, place.field, place.byte) == ("shard-00000.rio", 1, name, at)
        assert not load(ds, [0, 2]).failed
        data[at] ^= 1
        path.write_bytes(data)


def test_taken_samples_do_not_change_when_the_arena_is_reused(folder: Path) -> None:
    ds, arena = ShardDataset(folder, io="pread"), Arena()
    kept = []
    for start in range(0, BLOCKS - 2, 3):
        blocks = [start, start + 2, start + 1]
        slot, rows, want = samples_of(blocks)
        kept.append((load(ds, blocks, arena).take(slot, rows), want))
    for batch, want in kept:
        assert same_columns(batch, want, SCHEMA)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 warns of any fork with threads
def test_a_forked_child_does_not_write_into_its_parents_arenas(folder: Path) -> None:
    ds = ShardDataset(folder, io="pread")
    arena = arenas_of(ds.store).take()
    slot, rows, want = samples_of([0, 1])
    window = load(ds, [0, 1], arena)
    arenas_of(ds.store).give_back(arena)
    child = os.fork()
    if child == 0:
        load(ds, [7, 8], arenas_of(ds.store).take())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert same_columns(window.take(slot, rows), want, SCHEMA)


def test_a_dropped_window_keeps_no_file_open(folder: Path) -> None:
    window = load(ShardDataset(folder), [0, 4, 8])
    del window
    assert not open_files(folder)
