"""Every target decodes, or raises our error, within the memory limit, within a second; a short run of each.

`make fuzz` is the long one. An input that ever broke the law stays in `broken`, and is tried by both.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from recordio.errors import CorruptError, DecodeError
from recordio.format.checksum import digest
from tests.effort import FACTOR
from tests.faults.forging import SHARD
from tests.faults.samples import every_kind
from tests.fuzz import corpus, law, unguided
from tests.fuzz.mutations import blind
from tests.fuzz.targets import TARGETS, Target

INPUTS = round(600 * FACTOR)
every_target = pytest.mark.parametrize("name", TARGETS)

_UNGUIDED = """
import sys
from tests.fuzz.unguided import run
found = run(sys.argv[1], int(sys.argv[2]))
print(found[True], found[False])
"""


@every_target
def test_changed_inputs_decode_or_raise_our_error(name: str) -> None:
    """In a process of its own: the memory limit is one of the process."""
    done = subprocess.run(
        [sys.executable, "-c", _UNGUIDED, name, str(INPUTS)],
        capture_output=True,
        text=True,
        timeout=50 * max(1, FACTOR),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    decoded, refused = map(int, done.stdout.split())
    assert decoded + refused >= INPUTS
    assert decoded > INPUTS / 50  # the mutators get past the checksums
    assert refused > INPUTS / 50


@every_target
def test_guided_by_what_is_reached(name: str, tmp_path: Path) -> None:
    if find_spec("atheris") is None:
        pytest.skip("atheris is not installed: `make fuzz` installs it")
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(tmp_path), f"-runs={INPUTS}", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 * max(1, FACTOR))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "number_of_executed_units" in done.stderr


def test_inputs_are_named_by_their_digests_and_small() -> None:
    paths = [path for folder in (corpus.HERE, corpus.BROKEN) for path in folder.glob("*/*")]
    assert len(paths) > 100
    assert {path.name for path in paths} == {digest([path.read_bytes()]).hex() for path in paths}
    assert {path.parent.name for path in paths} == {target.inputs for target in TARGETS.values()}
    assert sum(path.stat().st_size for path in paths) < 400 << 10


@every_target
def test_the_corpus_holds_inputs_that_decode(name: str) -> None:
    target = TARGETS[name]
    good = [law.obey(target.read, data) for data in corpus.stored(target.inputs)]
    assert sum(good) > len(good) / 2


@every_target
def test_a_seed_stands_for_an_input(name: str) -> None:
    target = TARGETS[name]
    data = corpus.stored(target.inputs)[0]
    assert target.change(data, Random(5), blind) == target.change(data, Random(5), blind)


def _fails(data: bytes) -> None:
    raise KeyError(data)


def test_the_law_lets_no_other_error_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BROKEN", tmp_path)
    monkeypatch.setitem(unguided.TARGETS, "object", Target(_fails, TARGETS["object"].change, "object"))
    with pytest.raises(unguided.Broken) as error:
        unguided.run("object", 1)
    assert isinstance(error.value.__cause__, KeyError)
    (path,) = tmp_path.glob("object/*")
    assert path.read_bytes() == error.value.data


def test_the_law_knows_a_slow_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "MOST_SECONDS", 0.0)
    with pytest.raises(law.TooSlow):
        law.obey(bytes.decode, b"x")


@pytest.mark.parametrize("error", [CorruptError, DecodeError])
def test_the_law_takes_our_errors(error: type[Exception]) -> None:
    def refuse(data: bytes) -> None:
        raise error("no")

    assert not law.obey(refuse, b"")


def test_more_memory_than_the_limit_is_an_error() -> None:
    code = "from tests.fuzz.law import limited_memory\nwith limited_memory(1 << 20): bytearray(64 << 20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MemoryError" in done.stderr


def test_the_shard_target_reads_what_was_written() -> None:
    assert law.obey(TARGETS["shard"].read, every_kind(None)[SHARD])
