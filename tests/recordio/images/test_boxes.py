"""Boxes and sizes match torchvision and stay inside the image; draws are in the stated order, by `random()` alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio.images.boxes import Box, placed_box, random_box, reduction, scaled_size
from recordio.transforms import CenterCrop, RandomCrop, RandomHorizontalFlip
from tests.effort import examples

H, W = 90, 120
PIXELS = np.random.default_rng(0).integers(0, 256, (H, W, 3), "u1")


class Scripted(np.random.Generator):
    """Returns the draws of a list, in order."""

    def __init__(self, draws: list[float]) -> None:
        super().__init__(np.random.PCG64(0))
        self.draws = draws

    def random(self, *_: Any, **__: Any) -> Any:
        return self.draws.pop(0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100))
def test_scaled_size_sets_the_shorter_side_and_keeps_the_aspect(height: int, width: int, size: int) -> None:
    found = scaled_size(height, width, size, None)
    assert min(found) == size
    assert max(found) == int(size * max(height, width) / min(height, width))
    assert (found[0] >= found[1]) == (height >= width) or found[0] == found[1]
    limited = scaled_size(height, width, size, size + 10)
    assert max(limited) <= size + 10
    assert limited == found or (
        max(limited) == size + 10 and min(limited) == max(1, int((size + 10) * size / max(found)))
    )


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 300), st.integers(1, 300), st.data())
def test_reduction_keeps_twice_the_result_and_the_box_inside(h: int, w: int, th: int, tw: int, data: Any) -> None:
    height, width = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    box = Box(data.draw(st.integers(0, h - height)), data.draw(st.integers(0, w - width)), height, width)
    factor = reduction(box, (th, tw))
    assert factor in (1, 2, 4, 8)
    if factor > 1:
        small = box.reduced(factor)
        assert 0 <= small.top < small.top + small.height <= math.ceil(h / factor)
        assert 0 <= small.left < small.left + small.width <= math.ceil(w / factor)
        assert small.height >= 2 * th - 1
        assert small.width >= 2 * tw - 1
        assert abs(small.top * factor - box.top) <= height / th / 4
        assert abs((small.left + small.width) * factor - box.left - width) <= width / tw / 4


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 1 << 30))
def test_random_box_is_inside_the_image_and_matches_torchvision(height: int, width: int, seed: int) -> None:
    box = random_box(height, width, (0.08, 1.0), (3 / 4, 4 / 3), rng(seed))
    assert 0 <= box.top <= box.top + box.height <= height
    assert 0 <= box.left <= box.left + box.width <= width
    assert min(box.height, box.width) > 0
    draw = rng(seed).random
    for _ in range(10):
        area = height * width * (0.08 + draw() * 0.92)
        aspect = math.exp(math.log(3 / 4) + draw() * (math.log(4 / 3) - math.log(3 / 4)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(draw() * (height - h + 1)), int(draw() * (width - w + 1))
            assert box == (top, left, h, w)
            return
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    assert box == ((height - h) // 2, (width - w) // 2, h, w)


def test_random_box_draws_area_aspect_top_left() -> None:
    never = Scripted([1.0, 0.0] * 10)
    assert random_box(100, 100, (1.0, 1.0), (0.5, 2.0), never) == (0, 0, 100, 100)
    assert never.draws == []
    draws = Scripted([1.0, 0.0, 0.25, 0.5, 0.999, 0.0])
    box = random_box(100, 100, (0.0001, 1.0), (0.5, 2.0), draws)
    assert box == (int(0.999 * (100 - box.height + 1)), 0, box.height, box.width)
    assert box.height == box.width == 50
    assert draws.draws == []


def test_random_crop_draws_top_then_left_and_reaches_every_place() -> None:
    np.testing.assert_array_equal(RandomCrop((30, 40))(PIXELS, Scripted([0.999, 0.0])), PIXELS[60:90, :40])
    np.testing.assert_array_equal(RandomCrop((H, W))(PIXELS, Scripted([0.5, 0.5])), PIXELS)
    generator = rng()
    assert {placed_box(12, 11, (10, 10), generator)[:2] for _ in range(200)} == {
        (y, x) for y in range(3) for x in range(2)
    }


@pytest.mark.parametrize(("mode", "numpy_mode"), [("edge", "edge"), ("reflect", "reflect"), ("symmetric", "symmetric")])
@pytest.mark.parametrize("padding", [5, (3, 7), (1, 2, 3, 4)])
def test_padding_is_left_top_right_bottom_and_matches_numpy(padding: Any, mode: str, numpy_mode: Any) -> None:
    each = {1: (0, 0, 0, 0), 2: (0, 1, 0, 1), 4: (0, 1, 2, 3)}[np.size(padding)]
    left, top, right, bottom = (np.ravel(padding)[k] for k in each)
    padded = np.pad(PIXELS, ((top, bottom), (left, right), (0, 0)), numpy_mode)
    found = RandomCrop(padded.shape[:2], padding=padding, padding_mode=mode)(PIXELS)
    np.testing.assert_array_equal(found, padded)


def test_pad_if_needed_fills_both_sides() -> None:
    out = RandomCrop((100, 60), pad_if_needed=True, fill=(9, 8, 7))(PIXELS, Scripted([0.0, 0.0]))
    assert (out[:10] == (9, 8, 7)).all()
    np.testing.assert_array_equal(out[10:], PIXELS[:, :60])


def test_center_crop_takes_the_middle_and_pads_with_zeros() -> None:
    np.testing.assert_array_equal(CenterCrop((41, 50))(PIXELS), PIXELS[24:65, 35:85])
    larger = CenterCrop((H + 5, W - 20))(PIXELS)
    np.testing.assert_array_equal(larger[2:-3], PIXELS[:, 10:-10])
    assert not larger[:2].any()
    assert not larger[-3:].any()


@examples(25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_flipping_twice_restores_the_image(height: int, width: int, channels: int) -> None:
    pixels = rng().integers(0, 256, (height, width, channels), "u1")
    flip = RandomHorizontalFlip(1.0)
    np.testing.assert_array_equal(flip(pixels), pixels[:, ::-1])
    np.testing.assert_array_equal(flip(flip(pixels)), pixels)


def test_flip_happens_if_the_draw_is_below_p() -> None:
    for draw, flipped in ((0.49, True), (0.5, False)):
        np.testing.assert_array_equal(
            RandomHorizontalFlip()(PIXELS, Scripted([draw])), PIXELS[:, ::-1] if flipped else PIXELS
        )
