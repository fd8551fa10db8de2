"""Storing PIL pictures: as PNG, and in which mode without loss. Does not import Pillow."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from recordio.errors import SchemaError

_PNG_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
_RGB_MODES = {"CMYK", "YCbCr", "LAB", "HSV"}  # 8 bits per channel, convertible to RGB
_OPAQUE = {"L": ("1", "L"), "RGB": ("1", "L", "RGB", *_RGB_MODES)}


def is_picture(value: Any) -> bool:
    """Whether this is a PIL.Image.Image, by its methods."""
    return hasattr(value, "save") and hasattr(value, "convert")


def png(picture: Any) -> bytes:
    """A picture as a PNG file. Raises SchemaError for more than 8 bits per channel."""
    if picture.mode in _RGB_MODES:
        picture = picture.convert("RGB")
    if picture.mode not in _PNG_MODES:
        raise SchemaError(f"a picture of mode {picture.mode} has more than 8 bits a channel; store it as an Array")
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def keeps(picture: Any, mode: str) -> bool:
    """Whether reading the picture as "L", "RGB" or "RGBA" keeps its colours and transparency.

    An RGB picture with only grey pixels keeps them in "L", and an alpha of 255 throughout may be dropped. True for
    pictures that `png` refuses.
    """
    if mode == "RGBA" or picture.mode not in _PNG_MODES | _RGB_MODES:
        return True
    if picture.mode in _OPAQUE[mode] and "transparency" not in picture.info:
        return True
    whole = (picture.convert("RGB") if picture.mode in _RGB_MODES else picture).convert("RGBA")
    return bool(whole.tobytes() == whole.convert(mode).convert("RGBA").tobytes())


def fitting_mode(picture: Any) -> str:
    """A mode that reads the picture without loss: its own, RGB or RGBA, in this order."""
    mode = picture.mode if picture.mode in ("L", "RGBA") else "RGB"
    return mode if keeps(picture, mode) else "RGBA"
