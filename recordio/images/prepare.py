"""A picture's way into a dataset: whatever Pillow reads becomes what its field stores.

JPEG, PNG and WebP files stay as they are unless they are to be resized, recoded or turned; other formats become PNG;
pictures of more than 8 bits a channel become arrays. Remarks say what was changed, and what the reader will not see.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array
from recordio.images.decode import Pixels, decode_image
from recordio.images.encode import resize_image, target_size
from recordio.images.formats import STORED, by_name
from recordio.images.header import Header, read_header
from recordio.images.pillow import Depth, format_of
from recordio.images.traits import Traits, header_and_traits
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

    @property
    def decodes(self) -> bool:
        """Whether every picture, or any that lies on its side, has to be decoded."""
        return self.recodes or self.upright or self.check or self.look


class Stored(NamedTuple):
    """What a field stores of a picture file, and what was seen of it.

    Attributes:
        value: bytes of an encoded picture, else an array.
        remarks: what was changed, or will not be read.
        header: of an encoded picture, as it is stored.
        pixels: of an encoded picture, as it is stored; None if nothing decoded it on the way.
    """

    value: Any
    remarks: Remarks
    header: Header | None = None
    pixels: Pixels | None = None


def prepare(
    data: bytes,
    name: str,
    field: Field,
    kind: PictureKind,
    treatment: Treatment,
) -> Stored:
    """What a field of pictures stores of a file.

    Args:
        data: the file's bytes.
        name: the file's name, which counts where the content does not tell the format.
        field: the Image for encoded pictures, or the Array for those of more than 8 bits a channel.

    Raises DecodeError.
    """
    found = format_of(data, name)
    if isinstance(field, Array):
        return Stored(*_deep(data, found, field, treatment))
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
    return _encoded(stored, field.mode, kind, treatment, remarks)


def _encoded(data: bytes, mode: str, kind: PictureKind, treatment: Treatment, remarks: Remarks) -> Stored:
    _refuse_depth(data)
    header, traits = header_and_traits(data)
    out, pixels = data, None
    if treatment.recodes or (treatment.upright and traits.orientation != 1):
        out = resize_image(
            data,
            treatment.resize,
            treatment.quality,
            mode,
            orientation=traits.orientation,
            upright=treatment.upright,
            palette=kind != "photo" and header.format == "png",
        )
        header = header if out is data else read_header(out)
    if treatment.look or (treatment.check and out is data and not treatment.recodes):
        pixels = decode_image(out, mode, header)
    return Stored(out, (*remarks, *_remarks(traits, mode, recoded=out is not data)), header, pixels)


def _refuse_depth(data: bytes) -> None:
    """Raises DecodeError for a PNG of 16 bits a channel, and says more than `read_header` does."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10":
        raise DecodeError(too_deep("png"))


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
