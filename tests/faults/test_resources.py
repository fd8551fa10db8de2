"""Descriptors, maps, threads, memory, processes: bounded while reading, and released afterwards."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DataLoader, ShardDataset
from tests.faults.bounded import bounded, python
from tests.faults.crashing import contents
from tests.faults.samples import some

ATTACKS = """
    many_shards many_datasets broken_off failing_loaders opened_and_dropped opened_and_dropped_without_collector refused
    abandoned_writers forked forked_while_reading threads_on_one_dataset cut_while_read
""".split()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("attack", ATTACKS)
def test_resources_are_released(attack: str) -> None:
    assert bounded("resources", attack, 0) == []


def test_dataset_pickles_by_path_and_detects_changes(tmp_path: Path) -> None:
    ds = ShardDataset(some(tmp_path), fields=["number"])
    view = ds[5:25].select([3, 1, 1])
    again = pickle.loads(pickle.dumps(view))
    assert again.column("number").tolist() == view.column("number").tolist() == [8, 6, 6]
    data = pickle.dumps(ds)
    some(tmp_path, mode="append")  # no damage: the version that was opened is all there
    assert len(pickle.loads(data)) == len(ds) < len(ShardDataset(tmp_path))
    some(tmp_path, mode="overwrite")
    with pytest.raises(recordio.RecordIOError, match="was replaced since"):
        pickle.loads(data)


def test_errors_pickle_with_their_place(tmp_path: Path) -> None:
    (some(tmp_path) / "shard-00001.rio").unlink()
    with pytest.raises(recordio.CorruptError) as caught:
        ShardDataset(tmp_path)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.place) == (type(caught.value), str(caught.value), caught.value.place)


FORKS = """
import faulthandler, os, sys
import recordio
from tests.faults.samples import WIDE, some
kind, workers = sys.argv[2], int(sys.argv[3])
ds = recordio.ShardDataset(some(sys.argv[1], 400, shard_samples=100, compression="zstd", wide=WIDE, block_bytes=6000))

def right(batches):
    pairs = [pair for b in batches for pair in zip(b["number"].tolist(), b["text"], strict=True)]
    return [n for n, text in pairs if text == f"value {n}".ljust(WIDE)]

batches = iter(recordio.DataLoader(ds, 20, shuffle=True, num_workers=workers, window_bytes=20_000))
first = right([next(batches)])
pid = os.fork()
if pid == 0:
    faulthandler.dump_traceback_later(15, exit=True)
    if kind == "drop":
        del batches
    elif kind == "close":
        batches.close()
    elif kind == "go on":
        try:
            assert len(right(batches)) == 380
        except recordio.RecordIOError:
            pass
    elif kind == "begin anew":
        assert sorted(right(recordio.DataLoader(ds, 20, shuffle=True, num_workers=workers))) == list(range(400))
    sys.exit(0)
assert sorted(first + right(batches)) == list(range(400)), "the parent's loader"
assert os.waitpid(pid, 0)[1] == 0, "the child"
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["exit", "drop", "close", "go on", "begin anew"])
def test_forked_iterator_never_hangs(tmp_path: Path, kind: str, workers: int) -> None:
    ignore = "-Wignore:This process:DeprecationWarning"  # Python 3.12 warns of every fork beside threads
    for run in range(3):
        python(ignore, "-c", FORKS, str(tmp_path / f"{run}"), kind, str(workers))


READS = """
import sys
import recordio
opened = []
def hook(event, args):
    if event == "open" and str(args[0]).startswith(sys.argv[1]) and (args[2] or 0) & 0o102003:
        opened.append(args)
    if event.startswith(("os.mkdir", "os.rename", "os.remove", "os.truncate", "os.utime", "os.chmod", "fcntl")):
        opened.append((event, args))
recordio.DataLoader, recordio.ShardDataset, recordio.verify
sys.addaudithook(hook)
ds = recordio.ShardDataset(sys.argv[1])
assert len(list(recordio.DataLoader(ds, 4, shuffle=True, num_workers=2))) == 8
ds.column("text"), ds[3], recordio.verify(sys.argv[1]).to_json()
assert not opened, opened
print("done")
"""


@pytest.mark.timeout(300)
def test_reading_never_writes_or_opens_for_writing(tmp_path: Path) -> None:
    path = some(tmp_path / "it")
    before = {p: p.stat().st_mtime_ns for p in [path, *path.iterdir()]}
    for name in path.iterdir():
        name.chmod(0o444)
    path.chmod(0o555)
    try:
        assert python("-c", READS, str(path)).strip() == "done"
    finally:
        path.chmod(0o755)
    assert {p: p.stat().st_mtime_ns for p in [path, *path.iterdir()]} == before


UMASK = """
import os, sys
from pathlib import Path
from tests.faults.samples import some
os.umask(int(sys.argv[2], 8))
some(Path(sys.argv[1]) / "it")
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("umask", ["000", "022", "027", "077"])
def test_files_follow_the_umask(tmp_path: Path, umask: str) -> None:
    python("-c", UMASK, str(tmp_path), umask)
    for path in (tmp_path / "it").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~int(umask, 8), path
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o777 & ~int(umask, 8)


WRITES = """
import sys
import recordio
from tests.faults.samples import SCHEMA, sample
fields = dict(SCHEMA)
options = {"compression": sys.argv[2], "shard_samples": 7, "metadata": {"b": 1, "a": ["x"]}}
with recordio.DatasetWriter(sys.argv[1], fields, **options) as writer:
    for i in range(30):
        writer.write(sample(i) | {"object": {k: i for k in ("z", "a", "m")}})
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("compression", ["auto", "zstd:3"])
def test_bytes_do_not_depend_on_the_environment(tmp_path: Path, compression: str) -> None:
    surroundings: list[dict[str, str]] = [
        {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC"},
        {"PYTHONHASHSEED": "12345", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kolkata"},
        {"PYTHONHASHSEED": "random", "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0", "PYTHONDEVMODE": "1"},
    ]
    found = []
    for number, more in enumerate(surroundings):
        python("-c", WRITES, str(tmp_path / f"{number}"), compression, **more)
        found.append(contents(tmp_path / f"{number}"))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 6


def test_error_in_a_map_stops_the_loader_unchanged(tmp_path: Path) -> None:
    def bad(sample: Any) -> Any:
        return {"x": 1 // (int(sample["number"]) - 17)}

    ds = ShardDataset(some(tmp_path)).map(bad)
    for workers in (0, 2):
        with pytest.raises(ZeroDivisionError):
            list(DataLoader(ds, 4, num_workers=workers))


def test_damaged_page_affects_only_reads_that_touch_it(tmp_path: Path) -> None:
    path = some(tmp_path)
    data = bytearray((path / "shard-00001.rio").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "shard-00001.rio").write_bytes(data)
    ds = ShardDataset(path)
    assert ds.take([0, 9, 20, 29])["number"].tolist() == [0, 9, 20, 29]
    for _ in range(2):  # the error repeats on a second read
        with pytest.raises(recordio.CorruptError) as caught:
            ds.take(range(30))
        assert caught.value.place.file == "shard-00001.rio"
    assert os.path.basename(str(caught.value.place.file)) in str(caught.value)
