"""What bytes are, by their beginning: the extension of a file that holds them, and how a browser plays them."""

from __future__ import annotations

import re

from recordio.images.formats import EXTENSIONS, HEAD_NBYTES, sniff

_SOUNDS = (
    (re.compile(rb"RIFF....WAVE", re.DOTALL), ".wav"),
    (re.compile(rb"fLaC"), ".flac"),
    (re.compile(rb"OggS.{24}.OpusHead", re.DOTALL), ".opus"),
    (re.compile(rb"OggS"), ".ogg"),
    (re.compile(rb"....ftypM4A", re.DOTALL), ".m4a"),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), ".aiff"),
    (re.compile(rb"ID3|\xff[\xfa\xfb\xf2\xf3]"), ".mp3"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), ".aac"),
)
_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
}
OTHER = ".bin"


def extension_of(data: bytes) -> str:
    """ ".jpg", ".wav", ...: the usual extension of what the bytes are; ".bin" for anything unknown."""
    picture = sniff(data[:HEAD_NBYTES])
    if picture is not None:
        return next(extension for extension, name in EXTENSIONS.items() if name == picture)
    return next((extension for pattern, extension in _SOUNDS if pattern.match(data)), OTHER)


def sound_type(data: bytes) -> str | None:
    """The media type of a sound that browsers play, None for anything else."""
    return None if sniff(data[:HEAD_NBYTES]) else _TYPES.get(extension_of(data))
