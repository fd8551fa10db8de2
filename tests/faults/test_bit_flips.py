"""Any flipped bit gives the same data or a RecordIOError, never other data. With checking off, never a crash."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.effort import LONG
from tests.faults.forging import MANIFEST, SHARD, Files
from tests.faults.reading import WAYS, outcome, read, verify_files, wrong
from tests.faults.samples import coded, coded_pages, every_kind, narrow

NAMES = [way for way in WAYS if way != "column"]  # the same as a take per field, several times slower
DATASETS = {"plain": lambda: every_kind(None), "coded": coded, "narrow": narrow, "narrow+zstd": lambda: narrow(codec=3)}


def flipped(files: Files, name: str) -> Iterator[tuple[int, int, Files]]:
    data = bytearray(files[name])
    for byte in range(len(data)):
        for bit in range(8):
            data[byte] ^= 1 << bit
            yield byte, bit, files | {name: bytes(data)}
            data[byte] ^= 1 << bit


def flip_faults(files: Files, verify: str, part: int) -> list[str]:
    """Reads with each bit flipped, in one way per bit; the bits of a byte go through all ways."""
    expected = read(files, decode=None) if verify != "never" else None
    out = []
    for byte, bit, forged in flipped(files, SHARD):
        if byte % 2 == part and (LONG or bit % 4 == byte // 4 % 4):
            decode = "numpy" if verify == "never" else None
            found = wrong(forged, expected, [NAMES[(byte + bit) % len(NAMES)]], verify=verify, decode=decode)
            out += [f"byte {byte} bit {bit}: {fault}" for fault in found]
    return out


def test_coded_dataset_has_only_coded_pages_and_the_plain_one_none() -> None:
    assert coded_pages(coded()[SHARD], 2) == 4
    assert coded_pages(every_kind(None)[SHARD], 9) == 0


def test_good_dataset_reads_the_same_in_every_mode() -> None:
    for make in DATASETS.values():
        files = make()
        found = [
            read(files, verify=verify, io=io)
            for verify in ("first", "always", "never")
            for io in ("mmap", "pread", "direct")
        ]
        assert all(kind == "data" for way in found for kind, _ in way.values())
        assert all(other == found[0] for other in found[1:])
        assert verify_files(files).ok


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("dataset", DATASETS)
def test_flipped_bit_of_a_shard_never_gives_other_data(dataset: str, part: int) -> None:
    assert flip_faults(DATASETS[dataset](), "first", part) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("dataset", DATASETS)
def test_flipped_bit_never_crashes_an_unchecked_reader(dataset: str, part: int) -> None:
    assert flip_faults(DATASETS[dataset](), "never", part) == []


def test_flipped_bit_of_a_manifest_is_refused_at_open() -> None:
    files = every_kind(None)
    for byte, bit, forged in flipped(files, MANIFEST):
        found = read(forged)
        assert list(found) == ["open"], f"byte {byte} bit {bit} is not noticed"
        assert found["open"][0] == "error", (byte, bit, found)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("dataset", DATASETS)
def test_verify_finds_a_flipped_bit_in_every_byte(dataset: str) -> None:
    files, reports = DATASETS[dataset](), []
    for byte, bit, forged in flipped(files, SHARD):
        if LONG or bit == byte % 8:
            kind, report = outcome(lambda forged=forged: reports.append(verify_files(forged)))
            assert kind == "data", (byte, report)
            assert not reports[-1].ok, f"byte {byte} bit {bit} is not noticed"
            assert all(problem.place.file == SHARD for problem in reports[-1].problems), reports[-1].problems
