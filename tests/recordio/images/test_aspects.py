"""Aspects and the nearest bucket follow docs/order.md; what ResizeToBucket keeps of an image is its middle."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from recordio.images.aspects import aspects, checked_buckets, nearest
from recordio.images.boxes import box_of_aspect
from recordio.images.header import image_size, stated_size
from recordio.transforms import Resize, ResizeToBucket
from tests import plain_bins as plain
from tests.effort import examples
from tests.photos import encode, photo

SIDES = st.integers(1, 1 << 16)
SIZES = st.lists(st.tuples(st.integers(1, 4096), st.integers(1, 4096)), min_size=1, max_size=9)
BUCKETS = [(32, 32), (24, 40), (40, 24)]


@given(st.integers(0, 1 << 38), st.integers(0, 1 << 38))
def test_aspects_follow_the_document(height: int, width: int) -> None:
    assert int(aspects(height, width)) == plain.aspect(height, width)
    assert aspects([height, 2], [width, 3]).tolist() == [plain.aspect(height, width), 1536]


@examples(200)
@given(SIZES, SIDES, SIDES)
def test_nearest_bucket_follows_the_document(sizes: list[tuple[int, int]], height: int, width: int) -> None:
    one_an_aspect = list({plain.aspect(*size): size for size in sizes}.values())
    buckets = checked_buckets(one_an_aspect)
    assert buckets[int(nearest(aspects(height, width), buckets))] == plain.bucket(height, width, one_an_aspect)


@given(SIDES, SIDES, st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
def test_box_of_an_aspect_is_the_largest_in_the_middle(height: int, width: int, size: tuple[int, int]) -> None:
    box = box_of_aspect(height, width, size)
    assert box.height == height or box.width == width
    assert abs(2 * box.top + box.height - height) <= 1
    assert abs(2 * box.left + box.width - width) <= 1
    assert abs(box.width - box.height * size[1] / size[0]) <= 0.5 + max(1, size[1] / size[0])


def test_a_header_says_the_size_where_the_rest_is_missing() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(photo(30, 41), kind)
        assert stated_size(data) == image_size(data) == (30, 41)
    jpeg = encode(photo(30, 41))
    assert stated_size(jpeg[: jpeg.index(b"\xff\xda")]) == (30, 41)
    for broken in (b"", jpeg[:3], jpeg[:100], b"GIF89a" + bytes(20)):
        assert stated_size(broken) == (0, 0)


def test_an_image_is_cropped_to_its_bucket_and_resized() -> None:
    step = ResizeToBucket(BUCKETS)
    for height, width, size in ((60, 70, (32, 32)), (60, 90, (24, 40)), (90, 50, (40, 24)), (5, 5, (32, 32))):
        pixels = photo(height, width)
        box = box_of_aspect(height, width, size)
        np.testing.assert_array_equal(step(pixels), Resize(size)(box.of(pixels)))
        np.testing.assert_array_equal(step(encode(pixels, "PNG")), step(pixels))
    assert step.for_mask() == ResizeToBucket(BUCKETS[::-1], interpolation="nearest")
