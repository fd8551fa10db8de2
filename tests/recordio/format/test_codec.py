"""Codecs: which pages are worth coding, and which frames are refused before allocation."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, strategies as st

from recordio import CorruptError, SchemaError
from recordio.format.codec import Codec, Compression, PageCoder, decode, decode_into
from recordio.format.layout import MAX_CODED_PAGE_NBYTES

TEXT = b"the same words again and again, " * 40
NOISE = np.random.default_rng(0).bytes(2000)


def coder(text: str | None) -> PageCoder:
    return PageCoder(Compression.parse(text))


def into(frame: bytes, nbytes: int) -> bytes:
    target = bytearray(nbytes)
    decode_into(frame, memoryview(target))
    return bytes(target)


@pytest.mark.parametrize("text", [None, "none", "auto", "zstd", "zstd:1", "zstd:22", "zstd:-5", "narrow+zstd:9"])
def test_compression_is_none_auto_or_zstd_with_a_level(text: str | None) -> None:
    compression = Compression.parse(text)
    assert (compression.codec is Codec.PLAIN) == (text in (None, "none"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zip",
        "zstd:23",
        "zstd:-51",
        "zstd:x",
        "zstd:1.5",
        "zstd:--5",
        "narrow+zstd:--5",
        "zstd:٣",
        "ZSTD",
        "auto:3",
        "narrow:3",
        "zstd+narrow",
        3,
        True,
    ],
)
def test_other_compressions_are_refused(text: Any) -> None:
    with pytest.raises(SchemaError, match="unknown compression"):
        Compression.parse(text)


@given(st.binary(max_size=2000), st.integers(0, 50), st.sampled_from([None, "auto", "zstd", "zstd:19"]))
def test_coding_round_trips(part: bytes, times: int, text: str | None) -> None:
    content = part * times
    codec, stored = coder(text).encode(content)
    if codec is Codec.PLAIN:
        assert bytes(stored) == content
    else:
        assert len(stored) < len(content)
        assert decode(stored, len(content)) == content
        assert into(bytes(stored), len(content)) == content


def test_incompressible_page_stays_plain() -> None:
    for text in ("auto", "zstd"):
        assert coder(text).encode(NOISE) == (Codec.PLAIN, NOISE)
        assert coder(text).encode(TEXT)[0] is Codec.ZSTD
    assert coder(None).encode(TEXT) == (Codec.PLAIN, TEXT)


def level_of(frame: bytes, content: bytes) -> int:
    return next(n for n in (-1, 3) if zstandard.ZstdCompressor(level=n).compress(content) == frame)


NOISE_AND_ZEROS = b"".join(np.random.default_rng(n).bytes(40) + bytes(60) for n in range(300))
SKEWED = np.random.default_rng(2).geometric(0.3, 30_000).astype(np.uint8).tobytes()  # only its literals can be coded
FLAT = np.random.default_rng(2).geometric(0.1, 30_000).clip(max=255).astype(np.uint8).tobytes()  # and little of them


def test_auto_takes_the_level_that_is_decoded_faster_unless_the_other_saves_a_sixteenth() -> None:
    for content, level in ((NOISE_AND_ZEROS, -1), (SKEWED, 3)):
        auto = coder("auto")
        frames = [auto.encode(content) for _ in range(20)]
        assert {codec for codec, _ in frames} == {Codec.ZSTD}
        assert {level_of(bytes(frame), content) for _, frame in frames} == {level}


def test_auto_looks_again_at_every_sixteenth_page() -> None:
    auto = coder("auto")
    pages = [NOISE_AND_ZEROS] + [SKEWED] * 32
    levels = [level_of(bytes(auto.encode(page)[1]), page) for page in pages]
    assert levels == [-1] * 16 + [3] * 17


def test_auto_tries_the_other_level_after_a_page_that_does_not_pay() -> None:
    auto = coder("auto")
    found = [auto.encode(page)[0] for page in (NOISE_AND_ZEROS, FLAT, FLAT, FLAT)]
    assert found == [Codec.ZSTD, Codec.PLAIN, Codec.ZSTD, Codec.ZSTD]


def test_auto_requires_more_saving_than_zstd() -> None:
    mixed = NOISE + bytes(400)  # coding saves a sixth
    assert coder("zstd").encode(mixed)[0] is Codec.ZSTD
    assert coder("auto").encode(mixed)[0] is Codec.PLAIN


def test_page_under_1_kib_stays_plain() -> None:
    for content in (b"", bytes(1023)):
        assert coder("zstd").encode(content) == (Codec.PLAIN, content)
    assert coder("zstd").encode(bytes(1024))[0] is Codec.ZSTD


def test_after_four_misses_one_page_in_sixteen_is_tried() -> None:
    pages = coder("auto")
    for _ in range(4):
        assert pages.encode(NOISE)[0] is Codec.PLAIN
    tried = [pages.encode(TEXT)[0] is Codec.ZSTD for _ in range(20)]
    assert tried == [False] * 15 + [True] * 5


def test_after_misses_a_large_page_is_tried_if_a_piece_from_its_middle_is_coded_well() -> None:
    text, noise = TEXT * 80, np.random.default_rng(1).bytes(len(TEXT) * 80)
    piece = 1 << 15
    start = (len(text) - piece) // 2
    middle = noise[:start] + text[:piece] + noise[start + piece :]
    for page, is_coded in (
        (text, True),
        (noise, False),
        (middle, True),
        (text[:start] + noise[:piece] + text[start + piece :], False),
    ):
        pages = coder("zstd")
        assert [pages.encode(noise)[0] for _ in range(19)] == [Codec.PLAIN] * 19
        assert (pages.encode(page)[0] is Codec.ZSTD) is is_coded


def test_every_fourth_page_that_is_due_is_tried_as_a_whole() -> None:
    """Repeats that are farther apart than the piece is long do not show in it."""
    run = np.random.default_rng(2).bytes(1 << 16)
    pages = coder("zstd")
    assert [pages.encode(run)[0] for _ in range(4)] == [Codec.PLAIN] * 4
    found = [pages.encode(run * 4)[0] for _ in range(70)]
    assert found == [Codec.PLAIN] * 63 + [Codec.ZSTD] * 7


def test_coding_is_deterministic() -> None:
    pages = [TEXT, NOISE, TEXT[:100]] * 20
    first, second = coder("auto"), coder("auto")
    assert [first.encode(page) for page in pages] == [second.encode(page) for page in pages]


def frames() -> dict[str, bytes]:
    """Frames to refuse for a page of len(TEXT) bytes."""
    plain = zstandard.ZstdCompressor(level=3)
    frame = plain.compress(TEXT)
    no_size = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    skippable = b"\x50\x2a\x4d\x18" + len(TEXT).to_bytes(4, "little") + bytes(len(TEXT))
    return {
        "empty": b"",
        "no frame": TEXT,
        "cut": frame[:-1],
        "cut in its header": frame[:3],
        "more behind": frame + b"\0",
        "two frames": frame + plain.compress(b""),
        "a skippable frame before": skippable + frame,
        "a skippable frame": skippable,
        "no size stated": no_size,
        "one byte less": plain.compress(TEXT[:-1]),
        "one byte more": plain.compress(TEXT + b"x"),
        "a huge claim": frame[:4] + b"\xe0" + (1 << 62).to_bytes(8, "little") + frame[7:],
    }


@pytest.mark.parametrize("name", list(frames()))
def test_frame_that_is_not_exactly_the_page_is_refused(name: str) -> None:
    frame = frames()[name]
    with pytest.raises(CorruptError):
        decode(frame, len(TEXT))
    with pytest.raises(CorruptError):
        into(frame, len(TEXT))


@pytest.mark.parametrize("more", [b"\x05\0\0", b"\x01\0\0\x01\0\0", b"\x00\0\0"])
def test_a_frame_without_content_is_looked_at_beyond_its_header(more: bytes) -> None:
    """A block of a wrong kind, a second block after the last, and no last block."""
    header = b"\x28\xb5\x2f\xfd\x20\0"
    assert (decode(header + b"\x01\0\0", 0), into(header + b"\x01\0\0", 0)) == (b"", b"")
    with pytest.raises(CorruptError):
        decode(header + more, 0)
    with pytest.raises(CorruptError):
        into(header + more, 0)


def test_window_larger_than_the_content_is_refused() -> None:
    # A frame that states size and window: single segment off (RFC 8878, 3.1.1.1.2), window 2^20.
    block = zstandard.ZstdCompressor().compress(TEXT)
    header = zstandard.frame_header_size(block)
    frame = block[:4] + b"\x40" + bytes([(20 - 10) << 3]) + (len(TEXT) - 256).to_bytes(2, "little") + block[header:]
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 20
    assert zstandard.ZstdDecompressor().decompress(frame) == TEXT
    with pytest.raises(CorruptError, match="window"):
        decode(frame, len(TEXT))
    with pytest.raises(CorruptError, match="window"):
        into(frame, len(TEXT))


def test_flipped_bit_of_a_frame_gives_an_error_or_the_right_length() -> None:
    frame = bytes(coder("zstd").encode(TEXT)[1])
    for bit in range(8 * len(frame)):
        bad = bytearray(frame)
        bad[bit // 8] ^= 1 << bit % 8
        for read in (decode, into):
            with contextlib.suppress(CorruptError):
                assert len(read(bytes(bad), len(TEXT))) == len(TEXT)


def test_decoding_is_thread_safe() -> None:
    pages = [bytes([i]) * 50_000 for i in range(16)]
    frames = [bytes(coder("zstd").encode(page)[1]) for page in pages]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decode, frames * 4, [50_000] * 64)) == pages * 4


def test_page_over_the_limit_stays_plain() -> None:
    class Huge(bytes):
        """Claims to be over the limit, since 256 MiB would be slow."""

        def __len__(self) -> int:
            return MAX_CODED_PAGE_NBYTES + 1

    page = Huge(b"x")
    assert coder("zstd").encode(page) == (Codec.PLAIN, page)
