"""A short soak; `make soak` is the long one. And its oracle, which has to see what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recordio
from tests.effort import LONG
from tests.faults.bounded import python
from tests.soak.__main__ import ACTIONS
from tests.soak.processes import Fault
from tests.soak.samples import SCHEMA, check, held, litter, sample
from tests.soak.world import require_one_of
from tests.soak.writing import write_samples

STEPS = 20 * len(ACTIONS) if LONG else len(ACTIONS)


@pytest.mark.slow
@pytest.mark.timeout(600 if LONG else 120)
def test_a_soak_finds_nothing() -> None:
    out = python("-m", "tests.soak", seconds=500 if LONG else 110, SOAK_SEED="1", SOAK_STEPS=f"{STEPS}")
    counts = json.loads(out[out.index("{") :])
    assert counts["steps"] == STEPS
    assert all(counts[kind] for kind in ("convert", "samples delivered", "samples saved by repairs", "values read"))


@pytest.mark.parametrize("name", list(SCHEMA))
def test_a_wrong_value_is_seen(name: str) -> None:
    assert check(sample(12)) == 12
    wrong = sample(12) | {name: sample(13)[name]}
    with pytest.raises(AssertionError):
        check(wrong)


def test_a_sample_too_many_and_a_file_too_many_are_seen(tmp_path: Path) -> None:
    assert held(tmp_path / "none") is None
    write_samples(tmp_path, "create", [3, 1, 2], {})
    assert held(tmp_path) == [3, 1, 2]
    require_one_of("it", [3, 1, 2], [None, [3, 1, 2]])
    for wanted in ([None], [[1, 2, 3]], [[3, 1]]):
        with pytest.raises(Fault):
            require_one_of("it", [3, 1, 2], wanted)
    require_one_of("it", [3, 1, 2], [[1, 2, 3]], in_order=False)
    assert litter(tmp_path) == []
    (tmp_path / ".shard-00001.rio.tmp").touch()
    assert litter(tmp_path) == [".shard-00001.rio.tmp"]
    assert recordio.verify(tmp_path).ok
