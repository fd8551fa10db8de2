"""What reads datasets: random access, epochs of ranks that stop, die and go on, and readers while others write."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recordio import CorruptError, DataLoader, RecordIOError, ShardDataset, WorkerError
from tests.processes_seen import children
from tests.soak.processes import Child, Fault, run
from tests.soak.samples import check, check_columns, held
from tests.soak.world import World
from tests.soak.writing import write_samples


def random_access(world: World) -> None:
    name, seed = world.any(1), world.rng.randrange(1 << 30)
    options = {"io": world.rng.choice(["auto", "mmap", "pread"]), "verify": world.rng.choice(["first", "always"])}
    options["page_cache_bytes"] = world.rng.choice([0, 4000, 128 << 20])
    numbers = world.datasets[name]
    world.counts["values read"] += run(lambda: _read(world.path(name), numbers, seed, options), world.top)


def _read(folder: Path, numbers: list[int], seed: int, options: dict[str, Any]) -> int:
    """How many samples were read, each right."""
    rng, ds = random.Random(seed), ShardDataset(folder, **options)
    assert len(ds) == len(numbers)
    some = [rng.randrange(len(numbers)) for _ in range(50)]
    assert [check(ds[i]) for i in some] == [numbers[i] for i in some]
    assert check_columns(ds.take(np.array(some))) == [numbers[i] for i in some]
    begin, end = sorted(rng.randrange(len(numbers) + 1) for _ in range(2))
    assert [check(one) for one in ds[begin:end]] == numbers[begin:end]
    assert ds.column("number").tolist() == numbers
    kept = ds.filter(lambda columns: columns["number"] % 3 == 0)
    assert check_columns(kept.take(range(len(kept)))) == [number for number in numbers if number % 3 == 0]
    return 2 * len(some) + (end - begin) + len(kept)


def epoch(world: World) -> None:
    """An epoch by ranks, of which each may stop, be killed or lose a worker, and goes on with other workers."""
    name, world_size = world.any(1), world.rng.choice([1, 1, 2, 3])
    options: dict[str, Any] = {
        "batch_size": world.rng.choice([1, 4, 32]),
        "shuffle": world.rng.random() < 0.8,
        "seed": world.rng.randrange(100),
        "window_samples": world.rng.choice([10, 100, 1000]),
        "even_batches": world.rng.random() < 0.5,
        "world_size": world_size,
    }
    numbers, folder = world.datasets[name], world.scratch()
    plans = [_plan(world, len(numbers) // options["batch_size"] // world_size) for _ in range(world_size)]
    jobs = [
        Child(partial(_train, world.path(name), folder / f"{rank}", options | {"rank": rank}, plan), world.top)
        for rank, plan in enumerate(plans)
    ]
    for job, plan in zip(jobs, plans, strict=True):
        if plan["fate"] == "kill job":
            time.sleep(plan["seconds"])
            job.kill()
        ended = job.wait()
        if not ended.killed:
            ended.require()
        world.counts[f"rank, {plan['fate']}"] += 1
    delivered: list[int] = []
    for rank, plan in enumerate(plans):
        mine = options | {"rank": rank}
        again = plan | {"fate": "none", "workers": plan["others"]}
        run(partial(_train, world.path(name), folder / f"{rank}", mine, again), world.top)
        batches = [line["numbers"] for line in _lines(folder / f"{rank}")]
        if rank == 0 and batches != run(partial(_batches, world.path(name), mine), world.top):
            raise Fault(f"the batches of a rank that was stopped ({plan}) are not those of one that was not")
        delivered += [number for batch in batches for number in batch]
    world.counts["samples delivered"] += len(delivered)
    more = len(delivered) - len(numbers)
    most = world_size - 1 if options["even_batches"] else 0
    if sorted(set(delivered)) != sorted(set(numbers)) or not 0 <= more <= most:
        raise Fault(f"ranks delivered {len(delivered)} samples of {len(numbers)}, {len(set(delivered))} different")


def _plan(world: World, batches: int) -> dict[str, Any]:
    workers, others = ((world.rng.choice([0, 1, 3]), world.rng.choice(["thread", "process"])) for _ in range(2))
    fate = world.rng.choice(["none", "stop", "kill job", "kill worker"])
    if fate == "kill worker":
        workers = 2, "process"
    at, seconds = world.rng.randrange(batches + 1), world.rng.random() * 0.5
    return {"fate": fate, "workers": workers, "others": others, "at": at, "seconds": seconds}


def _batches(dataset: Path, options: dict[str, Any]) -> list[list[int]]:
    return [check_columns(batch) for batch in DataLoader(ShardDataset(dataset), **options)]


def _lines(log: Path) -> list[dict[str, Any]]:
    """The complete lines; a kill may have cut the last."""
    lines = log.read_text().splitlines(True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _train(dataset: Path, log: Path, options: dict[str, Any], plan: dict[str, Any]) -> None:
    """One epoch, or the rest of it; a line a batch, with the state after it."""
    count, kind = plan["workers"]
    loader = DataLoader(ShardDataset(dataset), num_workers=count, worker_type=kind, **options)
    done = _lines(log)
    log.write_text("".join(f"{json.dumps(line)}\n" for line in done))
    if done:
        loader.load_state_dict(done[-1]["state"])
        if loader.upcoming_epoch:
            return
    try:
        _deliver(loader, log, plan)
    except WorkerError:
        assert plan["fate"] == "kill worker"


def _deliver(loader: DataLoader, log: Path, plan: dict[str, Any]) -> None:
    with log.open("a") as file:
        for step, batch in enumerate(loader):
            print(json.dumps({"numbers": check_columns(batch), "state": loader.state_dict()}), file=file, flush=True)
            if step == plan["at"] and plan["fate"] == "stop":
                break
            if step == plan["at"] and plan["fate"] == "kill worker":
                for pid in list(children())[:1]:
                    os.kill(pid, signal.SIGKILL)


def while_written(world: World) -> None:
    """Readers that open a dataset again and again while it is written: each sees one of its states, in their order."""
    mode: Any = world.rng.choice(["append", "overwrite"])
    name, options = world.any(), world.options()
    states, parts = [world.datasets[name]], [world.fresh(60) for _ in range(8)]
    for part in parts:
        states.append(states[-1] + part if mode == "append" else part)
    path, done = world.path(name), world.scratch() / "done"

    def writes() -> None:
        for part in parts:
            write_samples(path, mode, part, options)

    writer = Child(writes, world.top)
    readers = [Child(partial(_watch, path, mode, states, done), world.top) for _ in range(2)]
    if world.rng.random() < 0.4:
        time.sleep(world.rng.random() * 0.5)
        writer.kill()
    ended = writer.wait()
    done.touch()
    world.counts["opened while written"] += sum(reader.wait().require() for reader in readers)
    if not ended.killed:
        ended.require()
    found = world.read(name)
    if found not in states or (not ended.killed and found != states[-1]):
        raise Fault(f"a dataset that was written ({mode}) holds {len(found or [])} samples")
    world.datasets[name] = found or []


def _watch(path: Path, mode: str, states: list[list[int]], done: Path) -> int:
    """How often the dataset was opened and read whole."""
    last = times = 0
    while not done.exists():
        try:
            found = held(path)
        except CorruptError:
            raise
        except RecordIOError:
            if mode == "append":  # an overwrite removes the shards of the old dataset
                raise
            continue
        assert found in states, f"{len(found or [])} samples are between two states"
        assert states.index(found) >= last, "an older state came back"
        last, times = states.index(found), times + 1
    return times
