"""Damage to a copy of a dataset: what verify says, what reading gives, what is left out, what a repair saves."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import recordio
from recordio import DataLoader, DatasetError, RecordIOError, ShardDataset, StorageError
from tests.recordio.salvage.damage import cut, flip
from tests.soak.processes import Child, Fault, run
from tests.soak.samples import check, check_columns, held
from tests.soak.world import World


class Planted(NamedTuple):
    """Damage to a dataset.

    Attributes:
        pages: flipped pages, as (file, block, field); None where files are damaged in other ways.
        files: the names of all damaged files.
        rest: the samples in no damaged block; of files damaged in other ways, those in no damaged file.
    """

    pages: set[tuple[str | None, int | None, str | None]] | None
    files: set[str]
    rest: list[int]


def damage(world: World) -> None:
    name = world.any(20)
    numbers, original = world.datasets[name], world.path(name)
    it = world.scratch() / "it"
    shutil.copytree(original, it)
    with_copy, in_place = world.rng.random() < 0.5, world.rng.random() < 0.5
    seed = world.rng.randrange(1 << 30)
    plants = world.rng.choice([_flip_pages, _flip_pages, _flip_anywhere, _break_files])
    planted: Planted = run(lambda: plants(it, numbers, random.Random(seed)), world.top)
    world.counts[f"damage: {plants.__name__.strip('_').replace('_', ' ')}"] += len(planted.pages or planted.files)
    run(lambda: _verified(it, planted), world.top)
    world.counts["read of damaged datasets"] += run(lambda: _read_what_opens(it, numbers, planted), world.top)
    if planted.pages is not None:
        run(lambda: _left_out(it, planted.rest), world.top)
    _repair(world, it, original if with_copy else None, in_place, numbers, planted)


def _flip_pages(folder: Path, numbers: list[int], rng: random.Random) -> Planted:
    store = ShardDataset(folder).store
    names = list(store.manifest.schema)
    pages, lost, files = set(), set(), set()
    for _ in range(rng.randrange(1, 6)):
        position = rng.randrange(len(store.manifest.shards))
        index, entry = store.shard(position).index, store.manifest.shards[position]
        block, column = rng.randrange(entry.blocks), rng.randrange(len(names))
        nbytes = int(index.pages[block, column]["stored_nbytes"])
        if not nbytes or (entry.name, block, names[column]) in pages:
            continue
        flip(folder / entry.name, int(index.page_offsets[block, column]) + rng.randrange(nbytes))
        pages.add((entry.name, block, names[column]))
        files.add(entry.name)
        first = int(store.first[position]) + int(index.first[block])
        lost.update(range(first, first + int(index.samples[block])))
    return Planted(pages, files, [number for i, number in enumerate(numbers) if i not in lost])


def _flip_anywhere(folder: Path, numbers: list[int], rng: random.Random) -> Planted:
    shards = _shards_of(folder, numbers)
    files = set(rng.sample(sorted(shards), min(len(shards), rng.randrange(1, 4))))
    if rng.random() < 0.2:
        files.add("manifest.json")
    for name in sorted(files):
        flip(folder / name, rng.randrange((folder / name).stat().st_size))
    return _planted(shards, files)


def _break_files(folder: Path, numbers: list[int], rng: random.Random) -> Planted:
    shards = _shards_of(folder, numbers)
    files = set(rng.sample(sorted(shards), min(len(shards), rng.randrange(1, 4))))
    for name in sorted(files):
        path, nbytes = folder / name, (folder / name).stat().st_size
        kind = rng.choice(["cut", "gone", "longer", "hole", "other"])
        other = rng.choice(sorted(shards))
        if kind == "cut":
            cut(path, rng.randrange(nbytes))
        elif kind == "gone" or (kind == "other" and other in files):
            path.unlink()
        elif kind == "longer":
            path.write_bytes(path.read_bytes() + bytes(rng.randrange(1, 200)))
        elif kind == "hole":
            at = rng.randrange(nbytes)
            data = path.read_bytes()
            hole = bytes(min(512, nbytes - at))
            if data[at : at + 512] == hole:
                path.unlink()
            else:
                path.write_bytes(data[:at] + hole + data[at + len(hole) :])
        else:
            shutil.copyfile(folder / other, path)
    if rng.random() < 0.3:
        (folder / "manifest.json").unlink()
        files.add("manifest.json")
    return _planted(shards, files)


def _shards_of(folder: Path, numbers: list[int]) -> dict[str, list[int]]:
    """The samples of each shard."""
    store = ShardDataset(folder).store
    firsts = [*store.first, len(numbers)][: len(store.manifest.shards) + 1]
    return {
        entry.name: numbers[int(firsts[k]) : int(firsts[k]) + entry.samples]
        for k, entry in enumerate(store.manifest.shards)
    }


def _planted(shards: dict[str, list[int]], files: set[str]) -> Planted:
    return Planted(None, files, [number for name in shards if name not in files for number in shards[name]])


def _verified(folder: Path, planted: Planted) -> None:
    """`verify` names all that was planted and nothing else."""
    if "manifest.json" in planted.files:
        with_manifest = (folder / "manifest.json").exists()
        try:
            report = recordio.verify(folder)
        except DatasetError:
            assert not with_manifest
            return
        assert with_manifest
        assert len(report.problems) == 1, report.problems
        return
    report = recordio.verify(folder)
    assert {os.path.basename(str(one.place.file)) for one in report.problems} == planted.files, report.problems
    if planted.pages is not None:
        assert {(one.place.file, one.place.block, one.place.field) for one in report.problems} == planted.pages
        sampled = recordio.verify(folder, sample=1 << 30)
        assert sampled.sample is not None
        assert sampled.sample.damaged == len(planted.pages)


def _read_what_opens(folder: Path, numbers: list[int], planted: Planted) -> int:
    """How many samples can be read, each right; all that lie in no damaged block or file are, once it opens."""
    try:
        ds = ShardDataset(folder)
    except RecordIOError:
        return 0
    found = []
    for number in range(len(ds)):
        try:
            found.append(check(ds[number]))
        except StorageError:
            raise
        except RecordIOError:
            continue
    assert _is_part(found, numbers), "other samples, or another order"
    assert _is_part(planted.rest, found)
    return len(found)


def _is_part(some: list[int], all_of: list[int]) -> bool:
    """Whether these are some of those, in their order."""
    left = iter(all_of)
    return all(number in left for number in some)


def _left_out(folder: Path, rest: list[int]) -> None:
    """With a list and without one, exactly the rest is left, whoever reads it."""
    for _ in range(2):
        ds = ShardDataset(folder, on_damage="skip")
        assert check_columns(ds.take(range(len(ds)))) == rest
        for options in ({}, {"num_workers": 2, "worker_type": "process"}, {"num_workers": 3, "worker_type": "thread"}):
            loader: Any = DataLoader(ds, 8, shuffle=True, seed=1, window_samples=50, **options)  # type: ignore[arg-type]
            assert sorted(number for batch in loader for number in check_columns(batch)) == sorted(rest)
        recordio.verify(folder, quarantine=True)


def _repair(world: World, it: Path, source: Path | None, in_place: bool, numbers: list[int], planted: Planted) -> None:
    new, has_parity = it if in_place else it.with_name("new"), any(it.glob("parity-*"))

    def action() -> Any:
        return recordio.repair(it, None if in_place else new, source=source, in_place=in_place)

    said = Child(lambda: recordio.repair(it, source=source), world.top).wait()
    if isinstance(said.error, DatasetError) and (source is None or not os.listdir(it)):
        world.counts["repair: nothing left"] += 1
        return
    survey = said.require()
    if not survey.shards:
        if source is not None or planted.rest:
            raise Fault("a repair would save nothing")
        world.counts["repair: nothing left"] += 1
        return
    _killed(world, action)
    report = run(action, world.top)
    found = run(lambda: _mended(new, action), world.top)
    expected = numbers if source is not None else planted.rest
    is_right = Counter(planted.rest) <= Counter(found) <= Counter(numbers)  # without a manifest, in any order
    if source is not None:
        is_right = found == numbers
    elif planted.pages is not None:
        is_exact = is_right if has_parity else found == expected  # parity gives back some, or all
        is_right = is_exact and len(found) + (survey.lost_samples or 0) == len(numbers)
    if not is_right or report.samples != len(found):
        raise Fault(f"a repair saved {len(found)} samples of {len(numbers)}; {len(expected)} were to be saved")
    world.counts["samples saved by repairs"] += len(found)
    world.require_no_temporary_files()


def _killed(world: World, action: Callable[[], Any]) -> None:
    for _ in range(world.rng.randrange(3)):
        child = Child(action, world.top)
        time.sleep(world.rng.random() * 0.1)
        child.kill()
        world.counts["repair, kill" if child.wait().killed else "repair"] += 1
        world.require_no_temporary_files(killed=True)


def _mended(new: Path, action: Callable[[], Any]) -> list[int]:
    report = recordio.verify(new)
    assert report.ok, report.problems
    assert action().done_before
    left = {path.name for path in new.iterdir() if path.name.startswith(".") and path.name != ".source"}
    assert not left, left
    return held(new) or []


def signature(world: World) -> None:
    """A bit of any file of a signed dataset is flipped: `verify` with the key finds it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    it = world.scratch() / "it"
    shutil.copytree(world.path(world.any()), it)
    seed = world.rng.randrange(1 << 30)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(world.rng.randbytes(32))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    world.counts["flips of signed datasets"] += run(partial(_signed, it, private, public, seed), world.top)


def _signed(folder: Path, private: bytes, public: bytes, seed: int) -> int:
    rng = random.Random(seed)
    recordio.sign(folder, private)
    assert recordio.verify(folder, key=public).ok
    # Not the shards that a killed writer has replaced and not removed: they are no longer part of the dataset.
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    names = ["manifest.json", "signature.json", *(f"shard-{one['number']:05d}.rio" for one in shards)]
    for _ in range(8):
        path = folder / rng.choice(names)
        good = path.read_bytes()
        flip(path, rng.randrange(len(good)))
        assert not recordio.verify(folder, key=public).ok, path.name
        path.write_bytes(good)
    assert recordio.verify(folder, key=public).ok
    return 8
