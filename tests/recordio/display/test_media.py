"""Bytes are known by their beginning."""

from __future__ import annotations

import pytest

from recordio.display.media import extension_of, sound_type
from tests.photos import encode, photo


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (encode(photo(8, 8)), ".jpg"),
        (encode(photo(8, 8), "PNG"), ".png"),
        (encode(photo(8, 8), "WEBP"), ".webp"),
        (encode(photo(8, 8), "TIFF"), ".tif"),
        (b"RIFF\x24\0\0\0WAVEfmt ", ".wav"),
        (b"fLaC\0\0\0\x22", ".flac"),
        (b"ID3\x04\0", ".mp3"),
        (b"\xff\xfb\x90\x44", ".mp3"),
        (b"OggS" + bytes(24) + b"\x01\x1evorbis", ".ogg"),
        (b"OggS" + bytes(24) + b"\x13OpusHead", ".opus"),
        (b"\0\0\0\x20ftypM4A ", ".m4a"),
        (b"", ".bin"),
        (b"#!/bin/sh\n", ".bin"),
        (b"../../etc/passwd", ".bin"),
    ],
)
def test_the_extension_follows_the_content(data: bytes, extension: str) -> None:
    assert extension_of(data) == extension


def test_browsers_are_told_the_type_of_sounds_alone() -> None:
    assert sound_type(b"RIFF\x24\0\0\0WAVEfmt ") == "audio/wav"
    assert sound_type(encode(photo(8, 8))) is None
    assert sound_type(b"<script>") is None
