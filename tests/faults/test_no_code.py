"""A hostile dataset runs no code, imports nothing and writes nothing, whatever its content."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

import recordio
from tests.faults.bounded import bounded
from tests.faults.forging import MANIFEST, SHARD, Files, one_value
from tests.faults.reading import read, verify_files
from tests.faults.samples import coded as coded_dataset, every_kind
from tests.faults.test_bit_flips import flipped

FORBIDDEN = tuple(
    """
    exec compile pickle. marshal. code. ctypes. subprocess. socket. urllib. shutil. tempfile. builtins.input
    os.system os.exec os.posix_spawn os.fork os.remove os.rename os.mkdir os.truncate
    """.split()
)


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code ran')",)


def corpus() -> list[Files]:
    """Good, flipped, and hostile datasets."""
    from tests.faults.test_hostile_json import BROKEN, FIELDS, HEADER, built, positions, replaced
    from tests.faults.test_hostile_pages import FRAMES, OBJECTS, PICTURES, coded

    out = [every_kind(None), coded_dataset()]
    out += [files for byte, bit, files in flipped(every_kind(None), SHARD) if byte % 3 == 0 and byte % 8 == bit]
    out += [files for byte, bit, files in flipped(every_kind(None), MANIFEST) if byte % 3 == 0 and byte % 8 == bit]
    out += [coded(frame) for frame in FRAMES.values()]
    out += [one_value({"type": "object"}, value) for value in OBJECTS.values()]
    out += [one_value({"type": "image", "mode": mode}, v) for v in PICTURES.values() for mode in ("RGB", "L", "RGBA")]
    for value in (pickle.dumps(Boom()), b"cos\nsystem\n(S'true'\ntR.", b"\x93NUMPY\x01\x00", b"__import__('os')"):
        out += [one_value({"type": kind}, value) for kind in ("object", "text", "bytes")]
    for words in (
        "__import__('os').system('true')",
        "(2,)i4",
        "f8, (2,3)i4",
        "O",
        "numpy.core.records:record",
        "os.system",
    ):
        fields = [{"name": words, "type": "scalar", "dtype": words}, {"name": "y", "type": words}]
        import json

        out += [
            built(json.dumps({"metadata": {}, "schema": [f, *FIELDS[1:]]}).encode(), fields=[f, *FIELDS[1:]])
            for f in fields
        ]
    out += [
        built(replaced(text, value).encode())
        for text, _ in positions(HEADER)
        for value in BROKEN.values()
        if len(value) < 9
    ]
    return out


def audited() -> list[str]:
    """Forbidden actions while reading the corpus."""
    found: list[str] = []
    watching = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event == "import" and args[0].partition(".")[0] not in sys.stdlib_module_names:
            found.append(f"import {args[0]}")
        elif event.startswith(FORBIDDEN):
            found.append(f"{event} {str(args)[:80]}")
        elif event == "open" and not _reads(args):
            found.append(f"open {args}")

    datasets = corpus()
    for files in (every_kind(None), coded_dataset()):  # load all modules that reading imports
        for decode in ("numpy", "pil", None):
            assert {kind for kind, _ in read(files, decode=decode).values()} == {"data"}
        read(one_value({"type": "image", "mode": "RGB"}, b"\xff\xd8\xff"))
        verify_files(files)
    sys.addaudithook(hook)
    watching = True
    for files in datasets:
        read(files, ["take", "[i]", "DataLoader"])
        verify_files(files)
    watching = False
    return found


def _reads(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return (mode is None or not set(str(mode)) & set("wax+")) and not int(flags or 0) & 0b11


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_hostile_datasets_never_run_code_import_or_write() -> None:
    assert bounded("test_no_code", "audited", 0) == []


def spied() -> list[str]:
    found: list[str] = []
    sys.addaudithook(lambda event, args: found.append(event) if event.startswith(FORBIDDEN) else None)
    exec(compile("1", "x", "eval"))
    pickle.loads(pickle.dumps(recordio.Scalar))
    return found


@pytest.mark.timeout(300)
def test_audit_hook_sees_forbidden_events() -> None:
    assert {"exec", "compile", "pickle.find_class"} <= set(bounded("test_no_code", "spied", 0))
