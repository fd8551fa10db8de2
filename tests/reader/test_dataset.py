"""`ShardDataset`: every way of asking gives the same samples, and a view is a view."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from strategies import Sample, png, same_columns, same_samples, samples, schemas

import recordio
from recordio import (
    Array,
    CorruptError,
    DatasetError,
    DatasetWriter,
    DecodeError,
    Image,
    Scalar,
    Schema,
    SchemaError,
    ShardDataset,
    Text,
)

OPTIONS = [{"io": io, "compression": coded} for io in ("mmap", "pread") for coded in (None, "zstd")]


def write(folder: Path | str, rows: list[Sample], schema: Any = None, **options: Any) -> Path:
    with DatasetWriter(folder, schema, **options) as writer:
        for row in rows:
            writer.write(row)
    return Path(folder)


def row(number: int) -> Sample:
    return {"number": number, "text": f"n{number}", "vector": np.full(3, number, np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """100 samples in blocks of a few, in five shards."""
    return write(tmp_path / "it", [row(n) for n in range(100)], block_bytes=64, shard_samples=20)


@settings(max_examples=60)
@given(
    schema=schemas(),
    count=st.integers(0, 40),
    seed=st.integers(0, 2**32),
    options=st.sampled_from(OPTIONS),
    block_bytes=st.sampled_from([1, 100, 1 << 20]),
    shard_samples=st.sampled_from([None, 1, 7]),
)
def test_what_was_written_is_read_in_every_way(
    schema: Schema, count: int, seed: int, options: dict[str, Any], block_bytes: int, shard_samples: int | None
) -> None:
    random = Random(seed)
    rows = samples(schema, count, random)
    with TemporaryDirectory() as name:
        write(
            name, rows, schema, compression=options["compression"], block_bytes=block_bytes, shard_samples=shard_samples
        )
        ds = ShardDataset(name, io=options["io"], decode=None, max_open_shards=2)
        asked = [random.randrange(-count, count) for _ in range(2 * count)]
        wanted = [rows[i] for i in asked]
        assert len(ds) == count
        assert ds.schema == schema
        assert same_samples(ds, rows)
        assert same_samples((ds[i] for i in asked), wanted)
        assert same_samples(ds.__getitems__(asked), wanted)
        assert same_columns(ds.take(asked), wanted, schema)
        assert all(same_columns({key: ds.column(key)}, rows, [key]) for key in schema)
        assert same_samples(ds[1::2], rows[1::2])
        assert same_samples(ds[::-3], rows[::-3])
        assert same_samples(ds.select(asked)[2:], wanted[2:])
        assert all(same_samples((ds[i] for i in range(k, k + 1)), rows[k : k + 1]) for k in range(count))


class TestIndices:
    @pytest.mark.parametrize("wrong", [100, -101, 2**70])
    def test_an_index_outside_is_an_index_error(self, folder: Path, wrong: int) -> None:
        ds = ShardDataset(folder)
        with pytest.raises((IndexError, SchemaError)):
            ds.take([0, wrong])
        with pytest.raises(IndexError, match="of a dataset of 100"):
            ds[wrong]

    @pytest.mark.parametrize("wrong", ["text", 1.5, None, (1, 2)])
    def test_what_is_no_index_is_a_type_error(self, folder: Path, wrong: Any) -> None:
        with pytest.raises(TypeError):
            ShardDataset(folder)[wrong]

    @pytest.mark.parametrize("wrong", [[1.5], ["a"], [[1, 2]], 3])
    def test_what_are_no_indices_is_a_schema_error(self, folder: Path, wrong: Any) -> None:
        with pytest.raises(SchemaError, match="one-dimensional"):
            ShardDataset(folder).take(wrong)

    def test_numpy_integers_of_any_kind_are_indices(self, folder: Path) -> None:
        ds = ShardDataset(folder)
        assert ds[np.int32(5)]["number"] == 5  # type: ignore[call-overload]
        assert ds.take(np.array([5, 7], np.uint8))["number"].tolist() == [5, 7]
        assert ds.select(np.array([-1], np.int16))[0]["number"] == 99

    def test_a_sample_owns_its_arrays(self, folder: Path) -> None:
        ds = ShardDataset(folder)
        ds[3]["vector"][:] = -1
        ds.take([3])["vector"][:] = -1
        assert ds[3]["vector"].tolist() == [3, 3, 3]


class TestFields:
    def test_only_the_chosen_fields_are_read_and_in_that_order(self, folder: Path) -> None:
        ds = ShardDataset(folder, fields=["text", "number"])
        assert list(ds[4].items()) == [("text", "n4"), ("number", 4)]
        assert list(ds.schema) == ["text", "number"]

    def test_an_unknown_field_is_named_with_those_there_are(self, folder: Path) -> None:
        for ask in (lambda: ShardDataset(folder, fields=["nix"]), lambda: ShardDataset(folder).column("nix")):
            with pytest.raises(SchemaError, match="'nix'; there are number, text, vector"):
                ask()

    def test_damage_in_a_field_that_is_not_read_is_not_met(self, folder: Path) -> None:
        (problem,) = damage(folder, "vector")
        assert ShardDataset(folder, fields=["number"]).column("number").tolist() == list(range(100))
        with pytest.raises(CorruptError) as caught:
            ShardDataset(folder).column("vector")
        assert caught.value.place == problem.place


def damage(folder: Path, field: str) -> tuple[recordio.RecordIOError, ...]:
    """Breaks the first page of a field; what verify says of it."""
    file = folder / "shard-00000.rio"
    data = bytearray(file.read_bytes())
    shard = ShardDataset(folder).store.shard(0)
    data[int(shard.index.page_offsets[0, list(shard.schema).index(field)])] ^= 1
    file.write_bytes(data)
    problems = recordio.verify(folder).problems
    assert [problem.place.field for problem in problems] == [field]
    return problems


class TestVerify:
    def test_first_finds_damage_at_the_first_touch_and_never_does_not(self, folder: Path) -> None:
        damage(folder, "number")
        with pytest.raises(CorruptError, match="page checksum mismatch: stored 0x"):
            ShardDataset(folder)[0]
        with pytest.raises(CorruptError, match=r"shard-00000.rio, block 0, field 'number', byte \d+"):
            ShardDataset(folder).take([0])
        assert ShardDataset(folder, verify="never")[0]["number"] != 0
        assert ShardDataset(folder)[99]["number"] == 99

    def test_always_finds_damage_that_comes_later(self, folder: Path) -> None:
        first, always = (ShardDataset(folder, verify=v, io="pread", cache_bytes=0) for v in ("first", "always"))
        assert first[0] is not None
        assert always[0] is not None
        shard = first.store.shard(0)
        with (folder / "shard-00000.rio").open("r+b") as file:
            file.seek(int(shard.index.page_offsets[0, 0]))
            file.write(b"\xff")
        always.store.restart()
        with pytest.raises(CorruptError, match="page checksum mismatch"):
            always[0]

    def test_wrong_options_are_told(self, folder: Path) -> None:
        for options in ({"verify": "maybe"}, {"io": "tape"}, {"decode": "webp"}, {"max_open_shards": 0}):
            with pytest.raises(SchemaError):
                ShardDataset(folder, **options)  # type: ignore[arg-type]


class TestViews:
    def test_filter_takes_values_lists_and_functions(self, folder: Path) -> None:
        ds = ShardDataset(folder)
        assert [s["number"] for s in ds.filter(number=7)] == [7]
        assert ds.filter(number=[7, 9, 500]).column("number").tolist() == [7, 9]
        assert ds.filter(text=["n3", "n99"]).column("number").tolist() == [3, 99]
        assert len(ds.filter(lambda c: c["number"] % 2 == 0, fields=["number"])) == 50
        assert ds[::-1].filter(lambda c: c["number"] < 3).column("number").tolist() == [2, 1, 0]
        assert len(ds.filter(lambda c: c["number"] > 3, number=[1, 5])) == 1
        assert len(ds.filter()) == 100

    def test_a_filter_that_gives_no_booleans_is_refused(self, folder: Path) -> None:
        for wrong in (lambda c: c["number"], lambda c: True, lambda c: [True]):
            with pytest.raises(SchemaError, match="boolean array"):
                ShardDataset(folder).filter(wrong)

    def test_a_missing_value_matches_no_filter(self, tmp_path: Path) -> None:
        rows = [{"a": None if n % 2 else n} for n in range(10)]
        ds = ShardDataset(write(tmp_path, rows, {"a": Scalar("int64", optional=True)}))
        assert ds.filter(a=[0, 4]).column("a").tolist() == [0, 4]
        assert ds.filter(lambda c: c["a"] >= 4).column("a").tolist() == [4, 6, 8]

    def test_map_is_applied_in_order_and_its_results_are_collated(self, folder: Path) -> None:
        ds = ShardDataset(folder).map(lambda s: s | {"twice": s["number"] * 2}).map(lambda s: {"x": s["twice"] + 1})
        assert ds[4] == {"x": 9}
        assert ds.take([4, 5])["x"].tolist() == [9, 11]
        assert [s["x"] for s in ds[-2:]] == [197, 199]
        assert ds.column("number")[:3].tolist() == [0, 1, 2]

    def test_an_error_of_a_map_arrives_as_it_is(self, folder: Path) -> None:
        def fail(sample: Sample) -> Sample:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            ShardDataset(folder).map(fail)[0]

    def test_views_of_views_find_their_samples(self, folder: Path) -> None:
        view = ShardDataset(folder)[10:90:2].select([5, 5, -1])[1:]
        assert view.column("number").tolist() == [20, 88]
        assert len(view) == 2
        assert view[-1]["number"] == 88


class TestTravel:
    def test_a_dataset_and_its_views_survive_pickling(self, folder: Path) -> None:
        for ds in (ShardDataset(folder, fields=["number"]), ShardDataset(folder)[5:50:3].select([2, 0])):
            data = pickle.dumps(ds)
            assert same_samples(pickle.loads(data), ds)
            assert len(data) < 1500

    def test_a_dataset_that_changed_is_not_taken_for_the_old_one(self, folder: Path) -> None:
        data = pickle.dumps(ShardDataset(folder))
        with DatasetWriter(folder, mode="append") as writer:
            writer.write(row(100))
        with pytest.raises(CorruptError, match="has changed since"):
            pickle.loads(data)

    def test_a_forked_child_reads_what_its_parent_opened(self, folder: Path) -> None:
        ds = ShardDataset(folder, io="pread")
        assert ds[0]["number"] == 0
        pid = os.fork()
        if pid == 0:
            good = ds.column("number").tolist() == list(range(100))
            os._exit(0 if good else 1)
        assert os.waitpid(pid, 0)[1] == 0

    def test_threads_read_one_dataset(self, folder: Path) -> None:
        ds = ShardDataset(folder, io="pread", cache_bytes=100, max_open_shards=1)
        wrong: list[int] = []

        def read(seed: int) -> None:
            random = Random(seed)
            for _ in range(60):
                asked = [random.randrange(100) for _ in range(9)]
                if ds.take(asked)["number"].tolist() != asked or ds[asked[0]]["text"] != f"n{asked[0]}":
                    wrong.append(seed)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_no_more_shards_are_open_than_allowed(self, folder: Path) -> None:
        ds = ShardDataset(folder, max_open_shards=2)
        for n in range(0, 100, 9):
            assert ds[n]["number"] == n
            assert len(ds.store.shards) <= 2

    def test_a_relative_path_stays_the_same_dataset_elsewhere(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder.parent)
        ds = ShardDataset("it")
        monkeypatch.chdir("/")
        assert ds[50]["number"] == 50


class TestOpening:
    @pytest.mark.parametrize("name", ["nothing", "empty", "file"])
    def test_what_is_no_dataset_is_told_with_its_path(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("x")
        with pytest.raises(DatasetError, match=f"not a recordio dataset.*{name}"):
            ShardDataset(tmp_path / name)

    def test_all_shards_that_are_wrong_are_listed(self, folder: Path) -> None:
        (folder / "shard-00001.rio").unlink()
        (folder / "shard-00003.rio").write_bytes(b"short")
        with pytest.raises(CorruptError) as caught:
            ShardDataset(folder)
        assert "2 shards" in str(caught.value)
        assert "shard-00001.rio" in str(caught.value)
        assert "shard-00003.rio" in str(caught.value)

    def test_the_repr_says_what_it_is(self, folder: Path) -> None:
        assert (
            repr(ShardDataset(folder)[:7]) == f"ShardDataset({str(folder)!r}, 7 samples, fields number, text, vector)"
        )


class TestImages:
    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        schema = {"image": Image("L", optional=True), "pixels": Image(shape=(2, 3)), "name": Text()}
        rows = [{"image": png(n, 4, n), "pixels": np.full((2, 3), n, np.uint8), "name": str(n)} for n in range(1, 5)]
        return write(tmp_path, [*rows, rows[0] | {"image": None}], schema)

    def test_an_image_is_decoded_unless_its_bytes_are_asked_for(self, pictures: Path) -> None:
        ds = ShardDataset(pictures)
        assert ds[2]["image"].shape == (3, 4, 1)
        assert ds[2]["image"].dtype == np.uint8
        assert (ds[2]["image"] == 3).all()
        assert ds.take([0, 4])["image"][1] is None
        assert ds[4]["image"] is None
        assert ds.take([1, 2])["pixels"].shape == (2, 2, 3)
        assert ShardDataset(pictures, decode=None)[2]["image"] == png(3, 4, 3)

    def test_pil_gives_pictures(self, pictures: Path) -> None:
        sample = ShardDataset(pictures, decode="pil")[1]
        assert (sample["image"].size, sample["image"].mode) == ((4, 2), "L")
        assert (sample["pixels"].size, sample["pixels"].mode) == ((3, 2), "L")

    def test_a_picture_that_cannot_be_decoded_is_named(self, tmp_path: Path) -> None:
        rows = [{"image": png(2, 2)}] * 3 + [{"image": png(2, 2)[:-20]}]
        ds = ShardDataset(write(tmp_path, rows, {"image": Image()}, block_bytes=1))
        for ask in (lambda: ds[3], lambda: ds.take([0, 3]), lambda: list(recordio.DataLoader(ds, 4))):
            with pytest.raises(DecodeError) as caught:
                ask()
            place = caught.value.place
            assert (place.file, place.block, place.field, place.sample) == ("shard-00000.rio", 3, "image", 3)


def test_optional_arrays_are_masked_and_their_samples_are_none(tmp_path: Path) -> None:
    rows = [{"x": None if n % 2 else np.full(2, n, np.int16)} for n in range(6)]
    ds = ShardDataset(write(tmp_path, rows, {"x": Array("int16", (2,), optional=True)}, block_bytes=8))
    batch = ds.take([0, 1, 4])["x"]
    assert batch.shape == (3, 2)
    assert batch.mask.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert ds[1]["x"] is None
    assert ds[4]["x"].tolist() == [4, 4]
