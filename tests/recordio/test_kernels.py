"""The kernels in C give what their twins in Python give, and survive whatever is in a buffer."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import recordio
from recordio import Array, Bytes, Scalar, Schema, ShardDataset, Text, kernels
from recordio.format import codec
from recordio.format.fields import Field
from recordio.format.narrow import NarrowPages, may_be_narrow, narrow_page
from recordio.format.page import Pages, encode_page, pages
from recordio.reader.page_cache import PageCache
from recordio.reader.page_table import PageColumn
from tests.effort import examples
from tests.strategies import alike, cells, fields, outcome, same_samples, samples, value

c = kernels.c
needs_kernels = pytest.mark.skipif(c is None, reason=f"kernels in C: {kernels.state}")
texts_and_bytes = st.sampled_from([kind(optional=optional) for kind in (Text, Bytes) for optional in (False, True)])
EXTREMES = [0, 1, 7, 8, 63, 64, 1 << 31, (1 << 63) - 1, -1, -8, -(1 << 63)]


def int64(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def written(field: Field, counts: Sequence[int], random: Random) -> tuple[bytearray, list[int]]:
    """Pages of so many values in one buffer, with other bytes between them, and where each begins."""
    buffer, starts = bytearray(), []
    for count in counts:
        values = [value(field, random) for _ in range(count)]
        starts.append(len(buffer))
        buffer += encode_page(field, [[None if one is None and field.optional else field.pack(one) for one in values]])
        buffer += random.randbytes(random.randrange(30))
    return buffer, starts


def many_pages(field: Field, random: Random, wanted: int) -> tuple[list[Pages], Any, Any]:
    """Five pages, each in a buffer of its own, and the page and the row of so many of their values."""
    groups, counts = [], [4, 1, 9, 30, 2]
    for count in counts:
        buffer, starts = written(field, [count], random)
        groups.append(pages(field, bytes(buffer), int64(*starts), int64(count)))
    slot = np.array([random.randrange(5) for _ in range(wanted)])
    return groups, slot, np.array([random.randrange(counts[k]) for k in slot])


def both(make: Callable[[], Pages]) -> tuple[Pages, Pages]:
    """The same pages, with the kernels and without."""
    twin = make()
    twin.__dict__["kernel"] = None
    return make(), twin


def rows_of(source: Any, first: Sequence[int], slow: Any = lambda number: {"declined": number}) -> Any:
    return c.Rows(int64(*first), bytearray(b"\1" * (len(first) - 1)), ("x",), (source,), slow).sample


def same_lists(got: Any, want: Any) -> bool:
    return len(got) == len(want) and all(map(alike, got, want))


def answer(function: Callable[[], Any]) -> Any:
    """What a call gives, or the type and the words of its error."""
    try:
        found = function()
    except Exception as error:  # noqa: BLE001 - any of them is an answer
        return type(error), str(error)
    return found.tobytes() if isinstance(found, np.ndarray) else found


@needs_kernels
class TestTwins:
    @given(fields(), st.integers(0, 2**32), st.lists(st.integers(1, 9), min_size=1, max_size=4))
    def test_columns_and_single_values_of_any_field_are_alike(self, field: Field, seed: int, counts: list[int]) -> None:
        random = Random(seed)
        buffer, starts = written(field, counts, random)
        fast, twin = both(lambda: pages(field, bytes(buffer), int64(*starts), int64(*counts)))
        every = [(p, r) for p, count in enumerate(counts) for r in range(count)]
        for places in (random.choices(every, k=20), every):  # neighbours are copied together
            page, row = np.array(places).T
            assert same_lists(cells(fast.take(page, row)), cells(twin.take(page, row)))
        sample = rows_of(fast.kernel or fast.get, [0, *np.cumsum(counts).tolist()])
        found = [sample(number) for number in range(len(every))]
        assert all(map(alike, [one["x"] for one in found], [twin.get(*place) for place in every]))

    @given(st.sampled_from("iu"), st.sampled_from([2, 4, 8]), st.booleans(), st.integers(0, 2**32), st.integers(1, 90))
    def test_narrow_values_are_alike(self, kind: str, size: int, is_array: bool, seed: int, count: int) -> None:
        random = Random(seed)
        field = Array(f"{kind}{size}", (3,)) if is_array else Scalar(f"{kind}{size}")
        limits = np.iinfo(field.dtype)
        span = random.choice([one for one in (1, 200, 60_000, (1 << 32) - 1) if one <= limits.max])
        low = random.choice([0, limits.min, limits.max - span])
        values = np.array(
            [low + random.randrange(span + 1) for _ in range(count * (3 if is_array else 1))], field.dtype
        )
        assert may_be_narrow(field)
        stored = narrow_page(field, count, values.tobytes())
        if stored is None:
            return
        width = (len(stored) - size) // len(values)
        fast, twin = both(lambda: NarrowPages(field, stored, int64(0), int64(count), int64(width)))
        sample = rows_of(fast.kernel, [0, count])
        assert all(alike(sample(row)["x"], twin.get(0, row)) for row in range(count))
        assert all(alike(sample(row)["x"], one) for row, one in enumerate(values.reshape(count, *field.shape)))

    @pytest.mark.parametrize("field", [Text(), Text(optional=True), Bytes()], ids=str)
    def test_one_call_takes_from_many_pages(self, field: Field) -> None:
        groups, slot, row = many_pages(field, Random(3), 200)
        column = PageColumn(groups, np.arange(5), np.zeros(5, np.int64))
        with pytest.MonkeyPatch.context() as patch:
            found, ragged = column.take(slot, row), column.ragged(field, slot, row)
            patch.setattr(kernels, "c", None)
            for group in groups:
                group.__dict__["kernel"] = None
            assert same_lists(found, column.take(slot, row))
            assert same_lists(ragged.to_list(), column.ragged(field, slot, row).to_list())
            assert np.array_equal(ragged.offsets, column.ragged(field, slot, row).offsets)

    @pytest.mark.parametrize(
        "field", [Scalar("int16"), Array("float32", (3, 2)), Scalar("int32", optional=True)], ids=str
    )
    def test_one_call_gathers_fixed_values_of_many_pages(self, field: Field) -> None:
        groups, slot, row = many_pages(field, Random(4), 100)
        found = PageColumn(groups, np.arange(5), np.zeros(5, np.int64)).take(slot, row)
        assert same_lists(cells(found), [groups[k].get(0, r) for k, r in zip(slot, row, strict=True)])

    def test_narrow_values_among_others_are_left_to_the_twin(self) -> None:
        values = np.arange(5, dtype="<i4")
        stored = narrow_page(Scalar("int32"), 5, values.tobytes())
        narrow = NarrowPages(Scalar("int32"), stored, int64(0), int64(5), int64(1))
        plain = pages(Scalar("int32"), values.tobytes(), int64(0), int64(5))
        slot, row = int64(0, 1, 0, 1), int64(4, 3, 2, 1)
        out = np.empty(4, "<i4")
        assert not c.gather((narrow.kernel, plain.kernel), slot, np.zeros(4, np.int64), row, out)
        assert PageColumn([narrow, plain], np.arange(2), np.zeros(2, np.int64)).take(slot, row).tolist() == [4, 3, 2, 1]
        assert c.gather((plain.kernel,), None, np.zeros(4, np.int64), row, out)
        assert out.tolist() == [4, 3, 2, 1]
        assert not c.gather((plain.kernel,), None, np.zeros(4, np.int64), row, np.empty(5, "<i4"))

    @pytest.mark.parametrize("stride", [1, -1, 2])
    def test_places_may_have_any_stride(self, stride: int) -> None:
        fast, twin = both(lambda: pages(Text(), _abcd(), int64(0), int64(4)))
        row = np.arange(4)[::stride]
        assert fast.take(np.zeros(4, np.int64)[::stride], row) == twin.take(np.zeros(len(row), np.int64), row)

    @pytest.mark.parametrize("dtype", ["<i8", "=i8", "longlong"])
    def test_places_may_be_int64_by_any_name(self, dtype: str) -> None:
        one = pages(Text(), _abcd(), int64(0), int64(4))
        assert one.take(int64(0, 0).astype(dtype), np.frombuffer(int64(3, 1).tobytes(), dtype)) == ["d", "b"]

    def test_large_values_that_may_stay_in_a_map_are_left_to_the_twin(self) -> None:
        buffer = int64(0, 5000).tobytes() + bytes(5000)
        one = pages(Bytes(), buffer, int64(0), int64(1)).kernel
        offsets = np.empty(2, np.int64)
        assert c.join((one,), None, int64(0), int64(0), 4999, offsets, np.empty(1, bool)) is None
        assert c.join((one,), None, int64(0), int64(0), 5000, offsets, np.empty(1, bool)) == bytes(5000)
        assert offsets.tolist() == [0, 5000]

    @pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 70])
    def test_a_sample_has_any_number_of_fields(self, count: int) -> None:
        one = pages(Text(), _abcd(), int64(0), int64(4)).kernel
        sources = tuple([one, lambda block, row: (block, row)][k % 2] for k in range(count))
        names = tuple(f"field {k}" for k in range(count))
        sample = c.Rows(int64(0, 4), bytearray(b"\1"), names, sources, print).sample
        assert list(sample(2).items()) == [(name, (0, 2) if k % 2 else "c") for k, name in enumerate(names)]
        if count:
            last = c.Rows(int64(0, 4), bytearray(b"\1"), names, (*sources[:-1], [None]), lambda number: "slow").sample
            assert last(2) == "slow"

    def test_strings_of_one_character_are_python_s_own(self) -> None:
        found = pages(Text(), _abcd(), int64(0), int64(4)).take(int64(0, 0), int64(0, 1))
        assert found[0] is b"a".decode()


def _abcd() -> bytes:
    return int64(0, 1, 2, 3, 4).tobytes() + b"abcd"


@needs_kernels
class TestHostileInput:
    @examples(300)
    @given(texts_and_bytes, st.integers(0, 2**32), st.integers(1, 9))
    def test_damaged_pages_give_what_the_twin_gives(self, field: Field, seed: int, count: int) -> None:
        random = Random(seed)
        buffer, starts = written(field, [count], random)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(buffer))
            bad = (
                np.array(random.choice(EXTREMES), np.int64).tobytes() if random.random() < 0.5 else random.randbytes(1)
            )
            buffer[at : at + len(bad)] = bad
        fast, twin = both(lambda: pages(field, bytes(buffer), int64(*starts), int64(count)))
        rows = np.array([random.randrange(count) for _ in range(5)])
        page = np.zeros(5, np.int64)
        assert answer(lambda: fast.take(page, rows)) == answer(lambda: twin.take(page, rows))
        sample = rows_of(fast.kernel or fast.get, [0, count], lambda number: {"x": twin.get(0, number)})
        for row in range(count):
            assert answer(lambda r=row: sample(r)["x"]) == answer(lambda r=row: twin.get(0, r))

    @examples(1000)
    @given(st.integers(0, 2**32))
    def test_no_place_leads_out_of_the_buffer(self, seed: int) -> None:
        random = Random(seed)

        def some(count: int) -> Any:
            return int64(*(random.choice([*EXTREMES, random.randrange(300)]) for _ in range(count)))

        buffer = b"".join(some(1).tobytes() for _ in range(random.randrange(40)))
        form = random.choice(["TEXT", "BYTES", "SCALAR", "ARRAY"])
        dtype = np.dtype(random.choice(["u1", "<i2", "<i4", "<i8", "<c16"]))
        widths = int64(*(random.choice([0, 1, 2, 3, 4, 8, 16, 100, -1]) for _ in range(3)))
        models: dict[str, Any] = {"SCALAR": np.empty(1, dtype), "ARRAY": np.empty((2, 3), dtype)}
        more = () if form not in models else random.choice([(models[form],), (models[form], widths)])
        one = c.Values(buffer, some(3), some(3), some(3), getattr(c, form), random.random() < 0.5, *more)
        rows = some(8)
        for group in (None, some(8), np.zeros(8, np.int64)):
            found = c.take((one,), group, some(8), rows)
            assert found is None or len(found) == 8
            out = np.zeros(8, random.choice(["u1", "<i4", "(2,3)<i2"]))
            assert c.gather((one,), group, some(8), rows, out) in (False, True)
            joined = c.join(
                (one, one),
                group,
                some(8),
                rows,
                random.choice([0, 100, 1 << 62]),
                np.empty(9, np.int64),
                np.empty(8, bool),
            )
            assert joined is None or len(joined) <= 8 * len(buffer)
        first = random.choice([some(4), int64(0, 2, 9, 80)])
        sample = rows_of(random.choice([one, [one, None, weakref.ref(one)], [], [7]]), first)
        for number in (*rows.tolist(), 1 << 70, -(1 << 70)):
            assert sample(number).keys() <= {"x", "declined"}
        assert sample("no number") == {"declined": "no number"}

    @pytest.mark.parametrize(
        "make",
        [
            lambda: c.Values(b"", int64(0), int64(0, 0), int64(0), c.TEXT, False),
            lambda: c.Values(b"", np.zeros(1), int64(0), int64(0), c.TEXT, False),
            lambda: c.Values(b"", int64(0), int64(0), int64(0), 9, False),
            lambda: c.Values(b"", int64(0), int64(0), int64(0), c.ARRAY, False),
            lambda: c.Values(b"", int64(0), int64(0), int64(0), c.SCALAR, False, np.empty(2)),
            lambda: c.Values(b"", int64(0), int64(0), int64(0), c.ARRAY, False, np.empty(0)),
            lambda: c.Values(b"", int64(0), int64(0), int64(0), c.ARRAY, False, b"abc"),
            lambda: c.Values("text", int64(0), int64(0), int64(0), c.TEXT, False),
            lambda: c.Values(b"", 5, int64(0), int64(0), c.TEXT, False),
            lambda: c.Rows(int64(0), bytearray(), (), (), print),
            lambda: c.Rows(int64(0, 1), bytearray(2), (), (), print),
            lambda: c.Rows(int64(0, 1), bytearray(1), ("x",), (), print),
            lambda: c.Rows(int64(0, 1), bytearray(1), ["x"], ["y"], print),
            lambda: c.take((), None, int64(0)),
            lambda: c.take(5, None, int64(0), int64(0)),
            lambda: c.take((), None, int64(0), int64(0, 0)),
            lambda: c.take((), [0], int64(0), int64(0)),
            lambda: c.join((), None, int64(), int64()),
            lambda: c.gather((), None, int64(), int64(), 5),
            lambda: c.gather((), None, int64(), int64()),
            lambda: c.join((), None, int64(), int64(), 5, np.empty(3, np.int64), np.empty(0, bool)),
            lambda: c.join((), None, int64(), int64(), 5, np.empty(1, np.int64), np.empty(4, bool)),
            lambda: c.join((), None, int64(), int64(), 5, b"readonly", np.empty(0, bool)),
            lambda: c.join((), None, int64(), int64(), "many", np.empty(1, np.int64), np.empty(0, bool)),
        ],
    )  # fmt: skip
    def test_wrong_arguments_are_errors(self, make: Callable[[], object]) -> None:
        assert outcome(make) in ("ValueError", "TypeError", "BufferError")

    @pytest.mark.parametrize(
        ("dtype", "width", "nbytes"),
        [
            ("<i2", 4, 80),
            ("<i4", 8, 80),
            ("<i4", 3, 80),
            ("<i4", 0, 80),
            ("<i4", -1, 80),
            ("<c16", 4, 80),
            ("<i4", 2, 20),
            ("<i4", 2, 23),
        ],
    )
    def test_no_width_but_one_of_a_narrow_page_with_room_for_its_base_is_read(
        self, dtype: str, width: int, nbytes: int
    ) -> None:
        model = np.empty(1, dtype)
        one = c.Values(bytes(nbytes), int64(0), int64(0), int64(10), c.SCALAR, False, model, int64(width))
        assert rows_of(one, [0, 10])(9) == {"declined": 9}
        assert not c.gather((one,), None, int64(0), int64(9), np.empty(1, dtype))

    def test_bytes_of_a_missing_value_are_left_to_the_twin(self) -> None:
        content = bytearray(encode_page(Text(optional=True), [[None, b"ab"]]))
        content[64:88] = int64(0, 1, 2).tobytes()
        content[88:] = b"\xffb"
        fast, twin = both(lambda: pages(Text(optional=True), bytes(content), int64(0), int64(2)))
        for each in (fast, twin):
            with pytest.raises(recordio.CorruptError, match="not UTF-8"):
                each.take(int64(0, 0), int64(0, 1))
        assert c.take((fast.kernel,), None, int64(0), int64(0)) is None
        assert rows_of(fast.kernel, [0, 2])(0) == {"declined": 0}

    def test_missing_values_and_values_of_two_forms_are_not_gathered(self) -> None:
        number = pages(Scalar("int32", optional=True), bytes(64) + bytes(8), int64(0), int64(2)).kernel
        assert not c.gather((number,), None, int64(0), int64(1), np.empty(1, "<i4"))
        text, data = (pages(kind, _abcd(), int64(0), int64(4)).kernel for kind in (Text(), Bytes()))
        assert c.take((text, data), int64(0, 1), int64(0, 0), int64(0, 1)) is None
        assert c.take((text, number), int64(0, 1), int64(0, 0), int64(0, 1)) is None

    def test_other_objects_than_values_are_declined(self) -> None:
        assert c.take((1,), None, int64(0), int64(0)) is None
        assert c.take((), None, int64(0), int64(0)) is None


@needs_kernels
class TestMemory:
    def test_nothing_is_leaked_or_freed_too_often(self) -> None:
        buffer, bad = _abcd(), int64(0, 2).tobytes() + b"\xff\xff"
        model, ready = np.empty(3, "u1"), bytearray(b"\1\1")

        def work() -> None:
            text = c.Values(buffer, int64(0), int64(0), int64(4), c.TEXT, False)
            array = c.Values(buffer, int64(0), int64(0), int64(4), c.ARRAY, False, model)
            broken = c.Values(bad, int64(0), int64(0), int64(1), c.TEXT, False)
            c.take((text,), None, int64(0, 0, 0), int64(0, 1, 2))
            c.take((broken,), None, int64(0), int64(0))
            c.join((text,), None, int64(0, 0), int64(0, 3), 9, np.empty(3, np.int64), np.empty(2, bool))
            names, missing = ("a", "b", "c"), [weakref.ref(text), None]
            sample = c.Rows(int64(0, 2, 4), ready, names, (text, array, lambda block, row: row), lambda n: n).sample
            for source in (text, array, broken, missing, [text, text], lambda block, row: 1 // 0):
                one = c.Rows(int64(0, 2, 4), ready, ("a",), (source,), lambda n: n).sample
                one(0), one(3), one(9)
            sample(0), sample(3), sample(9), outcome(lambda: c.Values(buffer, int64(0), 5, 6, c.TEXT, False))

        work()
        gc.collect()
        before = [sys.getrefcount(one) for one in (buffer, bad, model, ready, None)][:4]
        blocks = sys.getallocatedblocks()
        for _ in range(300):
            work()
        gc.collect()
        assert [sys.getrefcount(one) for one in (buffer, bad, model, ready)] == before
        assert sys.getallocatedblocks() - blocks < 200

    def test_arrays_are_new_and_may_be_written_to(self) -> None:
        values = np.arange(8, dtype="<i4")
        sample = rows_of(pages(Array("int32", (4,)), values.tobytes(), int64(0), int64(2)).kernel, [0, 2])
        first = sample(0)["x"]
        first[:] = 7
        assert sample(0)["x"].tolist() == [0, 1, 2, 3]
        assert sample(1)["x"].tolist() == [4, 5, 6, 7]

    def test_a_buffer_lives_as_long_as_its_values(self) -> None:
        memory = bytearray(_abcd())
        one = c.Values(memory, int64(0), int64(0), int64(4), c.BYTES, False)
        with pytest.raises(BufferError):
            memory.append(0)
        assert c.take((one,), None, int64(0), int64(3)) == [b"d"]
        del one
        memory.append(0)


@pytest.fixture
def schema() -> Schema:
    return Schema(
        {"row": Array("int32", (1500,)), "text": Text(), "label": Scalar("int64"), "more": Text(optional=True)}
    )


@pytest.fixture(params=[None, "zstd", "auto"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, schema: Schema) -> tuple[Path, list[dict[str, Any]]]:
    """A dataset of some blocks and shards, and its samples."""
    random = Random(1)
    rows = samples(schema, 300, random)
    for k, row in enumerate(rows):
        row["row"] = np.arange(k, k + 1500, dtype="<i4")
        row["label"] = np.int64(k % 7)
        row["text"] = random.choice("aü") * (k % 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_MIN_CODED_NBYTES", 1)
        with recordio.DatasetWriter(
            tmp_path / "ds", schema, compression=request.param, block_bytes=100_000, shard_bytes=700_000
        ) as writer:
            for row in rows:
                writer.write(row)
    return tmp_path / "ds", rows


def without_kernels(path: Path, **options: Any) -> ShardDataset:
    """A dataset that has made its first samples without kernels, and so reads on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "c", None)
        found = ShardDataset(path, **options)
        list(found)
    return found


class TestDatasets:
    def test_samples_are_alike(self, dataset: tuple[Path, list[dict[str, Any]]]) -> None:
        path, rows = dataset
        for ds in (ShardDataset(path), without_kernels(path), ShardDataset(path, verify="always")):
            for _ in range(2):  # pages are checked and decoded in the first round
                assert same_samples([ds[k] for k in range(len(ds))], rows)

    def test_a_small_cache_gives_pages_back(self, dataset: tuple[Path, list[dict[str, Any]]]) -> None:
        path, rows = dataset
        ds = ShardDataset(path, page_cache_bytes=100_000)
        random = Random(2)
        for _ in range(600):
            k = random.randrange(len(rows))
            assert same_samples([ds[k]], [rows[k]])
        held = sum(page.nbytes for page in ds.store.page_cache._pages.values())
        assert held <= 100_000 + 200_000

    def test_threads_get_their_own_values(self, dataset: tuple[Path, list[dict[str, Any]]]) -> None:
        """NumPy copies large arrays without the interpreter's lock."""
        path, rows = dataset
        ds, wrong = ShardDataset(path), []

        def read(seed: int) -> None:
            random = Random(seed)
            for _ in range(800):
                k = random.randrange(len(rows))
                if not same_samples([ds[k]], [rows[k]]):
                    wrong.append(k)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_offsets_that_change_under_the_map_end_as_without_kernels(self, tmp_path: Path) -> None:
        with recordio.DatasetWriter(tmp_path / "ds", {"text": Text()}, compression=None) as writer:
            for k in range(50):
                writer.write({"text": f"number {k}"})
        ds, twin = ShardDataset(tmp_path / "ds"), without_kernels(tmp_path / "ds")
        assert ds[7] == twin[7] == {"text": "number 7"}
        (shard,) = (tmp_path / "ds").glob("*.rio")
        start = int(ds.store.shard(0).index.page_offsets[0, 0])
        for offset in (-1, 1 << 62, 3):
            with open(shard, "r+b") as file:
                file.seek(start + 8 * 8)
                file.write(int64(offset).tobytes())
            assert answer(lambda: ds[7]) == answer(lambda: twin[7])
            assert answer(lambda: ds.take([7, 8])) == answer(lambda: twin.take([7, 8]))

    def test_broken_text_is_an_error_that_says_where(self, tmp_path: Path) -> None:
        with recordio.DatasetWriter(tmp_path / "ds", {"text": Text()}, compression=None) as writer:
            writer.write({"text": "fine"})
            writer.write({"text": "ab"})
        (shard,) = (tmp_path / "ds").glob("*.rio")
        content = shard.read_bytes()
        shard.write_bytes(content.replace(b"fineab", b"fine\xff\xfe"))
        ds = ShardDataset(tmp_path / "ds", verify="never")
        assert ds[0] == {"text": "fine"}
        with pytest.raises(recordio.CorruptError, match=r"not UTF-8.*block 0, field 'text'"):
            ds[1]
        with pytest.raises(recordio.CorruptError, match=r"not UTF-8.*block 0, field 'text'"):
            ds.take([0, 1])


@needs_kernels
def test_the_cache_spares_a_page_that_the_kernels_read() -> None:
    cache = PageCache(100)

    def get(number: int) -> Pages:
        return cache((0, number, 0), lambda: pages(Bytes(), int64(0, 24).tobytes() + bytes(24), int64(0), int64(1)))

    first, _ = get(1), get(2)
    rows_of(first.kernel, [0, 1])(0)
    hits = cache.hits
    assert hits == 1
    get(3)
    assert (cache.holds((0, 1, 0)), cache.holds((0, 2, 0)), cache.holds((0, 3, 0))) == (True, False, True)
    get(4)
    assert (cache.holds((0, 1, 0)), cache.holds((0, 3, 0))) == (False, True)
    assert cache.hits == hits


class TestSwitch:
    def run(self, code: str, **environment: str) -> str:
        words = [sys.executable, "-c", code]
        out = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        return out.stdout.strip()

    def test_the_environment_leaves_them_out(self) -> None:
        code = "from recordio import kernels; print(kernels.c, kernels.state)"
        assert self.run(code, RECORDIO_KERNELS="0") == "None left out, since RECORDIO_KERNELS is 0"

    def test_all_is_well_where_they_were_not_built(self) -> None:
        code = "import sys; sys.modules['recordio._kernels'] = None; from recordio import kernels; print(kernels.state)"
        assert "not built when recordio was installed" in self.run(code, RECORDIO_KERNELS="1")

    def test_an_import_of_the_package_does_not_load_them(self) -> None:
        code = "import sys, recordio, recordio.tools.main; print('recordio._kernels' in sys.modules)"
        assert self.run(code, RECORDIO_KERNELS="1") == "False"


@needs_kernels
def test_paths_that_are_cut_from_outside_the_names_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "ab").write_bytes(b"xyz")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        read = lambda names, start, end: c.read_files(folder, names, int64(start), int64(end), int64(3))  # noqa: E731
        assert read(b"ab", 0, 2) == [b"xyz"]
        assert read(b"ab\0c", 0, 4) == [None]  # not the file whose name ends at the zero
        for start, end in ((0, 0), (1, 0), (-1, 2), (0, 3), *((n, m) for n in EXTREMES for m in EXTREMES)):
            assert read(b"abab", start, end) == [None]
        with pytest.raises(ValueError, match="of one length"):
            c.read_files(folder, b"ab", int64(0), int64(2), int64(3, 3))
        for wrong in ((folder, b"ab"), ("x", b"ab", *[int64(0)] * 3), (folder, "ab", *[int64(0)] * 3)):
            with pytest.raises(TypeError):
                c.read_files(*wrong)
    finally:
        os.close(folder)
