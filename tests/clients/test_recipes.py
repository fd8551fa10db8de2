"""Every recipe of docs/training.md runs, and runs again from its checkpoint."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.recipes import Recipe, recipes, write_data

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(600)]

# torch 2.13 with gloo aborts now and then while a process ends, also in a script of five lines without this package.
_ABORTED = "terminate called without an active exception"
ALL = recipes()
HERE = [recipe for recipe in ALL if not recipe.missing]


@pytest.mark.parametrize("recipe", HERE, ids=[recipe.title for recipe in HERE])
def test_a_recipe_runs_and_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    write_data(tmp_path)
    (tmp_path / "train.py").write_text(recipe.text)
    for _ in range(2):
        for _try in range(8):
            done = subprocess.run(
                recipe.arguments(),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=240,
                env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"},
            )
            if not (recipe.command.startswith("torchrun") and _ABORTED in done.stderr):
                break
        assert done.returncode == 0, done.stdout + done.stderr
        assert "recordio" not in "".join(line for line in done.stderr.splitlines() if "Warning" in line)


def test_recipes_of_clients_that_are_not_here_are_counted() -> None:
    left = {name for recipe in ALL for name in recipe.missing}
    if left:
        pytest.skip(
            f"{len(ALL) - len(HERE)} of {len(ALL)} recipes were not run, for {', '.join(sorted(left))} are not "
            "installed; `make clients` installs them and runs all"
        )
