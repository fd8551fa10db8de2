"""Interrupted conversions: the remains are no dataset, and the next run completes them to the same bytes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import multiprocessing.heap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, RecordIOError, ShardDataset, SourceError, StorageError, convert, verify
from recordio.storage.atomic import FolderLock
from recordio.tools.main import main
from recordio.writer.convert.convert import ConvertReport

ROWS = 400
SHARD = 700


def table(path: Path, rows: int = ROWS) -> Path:
    path.write_text("n,text\n" + "".join(f"{n},row {n}\n" for n in range(rows)))
    return path


def made(*args: Any, **options: Any) -> ConvertReport:
    report = convert(*args, **{"shard_bytes": SHARD, "workers": 1} | options)
    assert isinstance(report, ConvertReport)
    return report


def contents(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return table(tmp_path / "t.csv")


@pytest.fixture
def whole(tmp_path: Path, source: Path) -> dict[str, bytes]:
    """The files of an uninterrupted conversion."""
    made(source, tmp_path / "whole")
    return contents(tmp_path / "whole")


class _Stop(Exception):
    """Interrupts a conversion."""


def stop_after(calls: int) -> Callable[[int, int], None]:
    """A progress callback that raises."""
    left = [calls]

    def progress(done: int, total: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _Stop

    return progress


def waiting(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".convert/shard-*.rio"))


class TestResume:
    def test_finished_shards_are_reused(self, tmp_path: Path, source: Path, whole: dict[str, bytes]) -> None:
        out = tmp_path / "out"
        with pytest.raises(_Stop):
            made(source, out, progress=stop_after(3))
        kept = {path: path.stat().st_mtime_ns for path in out.glob(".convert/shard-*.rio")}
        assert len(kept) >= 3
        with pytest.raises(RecordIOError):
            ShardDataset(out)
        report = made(source, out)
        assert report.reused == len(kept)
        assert not report.done_before
        assert all((out / path.name).stat().st_mtime_ns == mtime for path, mtime in kept.items())
        assert contents(out) == whole

    def test_error_loses_no_finished_shard(self, tmp_path: Path, source: Path) -> None:
        source.write_text(source.read_text() + "too,many,cells\n")
        with pytest.raises(SourceError):
            made(source, tmp_path / "out")
        report = made(source, tmp_path / "out", on_error="skip")
        assert report.reused == report.shards - 1
        assert len(report.skipped) == 1

    def test_reused_shards_report_their_skipped_samples(self, tmp_path: Path, source: Path) -> None:
        lines = source.read_text().splitlines(keepends=True)
        source.write_text("".join([*lines[:5], "1,2,3\n", *lines[5:]]))
        with pytest.raises(_Stop):
            made(source, tmp_path / "out", on_error="skip", progress=stop_after(3))
        report = made(source, tmp_path / "out", on_error="skip")
        assert report.reused >= 3
        assert [name for name, _ in report.skipped] == ["t.csv line 6"]

    def test_shard_with_skips_is_remade_under_on_error_raise(self, tmp_path: Path, source: Path) -> None:
        source.write_text(source.read_text().replace("3,row 3\n", "3\n", 1))
        with pytest.raises(_Stop):
            made(source, tmp_path / "out", on_error="skip", progress=stop_after(3))
        with pytest.raises(SourceError, match="line 5"):
            made(source, tmp_path / "out")

    def test_shards_of_a_touched_table_are_reused_as_their_rows_are_the_same(
        self, tmp_path: Path, source: Path, whole: dict[str, bytes]
    ) -> None:
        with pytest.raises(_Stop):
            made(source, tmp_path / "out", progress=stop_after(3))
        count = len(waiting(tmp_path / "out"))
        os.utime(source)
        report = made(source, tmp_path / "out")
        assert (report.reused, report.notes) == (count, ())
        assert contents(tmp_path / "out") | {".source": b""} == whole | {".source": b""}

    @pytest.mark.parametrize("damage", ["cut", "empty", "other", "note", "gone"])
    def test_incomplete_staged_shard_is_remade(
        self, tmp_path: Path, source: Path, whole: dict[str, bytes], damage: str
    ) -> None:
        out = tmp_path / "out"
        with pytest.raises(_Stop):
            made(source, out, progress=stop_after(3))
        count, shard = len(waiting(out)), out / ".convert/shard-00001.rio"
        if damage == "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        elif damage == "empty":
            shard.write_bytes(b"")
        elif damage == "other":
            shutil.copy(out / ".convert/shard-00000.rio", shard)
        elif damage == "note":
            shard.with_suffix(".json").write_text("[]")
        else:
            shard.unlink()
        assert made(source, out).reused == count - 1
        assert contents(out) == whole


class TestProgress:
    def test_reused_samples_count_in_neither_number(self, tmp_path: Path, source: Path) -> None:
        with pytest.raises(_Stop):
            made(source, tmp_path / "out", progress=stop_after(3))
        calls: list[tuple[int, int]] = []
        report = made(source, tmp_path / "out", progress=lambda *call: calls.append(call))
        assert report.reused
        assert 0 < report.made < ROWS
        assert {total for _, total in calls} == {report.made}
        assert calls == sorted(calls)
        assert calls[-1][0] == report.made

    def test_a_finished_split_counts_in_neither_number(self, tmp_path: Path) -> None:
        for name, rows in (("train", 300), ("test", 100)):
            (tmp_path / "in" / name).mkdir(parents=True)
            for n in range(rows // 100):
                (tmp_path / "in" / name / f"{n}.txt").write_text(name)
        convert(tmp_path / "in/train", tmp_path / "out/train", kind="file_groups")
        calls: list[tuple[int, int]] = []
        reports = convert(tmp_path / "in", tmp_path / "out", kind="file_groups", progress=lambda *c: calls.append(c))
        assert isinstance(reports, dict)
        assert [report.made for report in reports.values()] == [0, 1]
        assert set(calls) == {(0, 1), (1, 1)}


class TestUnfinished:
    @pytest.mark.parametrize("command", ["info", "show", "verify"])
    def test_every_command_says_so(
        self, tmp_path: Path, source: Path, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(_Stop):
            made(source, tmp_path / "out", progress=stop_after(3))
        assert main([command, str(tmp_path / "out")]) == 2
        assert "has not finished; run the same command again" in capsys.readouterr().err

    def test_opening_it_says_so(self, tmp_path: Path, source: Path) -> None:
        with pytest.raises(_Stop):
            made(source, tmp_path / "out/train", progress=stop_after(3))
        with pytest.raises(DatasetError, match=r"not a recordio dataset yet: .* has not finished"):
            ShardDataset(tmp_path / "out/train")
        with pytest.raises(DatasetError, match="an unfinished conversion is in each of train"):
            ShardDataset(tmp_path / "out")


class TestDoneBefore:
    def test_finished_conversion_is_not_repeated(self, tmp_path: Path, source: Path) -> None:
        first = made(source, tmp_path / "out")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
        calls: list[tuple[int, int]] = []
        second = made(source, tmp_path / "out", progress=lambda *call: calls.append(call))
        assert second.done_before
        assert (second.samples, second.shards, second.nbytes) == (first.samples, first.shards, first.nbytes)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
        assert calls == []
        assert made(source, tmp_path / "out", overwrite=True).done_before

    def test_finished_conversion_reports_the_number_of_skipped_samples(self, tmp_path: Path, source: Path) -> None:
        source.write_text(source.read_text() + "1\n")
        made(source, tmp_path / "out", on_error="skip")
        (skip,) = made(source, tmp_path / "out").skipped
        assert skip[0].endswith(f"line {ROWS + 2}")
        assert ShardDataset(tmp_path / "out").metadata["conversion"] == {"skipped": 1, "skipped_inputs": [list(skip)]}

    def test_skips_change_no_byte_of_the_shards(self, tmp_path: Path, source: Path) -> None:
        source.write_text(source.read_text() + "1\n")
        for name in "ab":
            made(source, tmp_path / name, on_error="skip")
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
        manifest = json.loads((tmp_path / "a/manifest.json").read_text())
        shard = (tmp_path / "a" / "shard-00000.rio").read_bytes()
        assert "conversion" in manifest["metadata"]
        assert b"skipped" not in shard

    def test_a_conversion_of_good_inputs_has_no_record(self, tmp_path: Path, source: Path) -> None:
        made(source, tmp_path / "out", on_error="skip")
        assert not ShardDataset(tmp_path / "out").metadata
        made(source, tmp_path / "unchecked", check=False)
        assert ShardDataset(tmp_path / "unchecked").metadata == {"conversion": {"check": False}}

    @pytest.mark.parametrize("change", ["options", "source", "times", "length", "shard"])
    def test_different_dataset_is_replaced_only_with_overwrite(self, tmp_path: Path, source: Path, change: str) -> None:
        out = tmp_path / "out"
        made(source, out)
        options: dict[str, Any] = {}
        if change == "options":
            options["compression"] = "zstd"
        elif change == "source":
            table(source, 50)
        elif change == "times":
            source.write_text(source.read_text().replace("row 7", "raw 7"))
            os.utime(source, ns=(1, (out / "manifest.json").stat().st_mtime_ns + 1))
        elif change == "length":
            (out / "shard-00001.rio").write_bytes(b"short")
        else:
            (out / "shard-00001.rio").unlink()
        before = contents(out)
        with pytest.raises(DatasetError, match="overwrite=True"):
            made(source, out, **options)
        assert contents(out) == before
        report = made(source, out, overwrite=True, **options)
        assert not report.done_before
        assert len(list(out.iterdir())) == report.shards + len(["manifest.json", ".source"])
        expected = [int(line.split(",")[0]) for line in source.read_text().splitlines()[1:]]
        assert ShardDataset(out).column("n").tolist() == expected
        assert verify(out).ok

    def test_old_dataset_stays_until_the_new_one_is_complete(self, tmp_path: Path, source: Path) -> None:
        out = tmp_path / "out"
        made(source, out)
        table(source, 200)
        with pytest.raises(_Stop):
            made(source, out, overwrite=True, progress=stop_after(1))
        assert len(ShardDataset(out)) == ROWS
        assert verify(out).ok
        report = made(source, out, overwrite=True)
        assert report.reused >= 1
        assert len(ShardDataset(out)) == 200

    def test_corrupt_manifest_is_replaced_only_with_overwrite(self, tmp_path: Path, source: Path) -> None:
        made(source, tmp_path / "out")
        (tmp_path / "out/manifest.json").write_text("{}")
        with pytest.raises(RecordIOError):
            made(source, tmp_path / "out")
        assert made(source, tmp_path / "out", overwrite=True).samples == len(ShardDataset(tmp_path / "out")) == ROWS

    def test_shards_without_a_manifest_are_not_overwritten(self, tmp_path: Path, source: Path) -> None:
        made(source, tmp_path / "out")
        (tmp_path / "out/manifest.json").unlink()
        before = contents(tmp_path / "out")
        with pytest.raises(DatasetError, match="there are shards here but no manifest"):
            made(source, tmp_path / "out")
        assert contents(tmp_path / "out") == before
        made(source, tmp_path / "out", overwrite=True)
        assert before.items() <= contents(tmp_path / "out").items() | {("manifest.json", b"")}
        assert len(ShardDataset(tmp_path / "out")) == ROWS


class TestSystemErrors:
    def test_full_disk_is_one_error_and_the_conversion_resumes(
        self, tmp_path: Path, source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = [8_000]
        writev = os.writev

        def limited(fd: int, parts: Any) -> int:
            left[0] -= sum(map(len, parts))
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return writev(fd, parts)

        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", limited)
            with pytest.raises(StorageError, match=r"cannot write: No space left on device - .*shard-"):
                made(source, tmp_path / "out")
        assert not list((tmp_path / "out").rglob("*.tmp"))
        assert made(source, tmp_path / "out").reused > 0
        assert contents(tmp_path / "out") == whole

    @pytest.mark.parametrize("call", ["multiprocessing.heap.os.ftruncate", "multiprocessing.util.spawnv_passfds"])
    def test_processes_that_cannot_be_started_are_one_error_and_the_conversion_resumes(
        self, tmp_path: Path, source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def refuses(*_: Any) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr("multiprocessing.heap.BufferWrapper._heap", multiprocessing.heap.Heap())
        with monkeypatch.context() as patch:
            patch.setattr(call, refuses)
            with pytest.raises(StorageError, match=r"cannot start worker processes: .*.*workers=1"):
                made(source, tmp_path / "out", workers=2)
        assert not multiprocessing.active_children()
        made(source, tmp_path / "out", workers=1)
        assert contents(tmp_path / "out") == whole

    def test_destination_that_is_a_file_is_refused(self, tmp_path: Path, source: Path) -> None:
        (tmp_path / "out").write_text("mine")
        with pytest.raises(DatasetError, match="the destination is not a folder"):
            made(source, tmp_path / "out")
        assert (tmp_path / "out").read_text() == "mine"

    def test_second_conversion_into_a_folder_is_refused(self, tmp_path: Path, source: Path) -> None:
        with FolderLock(tmp_path / "out"), pytest.raises(DatasetError, match="another writer"):
            made(source, tmp_path / "out")

    @pytest.mark.parametrize("renames", range(0, 8, 2))
    def test_dying_during_the_commit_loses_nothing(
        self, tmp_path: Path, source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, renames: int
    ) -> None:
        left = [renames]
        rename = os.rename

        def dying(*args: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise _Stop
            rename(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", dying)
            with pytest.raises(_Stop):
                made(source, tmp_path / "out")
        with pytest.raises(RecordIOError):
            ShardDataset(tmp_path / "out")
        report = made(source, tmp_path / "out")
        assert report.reused == report.shards
        assert contents(tmp_path / "out") == whole


def children(pid: int) -> set[int]:
    """The descendants of a process."""
    out: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            out |= {int(entry.parent.name)} | children(int(entry.parent.name))
    return out


def start(source: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """Runs a user's script without a main guard, in its own process group, as a shell would."""
    code = (
        "import recordio\n"
        "def tell(done, total):\n"
        "    if done: print(done, flush=True)\n"
        f"recordio.convert({str(source)!r}, {str(out)!r}, shard_bytes=2000, workers={workers}, progress=tell)\n"
    )
    script = out.with_suffix(".py")
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])},
    )


def ended(pids: set[int]) -> bool:
    """Whether the processes end within ten seconds."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def long_source(tmp_path: Path) -> Path:
    return table(tmp_path / "long.csv", 10_000)


class TestProcesses:
    def test_script_without_main_guard_may_use_workers(self, tmp_path: Path, source: Path) -> None:
        process = start(source, tmp_path / "out", 2)
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert len(ShardDataset(tmp_path / "out")) == ROWS

    @pytest.mark.parametrize("workers", [1, 2])
    def test_ctrl_c_stops_all_processes_and_the_next_run_resumes(
        self, tmp_path: Path, long_source: Path, workers: int
    ) -> None:
        out = tmp_path / "out"
        process = start(long_source, out, workers)
        assert process.stdout is not None
        while not list(out.glob(".convert/shard-*.json")):
            assert process.stdout.readline(), "it ended before it was stopped"
        below = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode not in (0, 1)
        assert ended(below)
        assert waiting(out)
        assert not (out / "manifest.json").exists()
        report = convert(long_source, out, shard_bytes=2000, workers=1)
        assert isinstance(report, ConvertReport)
        assert report.reused > 0
        assert report.samples == 10_000

    @pytest.mark.parametrize("workers", [1, 2])
    def test_conversion_resumes_after_kill_9_at_any_moment(
        self, tmp_path: Path, long_source: Path, workers: int
    ) -> None:
        convert(long_source, tmp_path / "whole", shard_bytes=2000, workers=1)
        whole = contents(tmp_path / "whole")
        chance = random.Random(workers)
        for attempt in range(2):
            out = tmp_path / f"out{attempt}"
            process = start(long_source, out, workers)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * 0.4)
            below = children(process.pid)
            process.kill()
            process.communicate()
            assert ended(below), "workers outlive the one they work for"
            if (out / "manifest.json").exists():
                assert len(ShardDataset(out)) == 10_000
            convert(long_source, out, shard_bytes=2000, workers=1)
            assert contents(out) == whole

    def test_ctrl_c_never_reaches_a_starting_worker(self, tmp_path: Path, long_source: Path) -> None:
        out_of_reach: list[bool] = []

        def look(done: int, total: int) -> None:
            for child in multiprocessing.active_children():
                status = Path(f"/proc/{child.pid}/status").read_text()
                blocked, ignored = (
                    int(status.partition(f"{name}:")[2].split()[0], 16) for name in ("SigBlk", "SigIgn")
                )
                out_of_reach.append(bool((blocked | ignored) >> (signal.SIGINT - 1) & 1))

        convert(long_source, tmp_path / "out", shard_bytes=20_000, workers=2, progress=look)
        assert out_of_reach
        assert all(out_of_reach)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())

    def test_dead_worker_is_an_error_not_a_hang(self, tmp_path: Path, long_source: Path) -> None:
        def kill_one(done: int, total: int) -> None:
            some = list((tmp_path / "out").glob(".convert/shard-*.json"))
            for child in multiprocessing.active_children()[: bool(some)]:
                os.kill(child.pid or 0, signal.SIGKILL)

        with pytest.raises(RecordIOError, match="a worker process died"):
            convert(long_source, tmp_path / "out", shard_bytes=2000, workers=2, progress=kill_one)
        assert not multiprocessing.active_children()
        report = convert(long_source, tmp_path / "out", shard_bytes=2000, workers=2)
        assert isinstance(report, ConvertReport)
        assert report.reused > 0
