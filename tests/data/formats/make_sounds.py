"""Writes tests/data/formats/sounds with soundfile: a sound of each kind, and what soundfile says of it.

python tests/data/formats/make_sounds.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

HERE = Path(__file__).parent / "sounds"
KINDS: dict[str, dict[str, Any]] = {
    "pcm.wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "ulaw.wav": {"subtype": "ULAW"},
    "extensible.wav": {"format": "WAVEX", "subtype": "PCM_24"},
    "big.wav": {"endian": "BIG"},
    "rf64.wav": {"format": "RF64"},
    "adpcm.wav": {"subtype": "MS_ADPCM"},
    "pcm.aiff": {},
    "float.aif": {"format": "AIFF", "subtype": "FLOAT"},
    "plain.flac": {},
    "vorbis.ogg": {},
    "opus.opus": {"format": "OGG", "subtype": "OPUS"},
    "low.mp3": {},
    "high.mp3": {},
}


def main() -> None:
    HERE.mkdir(exist_ok=True)
    expected = {}
    for number, (name, options) in enumerate(KINDS.items()):
        rate = {"opus.opus": 48_000, "high.mp3": 44_100}.get(name, 22_050 if number % 2 else 16_000)
        frames, channels = 901 + 7 * number, 1 + number % 2
        waves = np.sin(np.arange(frames * channels).reshape(frames, channels) / 15) / 3
        soundfile.write(HERE / name, waves, rate, **options)
        said = soundfile.info(HERE / name)
        expected[name] = [said.samplerate, said.channels, said.frames]
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
