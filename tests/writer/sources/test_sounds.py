"""Sounds: what headers say equals what soundfile reads, and false headers say nothing."""

from __future__ import annotations

import json
import random
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Bytes, Scalar, ShardDataset, Text
from recordio.writer.sources import open_source
from recordio.writer.sources.folders.sound_header import SoundHeader, sound_header
from recordio.writer.sources.folders.sounds import SOUND_FIELDS
from tests.writer.convert.test_convert import contents, made
from tests.writer.sources.test_folders import fill, samples

DATA = Path(__file__).parents[2] / "data/formats/sounds"
EXPECTED: dict[str, list[Any]] = json.loads((DATA / "expected.json").read_text("utf-8"))
NOTHING = SoundHeader()


def sound(name: str) -> bytes:
    return (DATA / name).read_bytes()


class TestHeaders:
    @pytest.mark.parametrize("name", EXPECTED)
    def test_the_header_says_what_soundfile_reads(self, name: str) -> None:
        rate, channels, frames = EXPECTED[name]
        found = sound_header(sound(name))
        assert found == (rate, channels, None if name == "adpcm.wav" else frames)

    @pytest.mark.parametrize("name", ["plain.flac", "low.mp3"])
    def test_tags_before_the_sound_are_passed_over(self, name: str) -> None:
        tag = b"ID3\x04\0\0\0\0\x01\x05" + bytes(128 + 5)
        assert list(sound_header(tag + sound(name))) == EXPECTED[name]

    def test_what_the_library_writes_now(self) -> None:
        soundfile = pytest.importorskip("soundfile")
        for form, subtype in (
            ("WAV", "PCM_U8"),
            ("WAV", "DOUBLE"),
            ("AIFF", "PCM_24"),
            ("FLAC", "PCM_24"),
            ("MP3", None),
        ):
            out = BytesIO()
            soundfile.write(out, np.zeros((12_345, 2)), 44_100, format=form, subtype=subtype)
            assert sound_header(out.getvalue()) == (44_100, 2, 12_345)

    def test_frames_that_a_file_does_not_say_are_not_guessed(self) -> None:
        wav = sound("pcm.wav")
        at = wav.index(b"data") + 4
        for size in (0, 0xFFFFFFFF, len(wav), 1 << 31):
            assert sound_header(wav[:at] + struct.pack("<I", size) + wav[at + 4 :]) == (*EXPECTED["pcm.wav"][:2], None)
        mp3 = sound("high.mp3").replace(b"Xing", b"Xxxx").replace(b"Info", b"Xxxx")
        assert sound_header(mp3) == (*EXPECTED["high.mp3"][:2], None)
        ogg = sound("vorbis.ogg")
        assert sound_header(ogg[: ogg.rindex(b"OggS")]).frames is None
        assert sound_header(ogg + ogg.replace(ogg[14:18], b"\1\2\3\4")).frames is None  # another stream follows
        flac = bytearray(sound("plain.flac"))
        flac[21] &= 0xF0
        flac[22:26] = bytes(4)
        assert sound_header(bytes(flac)).frames is None

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"RIFF",
            b"RIFF\0\0\0\0AVI ",
            b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
            b"ID3\x04\0\0\0\0\0\0" * 5000,
            b"\xff" * 100_000,
            b"\xff\xfb\x90\x44" * 20_000,
            b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000,
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\4\0\0\0abcd",
            b"FORM\0\0\0\0AIFFCOMM\0\0\0\x12" + b"\xff" * 18,
            b"fLaC" + b"\xff" * 40,
            b"OggS" + b"\xff" * 300,
        ],
    )
    def test_false_headers_say_nothing_that_cannot_be(self, data: bytes) -> None:
        found = sound_header(data)
        for name, field in SOUND_FIELDS.items():
            value = getattr(found, name)
            assert value is None or field.pack(value)

    def test_changed_and_cut_files_never_raise(self) -> None:
        numbers = random.Random(3)
        for name in EXPECTED:
            data = sound(name)
            for _ in range(60):
                out = bytearray(data[: numbers.choice([len(data), numbers.randrange(200)])])
                for _ in range(3 if out else 0):
                    out[numbers.randrange(min(len(out), 200))] = numbers.randrange(256)
                for value, field in zip(sound_header(bytes(out)), SOUND_FIELDS.values(), strict=True):
                    assert value is None or field.pack(value)


class TestSources:
    def test_class_folders(self, tmp_path: Path) -> None:
        source = open_source(fill(tmp_path, {"no/1.wav": sound("pcm.wav"), "yes/1.mp3": b"nothing", "yes/2.m4a": b"x"}))
        assert dict(source.schema) == {"audio": Bytes(), **SOUND_FIELDS, "label": Scalar("int64")}
        rate, channels, frames = EXPECTED["pcm.wav"]
        assert samples(source) == [
            {"audio": sound("pcm.wav"), "rate": rate, "channels": channels, "frames": frames, "label": 0},
            {"audio": b"nothing", "label": 1},
            {"audio": b"x", "label": 1},
        ]

    def test_transcripts_beside_sounds(self, tmp_path: Path) -> None:
        files = {"a.flac": sound("plain.flac"), "a.txt": "hello", "b.wav": sound("pcm.wav"), "b.txt": "world"}
        source = open_source(fill(tmp_path, files))
        assert dict(source.schema) == {"key": Text(), "audio": Bytes(), "text": Text(), **SOUND_FIELDS}
        assert [(row["text"], row["frames"]) for row in samples(source)] == [
            ("hello", EXPECTED["plain.flac"][2]),
            ("world", EXPECTED["pcm.wav"][2]),
        ]

    def test_sounds_alone_are_samples(self, tmp_path: Path) -> None:
        source = open_source(fill(tmp_path, {"a.wav": sound("pcm.wav"), "b.wav": sound("float.wav")}))
        assert (source.kind, len(source)) == ("file_groups", 2)

    def test_two_sounds_of_one_sample_keep_their_extensions(self, tmp_path: Path) -> None:
        source = open_source(fill(tmp_path, {"a.wav": b"1", "a.mp3": b"2", "a.txt": "x"}))
        assert dict(source.schema) == {"key": Text(), "mp3": Bytes(), "text": Text(), "wav": Bytes()}

    def test_a_column_of_a_table_stands(self, tmp_path: Path) -> None:
        rows = "file_name,rate,text\na.wav,0.5,hello\n"
        root = fill(tmp_path, {"a.wav": sound("pcm.wav"), "metadata.csv": rows})
        source = open_source(root + "/metadata.csv", "indexed_files")
        assert samples(source) == [
            {
                "audio": sound("pcm.wav"),
                "channels": EXPECTED["pcm.wav"][1],
                "frames": EXPECTED["pcm.wav"][2],
                "file_name": "a.wav",
                "rate": 0.5,
                "text": "hello",
            }
        ]

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        source = Path(fill(tmp_path / "in", {f"{len(name) % 2}/{name}": sound(name) for name in EXPECTED}))
        for workers in (1, 2, 5):
            made(source, tmp_path / f"{workers}", workers=workers, shard_bytes=12_000)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
        dataset = ShardDataset(tmp_path / "5", fields=["file", "frames"])
        found = {row["file"][2:]: row["frames"] for row in dataset}
        assert found == {name: None if name == "adpcm.wav" else said[2] for name, said in EXPECTED.items()}
