"""Every integer set to extreme values, checksums recomputed: an error or the same data, in little memory."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recordio.reader.verify import verify
from tests.faults.bounded import bounded
from tests.faults.forging import MANIFEST, SHARD, Anatomy, Block, Files, Spot, forge, manifest, plain, resealed
from tests.faults.reading import in_memory, outcome, read, told, verify_files, wrong
from tests.faults.samples import coded, every_kind
from tests.faults.test_hostile_json import children

VALUES = [0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1]
VALUES += [2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
NEAR = [1, -1, 64, -64]  # added to the stored value
WAYS_HERE = ["take", "[i]", "DataLoader"]


def targets() -> list[tuple[Files, int]]:
    two = [Block(2, [plain(b"ab"), plain(bytes(range(16)))]), Block(3, [plain(b"cde"), plain(bytes(24))])]
    schema = [
        {"name": "a", "type": "scalar", "dtype": "uint8"},
        {"name": "b", "type": "array", "dtype": "uint8", "shape": [8]},
    ]
    return [(forge(schema, two), 2), (coded(8), 2)]


def _values(spot: Spot, data: bytes) -> Iterator[int]:
    size = 4 if spot.letter == "I" else 8
    now = int.from_bytes(data[spot.offset : spot.offset + size], "little")
    mask = (1 << 8 * size) - 1
    yield from sorted(({v for v in VALUES if v <= mask} | {(now + step) & mask for step in NEAR}) - {now})


def _faults(files: Files, expected: dict[str, Any] | None, name: str, **options: Any) -> list[str]:
    out = wrong(files, expected, WAYS_HERE, decode=None, **options)
    kind, report = outcome(lambda: verify_files(files))
    if kind == "crash":
        out.append(f"verify: {type(report).__name__}: {report}")
    return [f"{name}: {fault}" for fault in out]


def shard_integers() -> list[str]:
    out = []
    for files, fields in targets():
        anatomy, expected = Anatomy(files[SHARD], fields), read(files, WAYS_HERE, decode=None)
        for spot in anatomy.spots():
            for value in _values(spot, files[SHARD]):
                forged = resealed(files, anatomy, (spot, value))
                out += _faults(forged, expected, f"{spot.region} {spot.name} = {value:#x}")
    return out


def page_entry_lies_told_twice() -> list[str]:
    """Block header and index agree on a wrong value. Unchecked pages may hold other data, but nothing may crash."""
    out = []
    for files, fields in targets():
        anatomy = Anatomy(files[SHARD], fields)
        for name, in_block, in_index in anatomy.page_spots():
            for value in _values(in_index, files[SHARD]):
                forged = resealed(files, anatomy, (in_block, value), (in_index, value))
                for verify_mode in ("first", "never"):
                    out += _faults(forged, None, f"{name} = {value:#x} {verify_mode}", verify=verify_mode)
    return out


def _integers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if type(value) is int:
        yield path
    for key, item in children(value):
        yield from _integers(item, (*path, key))


def with_changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    out = copy.deepcopy(value)
    inner = out
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = change(inner[path[-1]])
    return out


def manifest_integers() -> list[str]:
    out = []
    for files, _ in targets():
        expected, value = read(files, WAYS_HERE, decode=None), json.loads(files[MANIFEST])
        for path in _integers(value):
            for number in [*VALUES, -1, -(2**63), 2**62, 10**39]:
                forged = files | {MANIFEST: manifest(with_changed(value, path, lambda _, n=number: n))}
                out += _faults(forged, expected, f"{path} = {number:#x}")
    return out


def sums_that_agree() -> list[str]:
    """The counts and runs of a manifest changed together, so that its sums still agree."""
    out = []
    files, _ = targets()[0]
    value = json.loads(files[MANIFEST])
    entry = value["shards"][0]
    for number in VALUES:
        for runs in ([[number, 1]], [[1, number]], [[number, number]], [[2, 1], [number, 1]]):
            samples = sum(n * k for n, k in runs)
            for nbytes in (entry["bytes"], number, 2**61):
                changed = entry | {"blocks": runs, "samples": samples, "bytes": nbytes}
                forged = files | {MANIFEST: manifest(value | {"shards": [changed], "samples": samples})}
                out += [f"{runs} {nbytes}: {fault}" for fault in told(forged, WAYS_HERE)]
    huge = [entry | {"number": k, "samples": 2**61, "blocks": [[2**61, 1]]} for k in range(8)]
    return out + told(files | {MANIFEST: manifest(value | {"shards": huge, "samples": 2**64})})


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [shard_integers, page_entry_lies_told_twice, manifest_integers, sums_that_agree], ids=lambda f: f.__name__
)
def test_hostile_integers_never_crash_exhaust_memory_or_give_other_data(attack: Callable[[], list[str]]) -> None:
    assert bounded("test_integers", attack.__name__) == []


def _index_row(files: Files, name: str, value: int) -> Files:
    anatomy = Anatomy(files[SHARD], 2)
    spot = next(spot for spot in anatomy.spots() if (spot.region, spot.name) == ("index", name))
    return resealed(files, anatomy, (spot, value))


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ("block", "0 first"),
        ("block", "1 block"),
        ("block", "0 page 0 nbytes"),
        ("block", "1 samples"),
        ("index", "0 checksum"),
        ("index", "1 checksum"),
    ],
)
def test_verify_compares_block_headers_with_the_index(region: str, name: str) -> None:
    """The checksum is right and in the index, so only a comparison reveals the difference."""
    files, fields = targets()[0]
    anatomy = Anatomy(files[SHARD], fields)
    spot = next(spot for spot in anatomy.spots() if (spot.region, spot.name) == (region, name))
    report = verify_files(resealed(files, anatomy, (spot, 5)))
    assert not report.ok
    assert report.problems[0].place.block == int(name[0])


def test_resealing_without_a_change_keeps_the_bytes() -> None:
    for files, fields in [*targets(), (every_kind(None), 9)]:
        anatomy = Anatomy(files[SHARD], fields)
        assert anatomy.sealed() == files[SHARD]
        assert read(resealed(files, anatomy), ["take"], decode=None) == read(files, ["take"], decode=None)


def test_resealed_lie_is_detected_beyond_the_checksum() -> None:
    forged = _index_row(targets()[0][0], "0 samples", 1)
    for way, (kind, error) in read(forged).items():
        assert kind == "error", way
        assert "checksum" not in str(error), error
    with in_memory(forged) as place:
        assert not verify(place).ok
