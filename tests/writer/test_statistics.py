"""The statistics that writers make: of all that is written, whoever writes it, and the same bytes in any way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import recordio
from recordio import CorruptError, DatasetWriter, Image, Scalar, Schema, SchemaError, ShardDataset, Text
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.statistics.records import Numbers, Statistics
from recordio.transforms import Normalize

NUMBER = {"n": Scalar("int64"), "t": Text(optional=True)}


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"n": n, "t": "x" * n if n % 2 else None} for n in numbers]


def write(path: Path, samples: list[dict[str, Any]], **options: Any) -> None:
    with DatasetWriter(path, NUMBER, **options) as writer:
        for sample in samples:
            writer.write(sample)


def without_statistics(path: Path) -> None:
    """Turns a dataset into one of a writer that made none."""
    manifest = Manifest.decode((path / FILE_NAME).read_bytes())
    (path / FILE_NAME).write_bytes(replace(manifest, statistics=None).encode())


def photos(folder: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for k in range(count):
        (folder / f"c{k % 3}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + k, 30, 3)).astype("u1")
        cv2.imwrite(str(folder / f"c{k % 3}" / f"{k:02}.png"), pixels)
    return folder


def test_a_dataset_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, rows(*range(1, 6)), shard_samples=2)
    found = ShardDataset(tmp_path).statistics
    assert found is not None
    assert found["n"].numbers == Numbers(5, 0, 0, 1, 5, 3.0, pytest.approx(2**0.5), 15)
    assert found["n"].values == dict.fromkeys(range(1, 6), 1)
    assert (found["t"].count, found["t"].missing) == (3, 2)
    assert ShardDataset(tmp_path).measure() == found
    assert list(ShardDataset(tmp_path, fields=["t"]).statistics or {}) == ["t"]


def test_chosen_samples_have_none_but_can_be_measured(tmp_path: Path) -> None:
    write(tmp_path, rows(*range(10)))
    ds = ShardDataset(tmp_path)
    for view in (ds[2:5], ds[[1, 1]], ds + ds):
        assert view.statistics is None
    assert ds[2:5].measure("n")["n"].values == {2: 1, 3: 1, 4: 1}
    assert (ds + ds).measure("n")["n"].values == dict.fromkeys(range(10), 2)
    with pytest.raises(SchemaError, match="no field named 'x'"):
        ds.measure("x")


def test_append_adds_to_the_statistics(tmp_path: Path) -> None:
    write(tmp_path / "a", rows(*range(7)))
    write(tmp_path / "a", rows(*range(7, 12)), mode="append")
    write(tmp_path / "b", rows(*range(12)))
    a, b = ShardDataset(tmp_path / "a").statistics, ShardDataset(tmp_path / "b").statistics
    assert a is not None
    assert b is not None
    assert a["t"] == b["t"]
    assert (a["n"].values, a["n"].numbers and a["n"].numbers.sum) == (b["n"].values, 66)
    write(tmp_path / "a", [], mode="append")
    assert ShardDataset(tmp_path / "a").statistics == a


def test_append_to_a_dataset_without_statistics_has_none(tmp_path: Path) -> None:
    write(tmp_path, rows(1, 2))
    without_statistics(tmp_path)
    assert ShardDataset(tmp_path).statistics is None
    write(tmp_path, rows(3), mode="append")
    ds = ShardDataset(tmp_path)
    assert (len(ds), ds.statistics) == (3, None)
    write(tmp_path, rows(3), mode="overwrite")
    assert ShardDataset(tmp_path).statistics is not None


def test_a_pickled_dataset_is_the_one_that_was_opened(tmp_path: Path) -> None:
    import pickle

    write(tmp_path, rows(1, 2))
    ds = ShardDataset(tmp_path)
    data = pickle.dumps(ds)
    write(tmp_path, rows(3), mode="append")
    again = pickle.loads(data)
    assert (len(again), again.statistics) == (2, ds.statistics)


def test_statistics_of_strangers_are_checked_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, rows(1, 2))
    manifest = Manifest.decode((tmp_path / FILE_NAME).read_bytes())
    (tmp_path / FILE_NAME).write_bytes(replace(manifest, statistics={"fields": {"n": {"count": -1}}}).encode())
    ds = ShardDataset(tmp_path)
    assert len(ds) == 2
    with pytest.raises(CorruptError, match="'count' of the statistics"):
        _ = ds.statistics


def test_statistics_that_are_no_object_damage_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, rows(1))
    manifest = Manifest.decode((tmp_path / FILE_NAME).read_bytes())
    (tmp_path / FILE_NAME).write_bytes(replace(manifest, statistics=[]).encode())  # type: ignore[arg-type]
    with pytest.raises(CorruptError, match="statistics are no object"):
        ShardDataset(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_conversion_gives_the_same_statistics_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    source = photos(tmp_path / "photos")
    for name, count in (("a", 1), ("b", workers)):
        recordio.convert(source, tmp_path / name, workers=count, shard_bytes=5000)
    a, b = ((tmp_path / name / FILE_NAME).read_bytes() for name in "ab")
    assert a == b
    ds = ShardDataset(tmp_path / "a")
    assert len(ds.store.manifest.shards) > 2
    found = ds.statistics
    assert found is not None
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in ds.column("image")]).astype("f8")
    assert found["image"].channels is not None
    np.testing.assert_allclose(found["image"].channels.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["image"].channels.std, pixels.std(0), rtol=1e-12)
    assert found["image"].formats == {"png": 12}
    assert found["image"].height is not None
    assert (found["image"].height.min, found["image"].height.max) == (20, 31)
    assert found["label"].values == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize("options", [{"check": False}, {"resize": 16}, {"quality": 50}], ids=str)
def test_channels_of_pictures_that_are_not_decoded_as_stored_are_said_on_request(tmp_path: Path, options: Any) -> None:
    source = photos(tmp_path / "photos", 3)
    recordio.convert(source, tmp_path / "a", **options)
    recordio.convert(source, tmp_path / "b", statistics="full", **options)
    a, b = ShardDataset(tmp_path / "a"), ShardDataset(tmp_path / "b")
    assert a.statistics is not None
    assert b.statistics is not None
    assert a.statistics["image"].channels is None
    assert b.statistics["image"].channels == b.measure("image")["image"].channels
    assert list(a.column("image")[0].ravel()) == list(b.column("image")[0].ravel())


def test_finished_shards_keep_their_statistics(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    (source / "c2" / "99.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(recordio.DecodeError):
        recordio.convert(source, tmp_path / "a", workers=1, shard_bytes=5000)
    (source / "c2" / "99.png").unlink()
    report = recordio.convert(source, tmp_path / "a", workers=1, shard_bytes=5000)
    recordio.convert(source, tmp_path / "b", workers=1, shard_bytes=5000)
    assert isinstance(report, recordio.writer.convert.convert.ConvertReport)
    assert report.reused > 0
    assert (tmp_path / "a" / FILE_NAME).read_bytes() == (tmp_path / "b" / FILE_NAME).read_bytes()


def test_merged_and_rewritten_datasets_have_statistics(tmp_path: Path) -> None:
    write(tmp_path / "a", rows(*range(20)), shard_samples=7)
    write(tmp_path / "b", rows(*range(20, 31)))
    write(tmp_path / "whole", rows(*range(31)))
    whole = ShardDataset(tmp_path / "whole").statistics
    assert whole is not None
    recordio.merge(tmp_path / "merged", [tmp_path / "a", tmp_path / "b"])
    recordio.reshard(tmp_path / "merged", tmp_path / "reshard", shard_bytes=1000)
    recordio.append(tmp_path / "a", tmp_path / "b")
    for name in ("merged", "reshard", "a"):
        found = ShardDataset(tmp_path / name).statistics
        assert found is not None
        assert (found["t"], found["n"].values) == (whole["t"], whole["n"].values)
    write(tmp_path / "c", rows(99))
    without_statistics(tmp_path / "c")
    recordio.append(tmp_path / "a", tmp_path / "c")
    assert ShardDataset(tmp_path / "a").statistics is None


def test_an_iterable_has_the_statistics_of_its_samples(tmp_path: Path) -> None:
    recordio.convert(iter(rows(*range(5))), tmp_path / "a")
    ds = ShardDataset(tmp_path / "a")
    assert ds.statistics == ds.measure()


def test_normalize_of_a_dataset(tmp_path: Path) -> None:
    recordio.convert(photos(tmp_path / "photos"), tmp_path / "a")
    ds = ShardDataset(tmp_path / "a")
    found = Normalize.of(ds)
    assert ds.statistics is not None
    channels = ds.statistics["image"].channels
    assert channels is not None
    np.testing.assert_allclose(np.array(found.mean) * 255, channels.mean)
    np.testing.assert_allclose(np.array(found.std) * 255, channels.std)
    without_statistics(tmp_path / "a")
    again = Normalize.of(ShardDataset(tmp_path / "a"), "image")
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-12)
    half = Normalize.of(ds[:6])
    assert half.mean != found.mean
    with pytest.raises(SchemaError, match="no numbers that have a mean"):
        Normalize.of(ShardDataset(tmp_path / "a", fields=["file"]), "file")


def test_normalize_of_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 1, 3, 3)).astype("f4")
    with DatasetWriter(tmp_path) as writer:
        writer.write_batch({"x": values, "u": (values * 9 + 99).astype("u1")})
    ds = ShardDataset(tmp_path)
    found, scaled = Normalize.of(ds, "x"), Normalize.of(ds, "u")
    assert found.mean[0] == pytest.approx(values.astype("f8").mean(), rel=1e-6)
    assert scaled.mean[0] == pytest.approx(ds.column("u").mean() / 255, rel=1e-9)
    with pytest.raises(SchemaError, match="field= says which field is meant: there are x, u"):
        Normalize.of(ds)


def test_pictures_that_are_not_decoded_have_no_channels(tmp_path: Path) -> None:
    data = cv2.imencode(".png", np.full((4, 5, 3), 7, "u1"))[1].tobytes()
    with DatasetWriter(tmp_path, {"image": Image()}) as writer:
        writer.write({"image": data})
    ds = ShardDataset(tmp_path)
    assert ds.statistics is not None
    assert ds.statistics["image"].channels is None
    channels = ds.measure("image")["image"].channels
    assert channels is not None
    assert channels.mean == (7, 7, 7)


def test_the_statistics_of_an_empty_dataset(tmp_path: Path) -> None:
    write(tmp_path, [])
    ds = ShardDataset(tmp_path)
    assert ds.statistics == ds.measure()
    assert ds.statistics is not None
    assert (ds.statistics["n"].count, ds.statistics["n"].numbers) == (0, Numbers())
    json.dumps(ds.statistics.to_json(), allow_nan=False)
    assert ds.schema == Schema(NUMBER)
    assert isinstance(ds.statistics, Statistics)
