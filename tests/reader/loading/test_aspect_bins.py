"""Batches of images of about one aspect, or of one bucket of sizes: as for lengths, and without a pixel decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import ConcatDataset, CorruptError, DataLoader, Mixture, SchemaError, ShardDataset
from recordio.reader.loading import lengths
from recordio.reader.loading.lengths import lengths_of
from recordio.transforms import Compose, RandomHorizontalFlip, ResizeToBucket
from tests.photos import encode, photo

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SHAPES = [(30, 40), (40, 30), (45, 30), (30, 50), (35, 35), (20, 60)]
BUCKETS = [(32, 32), (24, 40), (40, 24), (28, 36), (36, 28)]
SMALL: dict[str, Any] = {"seed": 1, "window_bytes": 200_000, "lanes": 6}
COUNT = 420
RNG = np.random.default_rng(3)
SIZES = [(h + int(RNG.integers(4)), w) for h, w in (SHAPES[k] for k in RNG.integers(len(SHAPES), size=COUNT))]
WIDTHS = [w * 1024 // h for h, w in SIZES]


def sample(number: int) -> dict[str, Any]:
    pixels = photo(*SIZES[number], number)
    return {
        "image": encode(pixels, ("JPEG", "PNG", "WEBP")[number % 3]),
        "pixels": pixels,
        "plane": pixels[..., 0].astype(np.float32),
        "width": WIDTHS[number],
        "number": number,
        "text": "x",
    }


SCHEMA: dict[str, Any] = {
    "image": recordio.Image(),
    "pixels": recordio.Image(shape=(None, None, 3)),
    "plane": recordio.Array("float32", (None, None)),
    "width": recordio.Scalar("int32"),
    "number": recordio.Scalar("int64"),
    "text": recordio.Text(),
}


@pytest.fixture(scope="module", params=[None, "zstd"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("images")
    options = {"block_bytes": 60_000, "shard_samples": 150, "compression": request.param}
    with recordio.DatasetWriter(found, SCHEMA, **options) as writer:
        for number in range(COUNT):
            writer.write(sample(number))
    return found


@pytest.fixture(scope="module")
def ds(folder: Path) -> ShardDataset:
    return ShardDataset(folder, fields=["image", "number"])


def loader_of(ds: Any, **options: Any) -> DataLoader:
    return DataLoader(ds, **({"batch_size": 8, "shuffle": True, "bucket_by": "image"} | SMALL | options))


def in_buckets(ds: Any, **options: Any) -> DataLoader:
    return loader_of(ds.transform("image", ResizeToBucket(BUCKETS)), buckets=BUCKETS, **options)


def numbers(loader: DataLoader) -> list[list[int]]:
    return [batch["number"].tolist() for batch in loader]


def test_a_batch_is_of_about_one_aspect(ds: ShardDataset) -> None:
    batches = numbers(loader_of(ds, window_bytes=1 << 28))
    assert sorted(n for batch in batches for n in batch) == list(range(COUNT))
    spread = [max(WIDTHS[n] for n in batch) / min(WIDTHS[n] for n in batch) for batch in batches]
    mixed = np.random.default_rng(0).permutation(COUNT)[: COUNT // 8 * 8].reshape(-1, 8)
    by_chance = [max(WIDTHS[n] for n in batch) / min(WIDTHS[n] for n in batch) for batch in mixed]
    assert np.median(spread) < 1.05
    assert np.mean(spread) < 1.1 < 2 < np.mean(by_chance)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_of_a_bucket_is_one_array(ds: ShardDataset, shuffle: bool) -> None:
    batches = list(in_buckets(ds, shuffle=shuffle))
    assert sorted(n for batch in batches for n in batch["number"].tolist()) == list(range(COUNT))
    assert {batch["image"].shape[1:3] for batch in batches} == set(BUCKETS)
    assert all(batch["image"].dtype == np.uint8 and batch["image"].shape[3] == 3 for batch in batches)
    full = list(in_buckets(ds, shuffle=shuffle, drop_last=True))
    assert {len(batch["image"]) for batch in full} == {8}


@pytest.mark.parametrize("make", [loader_of, in_buckets])
def test_ranks_share_the_batches_and_go_on_from_each(ds: ShardDataset, make: Any) -> None:
    one = numbers(make(ds))
    ranks = [numbers(make(ds, rank=rank, world_size=3)) for rank in range(3)]
    assert len({len(own) for own in ranks}) == 1
    taken = [batch for turn in zip(*ranks, strict=True) for batch in turn]
    assert taken == (one + one)[: len(taken)]
    loader = make(ds)
    iterator = iter(loader)
    for done in range(0, 12, 3):
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = make(ds)
        resumed.load_state_dict(state)
        assert numbers(resumed) == one[done:]
        for _ in range(3):
            next(iterator)


@pytest.mark.parametrize(
    "workers",
    [
        {"num_workers": 3, "worker_type": "thread"},
        {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
    ],
    ids=["threads", "processes"],
)
def test_workers_change_nothing(ds: ShardDataset, workers: dict[str, Any]) -> None:
    steps = Compose([ResizeToBucket(BUCKETS), RandomHorizontalFlip()])
    view = ds.transform("image", steps).map(lambda sample: sample | {"mean": float(sample["image"].mean())})
    for want, batch in zip(loader_of(view, buckets=BUCKETS), loader_of(view, buckets=BUCKETS, **workers), strict=True):
        assert isinstance(want["image"], np.ndarray)
        for name, column in want.items():
            assert np.array_equal(batch[name], column)


def test_every_form_of_an_image_gives_the_same_batches(folder: Path) -> None:
    """Files, pixels, other arrays, and an integer that says it."""
    ds = ShardDataset(folder)
    for view in (ds, ds[400:10:-7], ShardDataset(folder, io="pread"), ShardDataset(folder, verify="never")):
        want = [WIDTHS[n] for n in view.column("number").tolist()]
        for name in ("image", "pixels", "plane", "width"):
            assert lengths_of(view, name).tolist() == want
    for buckets in (None, BUCKETS):
        first, *others = [
            numbers(loader_of(ShardDataset(folder, fields=[name, "number"]), bucket_by=name, buckets=buckets))
            for name in ("image", "pixels", "plane", "width")
        ]
        assert others == [first] * 3


def test_pixels_of_which_a_side_is_given_have_an_aspect(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int | None, ...]] = {"fixed": (16, 24), "tall": (None, 24, 3), "wide": (16, None)}
    schema = {name: recordio.Image(shape=shape) for name, shape in shapes.items()}
    with recordio.DatasetWriter(tmp_path, schema) as writer:
        for n in range(1, 30):
            pixels = {name: tuple(n if side is None else side for side in shape) for name, shape in shapes.items()}
            writer.write({name: np.zeros(shape, np.uint8) for name, shape in pixels.items()})
    ds = ShardDataset(tmp_path)
    assert lengths_of(ds, "fixed").tolist() == [1536] * 29
    assert lengths_of(ds, "tall").tolist() == [24 * 1024 // n for n in range(1, 30)]
    assert lengths_of(ds, "wide").tolist() == [n * 1024 // 16 for n in range(1, 30)]


@pytest.mark.parametrize("make", [loader_of, in_buckets])
def test_several_datasets_take_turns(ds: ShardDataset, make: Any) -> None:
    for mixed in (ConcatDataset([ds[:300], ds[300:]]), Mixture([(ds[:300], 2), (ds[300:], 1)])):
        one = numbers(make(mixed))
        assert {len({n < 300 for n in batch}) for batch in one} == {1}
        ranks = [numbers(make(mixed, rank=rank, world_size=2)) for rank in range(2)]
        taken = [batch for turn in zip(*ranks, strict=True) for batch in turn]
        assert taken == (one + one)[: len(taken)]
        loader = make(mixed)
        iterator = iter(loader)
        next(iterator), next(iterator)
        resumed = make(mixed)
        resumed.load_state_dict(loader.state_dict())
        assert numbers(resumed) == one[2:]


def test_state_of_other_buckets_is_refused(ds: ShardDataset) -> None:
    loader = in_buckets(ds)
    next(iter(loader))
    state = loader.state_dict()
    in_buckets(ds).load_state_dict(state)
    loader_of(ds, buckets=BUCKETS[::-1]).load_state_dict(state)
    for other in (None, BUCKETS[1:]):
        with pytest.raises(SchemaError, match="another bins"):
            loader_of(ds, buckets=other).load_state_dict(state)


def test_a_file_without_a_header_fails_where_it_is_delivered(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path, {"image": recordio.Image(), "number": recordio.Scalar("int64")}) as writer:
        for number in range(40):
            data = encode(photo(30, 40 + number))
            writer.write({"image": data[: 20 if number == 7 else None], "number": number})
    ds = ShardDataset(tmp_path)
    assert lengths_of(ds, "image")[7] == 1024
    with pytest.raises(recordio.DecodeError, match=r"cut short.*sample 7"):
        list(loader_of(ds))
    loader = loader_of(ds, on_error="skip")
    assert sorted(n for batch in numbers(loader) for n in batch) == [n for n in range(40) if n != 7]
    assert loader.stats.skipped == 1


def test_a_damaged_page_is_not_believed(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path, {"image": recordio.Image()}, block_bytes=9000, compression=None) as writer:
        for number in range(40):
            writer.write({"image": encode(photo(30, 40 + number))})
    (path,) = tmp_path.glob("*.rio")
    at = int(ShardDataset(tmp_path).store.shard(0).index.page_offsets[1, 0])
    whole = bytearray(path.read_bytes())
    whole[at + 3000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptError, match="block 1, field 'image'"):
        loader_of(ShardDataset(tmp_path))
    assert len(lengths_of(ShardDataset(tmp_path, verify="never"), "image")) == 40


def test_reading_much_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(lengths, "_MUCH", 1 << 20)
    loader_of(ShardDataset(folder), bucket_by="width")
    loader_of(ShardDataset(folder, verify="never"))
    assert not caplog.records
    loader_of(ShardDataset(folder))
    assert "the aspects of field 'image' are in its images" in caplog.text


def test_no_pixel_is_decoded(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("simplejpeg.decode_jpeg", "cv2.imdecode"):
        monkeypatch.setattr(name, None)
    assert len(loader_of(ds, buckets=BUCKETS)) > COUNT / 8
    with pytest.raises((TypeError, recordio.DecodeError)):
        next(iter(loader_of(ds)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1, "batch_tokens": 4096}, "'image' .* has an aspect and no tokens: give batch_size"),
        ({"sequence_length": 4096}, "'image' .* has an aspect and no tokens"),
        ({"bucket_by": "text", "buckets": BUCKETS}, "'text' is text: .* or an integer that says 1024"),
        ({"bucket_by": "width", "buckets": BUCKETS, "batch_size": 1, "batch_tokens": 9000}, "with batch_size alone"),
        ({"bucket_by": None, "buckets": BUCKETS}, "name their field by bucket_by="),
        ({"buckets": []}, "a list of sizes"),
        ({"buckets": 512}, "a list of sizes"),
        ({"buckets": [512, 640]}, "a size of buckets has 2 integers"),
        ({"buckets": [(512, 512), (64, 64)]}, "are of one aspect"),
        ({"lane_affinity": True}, "without lane_affinity and pool_bytes: .* Leave them out"),
        ({"pool_bytes": 1 << 20}, "without lane_affinity and pool_bytes: .* Leave them out"),
    ],
)
def test_what_images_do_not_have_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        loader_of(ShardDataset(folder), **options)
