"""What makes and changes datasets: writers, conversions, edits; several at once; on a disk that is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import recordio
from recordio import DatasetError, DatasetWriter, ShardDataset, StorageError
from tests.soak.processes import Child, Fault, private_disk, run
from tests.soak.samples import SCHEMA, held, litter, sample
from tests.soak.world import World

Mode = Literal["create", "append", "overwrite"]
_DISK = 64 << 20


def write_samples(folder: Path, mode: Mode, numbers: list[int], options: dict[str, Any]) -> None:
    with DatasetWriter(folder, SCHEMA, mode=mode, **options) as writer:
        for number in numbers:
            writer.write(sample(number))


def create(world: World, samples: int) -> str:
    """The name of a new dataset of so many samples."""
    name, numbers = world.new_name(), world.fresh(2)
    numbers += [number for _ in range(samples - 1) for number in world.fresh(2)]
    options = world.options() | world.parity()
    run(lambda: write_samples(world.path(name), "create", numbers, options), world.top)
    world.datasets[name] = numbers
    return name


def write(world: World) -> None:
    mode: Mode = world.rng.choice(["create", "append", "overwrite"])
    name = world.new_name() if mode == "create" else world.any()
    numbers, options = world.fresh(), world.options()
    if mode != "append":  # which keeps what the dataset has
        options |= world.parity()
    after = (world.datasets[name] if mode == "append" else []) + numbers
    action = partial(write_samples, world.path(name), mode, numbers, options)
    world.publish(f"write {mode}", action, {name: after}, again=mode == "overwrite")


def convert(world: World) -> None:
    """A conversion of Python objects, over another dataset or not; some inputs may be bad, and are skipped."""
    overwrites = world.rng.random() < 0.3
    name, numbers = world.any() if overwrites else world.new_name(), world.fresh()
    bad = set(world.rng.sample(numbers, len(numbers) // 20)) if world.rng.random() < 0.3 else set()
    workers, options = world.rng.choice([0, 2, 3]), _edit_options(world)

    def action() -> None:
        report = recordio.convert(
            [(number, number in bad) for number in numbers],
            world.path(name),
            fn=_sample_unless_bad,
            schema=SCHEMA,
            identity=f"{numbers[0]}",
            workers=workers,
            on_error="skip" if bad else "raise",
            overwrite=overwrites,
            **options,
        )
        assert len(report.skipped) == len(bad), f"{len(report.skipped)} inputs were skipped, not {len(bad)}"

    world.publish("convert", action, {name: [number for number in numbers if number not in bad]})


def _sample_unless_bad(given: tuple[int, bool]) -> dict[str, Any]:
    number, is_bad = given
    if is_bad:
        raise ValueError("a bad input")
    return sample(number)


def _edit_options(world: World) -> dict[str, Any]:
    return {
        "shard_bytes": world.rng.choice([3000, 20_000, 1 << 20]),
        "block_bytes": world.rng.choice([600, 3000]),
        "compression": world.rng.choice([None, "auto"]),
    }


def append(world: World) -> None:
    """Of a new dataset: what was appended before would be left out."""
    name = world.any()
    source = create(world, world.rng.randrange(1, 200))
    after = world.datasets[name] + world.datasets[source]
    action = partial(recordio.append, world.path(name), world.path(source), workers=world.rng.choice([0, 2]))
    world.publish("append", action, {name: after})


def merge(world: World) -> None:
    sources, name = [world.any() for _ in range(world.rng.randrange(1, 4))], world.new_name()
    after = [number for source in sources for number in world.datasets[source]]
    paths = [world.path(source) for source in sources]
    action = partial(recordio.merge, world.path(name), paths, workers=world.rng.choice([0, 2]))
    world.publish("merge", action, {name: after})


def reshard(world: World) -> None:
    source, overwrites = world.any(), world.rng.random() < 0.3
    name = world.any() if overwrites else world.new_name()
    if source == name:
        name, overwrites = world.new_name(), False
    shuffle = world.rng.choice([None, 5])
    options = _edit_options(world) | {"workers": world.rng.choice([0, 2])}
    action = partial(
        recordio.reshard, world.path(source), world.path(name), shuffle=shuffle, overwrite=overwrites, **options
    )
    world.publish("reshard", action, {name: world.datasets[source]}, in_order=shuffle is None)


def split(world: World) -> None:
    source, top = world.any(20), world.new_name()
    parts = ShardDataset(world.path(source), fields=["number"]).split([0.7, 0.3], 3)
    names = [f"{top}/a", f"{top}/b"]
    after = {name: part.column("number").tolist() for name, part in zip(names, parts, strict=True)}
    if sorted(after[names[0]] + after[names[1]]) != sorted(world.datasets[source]):
        raise Fault("a split does not give each sample once")
    options = _edit_options(world) | {"workers": world.rng.choice([0, 2])}
    action = partial(recordio.split, world.path(source), world.path(top), {"a": 0.7, "b": 0.3}, seed=3, **options)
    world.publish("split", action, after)


def copy(world: World) -> None:
    source, name = world.any(), world.new_name()
    action = partial(recordio.copy, world.path(source), world.path(name))
    world.publish("copy", action, {name: world.datasets[source]})


def several_at_once(world: World) -> None:
    """Writers of one folder at the same time: each publishes or is refused, and nothing is mixed."""
    mode: Mode = world.rng.choice(["create", "append", "overwrite"])
    name = world.new_name() if mode == "create" else world.any()
    before, options = world.datasets.get(name, []), world.options()
    numbers = [world.fresh(100) for _ in range(3)]
    writers = [Child(partial(write_samples, world.path(name), mode, numbers[k], options), world.top) for k in range(3)]
    ended = [writer.wait() for writer in writers]
    if any(not isinstance(one.error, DatasetError | None) for one in ended):
        raise Fault(f"writers at once: {[str(one.error) for one in ended]}")
    winners = [mine for mine, one in zip(numbers, ended, strict=True) if one.error is None]
    orders = [[number for mine in order for number in mine] for order in permutations(winners)]
    wanted = [before + order for order in orders] if mode == "append" else winners
    found = world.read(name)
    if not winners or found not in wanted or (mode == "create" and len(winners) > 1):
        raise Fault(f"{len(winners)} of 3 writers at once ({mode}) have left {len(found or [])} samples")
    if left := litter(world.path(name)):
        raise Fault(f"files are left: {left}")
    world.datasets[name] = found or []
    world.counts["writers at once"] += 3


def full_disk(world: World) -> None:
    """Something is written to a disk without room for it, and again when there is."""
    source = world.any(20)
    kind = world.rng.choice(["write", "append", "convert", "reshard", "repair"])
    room = world.rng.choice([0, 4096, 16_384, 65_536])
    numbers, options, workers = world.fresh(), _edit_options(world), world.rng.choice([0, 2])
    before = list(world.datasets[source])
    disk = world.scratch()

    def action() -> str:
        try:
            private_disk(disk, _DISK)
        except OSError as error:
            return f"no private disk: {error}"
        old = disk / "it"
        shutil.copytree(world.path(source), old)
        act, name, samples = _filling(kind, old, numbers, options, workers)
        first, after = before if name == "it" else None, before if samples is None else samples
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, os.statvfs(disk).f_bavail * 4096 - room))
        outcome = "with room"
        try:
            act()
        except StorageError:
            outcome = "full"
        _require(held(disk / name), [first, after], kind)
        (disk / "filler").unlink()
        if outcome == "full" and held(disk / name) == first:
            act()
        _require(held(disk / name), [after], kind)
        if left := litter(disk / name):
            raise Fault(f"{kind} on a full disk: files are left: {left}")
        return outcome

    world.counts[f"{kind} on a disk {run(action, world.top)}"] += 1


def _filling(
    kind: str, old: Path, numbers: list[int], options: dict[str, Any], workers: int
) -> tuple[Callable[[], Any], str, list[int] | None]:
    """What is done, in which folder it results, and which samples that then holds; None for those that were there."""
    new = old.with_name("new")
    if kind == "write":
        return partial(write_samples, old, "overwrite", numbers, {}), "it", numbers
    if kind == "append":
        return partial(write_samples, old, "append", numbers, {}), "it", (held(old) or []) + numbers
    if kind == "convert":
        pairs = [(number, False) for number in numbers]
        convert = partial(
            recordio.convert, pairs, new, fn=_sample_unless_bad, schema=SCHEMA, identity="x", workers=workers, **options
        )
        return convert, "new", numbers
    if kind == "reshard":
        return partial(recordio.reshard, old, new, workers=workers, **options), "new", None
    (old / "manifest.json").unlink()
    return partial(recordio.repair, old, new), "new", None


def _require(found: list[int] | None, wanted: list[Any], kind: str) -> None:
    if found not in wanted:
        raise Fault(f"{kind} on a full disk left {len(found or [])} samples")
