"""`ShardDataset`: written samples read back by every access, alone, in views, and across processes."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image as PIL
from xxhash import xxh3_128_hexdigest

from recordio import (
    Array,
    CorruptError,
    DatasetError,
    DatasetWriter,
    DecodeError,
    Image,
    Object,
    Scalar,
    Schema,
    SchemaError,
    ShardDataset,
    Text,
)
from recordio.determinism import key, permutation
from recordio.reader import dataset as dataset_module, view as view_module
from recordio.reader.order.numbers import wide
from tests.effort import examples
from tests.open_files import open_files
from tests.strategies import Sample, alike, cells, png, same_columns, same_samples, samples, schemas

COUNT = 90
CLASSES = {"classes": ["cat", "dog", "owl"]}


def pet(i: int) -> Sample:
    """A sample with every sort of column: fixed and variable, optional and not."""
    return {
        "number": np.int64(i),
        "label": np.int8(i % 3),
        "score": None if i % 5 == 4 else np.float32(i / 2),
        "vector": np.arange(3, dtype=np.float32) + i,
        "name": f"pet {i}",
        "note": None if i % 2 else "even",
        "tags": ["a"] * (i % 3),
    }


SCHEMA = Schema(
    {
        "number": Scalar("int64"),
        "label": Scalar("int8"),
        "score": Scalar("float32", optional=True),
        "vector": Array("float32", (3,)),
        "name": Text(),
        "note": Text(optional=True),
        "tags": Object(),
    }
)
PETS = [pet(i) for i in range(COUNT)]


def write(path: Path | str, schema: Schema, rows: Sequence[Sample], **options: Any) -> None:
    with DatasetWriter(path, schema, **options) as writer:
        for row in rows:
            writer.write(row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of several blocks; pages both plain and coded."""
    path = tmp_path_factory.mktemp("pets")
    write(path, SCHEMA, PETS, metadata=CLASSES, block_bytes=400, shard_samples=33)
    index = ShardDataset(path).store.shard(0).index
    assert len(index.samples) > 1
    assert set(index.pages["codec"].ravel().tolist()) == {0, 1, 2}
    return path


@pytest.fixture
def ds(folder: Path) -> ShardDataset:
    return ShardDataset(folder)


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(folder, tmp_path / "own")
    return tmp_path / "own"


# Reading back


READING = st.fixed_dictionaries(
    {
        "io": st.sampled_from(["mmap", "pread", "direct"]),
        "verify": st.sampled_from(["first", "always", "never"]),
        "page_cache_bytes": st.sampled_from([0, 500, 1 << 20]),
        "max_open_shards": st.sampled_from([None, 1, 2]),
    }
)
WRITING = st.fixed_dictionaries(
    {
        "compression": st.sampled_from([None, "auto", "zstd"]),
        "block_bytes": st.sampled_from([1, 100, 1 << 18]),
        "shard_samples": st.sampled_from([None, 2, 7]),
    }
)


@examples(150)
@given(schemas(), st.integers(0, 25), st.integers(0, 2**32), WRITING, READING, st.data())
def test_samples_of_any_schema_read_back_by_every_access(
    schema: Schema, count: int, seed: int, writing: Any, reading: Any, data: st.DataObject
) -> None:
    rows = samples(schema, count, Random(seed))
    indices = data.draw(st.lists(st.integers(-count, count - 1), max_size=12)) if count else []
    part = data.draw(st.slices(count))
    name = data.draw(st.sampled_from(list(schema)))
    with TemporaryDirectory() as folder:
        write(folder, schema, rows, **writing)
        ds = ShardDataset(folder, decode=None, **reading)
        assert (len(ds), ds.schema) == (count, schema)
        assert same_columns(ds.take(indices), [rows[i] for i in indices], schema)
        assert same_samples(ds, rows)
        assert same_samples([ds[i] for i in range(count)], rows)
        assert same_samples([ds[i] for i in indices], [rows[i] for i in indices])
        assert same_samples(ds.__getitems__(indices), [rows[i] for i in indices])
        view = ds[part]
        assert len(view) == len(rows[part])
        assert same_samples(view, rows[part])
        assert same_samples([view[i] for i in range(len(view))], rows[part])
        chosen = ds.select(indices)
        assert same_samples(chosen, [rows[i] for i in indices])
        assert same_columns(chosen.take(range(len(indices))), [rows[i] for i in indices], schema)
        assert same_columns({name: ds.column(name)}, rows, [name])
        assert same_columns({name: view.column(name)}, rows[part], [name])
        fewer = ShardDataset(folder, fields=[name], decode=None, **reading)
        assert same_samples(fewer, [{name: row[name]} for row in rows])


def test_column_types_follow_the_schema(ds: ShardDataset) -> None:
    batch = ds.take([3, 4, 5])
    assert {name: type(column) for name, column in batch.items()} == {
        "number": np.ndarray,
        "label": np.ndarray,
        "score": np.ma.MaskedArray,
        "vector": np.ndarray,
        "name": list,
        "note": list,
        "tags": list,
    }
    assert (batch["vector"].dtype, batch["vector"].shape) == (np.float32, (3, 3))
    assert batch["score"].mask.tolist() == [False, True, False]
    assert batch["note"] == [None, "even", None]


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("options", [{}, {"io": "pread"}], ids=str)
def test_empty_requests_return_empty_columns(tmp_path: Path, count: int, options: Any) -> None:
    for compression, shard_samples in ((None, None), ("zstd", None), (None, 2)):
        path = tmp_path / f"{compression}-{shard_samples}"
        write(path, SCHEMA, PETS[:count], compression=compression, shard_samples=shard_samples)
        ds = ShardDataset(path, **options)
        for nothing in (ds.take([]), ds.take(np.zeros(0, np.int64)), ds[0:0].take(range(0)), ds.select([]).take([])):
            assert {name: len(column) for name, column in nothing.items()} == dict.fromkeys(SCHEMA, 0)
            assert nothing["vector"].shape == (0, 3)
            assert nothing["vector"].dtype == np.float32
            assert isinstance(nothing["score"], np.ma.MaskedArray)
        assert ds.__getitems__([]) == []
        assert list(ds[0:0]) == []
        assert ds[0:0].column("note") == []
        assert ds[0:0].column("vector").shape == (0, 3)
        assert len(ds[0:0].filter(label=1)) == 0


def test_returned_arrays_are_copies(folder: Path) -> None:
    for options in ({}, {"io": "pread"}):
        ds = ShardDataset(folder, **options)  # type: ignore[arg-type]
        ds[3]["vector"][:] = 99
        ds.take([3])["vector"][:] = 99
        ds.__getitems__([3])[0]["vector"][:] = 99
        ds.column("vector")[:] = 99
        next(iter(ds[3:]))["vector"][:] = 99
        ds.take([3])["tags"][0].append(3)
        assert same_samples([ds[3], ds[3:][0]], [PETS[3], PETS[3]])


def test_metadata_and_schema_read_back(ds: ShardDataset) -> None:
    assert ds.metadata == CLASSES
    assert ds.schema == SCHEMA
    assert list(ds.schema) == list(SCHEMA)
    assert ds[3:9].metadata == CLASSES


def test_repr_names_path_length_and_fields(ds: ShardDataset, folder: Path) -> None:
    text = repr(ds[:7])
    assert str(folder) in text
    assert "7 samples" in text
    assert "vector" in text


def test_repr_is_printable_whatever_the_fields_are_called(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "it") as writer:
        writer.write({"a\x1b[2J\n\u202e": 1})
    assert "fields a\\x1b[2J\\n\\u202e" in repr(ShardDataset(tmp_path / "it"))


# Indices


def test_negative_indices_count_from_the_end(ds: ShardDataset) -> None:
    assert ds[-1]["number"] == COUNT - 1
    assert ds[10:20][-1]["number"] == 19
    assert ds.take([-1, 0, -COUNT])["number"].tolist() == [COUNT - 1, 0, 0]
    assert ds.select([5, 6])[-2]["number"] == 5


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1, 2**70, -(2**70), np.int64(COUNT)], ids=str)
def test_index_out_of_range_is_an_index_error(ds: ShardDataset, index: int) -> None:
    for view in (ds, ds[::-1], ds.select(range(COUNT))):
        with pytest.raises(IndexError):
            view[index]
    if abs(index) < 2**63:
        with pytest.raises(IndexError, match=f"sample {index} of a dataset of {COUNT}"):
            ds.take([0, index])
        with pytest.raises(IndexError):
            ds.select([index])
        with pytest.raises(IndexError):
            ds.__getitems__([index])


def test_unsigned_index_does_not_wrap_around(ds: ShardDataset) -> None:
    for index in (2**64 - 1, 2**63):
        with pytest.raises(IndexError):
            ds.take(np.array([index], np.uint64))


@pytest.mark.parametrize("index", [np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_every_integer_like_index_is_accepted(ds: ShardDataset, index: Any) -> None:
    for view in (ds, ds[::1], ds.select(range(9))):
        assert view[index]["number"] == int(index)


@pytest.mark.parametrize(
    "indices", [3, [1.5], ["a"], [None], [[1, 2]], np.zeros((2, 2), int), {1, 2}, [True, False], None, "12"], ids=repr
)
def test_batch_indices_other_than_integer_lists_are_refused(ds: ShardDataset, indices: Any) -> None:
    for ask in (ds.take, ds.select, ds.__getitems__):
        with pytest.raises((SchemaError, TypeError)):
            ask(indices)


@pytest.mark.parametrize(
    "indices", [[3, 1], (3, 1), range(3, 0, -2), np.array([3, 1], np.uint8), np.array([3, 1], ">i4"), [np.int64(3), 1]]
)
def test_batch_indices_may_be_any_integer_sequence(ds: ShardDataset, indices: Any) -> None:
    for view in (ds, ds[:50], ds.select(range(9))):
        assert view.take(indices)["number"].tolist() == [3, 1]
        assert [row["number"] for row in view.__getitems__(indices)] == [3, 1]


def test_views_of_views_are_views(ds: ShardDataset) -> None:
    view = ds[10:80:2][::-1][3:30].select([0, 0, -1, 5])[1:]
    want = list(range(10, 80, 2))[::-1][3:30]
    assert [row["number"] for row in view] == [want[0], want[-1], want[5]]


# Fields


def test_view_copies_its_indices(ds: ShardDataset) -> None:
    indices = np.arange(COUNT)
    view, reversed_half = ds.select(indices), ds.select(indices[::-2])
    indices[:] = 7
    assert numbers(view) == list(range(COUNT))
    assert numbers(reversed_half) == list(range(COUNT))[::-2]


def test_fields_selects_and_orders_the_columns(folder: Path) -> None:
    ds = ShardDataset(folder, fields=["name", "label"])
    assert list(ds.schema) == list(ds[0]) == list(ds.take([0])) == ["name", "label"]
    assert ShardDataset(folder, fields="label")[1] == {"label": 1}


@pytest.mark.parametrize("fields", [["nothing"], ["label", "nothing"], [], ()], ids=str)
def test_unknown_or_empty_fields_are_refused(folder: Path, fields: Any) -> None:
    with pytest.raises(SchemaError):
        ShardDataset(folder, fields=fields)


def test_unknown_column_is_refused_by_name(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="'nothing'; there are number, label"):
        ds.column("nothing")


def test_pages_of_other_fields_are_not_read(own: Path) -> None:
    store = ShardDataset(own).store
    for number, entry in enumerate(store.manifest.shards):
        with open(own / entry.name, "r+b") as file:
            for at in store.shard(number).index.page_offsets[:, 4].tolist():
                file.seek(at)
                file.write(b"\xff" * 8)
    ds = ShardDataset(own, fields=["number", "note"])
    assert ds.column("number").tolist() == list(range(COUNT))
    assert len(list(ds)) == COUNT
    assert len(ShardDataset(own).filter(label=1)) == 30
    with pytest.raises(CorruptError) as caught:
        ShardDataset(own).column("name")
    assert caught.value.place.field == "name"


# Filter and map


def numbers(view: ShardDataset) -> list[int]:
    return [int(row["number"]) for row in view]


@pytest.mark.parametrize(
    ("equal", "want"),
    [
        ({"label": 1}, [i for i in range(COUNT) if i % 3 == 1]),
        ({"label": np.int64(1)}, [i for i in range(COUNT) if i % 3 == 1]),
        ({"label": [0, 2]}, [i for i in range(COUNT) if i % 3 != 1]),
        ({"label": np.array([0, 2])}, [i for i in range(COUNT) if i % 3 != 1]),
        ({"label": {0, 2}}, [i for i in range(COUNT) if i % 3 != 1]),
        ({"label": 7}, []),
        ({"label": []}, []),
        ({"label": 1, "number": range(9)}, [1, 4, 7]),
        ({"name": "pet 7"}, [7]),
        ({"name": ["pet 7", "pet 3", "none"]}, [3, 7]),
        ({"note": "even"}, list(range(0, COUNT, 2))),
        ({"note": None}, list(range(1, COUNT, 2))),
        ({"score": 1.5}, [3]),
        ({"score": 0.0}, [0]),
        ({"score": None}, list(range(4, COUNT, 5))),
        ({"score": [None, 1.5]}, [3, *range(4, COUNT, 5)]),
        ({}, list(range(COUNT))),
    ],
    ids=str,
)
def test_filter_by_one_or_several_values(ds: ShardDataset, equal: Any, want: list[int]) -> None:
    assert numbers(ds.filter(**equal)) == want
    assert numbers(ds[::-1].filter(**equal)) == want[::-1]


@pytest.mark.parametrize("wanted", [[0, 1, 2], np.arange(3)], ids=type)
def test_filter_of_an_array_field_by_value_is_refused(ds: ShardDataset, wanted: Any) -> None:
    with pytest.raises(SchemaError):
        ds.filter(vector=wanted)


def test_filter_compares_large_integers_exactly(tmp_path: Path) -> None:
    """NumPy compares mixed dtypes as doubles, and a list with integers from 2^63 on becomes doubles."""
    ids = [k << 57 | 1 for k in range(128)]
    with DatasetWriter(tmp_path / "ids", {"id": Scalar("uint64"), "at": Scalar("int64", optional=True)}) as writer:
        writer.write_batch({"id": np.array(ids, np.uint64), "at": np.arange(1 << 62, (1 << 62) + 128)})
    ds = ShardDataset(tmp_path / "ids")
    assert len(ds.filter(id=[-1, 0.5, np.nan, None, True, np.uint64(1 << 57), *(i ^ 2 for i in ids)])) == 1
    assert len(ds.filter(id=ids)) == len(ds.filter(id=dict.fromkeys(ids).keys())) == len(ids)
    assert len(ds.filter(id=np.array(ids[1], np.int64))) == 1
    assert len(ds.filter(at=[k << 57 for k in range(200)])) == 1


def test_filter_by_a_value_of_another_type_is_refused(ds: ShardDataset, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="int8, which is never 'cat' - field 'label'"):
        ds.filter(label="cat")
    with DatasetWriter(tmp_path / "images", Schema({"image": Image()})) as writer:
        writer.write({"image": png(2, 3)})
    with pytest.raises(SchemaError, match="field 'image'"):
        ShardDataset(tmp_path / "images").filter(image=0)


def test_filter_by_a_function_of_columns(ds: ShardDataset) -> None:
    assert numbers(ds.filter(lambda c: c["vector"].sum(axis=1) > 200, fields=["vector"])) == list(range(66, COUNT))
    assert numbers(ds.filter(lambda c: [name.endswith("7") for name in c["name"]])) == list(range(7, COUNT, 10))
    assert numbers(ds.filter(lambda c: c["score"] < 2, label=1)) == [1]  # a missing score is not less
    assert numbers(ds.filter(lambda c: c["number"] < 0)) == []


def test_filter_function_gets_only_the_requested_fields(ds: ShardDataset) -> None:
    seen: list[list[str]] = []
    ds.filter(lambda c: seen.append(sorted(c)) or np.ones(COUNT, bool), fields=["score", "name"])
    ds.filter(lambda c: seen.append(sorted(c)) or np.ones(COUNT, bool), fields="score")
    assert seen == [["name", "score"], ["score"]]


@pytest.mark.parametrize("answer", [True, np.ones(3, bool), np.ones(COUNT), None, [1] * COUNT], ids=type)
def test_filter_function_must_return_a_boolean_array(ds: ShardDataset, answer: Any) -> None:
    with pytest.raises(SchemaError, match="boolean array"):
        ds.filter(lambda _: answer)


def test_filter_may_use_a_field_outside_the_projection(folder: Path) -> None:
    ds = ShardDataset(folder, fields=["name"]).filter(label=2)
    assert ds[0] == {"name": "pet 2"}
    with pytest.raises(SchemaError):
        ds.filter(nothing=3)


def test_filter_without_matches_is_an_empty_dataset(ds: ShardDataset) -> None:
    view = ds.filter(label=9)
    assert (len(view), list(view), view.column("name")) == (0, [], [])
    assert len(view.filter(label=1)) == 0
    with pytest.raises(IndexError):
        view[0]


def test_map_applies_to_every_access_but_column(ds: ShardDataset) -> None:
    view = ds.map(lambda s: {"twice": 2 * s["number"], "name": s["name"].upper()})[2:6]
    assert view[0] == {"twice": 4, "name": "PET 2"}
    assert [row["twice"] for row in view] == [4, 6, 8, 10]
    assert [row["twice"] for row in view.__getitems__([3, 0])] == [10, 4]
    batch = view.take([0, 1])
    assert (batch["twice"].tolist(), batch["name"]) == ([4, 6], ["PET 2", "PET 3"])
    assert view.column("number").tolist() == [2, 3, 4, 5]


def test_maps_are_chained_and_kept_by_views(ds: ShardDataset) -> None:
    view = ds.map(lambda s: s | {"number": s["number"] + 1}).map(lambda s: {"x": s["number"] * 10})
    assert view[4]["x"] == 50
    assert view.filter(label=1)[0]["x"] == 20
    assert view.select([3])[0]["x"] == 40
    assert ds[4]["number"] == 4


def test_map_may_return_anything(ds: ShardDataset) -> None:
    view = ds.map(lambda s: (s["name"], int(s["label"])))
    assert view[1] == ("pet 1", 1)
    assert list(view[:2]) == [("pet 0", 0), ("pet 1", 1)]
    names, found = view.take([0, 1])
    assert names == ["pet 0", "pet 1"]
    np.testing.assert_array_equal(found, [0, 1], strict=True)
    np.testing.assert_array_equal(ds.map(lambda s: s["label"]).take([4, 2]), np.int8([1, 2]), strict=True)


def test_map_and_transform_refuse_non_callables(ds: ShardDataset) -> None:
    for wrong in (lambda: ds.map(None), lambda: ds.transform(name="upper")):  # type: ignore[arg-type]
        with pytest.raises(SchemaError, match="expected a function"):
            wrong()


def test_error_of_a_map_reaches_the_caller(ds: ShardDataset) -> None:
    def fail(sample: Sample) -> Sample:
        raise ZeroDivisionError(sample["name"])

    for ask in (lambda v: v[7], lambda v: v.take([7]), lambda v: list(v[7:8])):
        with pytest.raises(ZeroDivisionError, match="pet 7"):
            ask(ds.map(fail))


# Images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    schema = Schema(
        {
            "grey": Image("L"),
            "maybe": Image("RGB", optional=True),
            "flat": Image(shape=(2, 3), optional=True),
            "thick": Image(shape=(2, 3, 1)),
            "free": Image(shape=(None, None, 3)),
        }
    )
    rows = [
        {
            "grey": png(2, 3, i),
            "maybe": None if i % 2 else png(1, 1, i),
            "flat": None if i % 3 else np.full((2, 3), i, np.uint8),
            "thick": np.full((2, 3, 1), i, np.uint8),
            "free": np.full((i + 1, 2, 3), i, np.uint8),
        }
        for i in range(6)
    ]
    write(path, schema, rows, shard_samples=4)
    return path


def test_images_are_decoded_to_arrays(images: Path) -> None:
    ds = ShardDataset(images)
    for row in (ds[4], ds.__getitems__([4])[0], list(ds)[4]):
        assert alike(row["grey"], np.full((2, 3, 1), 4, np.uint8))
        assert alike(row["maybe"], np.full((1, 1, 3), 4, np.uint8))
        assert row["flat"] is None
        assert alike(row["thick"], np.full((2, 3, 1), 4, np.uint8))
        assert alike(row["free"], np.full((5, 2, 3), 4, np.uint8))
    assert ds[5]["maybe"] is None
    batch = ds.take([3, 4])
    assert alike(batch["grey"][0], np.full((2, 3, 1), 3, np.uint8))
    assert batch["maybe"][0] is None
    assert batch["thick"].shape == (2, 2, 3, 1)
    assert cells(batch["flat"])[1] is None
    assert alike(ds.column("grey")[5], np.full((2, 3, 1), 5, np.uint8))


def test_images_are_decoded_to_pillow(images: Path) -> None:
    ds = ShardDataset(images, decode="pil")
    batch = ds.take([4])
    for row in (ds[4], ds.__getitems__([4])[0], list(ds)[4], {name: column[0] for name, column in batch.items()}):
        found = {name: (p.mode, p.size) if isinstance(p, PIL.Image) else p for name, p in row.items()}
        assert found == {
            "grey": ("L", (3, 2)),
            "maybe": ("RGB", (1, 1)),
            "flat": None,
            "thick": ("L", (3, 2)),
            "free": ("RGB", (2, 5)),
        }
        assert row["grey"].getpixel((2, 1)) == 4


def test_images_may_stay_bytes(images: Path) -> None:
    ds = ShardDataset(images, decode=None)
    assert ds[4]["grey"] == png(2, 3, 4)
    assert ds.take([4, 5])["maybe"] == [png(1, 1, 4), None]
    assert alike(ds[4]["thick"], np.full((2, 3, 1), 4, np.uint8))


def test_undecodable_image_is_an_error_with_its_location(tmp_path: Path) -> None:
    good = png(2, 3)
    write(tmp_path, Schema({"image": Image()}), [{"image": good}] * 3 + [{"image": good[:-20]}], shard_samples=2)
    ds = ShardDataset(tmp_path)[::-1]
    for ask in (lambda: ds[0], lambda: ds.take([1, 0]), lambda: list(ds)):
        with pytest.raises(DecodeError) as caught:
            ask()
        place = caught.value.place
        assert (place.file, place.block, place.field, place.sample) == ("shard-00001.rio", 0, "image", 3)
    assert len(ShardDataset(tmp_path, decode=None).column("image")) == 4


@pytest.mark.parametrize(
    "options",
    [{"decode": "jpeg"}, {"verify": "later"}, {"io": "s3"}, {"page_cache_bytes": -1}, {"max_open_shards": 0}],
    ids=str,
)
def test_invalid_option_is_refused(folder: Path, options: Any) -> None:
    with pytest.raises(SchemaError):
        ShardDataset(folder, **options)


@pytest.mark.parametrize("fractions", [[0.9, 0.1], [0.5], [0, 1], [0.2, 0, 0.3, 0, 0.5], [1, 0], [0], [0.3, 0.1]])
@pytest.mark.parametrize("make", [lambda ds: ds, lambda ds: ds[::-1], lambda ds: ds[:1], lambda ds: ds[:0]])
def test_split_cuts_a_permutation_and_sorts(ds: ShardDataset, fractions: list[float], make: Any) -> None:
    view = make(ds)
    order = permutation(len(view), key(6))
    cuts = np.round(np.cumsum([0, *fractions]) * len(view)).astype(int).tolist()
    found = [one.column("number").tolist() for one in view.split(fractions, seed=6)]
    assert found == [view.take(np.sort(order[a:b]))["number"].tolist() for a, b in pairwise(cuts)]


def test_split_and_filter_go_through_the_samples_in_chunks(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [ds.split([0.4, 0.6]), [ds.filter(label=[0, 1]), ds.filter(label=9)]]
    monkeypatch.setattr(view_module, "_SCAN_SAMPLES", 16)
    chunked = [ds.split([0.4, 0.6]), [ds.filter(label=[0, 1]), ds.filter(label=9)]]
    for a, b in zip(chain(*whole), chain(*chunked), strict=True):
        assert list(a.numbers) == list(b.numbers)
    assert [len(one) for one in chain(*chunked)] == [36, 54, 60, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int64", "uint64"])
def test_selected_samples_do_not_change_with_the_array_that_named_them(ds: ShardDataset, dtype: str) -> None:
    for whole in (ds, ds[10:], ds[::-1], ds.select(np.arange(90, dtype=np.uint8))):
        indices = np.array([5, 0, 77], dtype)
        view = whole.select(indices)
        before = view.column("number").tolist()
        indices[:] = 1
        assert view.column("number").tolist() == before == whole.column("number")[[5, 0, 77]].tolist()


# Processes and threads

VIEWS = {
    "all": lambda ds: ds,
    "slice": lambda ds: ds[7:60],
    "step": lambda ds: ds[5:80:3],
    "backwards": lambda ds: ds[::-1],
    "nothing": lambda ds: ds.select([]),
    "any": lambda ds: ds.select([9, 3, 3, -1, 80]),
    "part of any": lambda ds: ds.select(np.arange(80, dtype=np.uint8)[::-1])[::2],
    "of a step": lambda ds: ds[::-2].select([2, 0]),
    "split": lambda ds: ds.split([0.7, 0.3])[0],
    "filter": lambda ds: ds.filter(label=[0, 2]),
    "split of a filter": lambda ds: ds.filter(label=1).split([0.5, 0.5])[1],
}


def test_pickle_holds_path_and_view(ds: ShardDataset) -> None:
    view = ds[10:40].select([3, 3, 1])
    data = pickle.dumps(view)
    assert len(data) < 2500
    again = pickle.loads(data)
    assert same_samples(again, [PETS[13], PETS[13], PETS[11]])
    assert again.metadata == CLASSES


@pytest.mark.parametrize("make", VIEWS.values(), ids=list(VIEWS))
def test_pickled_view_has_the_same_samples_and_fingerprint(ds: ShardDataset, make: Any) -> None:
    view = make(ds)
    again = pickle.loads(pickle.dumps(view))
    assert again.column("number").tolist() == view.column("number").tolist()
    assert again.fingerprint == view.fingerprint == make(ds).fingerprint


@pytest.mark.parametrize("make", VIEWS.values(), ids=list(VIEWS))
def test_fingerprint_is_of_the_range_or_of_64_bit_numbers(ds: ShardDataset, make: Any) -> None:
    """However the numbers are held: a state of a loader names it."""
    numbers = make(ds).numbers
    said = str(numbers[:]).encode() if isinstance(numbers, range) else np.array(list(numbers), "<i8").tobytes()
    assert make(ds).fingerprint == xxh3_128_hexdigest(ds.store.manifest_digest + said)


def test_fingerprint_is_computed_once_for_each_view(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    monkeypatch.setattr(dataset_module, "wide", lambda numbers: computed.append(len(numbers)) or wide(numbers))
    view = ds.select([3, 1, 2])
    first = view.fingerprint
    assert (view.fingerprint, view.map(dict.copy).fingerprint) == (first, first)
    assert pickle.loads(pickle.dumps(view)).fingerprint == first
    assert computed == [3]
    assert view[:2].fingerprint != first
    assert computed == [3, 2]


def test_pickle_keeps_fields_options_and_maps(folder: Path, images: Path) -> None:
    again = pickle.loads(pickle.dumps(ShardDataset(folder, fields=["label"], io="pread").map(dict.copy)))
    assert again[4] == {"label": 1}
    assert isinstance(pickle.loads(pickle.dumps(ShardDataset(images, decode="pil")))[0]["grey"], PIL.Image)


def test_unpickling_a_replaced_dataset_is_refused(own: Path) -> None:
    data = pickle.dumps(ShardDataset(own))
    write(own, SCHEMA, PETS[:1], mode="overwrite")
    with pytest.raises(DatasetError, match="was replaced since it was opened"):
        pickle.loads(data)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 warns of any fork with threads
@pytest.mark.parametrize("io", ["mmap", "pread", "direct"])
def test_forked_child_reads_the_same_samples(folder: Path, io: Any) -> None:
    ds = ShardDataset(folder, io=io, max_open_shards=2)
    assert same_samples(ds, PETS)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = same_samples(ds, PETS) and same_samples([ds[50]], [PETS[50]])
            finally:
                os._exit(0 if good else 1)
        children.append(child)
    assert same_samples(ds, PETS)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_forked_during_a_read_does_not_hang(folder: Path) -> None:
    ds = ShardDataset(folder, max_open_shards=1)
    with ds.store._lock:  # as if another thread were opening a shard
        child = os.fork()
        if child == 0:
            os._exit(0 if ds[COUNT - 1]["number"] == COUNT - 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("options", [{}, {"max_open_shards": 1, "page_cache_bytes": 0}, {"io": "pread"}], ids=str)
def test_threads_share_a_dataset(folder: Path, options: Any) -> None:
    ds = ShardDataset(folder, **options)
    good: list[bool] = []

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(COUNT).tolist()
        one_by_one = same_samples([ds[i] for i in order], [PETS[i] for i in order])
        good.append(one_by_one and same_columns(ds.take(order), [PETS[i] for i in order], SCHEMA))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 6


def test_relative_path_is_resolved_at_opening(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    ds = ShardDataset("own")
    data = pickle.dumps(ds)
    monkeypatch.chdir("/")
    assert ds[80]["number"] == 80
    assert pickle.loads(data)[80]["number"] == 80


# Opening


def test_path_without_a_dataset_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    for name, why in (
        ("nothing", "no such folder"),
        ("file", "no folder"),
        ("file/below", "no folder"),
        ("empty", "no manifest.json"),
    ):
        with pytest.raises(DatasetError, match=f"not a recordio dataset: .* {why}") as caught:
            ShardDataset(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_folder_of_splits_is_refused_and_names_them(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / split, SCHEMA, PETS[:2])
    with pytest.raises(DatasetError, match=r"test.*train"):
        ShardDataset(tmp_path)


def test_paths_may_be_str_bytes_or_pathlike(folder: Path) -> None:
    for path in (str(folder), os.fsencode(folder), folder, f"{folder}/"):
        assert len(ShardDataset(path)) == COUNT  # type: ignore[arg-type]


def test_opening_names_every_damaged_file(own: Path) -> None:
    (own / "shard-00000.rio").unlink()
    os.truncate(own / "shard-00002.rio", 640)
    with pytest.raises(CorruptError) as caught:
        ShardDataset(own)
    assert "shard-00000.rio" in str(caught.value)
    assert "missing" in str(caught.value)
    assert "shard-00002.rio" in str(caught.value)
    assert "640 bytes" in str(caught.value)
    assert "shard-00001.rio" not in str(caught.value)


def test_dropped_dataset_closes_its_files(folder: Path) -> None:
    for options in ({}, {"io": "pread"}, {"max_open_shards": 1}):
        ds = ShardDataset(folder, **options)  # type: ignore[arg-type]
        assert len(list(ds)) == COUNT
        ds.take([0, 80])
        ds.column("name")
        view = ds[3:].filter(label=1)
        assert open_files(folder)
        del ds, view
        assert not open_files(folder)
