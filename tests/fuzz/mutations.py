"""Changes to bytes and to JSON, at random: what every mutator of `mutators.py` is made of.

Everything follows from the generator that is given, so that a seed stands for a run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Change = Callable[[bytes, Random], bytes]

MOST_NBYTES = 1 << 13  # of an input
EDGES = [0, 1, 2, 63, 64, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**24 + 1, 2**28, 2**28 + 1, 2**31 - 1, 2**31]
EDGES += [2**32 - 1, 2**32, 2**38, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
_NUMBERS = [*"<B <H >H <I >I <Q".split()]
_MARK = "@@mark@@"
_TEXTS = """
null true false 0 -0 1 -1 1.0 0.5 -0.0 1e999 1e-999 NaN Infinity "" "x" "recordio" "int8" "bool" "RGB"
"\\u0000" "\\ud800" "é"
"../../x" [] {} [[]] [{}] [null] [1,1] [[1,1]] {"a":1} {"a":1,"a":1} {"optional":true} [1,]
01 9999999999999999999999999999999999999999
""".split()
_DEPTHS = (2, 40, 500, 900, 990, 1000, 1100, 3000)


def blind(data: bytes, rng: Random) -> bytes:
    """One to four changes of bytes, wherever they are."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_EDITS)(out, rng)
    return bytes(out[:MOST_NBYTES])


def _at(out: bytearray, rng: Random) -> int:
    return rng.randrange(len(out) + 1)


def _flip(out: bytearray, rng: Random) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _number(out: bytearray, rng: Random) -> None:
    form = rng.choice(_NUMBERS)
    size = struct.calcsize(form)
    if len(out) >= size:
        at = rng.randrange(len(out) - size + 1)
        old = struct.unpack_from(form, out, at)[0]
        new = rng.choice(EDGES) if rng.random() < 0.7 else old + rng.choice((-64, -8, -1, 1, 8, 64))
        struct.pack_into(form, out, at, new & (1 << 8 * size) - 1)


def _insert(out: bytearray, rng: Random) -> None:
    at = _at(out, rng)
    out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))


def _remove(out: bytearray, rng: Random) -> None:
    at = _at(out, rng)
    del out[at : at + rng.choice((1, 2, 4, 8, 64, len(out)))]


def _repeat(out: bytearray, rng: Random) -> None:
    at = _at(out, rng)
    out[at:at] = bytes(out[at : at + rng.choice((1, 4, 16, 64))]) * rng.choice((1, 1, 2, 50))


def _move(out: bytearray, rng: Random) -> None:
    size = rng.choice((1, 4, 16, 64))
    begin, at = _at(out, rng), _at(out, rng)
    part = out[begin : begin + size]
    out[at : at + len(part)] = part


_EDITS = (_flip, _number, _number, _insert, _remove, _repeat, _move)


def changed_integer(value: int, nbytes: int, rng: Random) -> int:
    """Another unsigned integer of so many bytes: one at an edge, or a near one."""
    if rng.random() < 0.6:
        value = rng.choice(EDGES)
    else:
        value += rng.choice((-64, -32, -8, -1, 1, 8, 32, 64))
    return value & (1 << 8 * nbytes) - 1


def changed_json(value: Any, rng: Random, dumps: Callable[[Any], str] = json.dumps) -> str:
    """The text of a JSON value with one node changed: another number, text, list or depth, a copy, or nothing."""
    paths = list(_paths(value))
    path = rng.choice(paths)
    if not path:
        return _raw(value, paths, value, rng)
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    old = inner[path[-1]]
    if rng.random() < 0.1:
        del inner[path[-1]]
        return dumps(copy)
    raw = _raw(old, paths, value, rng)
    if isinstance(inner, dict) and rng.random() < 0.15:  # beside the old one, under a name of its own or the same
        name = rng.choice((path[-1], "unknown", "optional", "shape", "mode", "dtype"))
        raw = f"{json.dumps(old)}, {json.dumps(name)}: {raw}"
    if isinstance(inner, list) and rng.random() < 0.3:
        raw = ", ".join([json.dumps(old)] * rng.choice((1, 1, 2, 40)) + [raw])
    inner[path[-1]] = _MARK
    return dumps(copy).replace(json.dumps(_MARK), raw, 1)


def _paths(value: Any) -> Any:
    pending: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    while pending:
        node, path = pending.pop()
        yield path
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        pending += [(item, (*path, key)) for key, item in items]


def _raw(old: Any, paths: list[tuple[Any, ...]], whole: Any, rng: Random) -> str:
    kind = rng.random()
    if type(old) is int and kind < 0.6:
        return str(rng.choice((old + 1, old - 1, -old, old * 2, rng.choice(EDGES), -rng.choice(EDGES), f"{old}.0")))
    if isinstance(old, str) and old and kind < 0.4:
        return _text(old, rng)
    if kind < 0.55:
        found = whole
        for key in rng.choice(paths):
            found = found[key]
        return json.dumps(found)
    if kind < 0.7:
        depth, open_, close = rng.choice(_DEPTHS), *rng.choice((("[", "]"), ('{"a":', "}")))
        return open_ * depth + "1" + close * depth
    return rng.choice(_TEXTS)


def _text(old: str, rng: Random) -> str:
    at = rng.randrange(len(old))
    new = rng.choice(("", "0", "f", "é", "\\ud800", "\\u0000", "A", old, "/", "-"))
    escaped = json.dumps(old[:at])[1:-1], json.dumps(old[at + 1 :])[1:-1]
    return f'"{escaped[0]}{new}{escaped[1]}"'
