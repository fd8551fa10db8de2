"""Hostile JSON in a manifest or shard header, checksums recomputed: a RecordIOError or the same data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.faults.bounded import bounded
from tests.faults.forging import MANIFEST, SHARD, Block, Files, manifest_value, plain, seal_manifest, shard
from tests.faults.reading import outcome, read, told, verify_files, wrong

FIELDS = [
    {"name": "s", "type": "scalar", "dtype": "int16"},
    {"name": "a", "type": "array", "dtype": "uint8", "shape": [4]},
    {"name": "p", "type": "image", "shape": [2, 2]},
    {"name": "t", "type": "text", "optional": True},
]
HEADER = {"metadata": {"m": [1, 2.5, "x", None]}, "schema": FIELDS}
BLOCKS = [
    Block(1, [plain(b"ab"), plain(b"abcd"), plain(b"wxyz"), plain(b"\x01" + bytes(71) + b"\x02" + bytes(7) + b"hi")])
]
WAYS_HERE = ["take", "DataLoader"]
# Raw JSON texts, many of which Python's encoder cannot produce.
TEXTS = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "1.0",
    "0.5",
    "-0.0",
    "1e999",
    "-1e999",
    "1e-999",
    str(2**62),
    str(2**64),
    "9" * 39,
]
TEXTS += [
    '""',
    '"x"',
    '"recordio"',
    '"int64"',
    r'"\u0000"',
    r'"\ud800"',
    '"' + "f" * 32 + '"',
    '"' + "é" * 3 + '"',
    '"../../etc/passwd"',
]
TEXTS += [
    "[]",
    "[1]",
    "[null]",
    "[[]]",
    '[["a"]]',
    "[1.5]",
    "[true]",
    "[1e999]",
    "[-1]",
    "[0, 9e9]",
    "{}",
    '{"a": 1}',
    '{"3": 3}',
    "[{}]",
]
BROKEN = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "5,000 digits": "1" * 5000,
    "a million digits": "1" * 1_000_000,
    "100 digits": "1" * 100,
    "minus 100 digits": "-" + "1" * 100,
    "a key twice": '{"a": 1, "a": 2}',
    "the same key twice": '{"a": 1, "a": 1}',
    "a key twice by an escape": r'{"a": 1, "\u0061": 2}',
    "a key twice, deep": '[[{"b": {"a": 1, "a": 1}}]]',
    "depth 10^5": "[" * 100_000 + "]" * 100_000,
    "depth 10^5 of objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "depth 10^6, open": "[" * 1_000_000,
    "a comma too many": "[1,]",
    "a comment": "1 /* one */",
    "one quote": "'a'",
    "hexadecimal": "0x10",
    "a leading zero": "01",
    "nothing": "",
    "a raw newline in a string": '"\n"',
    "a NUL": "\0",
    "cut": '{"a": ',
}
RAW = {
    "not UTF-8": b'"\xff"',
    "a surrogate": b'"\xed\xa0\x80"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a BOM": b'\xef\xbb\xbf"a"',
}
MARK = "@@"


def children(node: Any) -> Iterable[tuple[Any, Any]]:
    """(key or index, item) of a JSON object or list; nothing for any other value."""
    if isinstance(node, dict):
        return node.items()
    return enumerate(node) if isinstance(node, list) else ()


def positions(value: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """For every node of a JSON value: the text with a mark in its place, and its path."""

    def walk(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        for key, item in children(node):
            yield from walk(item, (*path, key))

    for path in list(walk(value, ())):
        if path:
            copy = json.loads(json.dumps(value))
            inner = copy
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = MARK
            yield json.dumps(copy), path


def built(header: bytes | None = None, body: str | bytes | None = None, fields: Any = FIELDS) -> Files:
    """The dataset, with these bytes as the header's JSON or this text as its manifest (without checksum)."""
    data, entry = shard(json.dumps(HEADER).encode() if header is None else header, len(FIELDS), BLOCKS)
    if body is None:
        body = json.dumps(manifest_value(fields, entry))
    raw = body.encode() if isinstance(body, str) else body
    assert raw.endswith(b"}")
    return {MANIFEST: seal_manifest(raw[:-1]), SHARD: data}


def good_manifest() -> dict[str, Any]:
    return manifest_value(FIELDS, shard(json.dumps(HEADER).encode(), len(FIELDS), BLOCKS)[1])


def replaced(text: str, value: str) -> str:
    return text.replace(f'"{MARK}"', value)


def check(name: str, files: Files, expected: Any, must_be_told: bool) -> list[str]:
    """The faults: anything but an error or the same data; with `must_be_told`, but an error. Verify must not crash."""
    out = told(files, WAYS_HERE) if must_be_told else wrong(files, expected, WAYS_HERE)
    kind, report = outcome(lambda: verify_files(files))
    if kind == "crash":
        out.append(f"verify: {type(report).__name__}: {str(report)[:100]}")
    for _, error in read(files, WAYS_HERE).values():
        if isinstance(error, Exception) and len(str(error)) > 20_000:
            out.append(f"an error of {len(str(error))} letters")
    return [f"{name}: {fault}" for fault in out]


def wrong_types() -> list[str]:
    expected = read(built(), WAYS_HERE)
    out = []
    for text, path in positions(good_manifest()):
        for value in TEXTS:
            out += check(f"manifest {path} = {value[:20]}", built(body=replaced(text, value)), expected, False)
    for text, path in positions(HEADER):
        for value in TEXTS:
            out += check(f"header {path} = {value[:20]}", built(replaced(text, value).encode()), expected, False)
    return out


def both_schemas() -> list[str]:
    """Manifest and header agree on a wrong field. Its data may differ, but nothing may crash."""
    out = []
    for text, path in positions(FIELDS):
        for value in TEXTS:
            schema = replaced(text, value)
            header = ('{"metadata": {}, "schema": ' + schema + "}").encode()
            data, entry = shard(header, len(FIELDS), BLOCKS)
            body = replaced(json.dumps(manifest_value(MARK, entry)), schema)
            files = {MANIFEST: seal_manifest(body[:-1].encode()), SHARD: data}
            out += check(f"both {path} = {value[:20]}", files, None, False)
    return out


def broken() -> list[str]:
    out = []
    texts = {name: value.encode() for name, value in BROKEN.items()} | RAW
    for text, path in positions(good_manifest()):
        if len(path) == 1 or path[-1] in ("dtype", "digest"):
            for name, value in texts.items():
                body = text.encode().replace(f'"{MARK}"'.encode(), value)
                out += check(f"manifest {path} {name}", built(body=body), None, True)
    for text, path in positions(HEADER):
        if len(path) <= 2:
            for name, value in texts.items():
                out += check(
                    f"header {path} {name}", built(text.encode().replace(f'"{MARK}"'.encode(), value)), None, True
                )
    return out


def whole_texts() -> list[str]:
    out = []
    for value in [*TEXTS, *BROKEN.values(), " " * 1000]:
        out += check(f"header {value[:20]}", built(value.encode()), None, True)
        if value.endswith("}"):
            out += check(f"manifest {value[:20]}", built(body=value), None, True)
    for key in ("format", "version", "samples", "shards", "checksum", "schema"):
        body = json.dumps(good_manifest())[:-1] + f', "{key}": 1}}'
        twice = key != "checksum"
        out += check(f"manifest with another {key}", built(body=body), None, True) if twice else []
    for key in good_manifest():
        body = json.dumps({k: v for k, v in good_manifest().items() if k != key})
        out += check(f"manifest without {key}", built(body=body), None, True)
    for key in HEADER:
        out += check(
            f"header without {key}",
            built(json.dumps({k: v for k, v in HEADER.items() if k != key}).encode()),
            None,
            True,
        )
    return out


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["wrong_types", "both_schemas", "broken", "whole_texts"])
def test_hostile_json_never_crashes_or_gives_other_data(attack: str) -> None:
    assert bounded("test_hostile_json", attack) == []


def test_dataset_under_attack_is_good() -> None:
    assert {kind for kind, _ in read(built(), WAYS_HERE).values()} == {"data"}
    assert verify_files(built()).ok


DTYPES = ">i4 int i4 ? l longlong <i4 float float128 O S3 U3 V8 M8[s] m8 a3 i4,i4 (2,)i4".split()


@pytest.mark.parametrize("dtype", [*DTYPES, "f8, (2,3)i4", "", "int16 "])
def test_dtype_outside_the_format_is_refused(dtype: str) -> None:
    """NumPy accepts many more, and evaluates some."""
    schema = [{"name": "s", "type": "scalar", "dtype": dtype}, *FIELDS[1:]]
    header = json.dumps({"metadata": {}, "schema": schema}).encode()
    assert told(built(header, fields=schema)) == []


@pytest.mark.parametrize(
    "shape", ["12", [1.5], [True], {"4": 1}, [4.0], ["4"], 4, [[4]], [-4], [2**63], [None] * 40, [1] * 65, None]
)
def test_shape_other_than_integers_and_nulls_is_refused(shape: Any) -> None:
    schema = [FIELDS[0], FIELDS[1] | {"shape": shape}, *FIELDS[2:]]
    header = json.dumps({"metadata": {}, "schema": schema}).encode()
    assert told(built(header, fields=schema)) == []


@pytest.mark.parametrize("name", ["", "a" * 256, "é" * 128, "\ud800"])
def test_field_name_outside_1_to_255_bytes_of_utf_8_is_refused(name: str) -> None:
    schema = [FIELDS[0] | {"name": name}, *FIELDS[1:]]
    header = json.dumps({"metadata": {}, "schema": schema}).encode()
    assert told(built(header, fields=schema)) == []


def test_field_names_may_be_any_utf_8() -> None:
    for name in ("\0", "../x", "a b\n", "é" * 127, "__class__", "self"):
        schema = [FIELDS[0] | {"name": name}, *FIELDS[1:]]
        files = built(json.dumps({"metadata": {}, "schema": schema}).encode(), fields=schema)
        found = read(files)
        assert {kind for kind, _ in found.values()} == {"data"}, (name, found)


def test_unknown_manifest_members_are_ignored() -> None:
    value = good_manifest()
    value["later"] = {"a": [1]}
    value["shards"][0]["later"] = None
    assert read(built(body=json.dumps(value)), WAYS_HERE) == read(built(), WAYS_HERE)


def test_unknown_field_members_are_refused() -> None:
    schema = [FIELDS[0] | {"later": 1}, *FIELDS[1:]]
    assert told(built(json.dumps({"metadata": {}, "schema": schema}).encode(), fields=schema)) == []


def test_digit_limit_does_not_depend_on_the_interpreter() -> None:
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        assert told(built(body=json.dumps(good_manifest() | {"samples": 10**4500}))) == []
    finally:
        sys.set_int_max_str_digits(before)
