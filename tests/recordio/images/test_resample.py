"""The filter in C gives the bytes of Pillow's, and leaves to Pillow whatever it does not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from recordio import kernels
from recordio.images import resample
from recordio.images.decode import Pixels
from recordio.images.resample import BILINEAR, as_pillow, bilinear
from recordio.transforms import Resize
from tests.effort import examples

sides = st.integers(1, 90) | st.integers(1, 700)
needs_filter = pytest.mark.skipif(
    not getattr(kernels.c, "PIXELS", False),
    reason=f"the filter in C takes a processor with AVX2; kernels in C: {kernels.state}",
)


@pytest.fixture(autouse=True)
def pillow_is_asked_anew() -> Iterator[None]:
    resample._is_pillows.cache_clear()
    yield
    resample._is_pillows.cache_clear()


def noise(height: int, width: int, seed: int) -> Pixels:
    """Of all values, or of the lowest and the highest alone."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return pixels if seed % 2 else (pixels > 127).astype(np.uint8) * np.uint8(255)


def pillows(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


@examples(300)
@given(sides, sides, st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_the_bytes_are_pillow_s(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    found = np.asarray(as_pillow(pixels, (new_height, new_width)))
    np.testing.assert_array_equal(found, pillows(pixels, (new_height, new_width)))


@needs_filter
@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((375, 500), (256, 341)),
        ((500, 375), (341, 256)),
        ((1200, 1600), (120, 160)),
        ((64, 64), (64, 21)),
        ((64, 64), (21, 64)),
        ((37, 53), (111, 54)),
        ((4, 5), (3, 4)),
        ((61, 4), (60, 4)),
    ],
)
def test_most_pictures_go_through_the_filter(
    size: tuple[int, int], new: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(*size, 1)
    want = pillows(pixels, new)
    monkeypatch.setattr(Image.Image, "resize", None)
    monkeypatch.setattr(resample, "_is_pillows", lambda: True)
    np.testing.assert_array_equal(np.asarray(as_pillow(pixels, new)), want)


@needs_filter
def test_the_pillow_that_is_installed_has_this_filter() -> None:
    assert resample._is_pillows()


@needs_filter
def test_another_filter_of_pillow_s_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(40, 50, 1)
    resize: Callable[..., Any] = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda picture, size, _: resize(picture, size, Image.Resampling.HAMMING))
    assert not resample._is_pillows()
    want = resize(Image.fromarray(pixels), (20, 20), Image.Resampling.HAMMING)
    assert as_pillow(pixels, (20, 20)).tobytes() == want.tobytes()


@needs_filter
@examples(100)
@given(sides, sides, sides, sides, st.integers(1, 99), st.integers(1, 99), st.integers(0, 2**32))
def test_a_box_is_resized_where_it_lies(
    top: int, left: int, height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    box = noise(top + height, left + width + seed % 3, seed)[top:, left : left + width]
    found, copied = bilinear(box, (new_height, new_width)), bilinear(box.copy(), (new_height, new_width))
    np.testing.assert_array_equal(found, copied)  # type: ignore[arg-type]
    if found is not None:
        size = new_height, new_width
        away = found.astype(int) - pillows(np.ascontiguousarray(box), size)
        assert np.abs(away).max() <= resample._columns_first(box.shape, size)


@needs_filter
def test_pixels_in_any_order_of_memory_give_the_same() -> None:
    pixels = noise(40, 50, 1)
    row = np.broadcast_to(pixels[:1], (40, 50, 3))
    for other in (pixels[::-1], pixels[:, ::-1], pixels[:, ::2], pixels[::2], pixels.transpose(1, 0, 2), row):
        np.testing.assert_array_equal(bilinear(other, (20, 20)), bilinear(other.copy(), (20, 20)))  # type: ignore[arg-type]
        out = np.zeros((20, 20, 3), "u1")
        assert kernels.c.resize_rgb(other, out) == (other.strides[1:] == (3, 1) and other.strides[0] >= 150)


@needs_filter
@pytest.mark.parametrize("size", [(21, 30), (20, 15), (40, 15), (80, 100), (39, 49)])
def test_transforms_give_pillow_s_values(size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(Resize(size)(noise(40, 50, 1)), pillows(noise(40, 50, 1), size))


@pytest.mark.parametrize("channels", [1, 4])
def test_other_pictures_are_left_to_pillow(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, channels)).astype("u1")
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    assert as_pillow(pixels, (20, 30)).tobytes() == picture.resize((30, 20), BILINEAR).tobytes()


@needs_filter
@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
def test_nothing_is_read_or_written_beyond_the_pixels() -> None:
    words = [sys.executable, "-m", "tests.recordio.images.guarded_pixels"]
    out = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(out.stdout) > 1000


@needs_filter
def test_a_column_that_becomes_a_row_is_declined() -> None:
    assert not kernels.c.resize_rgb(np.zeros((2000, 4, 3), "u1"), np.zeros((4, 2000, 3), "u1"))
    assert bilinear(np.zeros((200, 200, 3), "u1"), (10, 300)) is not None


@needs_filter
def test_another_order_of_pillow_s_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    resize: Callable[..., Any] = Image.Image.resize

    def columns_first(picture: Image.Image, size: tuple[int, int], how: int) -> Image.Image:
        if picture.height - size[1] > picture.width - size[0]:
            picture = resize(picture, (picture.width, size[1]), how)
        return resize(picture, size, how)  # type: ignore[no-any-return]

    monkeypatch.setattr(Image.Image, "resize", columns_first)
    assert not resample._is_pillows()


@needs_filter
def test_what_is_no_picture_of_bytes_is_refused() -> None:
    right, by_kernel = np.zeros((8, 8, 3), "u1"), kernels.c.resize_rgb
    readonly = right.copy()
    readonly.setflags(write=False)
    for wrong in (right[:, :, :2], right[:0], right.astype("u2"), right[0], b"abc"):
        for arguments in ((wrong, right), (right, wrong)):
            with pytest.raises((ValueError, BufferError)):
                by_kernel(*arguments)
    for wrong in (readonly, right[:, ::2]):
        with pytest.raises((ValueError, BufferError)):
            by_kernel(right, wrong)
    for few in ((right,), (right, right, 1), (5, right)):
        with pytest.raises(TypeError):
            by_kernel(*few)
    assert not by_kernel(np.zeros((3, 8, 3), "u1"), right)  # fewer pixels than are weighed at once
