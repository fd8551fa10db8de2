"""A training job that is killed or loses a worker or a rank ends, leaves nothing behind, and resumes exactly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.epochs import write_numbers
from tests.processes_seen import SECONDS, children, is_gone, python_on, soon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).with_name("training.py")
COUNT, EPOCHS = 240, 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "numbers"
    write_numbers(folder, range(COUNT))
    return folder


def start(dataset: Path, folder: Path, kind: str, ranks: int = 1) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [*python_on(ranks), str(SCRIPT), str(dataset), str(folder), str(EPOCHS), kind]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def ended(job: subprocess.Popen[bytes]) -> int:
    return job.wait(SECONDS)


def lines(folder: Path, rank: int = 0) -> list[str]:
    """The complete lines in a rank's log; a kill may have cut the last."""
    log = folder / f"log.{rank}"
    return [line for line in log.read_text().splitlines(True) if line.endswith("\n")] if log.exists() else []


def is_held(folder: Path) -> bool:
    """Whether the job is waiting for the file `hold` to go."""
    return any(line.startswith(f"{EPOCHS - 1} {COUNT // 2} ") for line in lines(folder)[-1:])


def descendants(pid: int) -> set[int]:
    """All descendants of a process."""
    return children(pid).union(*map(descendants, children(pid)))


def shared_files() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()} if Path("/dev/shm").exists() else set()


@pytest.fixture
def whole(dataset: Path, tmp_path: Path) -> list[str]:
    """The log of an uninterrupted job of one process."""
    assert ended(start(dataset, tmp_path / "whole", "thread")) == 0
    found = lines(tmp_path / "whole")
    assert sorted(int(n) for line in found for n in line.split()[2:]) == sorted([*range(COUNT)] * EPOCHS)
    return found


@pytest.fixture(autouse=True)
def no_shared_file_is_left() -> Iterator[None]:
    before = shared_files()
    yield
    left = [name for name in shared_files() - before if "recordio" in name]
    assert not left


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_repeatedly_killed_job_delivers_the_same_batches(
    dataset: Path, tmp_path: Path, whole: list[str], kind: str
) -> None:
    folder, chance = tmp_path / "killed", random.Random(kind)
    folder.mkdir()
    (folder / "hold").touch()
    for _ in range(6):
        before, wanted = len(lines(folder)), chance.randrange(3, 15)
        job = start(dataset, folder, kind)
        assert soon(lambda: len(lines(folder)) >= before + (1 if is_held(folder) else wanted))  # noqa: B023
        workers = descendants(job.pid)
        job.kill()
        assert ended(job) == -signal.SIGKILL
        assert kind == "thread" or workers
        assert soon(lambda: all(map(is_gone, workers))), "workers outlive the job"  # noqa: B023
        log = folder / "log.0"
        log.write_text("".join(lines(folder)))
    (folder / "hold").unlink()
    assert ended(start(dataset, folder, kind)) == 0
    found = lines(folder)
    assert set(found) == set(whole)  # batches after the last save repeat, nothing else
    last = [line for k, line in enumerate(found) if line not in found[k + 1 :]]
    assert last == whole


def test_job_with_a_killed_worker_ends_and_resumes(dataset: Path, tmp_path: Path, whole: list[str]) -> None:
    folder = tmp_path / "worker"
    folder.mkdir()
    (folder / "hold").touch()
    job = start(dataset, folder, "process")
    assert soon(lambda: len(lines(folder)) > 4 and (folder / "pids.0").exists())
    victim = int((folder / "pids.0").read_text().split()[0])
    os.kill(victim, signal.SIGKILL)
    assert soon(lambda: is_gone(victim))
    (folder / "hold").unlink()
    assert ended(job) == 1
    assert ended(start(dataset, folder, "process")) == 0
    assert set(lines(folder)) == set(whole)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_job_with_a_killed_rank_ends_and_resumes(dataset: Path, tmp_path: Path, whole: list[str], kind: str) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    (folder / "hold").touch()
    job = start(dataset, folder, kind, ranks=2)
    assert soon(lambda: min(len(lines(folder, rank)) for rank in (0, 1)) > 4)
    everybody = descendants(job.pid)
    (victim,) = [pid for pid in children(job.pid) if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(victim, signal.SIGKILL)
    assert ended(job) != 0
    (folder / "hold").unlink()
    assert soon(lambda: all(map(is_gone, everybody)))
    assert ended(start(dataset, folder, kind, ranks=2)) == 0
    for rank in (0, 1):  # a global batch has the same samples, whatever the number of ranks
        for line in lines(folder, rank):
            epoch, position, *numbers = line.split()
            (same,) = [one.split()[2:] for one in whole if one.split()[:2] == [epoch, position]]
            assert set(numbers) < set(same)
    delivered = {line for rank in (0, 1) for line in lines(folder, rank)}
    assert sorted(int(n) for line in delivered for n in line.split()[2:]) == sorted([*range(COUNT)] * EPOCHS)
