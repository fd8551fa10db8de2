"""A dataset in the hands of libraries: no Sequence, and `transform` may be assigned."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL

from recordio import Bytes, ConcatDataset, DatasetWriter, Image, Mixture, Scalar, Schema, SchemaError, ShardDataset
from recordio.reader.view import DatasetView
from recordio.transforms import Compose, Resize, ToTensor
from tests.photos import encode, photo

Make = Callable[[ShardDataset], Any]
KINDS: dict[str, Make] = {
    "single": lambda ds: ds,
    "view": lambda ds: ds[::-1],
    "concatenated": lambda ds: ds + ds[:2],
    "mixed": lambda ds: Mixture([(ds, 1), (ds, 1)]),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def ds(tmp_path: Path) -> ShardDataset:
    return written(tmp_path / "pictures", {"image": Image(), "label": Scalar("int64")})


def written(folder: Path, schema: dict[str, Any]) -> ShardDataset:
    with DatasetWriter(folder, Schema(schema)) as writer:
        for n in range(4):
            jpeg, pixels = encode(photo(40 + n, 50), quality=90), np.full((4, 5, 1), n, np.uint8)
            values = {"image": jpeg, "other": jpeg, "pixels": pixels, "raw": b"raw", "label": n}
            writer.write({name: values[name] for name in schema})
    return ShardDataset(folder)


def size(picture: Any) -> tuple[str, tuple[int, int]]:
    assert isinstance(picture, PIL.Image)
    return picture.mode, picture.size


def paired(sample: dict[str, Any]) -> Any:
    return sample["image"], int(sample["label"])


@every_kind
def test_a_dataset_is_no_sequence_and_yet_iterates_both_ways(ds: ShardDataset, kind: str) -> None:
    view = KINDS[kind](ds)
    assert not isinstance(view, Sequence)
    found = [int(sample["label"]) for sample in view]
    assert found == [int(view[k]["label"]) for k in range(len(view))]
    assert [int(sample["label"]) for sample in reversed(view)] == found[::-1]
    with pytest.raises(TypeError, match="not a container"):
        _ = ds[0] in view
    assert not hasattr(view, "index")
    assert not hasattr(view, "count")


@every_kind
def test_an_assigned_transform_takes_the_place_of_the_pictures_transforms(ds: ShardDataset, kind: str) -> None:
    view = KINDS[kind](ds.transform(image=Resize((8, 8)), label=lambda label: label + 10).map(paired))
    view.transform = Compose([Resize((16, 12)), ToTensor()])
    assert {sample[0].shape for sample in view} == {(3, 16, 12)}
    assert {sample[1] >= 10 for sample in view} == {True}
    assert callable(view.transform)
    if kind != "view":
        assert ds[0]["image"].ndim == 3
    view.transform = None
    assert view[0][0].shape[1:] == (50, 3)


@every_kind
@pytest.mark.parametrize("decode", ["numpy", "pil", None])
def test_a_function_that_is_not_ours_gets_pil_images(ds: ShardDataset, kind: str, decode: Any) -> None:
    view = KINDS[kind](ShardDataset(ds._path, decode=decode))
    view.transform = size
    for one in (view, pickle.loads(pickle.dumps(view)), view[:3]):
        assert {sample["image"][0] for sample in one} == {"RGB"}
        assert {sample["image"][1][0] for sample in one} == {50}


def test_views_made_before_keep_their_transform(ds: ShardDataset) -> None:
    before, whole = ds[:2], ds + ds
    ds.transform = size
    assert isinstance(before[0]["image"], np.ndarray)
    assert isinstance(whole[0]["image"], np.ndarray)
    assert ds[1:][0]["image"] == ("RGB", (50, 41))
    assert ds.transform(image=Resize(8)) is not ds


def test_pixels_that_are_stored_plain_become_pil_images_too(tmp_path: Path) -> None:
    ds = written(tmp_path / "plain", {"pixels": Image(shape=(4, 5, 1)), "label": Scalar("int64")})
    ds.transform = size
    assert ds[1]["pixels"] == ("L", (5, 4))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [({"raw": Bytes(), "label": Scalar("int64")}, "no picture field"),
     ({"image": Image(), "other": Image()}, "several picture fields, image, other")],
)  # fmt: skip
def test_a_dataset_without_one_picture_field_refuses_it(tmp_path: Path, schema: Any, reason: str) -> None:
    ds = written(tmp_path / "others", schema)
    for view in (ds, ds + ds):
        with pytest.raises(SchemaError, match=rf"{reason}: .*ds = ds\.transform\(image=f\)"):
            view.transform = size


def test_what_is_no_function_is_refused(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="expected a function, got int"):
        ds.transform = 3
    assert isinstance(ds[0]["image"], np.ndarray)


@pytest.mark.parametrize("name", ["map", "take", "select", "column", "filter", "split", "refresh"])
def test_other_methods_cannot_be_assigned(ds: ShardDataset, name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name} is a method: call it"):
        setattr(ds, name, size)
    if name != "refresh":
        with pytest.raises(AttributeError, match=f"{name} is a method: call it"):
            setattr(ConcatDataset([ds]), name, size)


def test_other_attributes_may_be_set(ds: ShardDataset) -> None:
    ds.note = "mine"
    assert isinstance(ds, DatasetView)
    assert ds[:2].note == "mine"
