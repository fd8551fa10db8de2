"""What the measures say of fields, held against NumPy and Python on the values themselves."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from recordio import Array, Bytes, Image, Object, Scalar, Schema, Text, kernels
from recordio.format.fields import Field
from recordio.format.page import encode_page
from recordio.statistics import measures, numbers
from recordio.statistics.measures import Measures
from recordio.statistics.numbers import NumbersMeasure, PixelMoments
from recordio.statistics.records import FieldStatistics, Numbers, Statistics
from tests.effort import examples
from tests.strategies import samples, schemas


class _Sums:
    """The kernels, which use vectors of 512 bits only if `wide`, or decline."""

    def __init__(self, wide: bool | None) -> None:
        self._wide = wide

    def channel_sums(self, pixels: Any, channels: int, wide: bool) -> Any:
        assert wide
        return None if self._wide is None else KERNELS["wide"].channel_sums(pixels, channels, self._wide)


KERNELS: dict[str, Any] = {"none": None, "declined": _Sums(None)}
if kernels.c is not None:
    KERNELS |= {"wide": kernels.c, "narrow": _Sums(False)}


def measured(field: Field, *pages: list[Any]) -> FieldStatistics:
    found = Measures(Schema({"it": field}))
    for values in pages:
        packed = [None if value is None else field.pack(value) for value in values]
        found.add(0, bytes(encode_page(field, [packed])), len(values))
    return found.statistics()["it"]


def exact(values: list[float], found: Numbers) -> None:
    """Holds means and deviations against sums in rational numbers, rounded once."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    scale = max(map(abs, values)) or 1.0
    assert found.mean == pytest.approx(mean, rel=1e-12, abs=1e-12 * scale)
    assert found.std == pytest.approx(math.sqrt(variance), rel=1e-7, abs=1e-10 * scale)


@examples(100)
@given(st.lists(st.lists(st.floats(-1e100, 1e100), max_size=30), min_size=1, max_size=5))
def test_numbers_are_those_of_all_pages(pages: list[list[float]]) -> None:
    found = measured(Scalar("float64"), *pages).numbers
    values = [value for page in pages for value in page]
    assert found is not None
    assert (found.count, found.min, found.max) == (len(values), min(values, default=None), max(values, default=None))
    if values:
        exact(values, found)


@examples(60)
@given(st.sampled_from(["int8", "uint8", "int32", "int64", "uint64", "bool"]), st.data())
def test_integers_are_counted_and_summed_exactly(dtype: str, data: st.DataObject) -> None:
    info = None if dtype == "bool" else np.iinfo(dtype)
    whole = st.booleans() if info is None else st.integers(int(info.min), int(info.max)) | st.integers(0, 9)
    values = data.draw(st.lists(whole, min_size=1, max_size=50))
    one = measured(Scalar(dtype), values[:20], values[20:])
    found = one.numbers
    assert found is not None
    assert (found.sum, found.min, found.max) == (sum(values), min(values), max(values))
    assert found.mean == pytest.approx(sum(values) / len(values), rel=1e-15)
    assert one.values == {value: values.count(value) for value in values}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "u1", "i8"])
def test_groups_of_any_size_say_the_same(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(10_000) * 50 + 60).clip(0, 120).astype(dtype)
    found = NumbersMeasure(values.dtype, np.empty(1000))
    for start in range(0, 10_000, 700):
        found.add(values[start : start + 700])
    found.finish()
    again = NumbersMeasure(values.dtype, np.empty(1000))
    again.add(values)
    again.finish()
    assert found.numbers == again.numbers
    wide = values.astype("f8")
    assert found.numbers.mean == pytest.approx(wide.mean(), rel=1e-13)
    assert found.numbers.std == pytest.approx(wide.std(), rel=1e-10)


def test_a_small_spread_around_a_large_mean_is_not_lost() -> None:
    values = (1e9 + np.arange(1000) / 1000).tolist()
    found = measured(Scalar("float64"), values).numbers
    assert found is not None
    assert found.std == pytest.approx(np.arange(1000).std() / 1000, rel=1e-6)


def test_what_is_not_finite_is_counted_apart() -> None:
    found = measured(Scalar("float64", optional=True), [1.0, math.nan, None, math.inf], [-math.inf, 3.0, math.nan])
    assert (found.count, found.missing) == (6, 1)
    assert found.numbers == Numbers(2, 2, 2, 1.0, 3.0, 2.0, 1.0)
    nothing = measured(Scalar("float32"), [math.nan, math.inf]).numbers
    assert nothing == Numbers(0, 1, 1)


def test_what_is_over_a_float64_is_not_said() -> None:
    found = measured(Scalar("float64"), [1e308, 1e308, -1e308]).numbers
    assert found is not None
    assert (found.min, found.max, found.std) == (-1e308, 1e308, None)
    Statistics.from_json({"fields": {"a": {"count": 3, "missing": 0, "numbers": found.to_json()}}})


def test_more_than_a_thousand_different_integers_are_not_counted_one_by_one() -> None:
    assert len(measured(Scalar("int32"), list(range(1000))).values or {}) == 1000
    assert measured(Scalar("int32"), list(range(1001))).values is None
    assert measured(Scalar("int32"), list(range(600)), list(range(500, 1200))).values is None
    far = [k * 10**6 for k in range(5)]
    assert measured(Scalar("int32"), far * 2).values == dict.fromkeys(far, 2)


def test_fixed_arrays_count_element_by_element() -> None:
    found = measured(Array("int16", (2, 2)), [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert (found.count, found.values, found.lengths) == (2, None, None)
    assert found.numbers is not None
    assert (found.numbers.count, found.numbers.sum) == (8, 36)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", "bool"])
def test_arrays_with_a_free_dimension_have_lengths(dtype: str) -> None:
    arrays: list[Any] = [np.ones(3, dtype), np.zeros(0, dtype), None, np.ones(5, dtype)]
    found = measured(Array(dtype, (None,), optional=True), arrays, arrays)
    assert (found.count, found.missing) == (6, 2)
    assert found.lengths is not None
    assert (found.lengths.min, found.lengths.max, found.lengths.total, found.lengths.count) == (0, 5, 16, 6)
    assert found.numbers is not None
    assert (found.numbers.count, found.numbers.min, found.numbers.max) == (16, 1, 1)
    two = measured(Array("i4", (None, 2, None)), [np.full((2, 2, 3), 7, "i4"), np.full((1, 2, 1), 9, "i4")])
    assert two.values == {7: 12, 9: 2}


def test_complex_numbers_are_counted() -> None:
    for field, value in ((Scalar("complex64"), 1j), (Array("complex128", (None,)), np.ones(3, "c16"))):
        assert measured(field, [value, value]).numbers is None
        assert measured(field, [value, value]).count == 2


@pytest.mark.parametrize(
    ("field", "values", "lengths"),
    [
        (Text(), ["", "ä", "abc"], (0, 3, 5)),
        (Bytes(optional=True), [b"", None, b"abc"], (0, 3, 3)),
        (Object(), ["ab", 1], (1, 3, 4)),
    ],
    ids=str,
)
def test_lengths_are_bytes(field: Field, values: list[Any], lengths: tuple[int, int, int]) -> None:
    found = measured(field, values).lengths
    assert found is not None
    assert (found.min, found.max, found.total) == lengths


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("free", [False, True])
def test_pixels_have_channels_and_sizes(channels: int, free: bool) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (5, 6, 7, channels)).astype("u1")
    found = measured(Image(shape=(None, None, channels) if free else (6, 7, channels)), list(pixels))
    assert found.channels is not None
    np.testing.assert_allclose(found.channels.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.channels.std, pixels.std((0, 1, 2)), rtol=1e-12)
    assert found.height is not None
    assert found.width is not None
    assert (found.height.min, found.width.max, found.height.count, found.formats) == (6, 7, 5, None)


def encoded(pixels: npt.NDArray[np.uint8], kind: str) -> bytes:
    import cv2

    return bytes(cv2.imencode(kind, pixels)[1].tobytes())


def test_sizes_in_groups_of_any_size_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(np.zeros((4 + n % 3, 5 + n, 3), "u1"), (".png", ".jpg")[n % 2]) for n in range(20)]
    texts = ["a" * (n * 7 % 13) for n in range(20)]
    whole = measured(Image(), files, files[:3]), measured(Text(), texts, texts[:3])
    for group in (1, 7):
        monkeypatch.setattr(measures, "_GROUP_OF_MANY", group)
        assert (measured(Image(), files, files[:3]), measured(Text(), texts, texts[:3])) == whole


def test_picture_files_have_formats_and_sizes() -> None:
    files = [
        encoded(np.zeros((4, n, 3), "u1"), kind) for n, kind in ((5, ".png"), (6, ".jpg"), (7, ".jpg"), (8, ".webp"))
    ]
    found = measured(Image(optional=True), [*files, None, b"\xff\xd8\xff\0"])
    assert found.formats == {"png": 1, "jpeg": 2, "webp": 1, "unreadable": 1}
    assert found.width is not None
    assert (found.width.min, found.width.max, found.width.count, found.missing) == (5, 8, 4, 1)
    assert found.channels is None


@pytest.mark.parametrize("how", KERNELS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_moments_of_pixels_are_exact(channels: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "c", KERNELS[how])
    rng = np.random.default_rng(2)
    for height, width in ((300, 500), *((1, n) for n in range(1, 70)), (7, 1111)):
        pixels = rng.integers(0, 256, (height, width, channels)).astype("u1")
        found = PixelMoments.of(pixels)
        wide = pixels.astype("i8")
        assert (found.sums, found.squares) == (
            tuple(wide.sum((0, 1)).tolist()),
            tuple((wide * wide).sum((0, 1)).tolist()),
        )
        np.testing.assert_allclose(found.plus(found).channels().std, pixels.std((0, 1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", KERNELS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sums_beyond_32_bits_are_exact(channels: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "c", KERNELS[how])
    pixels = np.full((3000, 2000, channels), 255, "u1")
    found = PixelMoments.of(pixels)
    assert found.squares == (255 * 255 * 6_000_000,) * channels
    assert found.sums == (255 * 6_000_000,) * channels


@pytest.mark.skipif(not getattr(kernels.c, "PIXELS", False), reason=f"kernels in C: {kernels.state}")
def test_no_sums_of_what_has_other_channels() -> None:
    sums = kernels.c.channel_sums
    for wrong in ((b"ab", 2, True), (b"ab", 0, True), (b"ab", 5, True), (b"ab", 2**32 + 3, True), (b"ab", 1)):
        with pytest.raises(ValueError, match="1, 3 or 4 channels"):
            sums(*wrong)
    with pytest.raises(TypeError):
        sums(b"ab", "x", True)
    with pytest.raises((TypeError, BufferError, ValueError)):
        sums(np.zeros((4, 4, 3), "u1")[:, ::2], 3, True)


def test_bytes_are_measured_alike_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).integers(0, 256, (100, 100)).astype("u1").tolist()
    with_it = measured(Array("uint8", (100,)), values)
    monkeypatch.setattr(numbers, "opencv_if_there", lambda: None)
    assert measured(Array("uint8", (100,)), values) == with_it


@examples(40)
@given(schemas(4), st.integers(0, 30), st.integers(0, 2**32))
def test_pages_of_any_size_say_the_same(schema: Schema, count: int, seed: int) -> None:
    rows = samples(schema, count, Random(seed))
    found = []
    for size in (7, 30):
        one = Measures(schema)
        for start in range(0, count, size):
            part = rows[start : start + size]
            for number, (name, field) in enumerate(schema.items()):
                packed = [None if row.get(name) is None else field.pack(row[name]) for row in part]
                one.add(number, bytes(encode_page(field, [packed])), len(part))
        found.append(one.statistics())
    assert found[0] == found[1]
    assert Statistics.from_json(found[0].to_json()) == found[0]
    assert all(one.count + one.missing == count for one in found[0].values())
