"""The file of a picture of Pillow. Does not import Pillow."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.files import read_file

_EXACT_MODES = ("1", "L", "P", "RGB", "RGBA")  # their files decode to the same pixels everywhere


def own_file(picture: Any) -> bytes | None:
    """The file that a picture of Pillow was opened from, if it decodes to the same pixels."""
    path = getattr(picture, "filename", "")
    pillow = sys.modules.get("PIL.Image")
    if not path or pillow is None or picture.format not in ("JPEG", "PNG", "WEBP") or picture.mode not in _EXACT_MODES:
        return None
    try:
        data = read_file(os.fspath(path))
        with pillow.open(BytesIO(data)) as again:
            same = (again.size, again.mode) == (picture.size, picture.mode) and again.tobytes() == picture.tobytes()
    except (SourceError, OSError, TypeError, ValueError):
        return None
    return data if same else None
