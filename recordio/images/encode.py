"""Pictures on their way into a dataset: checked to decode, and resized on request.

Pillow encodes, and its bilinear filter resizes, in C of ours or in Pillow's own: it is antialiased and matches
torchvision's `Resize`, and it computes in integers, so the same versions of Pillow and simplejpeg give the same file on
any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from recordio.errors import DecodeError, SchemaError
from recordio.format.image_field import Image, image_format
from recordio.format.pil import fitting_mode, is_picture, keeps
from recordio.images.decode import as_array, decode_image, decode_pil, pil_image
from recordio.images.header import MAX_IMAGE_PIXELS, Header, read_header
from recordio.images.jpeg_file import picture_packer
from recordio.images.pillow import opened
from recordio.images.resample import as_pillow

DEFAULT_QUALITY = 92
MAX_SIDES = {"jpeg": 65_500, "webp": 16_383}  # what libjpeg and libwebp write at most
NEAREST = 0  # of PIL.Image.Resampling
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # the PIL.Image.Transpose for each orientation


def check_image(data: bytes, mode: str) -> None:
    """Raises DecodeError, with the reason, if the picture does not decode whole."""
    decode_image(data, mode)


def lossless_packer(name: str, field: Image, alone: bool) -> Callable[[Any], bytes]:
    """A packer for an image field of inferred mode: refuses pictures that this mode would change.

    Args:
        name: the field's name.
        field: the field; it holds encoded pictures.
        alone: whether it is the only field of the schema.
    """
    pack = picture_packer(field)

    def packed(value: Any) -> bytes:
        data = pack(value)
        if field.mode == "RGBA" or (field.mode == "RGB" and image_format(data) == "jpeg"):
            return data
        picture = value if is_picture(value) else _decoded(data)
        if keeps(picture, field.mode):
            return data
        advice = f"schema={{{name!r}: Image({fitting_mode(picture)!r})}}" + ("" if alone else " and the other fields")
        raise SchemaError(
            f"the mode inferred from the first pictures, {field.mode!r}, loses colours or transparency of this one: "
            f"give {advice}"
        )

    return packed


def _decoded(data: bytes) -> Any:
    try:
        return decode_pil(data, "RGBA")
    except DecodeError as error:
        raise SchemaError(error.fault) from error


def resize_image(
    data: bytes,
    resize: int | tuple[int, int] | None,
    quality: int | None = None,
    mode: str = "RGB",
    *,
    orientation: int = 1,
    upright: bool = False,
    palette: bool = False,
) -> bytes:
    """The picture in the same format, at another size or quality; the same bytes if neither changes.

    Args:
        resize: an int is the length of the shorter side, as in torchvision's `Resize`, but never enlarges;
            a pair is the exact (height, width), of the picture upright; None keeps the size.
        quality: 1 to 100, for JPEG and WebP, which are re-encoded even at the same size; a lossless WebP becomes lossy.
            None means 92 for pictures encoded anew. PNG has no quality.
        mode: the mode to decode to, "RGB", "L" or "RGBA". A grey picture stays grey under "RGB".
        orientation: the picture's EXIF orientation, 1 to 8. What is encoded anew is turned by it.
        upright: a picture of another orientation than 1 is encoded anew, even at the same size.
        palette: the picture is a PNG whose values stand for something: resized to the nearest pixel, with its
            palette if it has one.

    Re-encoding drops all metadata (EXIF, colour profile), and all but the first frame of an animation.
    Every picture is decoded, even if it is returned unchanged: raises DecodeError as `check_image` does.
    Raises SchemaError for a size that the format cannot hold.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise SchemaError(f"quality is 1 to 100, not {quality}")
    header = read_header(data)
    before = (header.height, header.width) if orientation < 5 else (header.width, header.height)
    size = target_size(before, resize)
    reencode = (quality is not None and header.format != "png") or (upright and orientation != 1)
    if size == before and not reencode:
        check_image(data, mode)
        return data
    _require_side(header.format, size)
    if palette:
        picture = _turned(_with_values(data, mode), orientation)
        return _encode(picture.resize(size[::-1], NEAREST) if size != before else picture, header, quality)
    pixels = decode_image(data, _kept_mode(header, mode), header)
    if orientation != 1:
        pixels = as_array(_turned(pil_image(pixels), orientation))
    return _encode(as_pillow(pixels, size), header, quality)


def _require_side(form: str, size: tuple[int, int]) -> None:
    """Raises SchemaError for a (height, width) that files of a format cannot have."""
    most = MAX_SIDES.get(form, max(size))
    if max(size) > most:
        raise SchemaError(f"resize makes {size[1]} x {size[0]} pixels, and a {form} file has at most {most} a side")


def _kept_mode(header: Header, mode: str) -> str:
    return "L" if header.channels == 1 and mode == "RGB" else mode


def _turned(picture: Any, orientation: int) -> Any:
    return picture if orientation == 1 else picture.transpose(_TURNS[orientation])


def _with_values(data: bytes, mode: str) -> Any:
    """The picture with its palette, after proving that it decodes whole."""
    check_image(data, mode)
    with opened(data, "png") as picture:
        picture.load()
    return picture


def target_size(size: tuple[int, int], resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """The (height, width) after `resize` of a picture of `size`, (height, width) too. Raises SchemaError.

    An exact size has at most MAX_IMAGE_PIXELS, as what is read has.
    """
    height, width = size
    if resize is None:
        return size
    if isinstance(resize, int) and resize > 0:
        if resize >= min(size):
            return size
        return (resize, resize * width // height) if height <= width else (resize * height // width, resize)
    if isinstance(resize, (tuple, list)) and len(resize) == 2 and all(isinstance(n, int) and n > 0 for n in resize):
        if resize[0] * resize[1] > MAX_IMAGE_PIXELS:
            raise SchemaError(f"resize is {resize!r}: expected at most {MAX_IMAGE_PIXELS} pixels")
        return resize[0], resize[1]
    raise SchemaError(f"resize is a positive int or a pair (height, width), not {resize!r}")


def _encode(picture: Any, header: Header, quality: int | None) -> bytes:
    options: dict[str, Any] = {}
    if header.format == "jpeg":
        picture = picture.convert("RGB") if picture.mode == "RGBA" else picture  # JPEG holds no alpha
        options = {"quality": quality or DEFAULT_QUALITY}
    elif header.format == "webp":
        options = {"quality": quality or DEFAULT_QUALITY, "lossless": header.lossless and quality is None}
        options["exact"] = options["lossless"]
    out = BytesIO()
    picture.save(out, header.format.upper(), **options)
    return out.getvalue()
