"""Transforms: same seed, same pixels, for every kind of image and in any thread; misuse raises with the reason."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recordio.errors import DecodeError, MissingPackageError, SchemaError
from recordio.images import decode as images, pixels as moves
from recordio.images.decode import decode_image
from recordio.transforms import (
    CenterCrop,
    Compose,
    Decode,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ResizeToBucket,
    ToTensor,
    Transform,
)
from tests.photos import MEAN, STD, Array, H, W, encode, photo

PIXELS = photo()
JPEG, PNG = encode(PIXELS, quality=92), encode(PIXELS, "PNG")
EVERY: list[Any] = [
    Decode(),
    Decode("L"),
    Resize(40),
    Resize((31, 47), "bicubic"),
    Resize(40, max_size=45),
    Resize([50, 20], "nearest", antialias=False),
    ResizeToBucket([(32, 32), [24, 40]], "bicubic"),
    CenterCrop((33, 200)),
    RandomCrop(32, padding=4, padding_mode="reflect"),
    RandomCrop((100, 64), pad_if_needed=True, fill=(1, 2, 3)),
    RandomResizedCrop(24),
    RandomResizedCrop((24, 32), scale=(0.5, 0.8), ratio=(1, 2), interpolation="bicubic", antialias=False),
    RandomHorizontalFlip(),
    ToTensor(),
    Compose([RandomResizedCrop(24), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)]),
    Compose([Compose([RandomCrop(32)]), RandomHorizontalFlip(p=0.3)]),
    Compose([]),
]
every_transform = pytest.mark.parametrize("transform", EVERY, ids=[repr(t)[:60] for t in EVERY])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@every_transform
def test_same_seed_gives_same_pixels_and_no_rng_uses_pythons_random(transform: Transform) -> None:
    np.testing.assert_array_equal(transform(JPEG, rng(3)), transform(JPEG, rng=rng(3)))
    results = []
    for _ in range(2):
        random.seed(5)
        results.append(transform(JPEG))
    np.testing.assert_array_equal(*results)
    random.seed(5)
    np.testing.assert_array_equal(results[0], transform(JPEG, rng(random.getrandbits(64))))


@every_transform
def test_transforms_are_thread_safe(transform: Transform) -> None:
    pictures = [encode(photo(H + 7 * k, W - 5 * k, k), ("JPEG", "PNG")[k % 2]) for k in range(6)] * 10
    alone = [transform.apply(data, rng(k), "RGB") for k, data in enumerate(pictures)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda k: transform.apply(pictures[k], rng(k), "RGB"), range(len(pictures))))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@every_transform
def test_transforms_pickle_compare_by_value_and_eval_from_repr(transform: Transform) -> None:
    again = pickle.loads(pickle.dumps(transform))
    assert again == transform
    assert hash(again) == hash(transform)
    assert eval(repr(transform)) == transform
    assert transform != CenterCrop(1)
    np.testing.assert_array_equal(again(PIXELS, rng()), transform(PIXELS, rng()))


@every_transform
def test_bytes_arrays_and_pil_images_give_the_same_pixels(transform: Transform) -> None:
    whole = transform(decode_image(PNG), rng())
    for image in (memoryview(PNG), Image.open(BytesIO(PNG)), PIXELS[::-1][::-1], np.asfortranarray(PIXELS)):
        if transform != Compose([]):
            np.testing.assert_array_equal(transform(image, rng()), whole)


@every_transform
def test_input_and_earlier_results_are_not_written_to(transform: Transform) -> None:
    given = PIXELS.copy()
    given.setflags(write=False)
    transform(given, rng())
    np.testing.assert_array_equal(given, PIXELS)
    first = transform(JPEG, rng())
    copy = np.array(first)
    transform(encode(255 - PIXELS), rng())
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_transforms_keep_channels_and_treat_a_plane_as_one(channels: tuple[int, ...]) -> None:
    pixels = rng().integers(0, 256, (50, 60, *channels), "u1")
    for transform in (Resize(20), Resize(99), CenterCrop(70), RandomCrop(70, pad_if_needed=True), RandomResizedCrop(9)):
        assert transform(pixels).shape[2:] == (channels or (1,))
    np.testing.assert_array_equal(RandomHorizontalFlip(1)(pixels), pixels.reshape(50, 60, -1)[:, ::-1], strict=True)
    assert ToTensor()(pixels).shape == (*(channels or (1,)), 50, 60)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("RGBA", 4)])
@pytest.mark.parametrize("data", [JPEG, PNG, encode(PIXELS[..., 0]), encode(PIXELS, "WEBP")])
def test_bytes_decode_to_the_requested_mode(data: bytes, mode: str, channels: int) -> None:
    expected = decode_image(data, mode)
    assert expected.shape[2] == channels
    for transform in (Decode(), Decode(mode), RandomHorizontalFlip(0), Compose([Decode(), Resize(H)])):
        np.testing.assert_array_equal(transform.apply(data, None, mode), expected)
    assert RandomResizedCrop(16).apply(data, rng(), mode).shape == (16, 16, channels)


def test_decode_mode_overrides_the_fields_and_converts_like_pillow() -> None:
    np.testing.assert_array_equal(Decode("L").apply(JPEG, None, "RGBA"), decode_image(JPEG, "L"))
    for image in (PIXELS, Image.fromarray(PIXELS)):
        np.testing.assert_array_equal(Decode("L")(image)[..., 0], Image.fromarray(PIXELS).convert("L"))
    clear = np.dstack([PIXELS, PIXELS[..., 0]])
    np.testing.assert_array_equal(Decode("RGBA")(encode(clear, "PNG")), clear)
    for pixels in (clear, PIXELS[..., :1]):
        np.testing.assert_array_equal(Decode()(images.pil_image(pixels)), pixels, strict=True)
    palette = Image.fromarray(PIXELS).quantize(20)
    np.testing.assert_array_equal(Decode()(palette), palette.convert("RGB"))
    np.testing.assert_array_equal(Decode("RGBA")(palette), palette.convert("RGBA"))


@every_transform
def test_bad_bytes_raise_decode_error(transform: Transform) -> None:
    if transform != Compose([]):
        for data in (b"", b"garbage", JPEG[:-200], PNG[:-20]):
            with pytest.raises(DecodeError):
                transform(data, rng())


@pytest.mark.parametrize(
    "image",
    [None, 3, "a.jpg", PIXELS.astype(float), PIXELS[0, 0], PIXELS[None], PIXELS[:0], np.zeros((4, 4, 5), "u1")],
    ids=lambda image: moves.describe(image),
)
@every_transform
def test_other_values_than_images_raise_schema_error(transform: Transform, image: Any) -> None:
    if transform != Compose([]):
        with pytest.raises(SchemaError, match="image"):
            transform(image, rng())


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_pil_image_in_an_unknown_mode_or_without_pixels_is_refused(mode: str) -> None:
    with pytest.raises(SchemaError, match="mode"):
        Decode().apply(Image.new(mode, (5, 5)), None, "XYZ")
    with pytest.raises(SchemaError, match="an image is uint8"):
        Decode()(Image.new(mode, (0, 5)))


def test_pil_image_of_more_than_8_bits_is_refused() -> None:
    with pytest.raises(SchemaError, match="mode F is not one of 8 bits"):
        Resize(4)(Image.new("F", (9, 9)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Decode("CMYK"), "mode"),
        *[
            (partial(kind, size), "size")
            for kind in (Resize, CenterCrop, RandomCrop, RandomResizedCrop)
            for size in (0, -1, 2.5, "224", None, (), (1, 2, 3), (4, 0), 1 << 17)
        ],
        *[(partial(kind, (60_000, 60_000)), "size") for kind in (CenterCrop, RandomCrop, RandomResizedCrop)],
        (lambda: Resize(8, "lanczos"), "interpolation"),
        (lambda: RandomResizedCrop(8, interpolation=2), "interpolation"),
        (lambda: Resize(8, antialias="yes"), "antialias"),  # type: ignore[arg-type]
        (lambda: Resize(8, max_size=8), "max_size"),
        (lambda: Resize((8, 9), max_size=20), "max_size"),
        (lambda: RandomResizedCrop(8, scale=(0, 1)), "scale"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.4)), "scale"),
        (lambda: RandomResizedCrop(8, ratio=(1, math.inf)), "ratio"),
        (lambda: RandomResizedCrop(8, ratio=1), "ratio"),
        (lambda: RandomCrop(8, padding=(1, 2, 3)), "padding"),
        (lambda: RandomCrop(8, padding=-1), "padding"),
        (lambda: RandomCrop(8, fill=256), "fill"),
        (lambda: RandomCrop(8, padding_mode="wrap"), "padding_mode"),
        (lambda: RandomCrop(8, pad_if_needed=1), "pad_if_needed"),  # type: ignore[arg-type]
        (lambda: RandomHorizontalFlip(1.1), "p "),
        (lambda: RandomHorizontalFlip(math.nan), "p "),
        (lambda: Normalize(0.5, 0.5), "mean"),
        (lambda: Normalize([0.5], []), "std"),
        (lambda: Normalize([0.5], [0.5, 0.5]), "mean"),
        (lambda: Normalize([0.5], [0]), "std"),
        (lambda: Normalize([1e300], [1]), "mean"),
        (lambda: Compose([ToTensor(), None]), "transforms"),
        (lambda: Compose(ToTensor()), "transforms"),
    ],
)
def test_invalid_argument_is_named(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(SchemaError, match=name):
        make()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomCrop(100)(PIXELS), r"no crop of \(100, 100\) fits an image of \(90, 120\): pad_if_needed"),
        (lambda: RandomCrop(8, padding=1, fill=(1, 2))(PIXELS), "fill has 2 values, but the image has 3 channels"),
        (lambda: Normalize(MEAN, STD)(PIXELS), r"Normalize takes floats.*put ToTensor\(\) before it"),
        (lambda: Normalize(MEAN, STD)(JPEG), r"not bytes .*: put ToTensor\(\) before it"),
        (lambda: Normalize(MEAN, STD)(ToTensor()(PIXELS[..., :1])), "3 numbers, but the image has 1 channels"),
        (lambda: Compose([ToTensor(), Normalize(MEAN, STD)])(PIXELS[..., :1]), "3 numbers, but the image has 1"),
        (
            lambda: Compose([ToTensor(), RandomHorizontalFlip()])(PIXELS),
            r"uint8 \(H, W, C\).*not float32\[3, 90, 120\]",
        ),
        (lambda: Resize(8)(PIXELS, 7), "rng is a numpy.random.Generator, not int"),  # type: ignore[arg-type]
        (lambda: Resize(60_000)(PIXELS[:1]), "over the limit"),
        (lambda: RandomCrop(8, padding=60_000)(PIXELS), "over the limit"),
        (lambda: Decode("L")(PIXELS[..., :2]), "2 channels"),
        (lambda: Resize(8).apply(JPEG, None, "CMYK"), "unknown image mode 'CMYK'"),
    ],
)
def test_unfit_image_raises_schema_error_with_the_reason(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        call()


def test_missing_opencv_names_the_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    to_tensor = Compose([ToTensor(), Normalize(MEAN, STD)])
    expected = to_tensor(PIXELS)
    monkeypatch.setitem(sys.modules, "cv2", None)
    images._package.cache_clear()
    monkeypatch.setattr(moves, "opencv_if_there", images.opencv_if_there.__wrapped__)
    with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[images\]'"):
        Resize(8, "bicubic")(PIXELS)
    np.testing.assert_array_equal(to_tensor(PIXELS), expected)


def test_import_loads_no_image_library_and_use_starts_no_threads() -> None:
    code = """
import sys, threading, recordio.transforms as t
assert not {'cv2', 'simplejpeg', 'PIL', 'torch'} & set(sys.modules)
import numpy as np
t.Resize(8, 'bicubic')(np.zeros((9, 9, 3), 'u1'))
counts = []
thread = threading.Thread(target=lambda: counts.append(sys.modules['cv2'].getNumThreads()))
thread.start(); thread.join()
assert counts == [1], counts
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_callables_run_in_order_and_get_rng_on_request() -> None:
    def brighten(image: Array, *, rng: np.random.Generator) -> Array:
        return image // 2 + np.uint8(100 * rng.random())

    steps = Compose([RandomHorizontalFlip(), brighten, lambda image: image[:10], Compose([CenterCrop(8)]), ToTensor()])
    generator = rng(4)
    expected = brighten(RandomHorizontalFlip()(PIXELS, generator), rng=generator)[:10]
    np.testing.assert_array_equal(steps(PIXELS, rng(4)), ToTensor()(CenterCrop(8)(expected)))
    assert steps(PIXELS).shape == (3, 8, 8)


@pytest.mark.parametrize("transform", [CenterCrop(8), RandomCrop(8), Compose([RandomCrop(8, padding=2)])])
def test_crops_do_not_keep_the_image_alive(transform: Transform) -> None:
    for image in (JPEG, PIXELS):
        assert transform(image).base is None


def test_images_kept_by_a_callable_stay_unchanged() -> None:
    seen: list[Array] = []

    def look(image: Array) -> Array:
        Decode()(encode(255 - PIXELS))
        seen.append(image)
        return image

    transform = Compose([RandomCrop(40), look, RandomHorizontalFlip()])
    for seed in range(3):
        transform(JPEG, rng(seed))
    for seed, image in enumerate(seen):
        np.testing.assert_array_equal(image, RandomCrop(40)(decode_image(JPEG), rng(seed)))


def test_only_pipelines_starting_with_a_built_in_get_bytes() -> None:
    assert Resize(3).encoded
    assert Compose([Compose([Resize(3)]), len]).encoded
    assert not Compose([len, Resize(3)]).encoded
    assert not Compose([]).encoded
    assert Compose([len])(JPEG) == len(JPEG)


def test_pipelines_without_draws_leave_pythons_random_alone() -> None:
    random.seed(1)
    state = random.getstate()
    Compose([Resize(9), CenterCrop(8), ToTensor()])(PIXELS)
    assert random.getstate() == state
    RandomHorizontalFlip()(PIXELS)
    assert random.getstate() != state


def test_compose_repr_is_readable() -> None:
    inner = Compose([Resize(8)])
    assert repr(Compose([inner, ToTensor(), Normalize(MEAN, STD)])).splitlines() == [
        "Compose([",
        "    Compose([",
        "        Resize(size=8, interpolation='bilinear', max_size=None, antialias=True),",
        "    ]),",
        "    ToTensor(),",
        "    Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),",
        "])",
    ]
    assert repr(RandomHorizontalFlip()) == "RandomHorizontalFlip(p=0.5)"
