"""Thumbnails of whatever a picture is stored as."""

from __future__ import annotations

import sys
from base64 import b64decode
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from recordio import Array, Image, MissingPackageError, Scalar, Text
from recordio.display import pictures
from recordio.display.pictures import Picture, full_size, is_picture_field, picture_of
from recordio.display.values import Damaged
from recordio.images import pillow
from tests.photos import encode, photo


def shown(value: Any, side: int = 64) -> Any:
    """The pixels that a browser shows."""
    picture = picture_of(value, side)
    assert isinstance(picture, Picture)
    head, _, data = picture.source.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg", "data:image/webp")
    return np.asarray(Pil.open(BytesIO(b64decode(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_is_shrunk_to_the_side(kind: str) -> None:
    assert shown(encode(photo(300, 200), kind)).shape == (64, 43, 3)


def test_a_small_file_is_shown_as_it_is() -> None:
    data = encode(photo(20, 30))
    picture = picture_of(data, 64)
    assert isinstance(picture, Picture)
    assert b64decode(picture.source.partition(",")[2]) == data


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
def test_pixels_are_shown_exactly(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert np.array_equal(shown(pixels), pixels.reshape(shape[:2] if shape[2:] == (1,) else shape))


def test_sixteen_bits_are_stretched_and_say_so() -> None:
    pixels = np.linspace(1000, 2000, 600).reshape(20, 30).astype("u2")
    assert (shown(pixels).min(), shown(pixels).max()) == (0, 255)
    picture = picture_of(pixels)
    assert isinstance(picture, Picture)
    assert picture.note == "values 1000 to 2000, shown as black to white"


def test_a_mask_of_few_values_is_not_black() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:] = 2
    assert shown(mask).max() == 255


def test_floats_from_0_to_1_keep_their_meaning() -> None:
    pixels = np.full((3, 20, 30), 0.5, np.float32)
    assert (shown(pixels) == 128).all()
    assert shown(pixels).shape == (20, 30, 3)


@pytest.mark.parametrize("low", [-3.0, -1e308, float("nan"), float("inf")])
def test_any_floats_are_shown(low: float) -> None:
    pixels = np.linspace(0, 1, 600).reshape(20, 30)
    pixels[0, 0] = low
    assert shown(pixels.astype(np.float32) if abs(low) < 9 else np.stack([pixels] * 3, -1)).shape[:2] == (20, 30)


def note(value: Any) -> str:
    picture = picture_of(value)
    assert isinstance(picture, Picture)
    return picture.note


def test_values_that_are_not_finite_or_masked_count_for_nothing_and_it_is_said() -> None:
    pixels = np.linspace(5, 10, 600).reshape(20, 30)
    pixels = pixels.astype(np.float32)
    pixels[0, :2] = np.nan, np.inf
    stretched = "values 5.01669 to 10, shown as black to white"
    assert note(pixels) == f"{stretched}; of 600 values, 2 not finite, shown as black"
    pixels[0, :2] = 99, np.inf
    masked = np.ma.masked_equal(pixels, 99)
    assert note(masked) == f"{stretched}; of 600 values, 1 masked and 1 not finite, shown as black"
    assert (shown(masked)[0, 0], shown(masked)[0, 2], shown(masked)[-1, -1]) == (0, 0, 255)
    assert note(np.full((20, 30), np.nan, np.float32)) == "no value to show: of 600 values, 600 not finite"


def test_colours_under_a_mask_are_black() -> None:
    pixels = np.ma.masked_equal(np.full((300, 300, 3), 7, np.uint8), 7)
    pixels[9:] = 9
    assert not shown(pixels)[0].any()
    assert (shown(pixels)[-1] == 9).all()


class Odd:
    """Looks like a picture, and is none."""

    save = convert = 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F", "I"])
def test_pictures_of_pil_of_every_mode(mode: str) -> None:
    assert shown(Pil.new(mode, (200, 100))).shape[:2] == (32, 64)


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        None,
        3,
        np.zeros((30, 4)),
        np.zeros(30),
        np.zeros((2, 2, 2, 2)),
        np.zeros((0, 9)),
        [1],
        {},
        Odd(),
    ],
)
def test_other_values_are_no_pictures(value: Any) -> None:
    assert picture_of(value) is None
    assert full_size(value) is None


def test_a_picture_that_does_not_decode_is_damaged() -> None:
    for size in (300, 20):
        data = encode(photo(size, size), "PNG")
        for broken in (data[:20], data[: len(data) // 2]):
            assert isinstance(picture_of(broken, 64), Damaged)


def test_too_many_pixels_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_SHRUNK_PIXELS", 1000)
    assert picture_of(encode(photo(300, 200)), 64) == Picture("", "200 x 300 pixels are too many to shrink here")


def test_without_pillow_small_files_are_shown_and_large_ones_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    pillow.pillow.cache_clear()
    small, large = encode(photo(300, 200)), encode(photo(600, 600), "PNG")
    try:
        found = picture_of(small, 64), picture_of(large, 64), picture_of(photo(20, 20))
    finally:
        pillow.pillow.cache_clear()
    assert isinstance(found[0], Picture)
    assert found[0].source
    assert isinstance(found[1], Picture)
    assert not found[1].source
    assert "pip install" in found[1].note
    assert isinstance(found[2], Picture)
    assert found[2].source


def test_pixels_are_shrunk_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise MissingPackageError("no Pillow")

    monkeypatch.setattr(pictures, "pil_image", missing)
    assert shown(photo(300, 200)).shape == (60, 40, 3)


def test_full_size_is_the_file_itself_or_all_pixels() -> None:
    data = encode(photo(300, 200))
    assert full_size(data) == (data, "image/jpeg")
    found = full_size(photo(300, 200))
    assert found
    assert np.array_equal(np.asarray(Pil.open(BytesIO(found[0]))), photo(300, 200))


def test_which_fields_hold_pictures() -> None:
    assert is_picture_field(Image())
    assert is_picture_field(Image("L", (8, 8)))
    assert is_picture_field(Array("uint16", (None, None)))
    assert not any(map(is_picture_field, [Array("int64", (8, 8)), Array("uint8", (8,)), Scalar(), Text()]))
