"""System resources held by readers, and their release. Each function runs in a process of its own."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import ConcatDataset, DataLoader, Mixture, ShardDataset
from tests.faults.crashing import MEMORY, child
from tests.faults.samples import WIDE, some


def taken() -> tuple[int, int, int, int]:
    """Descriptors, maps of shards, threads, maps of shared memory, of this process."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    shards = sum(".rio" in line for line in lines)
    memory = sum("/dev/shm/" in line and ".rio" not in line for line in lines)
    return len(os.listdir("/proc/self/fd")), shards, threading.active_count(), memory


def compare(what: str, before: Any, after: Any) -> list[str]:
    return [] if after == before else [f"{what}: (descriptors, maps, threads, memory) were {before}, are {after}"]


def _together(folders: list[Path], **options: Any) -> list[int]:
    """The distinct numbers in these datasets, read by one loader."""
    ds = ConcatDataset([ShardDataset(folder, **options) for folder in folders])
    return sorted({int(n) for batch in DataLoader(ds, 7, shuffle=True) for n in batch["number"]})


def many_shards() -> list[str]:
    """Every way of reading 300 shards works with a limit of 64 open files."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = some(Path(name) / "it", 300, shard_samples=1)
        others = [some(Path(name) / f"other {k}", 300, shard_samples=1) for k in range(2)]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        expected = list(range(300))
        for io in ("mmap", "pread", "direct"):
            for options in ({}, {"max_open_shards": 1}):
                ds = ShardDataset(folder, io=io, **options)  # type: ignore[arg-type]
                ways = {
                    "take": lambda ds=ds: ds.take(expected)["number"].tolist(),
                    "[i]": lambda ds=ds: [int(ds[i]["number"]) for i in expected],
                    "column": lambda ds=ds: ds.column("number").tolist(),
                    "loader": lambda ds=ds: [int(n) for batch in DataLoader(ds, 7) for n in batch["number"]],
                    "threads": lambda ds=ds: [int(n) for b in DataLoader(ds, 7, num_workers=4) for n in b["number"]],
                    "shuffled": lambda ds=ds: sorted(
                        int(n) for b in DataLoader(ds, 7, shuffle=True) for n in b["number"]
                    ),
                    "together": lambda io=io, options=options: _together([folder, *others], io=io, **options),
                }
                for way, read in ways.items():
                    try:
                        out += [] if read() == expected else [f"{io} {options} {way}: other data"]
                    except Exception as error:  # noqa: BLE001
                        out.append(f"{io} {options} {way}: {type(error).__name__}: {error}")
                del ds, ways, read
        report = recordio.verify(folder)
        return out + ([] if report.ok and report.samples == 300 else [f"verify: {report.problems}"])


def many_datasets() -> list[str]:
    """Every way of reading 100 datasets of four shards works with a limit of 128 files, and leaves a third of them."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        folders = [some(Path(name) / str(k), 4, shard_samples=1, wide=WIDE * (k % 2)) for k in range(100)]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        for io in ("mmap", "pread", "direct"):
            sets = [ShardDataset(folder, io=io) for folder in folders]  # type: ignore[arg-type]
            ds, mixed = ConcatDataset(sets), Mixture([(one, 1) for one in sets], "all_exhausted")
            expected = list(range(4)) * 100

            def numbers(one: Any, **options: Any) -> list[int]:
                return [int(n) for batch in DataLoader(one, 7, **options) for n in batch["number"]]

            def processes(method: str, ds: Any = ds) -> list[int]:
                return numbers(ds, num_workers=2, worker_type="process", multiprocessing_context=method)

            def in_threads(ds: Any = ds) -> list[int]:
                with ThreadPoolExecutor(16) as pool:
                    found = list(pool.map(lambda _: ds.take(range(400))["number"].tolist(), range(16)))
                return found[0] if found == found[:1] * 16 else []

            ways = {
                "take": lambda ds=ds: ds.take(range(400))["number"].tolist(),
                "take in threads": in_threads,
                "[i]": lambda ds=ds: [int(ds[i]["number"]) for i in range(400)],
                "column": lambda ds=ds: ds.column("number").tolist(),
                "loader": lambda ds=ds: numbers(ds),
                "threads": lambda ds=ds: numbers(ds, num_workers=4),
                "fork": lambda: processes("fork"),
                "forkserver": lambda: processes("forkserver"),
                "shuffled": lambda ds=ds: numbers(ds, shuffle=True),
                "mixed": lambda mixed=mixed: numbers(mixed, shuffle=True),
            }
            for way, read in ways.items():
                try:
                    found = read()
                    right = sorted(found) == sorted(expected) if way in ("shuffled", "mixed") else found == expected
                    out += [] if right else [f"{io} {way}: other data"]
                except Exception as error:  # noqa: BLE001
                    out.append(f"{io} {way}: {type(error).__name__}: {error}")
                files = taken()[0]
                out += [] if files <= 128 * 2 // 3 else [f"{io} {way}: {files} files stay open"]
            del sets, ds, mixed, ways, read
    return out


def broken_off() -> list[str]:
    """1,000 loaders abandoned early, in every way."""
    with TemporaryDirectory(dir=MEMORY) as name:
        ds = ShardDataset(some(Path(name) / "it", 60))
        ds.take(range(60))
        before, held = taken(), []
        for run in range(1000):
            loader = DataLoader(ds, 4, shuffle=bool(run % 2), num_workers=run % 3, seed=run)
            batches = iter(loader)
            if run % 5:
                next(batches)
            if run % 5 == 2:
                batches.close()  # type: ignore[attr-defined]
            elif run % 5 == 3:
                held.append(batches)
            elif run % 5 == 4:
                try:
                    for _ in batches:
                        raise KeyError("in the loop")
                except KeyError:
                    pass
            if len(held) > 3:
                held.clear()
        held.clear()
        del batches, loader
        return compare("1,000 loaders", before, taken())


def failing_loaders() -> list[str]:
    """Loaders that fail, in the reader or in a mapped function, leak nothing."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = some(Path(name) / "it", 60)
        data = bytearray((folder / "shard-00003.rio").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "shard-00003.rio").write_bytes(data)
        ds = ShardDataset(folder)

        def bad(sample: Any) -> Any:
            raise ZeroDivisionError(sample["number"])

        _ = ds[0]  # whether `bad` draws is found out with the first samples, whose shard stays open
        before = None
        for run in range(60):
            for view, kind in ((ds, recordio.CorruptError), (ds[:20].map(bad), ZeroDivisionError)):
                try:
                    for _ in DataLoader(view, 4, shuffle=True, num_workers=run % 4, seed=run):
                        pass
                    out.append(f"run {run}: no {kind.__name__}")
                except kind:
                    pass
            before = before or taken()
        return out + compare("loaders that failed", before, taken())


def opened_and_dropped(collect: bool = True) -> list[str]:
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = some(Path(name) / "it", 60)
        ShardDataset(folder).take(range(60))
        before = taken()
        if not collect:
            gc.disable()
        for _ in range(100):
            ds = ShardDataset(folder)
            ds.take([0, 15, 59])
            ds.column("text")
            ds.filter(number=[3, 4])
            ds.map(dict)[3]
            del ds
        open_now = len(os.listdir("/proc/self/fd"))
        gc.enable()
        out = (
            []
            if collect or open_now <= before[0] + 8
            else [f"{open_now - before[0]} descriptors wait for the collector"]
        )
        return out + compare("100 datasets", before, taken())


def opened_and_dropped_without_collector() -> list[str]:
    return opened_and_dropped(collect=False)


def refused() -> list[str]:
    """Datasets that do not open leak nothing."""
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = some(Path(name) / "it", 60)
        os.truncate(folder / "shard-00002.rio", 200)
        (folder / "shard-00004.rio").unlink()
        before = taken()
        for _ in range(100):
            try:
                ShardDataset(folder)
                return ["it opens"]
            except recordio.CorruptError:
                pass
            recordio.verify(folder)
        return compare("100 bad datasets", before, taken())


def abandoned_writers() -> list[str]:
    """Aborted and failed writers release their descriptors and their lock."""
    with TemporaryDirectory(dir=MEMORY) as name:
        folder, before = Path(name) / "it", taken()
        for run in range(100):
            try:
                with recordio.DatasetWriter(folder, shard_samples=3) as writer:
                    for i in range(10):
                        writer.write({"number": i})
                    raise KeyError(run)
            except KeyError:
                pass
        out = compare("100 writers", before, taken())
        return out + ([] if os.listdir(folder) == [] else [f"left {os.listdir(folder)}"])


def forked() -> list[str]:
    """A dataset and a loader opened before a fork work on both sides, with and without threads, and share no state."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = some(Path(name) / "it", 60)
        for io in ("mmap", "pread", "direct"):
            for compression in (None, "zstd"):
                some(folder, 60, mode="overwrite", compression=compression, wide=WIDE)
                ds = ShardDataset(folder, io=io)  # type: ignore[arg-type]
                ds.take(range(30))
                batches = iter(DataLoader(ds, 7))
                next(batches)

                def read(ds: Any = ds) -> None:
                    for _ in range(3):
                        assert ds.take(range(60))["number"].tolist() == list(range(60))
                        assert [ds[i]["text"] for i in range(60)] == [f"value {i}".ljust(WIDE) for i in range(60)]
                        assert sum(len(b["number"]) for b in DataLoader(ds, 7, shuffle=True, num_workers=2)) == 60

                pids = [child(read) for _ in range(4)]
                rest = [int(n) for batch in batches for n in batch["number"]]
                out += [] if rest == list(range(7, 60)) else [f"{io}: the parent's loader gave {rest}"]
                codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
                out += [] if codes == [0] * 4 else [f"{io} {compression}: {codes}"]
                read()
    return out


def forked_while_reading() -> list[str]:
    """Forks while threads hold locks: no child may wait for a thread that exists only in its parent."""
    if sys.version_info >= (3, 12):
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)
    with TemporaryDirectory(dir=MEMORY) as name:
        ds = ShardDataset(some(Path(name) / "it", 200), max_open_shards=2, io="pread", page_cache_bytes=100)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                ds.take(range(0, 200, 7))
                _ = [ds[number] for number in range(0, 200, 7)]

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(30):

            def read() -> None:
                import faulthandler

                faulthandler.dump_traceback_later(20, exit=True)  # a deadlocked child would hang this test
                assert ds.take(range(200))["number"].tolist() == list(range(200))

            codes.append(os.waitstatus_to_exitcode(os.waitpid(child(read), 0)[1]))
        stop.set()
        for thread in threads:
            thread.join()
        return [] if codes == [0] * 30 else [f"children: {codes}"]


def threads_on_one_dataset() -> list[str]:
    """Ten threads read correct data with few open shards and a cache that is always full."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        some(Path(name) / "it", 200, compression="zstd", wide=WIDE)
        for io in ("mmap", "pread", "direct"):
            for cache in (0, 4000, 1 << 20):
                ds = ShardDataset(Path(name) / "it", max_open_shards=2, io=io, page_cache_bytes=cache)  # type: ignore[arg-type]

                def work(k: int, ds: Any = ds) -> None:
                    numbers = [(i * 37 + k) % 200 for i in range(200)]
                    for _ in range(5):
                        got = ds.take(numbers)
                        if got["number"].tolist() != numbers or got["text"] != [
                            f"value {n}".ljust(WIDE) for n in numbers
                        ]:
                            out.append(f"take in thread {k}")
                        if [ds[n]["text"] for n in numbers[:20]] != got["text"][:20]:
                            out.append(f"[i] in thread {k}")

                threads = [threading.Thread(target=work, args=(k,)) for k in range(10)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
    return out


def cut_while_read() -> list[str]:
    """With io="pread", truncating a file under its reader raises an error that names it, and never crashes."""
    out: list[str] = []
    with TemporaryDirectory(dir=MEMORY) as name:
        for compression in (None, "zstd"):
            folder = Path(name) / f"{compression}"
            some(folder, 200, shard_samples=200, compression=compression, block_bytes=3000, wide=WIDE)
            whole = (folder / "shard-00000.rio").read_bytes()
            for nbytes in range(0, len(whole), max(1, len(whole) // 40)):
                (folder / "shard-00000.rio").write_bytes(whole)
                ds = ShardDataset(folder, io="pread", page_cache_bytes=0)
                ds[0]
                os.truncate(folder / "shard-00000.rio", nbytes)
                for read in (lambda ds=ds: ds.take(range(200)), lambda ds=ds: list(DataLoader(ds, 9, num_workers=2))):
                    try:
                        read()
                        if nbytes < len(whole) // 2:
                            out.append(f"cut to {nbytes}: not noticed")
                    except recordio.RecordIOError as error:
                        out += [] if error.place.file else [f"cut to {nbytes}: {error}"]
    return out
