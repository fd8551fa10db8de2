"""A picture's way into a dataset: whatever Pillow reads becomes what its field stores.

JPEG, PNG and WebP files stay as they are unless they are to be resized, recoded or turned; other formats become PNG;
pictures of more than 8 bits a channel become arrays. Remarks say what was changed, and what the reader will not see.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array
from recordio.images.decode import Pixels, decode_image
from recordio.images.encode import resize_image, target_size
from recordio.images.formats import STORED, by_name
from recordio.images.header import read_header
from recordio.images.pillow import Depth, format_of
from recordio.images.traits import Traits, read_traits
from recordio.images.transcode import Remarks, deep_pixels, label, mask_png, too_deep, transcode

PictureKind = Literal["photo", "palette", "mask"]
"""How the pictures of a field are to be treated: as photographs; each with its palette, without new colours in
between; or as masks, whose numbers are the values, those of a palette its indices."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a conversion does to its pictures; `recordio.convert` documents it."""

    resize: int | tuple[int, int] | None = None
    quality: int | None = None
    upright: bool = False
    check: bool = True
    look: bool = False  # at the pixels of each picture as it is stored, also where nothing else decodes it

    @property
    def recodes(self) -> bool:
        return self.resize is not None or self.quality is not None


def prepare(
    data: bytes,
    name: str,
    field: Field,
    kind: PictureKind,
    treatment: Treatment,
    seen: Callable[[Pixels], object] | None = None,
) -> tuple[Any, Remarks]:
    """What a field of pictures stores of a file, and remarks.

    Args:
        data: the file's bytes.
        name: the file's name, which counts where the content does not tell the format.
        field: the Image for encoded pictures, or the Array for those of more than 8 bits a channel.
        seen: called with the pixels of an encoded picture as it is stored, if they are decoded on the way.

    Raises DecodeError.
    """
    found = format_of(data, name)
    if isinstance(field, Array):
        return _deep(data, found, field, treatment)
    assert isinstance(field, Image)
    remarks: Remarks = ()
    if kind == "mask":
        stored, remarks = mask_png(data, found)
    elif found in STORED:
        stored = data
    else:
        stored, remarks = transcode(data, found)
    if by_name(name) not in (None, found):
        remarks = (f"named {os.path.splitext(name)[1]}, but {label(found)} by the content", *remarks)
    return _encoded(stored, field.mode, kind, treatment, remarks, seen)


def _encoded(
    data: bytes,
    mode: str,
    kind: PictureKind,
    treatment: Treatment,
    remarks: Remarks,
    seen: Callable[[Pixels], object] | None,
) -> tuple[bytes, Remarks]:
    form = _format_of_8_bits(data)
    traits = read_traits(data, form)
    out = data
    if treatment.recodes or (treatment.upright and traits.orientation != 1):
        out = resize_image(
            data,
            treatment.resize,
            treatment.quality,
            mode,
            orientation=traits.orientation,
            upright=treatment.upright,
            palette=kind != "photo" and form == "png",
        )
    if treatment.look or (treatment.check and out is data and not treatment.recodes):
        pixels = decode_image(out, mode)
        if seen is not None:
            seen(pixels)
    return out, (*remarks, *_remarks(traits, mode, recoded=out is not data))


def _format_of_8_bits(data: bytes) -> str:
    """The format of a JPEG, PNG or WebP file. Raises DecodeError, also for more than 8 bits a channel."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10":
        raise DecodeError(too_deep("png"))
    return read_header(data).format


def _remarks(traits: Traits, mode: str, recoded: bool) -> Remarks:
    found = []
    if traits.orientation != 1:
        found.append(
            "turned as their EXIF orientation says"
            if recoded
            else "stored and read as they lie, not as their EXIF orientation turns them (--upright turns them)"
        )
    if traits.alpha and mode != "RGBA":
        found.append(f"with an alpha channel, which mode {mode} does not read (--mode RGBA does)")
    if traits.animated:
        found.append("animated, of which the first frame is " + ("kept" if recoded else "read"))
    return tuple(found)


def _deep(data: bytes, name: str, field: Array, treatment: Treatment) -> tuple[npt.NDArray[Any], Remarks]:
    channels = field.shape[2] if len(field.shape) == 3 else 1
    pixels = deep_pixels(data, name, Depth(field.dtype, channels))
    size = target_size(pixels.shape[:2], treatment.resize)
    if size == pixels.shape[:2]:
        return pixels, ()
    rows = (np.arange(size[0]) * 2 + 1) * pixels.shape[0] // (2 * size[0])
    columns = (np.arange(size[1]) * 2 + 1) * pixels.shape[1] // (2 * size[1])
    return pixels[rows[:, None], columns], ("arrays, resized to the nearest pixel",)
