"""A soak: `SOAK_SECONDS=1800 SOAK_SEED=1 python -m tests.soak`; SOAK_STEPS in place of seconds for an exact repetition.

Draws actions from a seed, runs them as processes on one folder, kills, refuses and damages at random, and compares what
is there with what was committed. The first fault ends it, with the step and the seed; the folder then stays.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.soak import damage, reading, writing
from tests.soak.processes import adopt
from tests.soak.world import World

ACTIONS: list[Callable[[World], None]] = [
    writing.write,
    writing.convert,
    reading.random_access,
    reading.epoch,
    damage.damage,
    writing.append,
    writing.merge,
    writing.reshard,
    writing.full_disk,
    reading.while_written,
    damage.signature,
    writing.split,
    writing.several_at_once,
    writing.copy,
]
_REPORT_SECONDS = 60


def soak(top: Path, seed: int, seconds: float, steps: int) -> World:
    """Runs until one of the limits; each action comes once first. Raises what the first fault is."""
    world, begun = World(top), time.monotonic()
    os.environ["TMPDIR"] = tempfile.tempdir = os.fspath(world.temporary)
    said, step = begun, 0
    while step < steps and time.monotonic() - begun < seconds:
        world.rng.seed(f"{seed} {step}")
        action = ACTIONS[step] if step < len(ACTIONS) else world.rng.choice(ACTIONS)
        try:
            action(world)
        except BaseException:
            print(f"step {step}, {action.__name__}; again: SOAK_SEED={seed} SOAK_STEPS={step + 1} make soak; {top}")
            raise
        world.require_no_temporary_files()
        world.remove_some()
        step += 1
        if time.monotonic() - said > _REPORT_SECONDS:
            said = time.monotonic()
            print(f"{said - begun:.0f} s, {step} steps", flush=True)
    world.counts["steps"] = step
    world.counts["seconds"] = round(time.monotonic() - begun)
    return world


def main() -> int:
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(10**6))
    steps = int(os.environ.get("SOAK_STEPS") or 0)
    seconds = float("inf") if steps else float(os.environ.get("SOAK_SECONDS") or 1800)
    logging.getLogger("recordio").setLevel(logging.ERROR)  # it warns of all that is planted
    adopt()
    top = Path(tempfile.mkdtemp(prefix="recordio-soak-"))
    print(f"seed {seed}, in {top}", flush=True)
    try:
        world = soak(top, seed, seconds, steps or sys.maxsize)
    except Exception:  # noqa: BLE001 whatever it is, it is what was looked for
        traceback.print_exc()
        return 1
    shutil.rmtree(top)
    print(json.dumps({"seed": seed, **dict(sorted(world.counts.items()))}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
