"""Batches without an object for each value: the same values as in lists, whoever makes the batch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import (
    Array,
    Bytes,
    ConcatDataset,
    CorruptError,
    DataLoader,
    DatasetWriter,
    Image,
    Mixture,
    Object,
    Ragged,
    Scalar,
    Schema,
    SchemaError,
    ShardDataset,
    Text,
)
from recordio.reader.arrow import arrow_table
from tests.converted import assert_equal

N = 200
SCHEMA = Schema(
    {
        "text": Text(),
        "note": Text(optional=True),
        "id": Text(),
        "data": Bytes(),
        "extra": Bytes(optional=True),
        "tokens": Array("int32", (None,)),
        "boxes": Array("float32", (None, 4), optional=True),
        "volume": Array("uint16", (2, None, 3, None), optional=True),
        "picture": Image(),
        "pixels": Image(shape=(None, None, 3)),
        "object": Object(),
        "number": Scalar("int64"),
        "score": Scalar("float32", optional=True),
    }
)
RAGGED = [name for name in SCHEMA if name not in ("object", "number", "score")]


def sample(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    return {
        "text": "é" * (number % 30) + str(number),
        "note": None if number % 3 == 0 else "x" * (number % 50),
        "id": f"user-{number:08d}",
        "data": random.bytes(int(random.integers(0, 16_000))),  # large enough on average to stay in a map
        "extra": None if number % 5 == 0 else b"q" * (number % 7),
        "tokens": np.arange(number % 40, dtype=np.int32),
        "boxes": None if number % 4 == 0 else np.full((number % 3, 4), number, np.float32),
        "volume": None if number % 7 == 0 else np.full((2, number % 3, 3, number % 2), number, np.uint16),
        "picture": b"\xff\xd8\xff" + random.bytes(number % 90),
        "pixels": np.full((number % 4, 5, 3), number % 256, np.uint8),
        "object": {"number": number},
        "number": number,
        "score": None if number % 2 else number / 2,
    }


@pytest.fixture(scope="module", params=["plain, one shard", "plain, many shards", "zstd"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ragged") / "dataset"
    many = {"shard_samples": 45} if "many" in request.param else {}
    compression = "zstd" if request.param == "zstd" else None
    with DatasetWriter(path, schema=SCHEMA, compression=compression, block_bytes=50_000, **many) as writer:
        for number in range(N):
            writer.write(sample(number))
    return path


@pytest.fixture(params=["mmap", "pread"])
def dataset(folder: Path, request: pytest.FixtureRequest) -> ShardDataset:
    return ShardDataset(folder, io=request.param, decode=None)


def assert_same(ragged: Mapping[str, Any], lists: Mapping[str, Any]) -> None:
    """A ragged batch holds the values of the other, and its values and offsets say the same."""
    assert list(ragged) == list(lists)
    for name, column in lists.items():
        found = ragged[name]
        if name not in RAGGED:
            assert_equal(found, column)
            continue
        assert isinstance(found, Ragged)
        assert len(found) == len(column)
        assert_equal(found.to_list(), column)
        assert found.offsets.dtype == np.int64
        assert found.offsets[0] == 0
        assert found.offsets[-1] == len(found.values)
        optional = SCHEMA[name].optional
        assert (found.missing is not None) == optional
        if found.missing is not None:
            assert found.missing.tolist() == [value is None for value in column]


@pytest.mark.parametrize("indices", [[], [7], [5, 5, 3], range(N), range(N - 1, -1, -3)], ids=str)
def test_take_gives_the_values_of_the_lists(dataset: ShardDataset, indices: Any) -> None:
    assert_same(dataset.ragged().take(indices), dataset.take(indices))


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 2, "worker_type": "thread"}, {"num_workers": 2, "worker_type": "process"}],
    ids=["inline", "threads", "processes"],
)
@pytest.mark.parametrize("window", [None, 50])
def test_a_shuffled_epoch_gives_the_values_of_the_lists(
    dataset: ShardDataset, options: dict[str, Any], window: int | None
) -> None:
    batches = list(DataLoader(dataset.ragged(), 32, shuffle=True, window_samples=window, **options))
    assert len(batches) == -(-N // 32)
    for ragged, lists in zip(batches, DataLoader(dataset, 32, shuffle=True, window_samples=window), strict=True):
        assert_same(ragged, lists)


def test_one_item_is_a_view_of_the_batch(dataset: ShardDataset) -> None:
    batch = dataset.ragged().take(range(20, 40))
    assert type(batch["text"][1]) is str
    assert batch["text"][-1] == sample(39)["text"]
    assert isinstance(batch["data"][3], memoryview)
    assert batch["data"][3] == sample(23)["data"]
    assert batch["boxes"][0] is None
    tokens = batch["tokens"]
    assert np.shares_memory(tokens[5], tokens.values)
    assert tokens.values.shape == (sum(number % 40 for number in range(20, 40)),)
    assert batch["boxes"].values.shape == (sum(n % 3 for n in range(20, 40) if n % 4), 4)
    assert batch["pixels"].values.ndim == 1
    assert batch["pixels"].shapes.tolist() == [[n % 4, 5, 3] for n in range(20, 40)]
    for index in (20, -21):
        with pytest.raises(IndexError, match=f"value {index} of a Ragged of 20"):
            batch["text"][index]
    with pytest.raises(TypeError, match="a list or array of integers or bools, not float 1"):
        batch["text"][1.0]


@pytest.mark.parametrize("nothing", [[], (), np.zeros(0, np.int64)], ids=repr)
def test_no_indices_give_an_empty_column(nothing: Any) -> None:
    column = Ragged.of(Text(optional=True), ["one", None])[nothing]
    assert column.to_list() == []
    assert column.offsets.tolist() == [0]
    assert column.missing is not None
    assert column.missing.shape == (0,)


@pytest.mark.parametrize("shard_samples", [10, 1000])
def test_large_values_stay_in_the_map_until_they_are_asked_for(tmp_path: Path, shard_samples: int) -> None:
    wanted = [bytes([number]) * (8000 + number) for number in range(40)]
    with DatasetWriter(tmp_path, compression=None, shard_samples=shard_samples, mode="overwrite") as writer:
        writer.write_batch({"data": wanted})
    view = ShardDataset(tmp_path, io="mmap").ragged()
    for batch in (view.take([3, 30]), next(iter(DataLoader(view[[3, 30]], 2)))):
        column = batch["data"]
        values = list(column)
        assert [value.readonly for value in values] == [True, True]
        assert column[1:].copy()[0].readonly
        column.values[:] = 0
        assert list(map(bytes, values)) == [wanted[3], wanted[30]]
        assert not any(column.values)
    copied = ShardDataset(tmp_path, io="pread").ragged().take([3, 30])["data"]
    assert not next(iter(copied)).readonly
    assert copied.to_list() == [wanted[3], wanted[30]]


def test_a_batch_that_is_kept_does_not_change(dataset: ShardDataset) -> None:
    """Windows reuse their memory."""
    loader = DataLoader(dataset.ragged(), 32, shuffle=True, window_samples=64)
    kept = list(loader)
    numbers = np.concatenate([batch["number"] for batch in kept]).tolist()
    found = [value for batch in kept for value in batch["data"].to_list()]
    assert found == [sample(number)["data"] for number in numbers]


def parts(column: Ragged) -> Iterator[Ragged]:
    yield column[2:9]
    yield column[::2]
    yield column[[4, 1, 1]]
    yield column[np.array([True, False] * 10)]
    yield column[:0]


@pytest.mark.parametrize("name", RAGGED)
def test_slices_and_copies_are_columns(dataset: ShardDataset, name: str) -> None:
    column, wanted = dataset.ragged().take(range(20))[name], dataset.take(range(20))[name]
    every = np.arange(20)
    chosen = [every[2:9], every[::2], [4, 1, 1], every[::2], []]
    for found, rows in zip(parts(column), chosen, strict=True):
        assert_equal(found.to_list(), [wanted[k] for k in rows])
        assert_equal(found.copy().to_list(), [wanted[k] for k in rows])
        assert_equal(pickle.loads(pickle.dumps(found)).to_list(), [wanted[k] for k in rows])
    assert_equal(copy.deepcopy(column).to_list(), wanted)
    assert_equal(Ragged.of(SCHEMA[name], wanted).to_list(), wanted)
    assert f"20 values of {SCHEMA[name]}" in repr(column)


def test_a_column_is_ragged_and_a_sample_is_not(dataset: ShardDataset) -> None:
    view = dataset.ragged()[10:50].filter(lambda columns: [text != "12" for text in columns["id"]], fields=["id"])
    assert isinstance(view["text"], Ragged)
    assert view["text"].to_list() == dataset[10:50]["text"]
    assert_equal(view[3], dataset[13])
    assert_equal(view.__getitems__([0, 3]), dataset.__getitems__([10, 13]))
    assert isinstance(pickle.loads(pickle.dumps(view))["text"], Ragged)


def test_functions_get_objects_as_ever(dataset: ShardDataset) -> None:
    lengths = DataLoader(dataset.ragged().map(lambda one: {"n": len(one["data"]), "kind": type(one["data"])}), 50)
    first = next(iter(lengths))
    assert first["n"].tolist() == [len(sample(number)["data"]) for number in range(50)]
    assert set(first["kind"]) == {bytes}
    batch = next(iter(DataLoader(dataset.ragged().transform(text=str.upper), 50)))
    assert batch["text"] == [sample(number)["text"].upper() for number in range(50)]
    assert isinstance(batch["note"], Ragged)
    samples = next(iter(DataLoader(dataset.ragged(), 50, collate_fn=list)))
    assert_equal(samples[7], dataset[7])
    assert_equal(next(iter(DataLoader(dataset.ragged(), None))), dataset[0])


def test_pictures_are_decoded_unless_the_dataset_leaves_them(tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    picture = np.zeros((4, 4, 3), np.uint8)
    with DatasetWriter(tmp_path / "dataset", schema=Schema({"picture": Image()})) as writer:
        writer.write({"picture": pil.fromarray(picture)})
    assert_equal(ShardDataset(tmp_path / "dataset").ragged().take([0])["picture"], [picture])
    stored = ShardDataset(tmp_path / "dataset", decode=None).ragged().take([0])["picture"]
    assert bytes(stored[0])[:4] == b"\x89PNG"


def test_tuples_of_a_ragged_view(dataset: ShardDataset) -> None:
    text, number = dataset.ragged().tuples("text", "number").take([4, 9])
    again, _ = dataset.tuples("text", "number").ragged().take([4, 9])
    assert text.to_list() == again.to_list() == [sample(4)["text"], sample(9)["text"]]
    assert number.tolist() == [4, 9]


def test_all_samples_as_stored_are_those_of_the_dataset(dataset: ShardDataset) -> None:
    view = dataset.ragged()
    names = [name for name in SCHEMA if name != "object"]
    pytest.importorskip("pyarrow")
    assert view[:50].to_arrow().select(names).equals(dataset[:50].to_arrow().select(names))


def test_a_batch_is_a_table_of_arrow_without_a_copy(dataset: ShardDataset) -> None:
    pa = pytest.importorskip("pyarrow")
    batch = dataset.ragged().take(range(100))
    table = pa.table({name: batch[name] for name in RAGGED})
    table.validate(full=True)
    lists = dataset.take(range(100))
    for name in RAGGED:
        wanted = [value.tolist() if isinstance(value, np.ndarray) else value for value in lists[name]]
        assert table[name].to_pylist() == wanted, name
    text = pa.array(batch["text"])
    assert text.type == pa.large_string()
    assert text.buffers()[2].address == batch["text"].values.ctypes.data
    assert text.buffers()[1].address == batch["text"].offsets.ctypes.data
    assert pa.array(batch["text"], pa.string()).to_pylist() == lists["text"]


def test_text_that_is_not_utf8_is_refused_where_it_becomes_text() -> None:
    pa = pytest.importorskip("pyarrow")
    broken = Ragged(Text(), np.frombuffer(b"ab\xffc", np.uint8), np.array([0, 2, 4]))
    split = Ragged(Text(), np.frombuffer("é".encode(), np.uint8), np.array([0, 1, 2]))
    for column in (broken, split):
        with pytest.raises(CorruptError, match="not UTF-8"):
            column.to_list()
        with pytest.raises(CorruptError, match="not UTF-8"):
            pa.array(column)


def test_arrays_that_arrow_has_no_type_for_are_refused() -> None:
    pytest.importorskip("pyarrow")
    column = Ragged.of(Array("complex64", (None,)), [np.zeros(3, np.complex64)])
    with pytest.raises(SchemaError, match="no type for complex64"):
        column.to_arrow()


@pytest.mark.parametrize("count", [1, 2])
def test_more_lists_than_int32_offsets_count_are_refused(count: int) -> None:
    """Arrays without elements, however many lists of none Arrow needs for them, take no memory."""
    pytest.importorskip("pyarrow")
    kind = Array("uint8", (None, None))
    values = [np.zeros(((1 << 31) // count, 0), np.uint8)] * count
    with pytest.raises(SchemaError, match="more than Arrow's lists hold"):
        arrow_table({"x": values}, Schema({"x": kind}))
    small = arrow_table({"x": [np.zeros((2, 0), np.uint8)]}, Schema({"x": kind}))
    assert small["x"].to_pylist() == [[[], []]]


@pytest.mark.parametrize("length", [2, 9, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("shape", [(None,), (None, 3), (None, None)])
def test_dimensions_that_do_not_fit_name_the_sample(tmp_path: Path, length: int, shape: tuple[int | None, ...]) -> None:
    values = [np.full([3 if size is None else size for size in shape], number, np.int32) for number in range(4)]
    with DatasetWriter(
        tmp_path, schema=Schema({"x": Array("int32", shape)}), compression=None, mode="overwrite"
    ) as writer:
        writer.write_batch({"x": values})
    shard = next(tmp_path.glob("*.rio"))
    body = values[2].tobytes()
    header = (3).to_bytes(8, "little") * shape.count(None)
    content = shard.read_bytes()
    assert content.count(header + body) == 1
    shard.write_bytes(content.replace(header + body, length.to_bytes(8, "little") + header[8:] + body))
    view = ShardDataset(tmp_path, verify="never").ragged()
    assert_equal(view.take([3, 0])["x"].to_list(), [values[3], values[0]])
    with pytest.raises(CorruptError, match="not fit its") as caught:
        view.take([3, 2])
    assert caught.value.place.sample == 2


def write(path: Path, schema: dict[str, Any], samples: list[dict[str, Any]]) -> ShardDataset:
    with DatasetWriter(path, schema=Schema(schema)) as writer:
        for one in samples:
            writer.write(one)
    return ShardDataset(path)


def test_combined_datasets_join_their_fields(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a",
        {"text": Text(), "x": Array("int16", (3,)), "y": Array("int16", (None,))},
        [{"text": f"a{k}", "x": np.full(3, k, np.int16), "y": np.full(k, k, np.int16)} for k in range(20)],
    )
    second = write(
        tmp_path / "b",
        {"text": Text(optional=True), "x": Array("int16", (2,)), "y": Array("int32", (None,))},
        [
            {"text": None if k % 2 else f"b{k}", "x": np.full(2, k, np.int16), "y": np.full(k, k, np.int32)}
            for k in range(20)
        ],
    )
    both = ConcatDataset([first, second])
    for lists in (both, Mixture([(first, 1), (second, 3)])):
        for one, other in zip(
            DataLoader(lists.ragged(), 8, shuffle=True), DataLoader(lists, 8, shuffle=True), strict=True
        ):
            for name in ("text", "x", "y"):
                assert isinstance(one[name], Ragged)
                assert_equal(one[name].to_list(), other[name])
                assert (one[name].missing is not None) == (name == "text")
    assert_equal(both.ragged().take([1, 30, 21])["x"].to_list(), both.take([1, 30, 21])["x"])
    assert_equal(both.ragged()[3], both[3])
    assert_equal(both.ragged()[5:33:9].__getitems__([0, 2]), both[5:33:9].__getitems__([0, 2]))
    assert_equal(both.ragged()[5:33:9]["text"].to_list(), both[5:33:9]["text"])
    assert isinstance(ConcatDataset([first.ragged(), second.ragged()]).take([1, 30])["text"], Ragged)
    with pytest.raises(SchemaError, match="ragged and others are not"):
        ConcatDataset([first.ragged(), second])


def test_a_loader_goes_on_in_the_middle_with_ragged_batches(dataset: ShardDataset) -> None:
    loader = DataLoader(dataset.ragged(), 50, shuffle=True, seed=4)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = list(batches)
    again = DataLoader(dataset.ragged(), 50, shuffle=True, seed=4)
    again.load_state_dict(state)
    for one, other in zip(again, rest, strict=True):
        assert one["text"].to_list() == other["text"].to_list()


@pytest.mark.torch
def test_a_loader_of_torch_hands_ragged_columns_on(dataset: ShardDataset) -> None:
    import torch

    import recordio.torch

    loader = recordio.torch.DataLoader(dataset.ragged(), 40)
    batch = next(iter(loader))
    tokens = batch["tokens"]
    nested = torch.nested.nested_tensor_from_jagged(torch.from_numpy(tokens.values), torch.from_numpy(tokens.offsets))
    assert [one.tolist() for one in nested.unbind()] == [sample(number)["tokens"].tolist() for number in range(40)]
