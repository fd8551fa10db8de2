"""Which process of how many this is: what the launcher says, or torch.distributed, or the caller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recordio import DataLoader, SchemaError, ShardDataset
from recordio.reader.order.ranks import checked_ranks, found_ranks
from tests.epochs import write_numbers

LAUNCHERS = [
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
]
NONSENSE = [("two", "5"), ("2", "five"), ("", "5"), ("-1", "5"), ("5", "5"), ("0", "0"), ("1.0", "5"), ("0", "-3")]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher of these tests has a say."""
    for name in [name for names in LAUNCHERS for name in names]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("ranks"), range(50))


def test_without_a_launcher_there_is_one_rank(ds: ShardDataset) -> None:
    assert found_ranks() == (0, 1)
    for given in ({"ranks": "auto"}, {}):
        loader = DataLoader(ds, 10, **given)  # type: ignore[arg-type]
        assert (loader.rank, loader.world_size) == (0, 1)


@pytest.mark.parametrize("names", LAUNCHERS, ids=lambda names: names[0])
class TestLaunchers:
    def test_variables_of_a_launcher_are_read(
        self, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, ds: ShardDataset
    ) -> None:
        monkeypatch.setenv(names[0], "2")
        monkeypatch.setenv(names[1], "5")
        assert found_ranks() == (2, 5)
        loader = DataLoader(ds, 10, ranks="auto")
        assert (loader.rank, loader.world_size) == (2, 5)
        assert [n for batch in loader for n in batch["number"].tolist()] == list(range(2, 50, 5))

    def test_variables_of_a_launcher_are_read_only_with_ranks_auto(
        self, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, ds: ShardDataset
    ) -> None:
        monkeypatch.setenv(names[0], "2")
        monkeypatch.setenv(names[1], "5")
        assert (DataLoader(ds).rank, DataLoader(ds).world_size) == (0, 1)
        both = DataLoader(ds, rank=3, world_size=4, ranks="auto")
        assert (both.rank, both.world_size) == (3, 4)

    @pytest.mark.parametrize("values", NONSENSE, ids=str)
    def test_invalid_variables_of_a_launcher_are_refused(
        self, names: tuple[str, str], values: tuple[str, str], monkeypatch: pytest.MonkeyPatch, ds: ShardDataset
    ) -> None:
        for name, value in zip(names, values, strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(SchemaError, match=f"{names[0]} and {names[1]} are") as caught:
            DataLoader(ds, ranks="auto")
        assert f"{values[0]!r} and {values[1]!r}" in str(caught.value)

    def test_rank_without_world_size_in_the_environment_is_ignored(
        self, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in names:
            with monkeypatch.context() as patch:
                patch.setenv(name, "1")
                assert found_ranks() == (0, 1)


def test_innermost_launcher_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun within a Slurm job starts several processes a task."""
    for k, names in reversed(list(enumerate(LAUNCHERS))):
        monkeypatch.setenv(names[0], str(k))
        monkeypatch.setenv(names[1], "9")
        assert found_ranks() == (k, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 1},
        {"world_size": 2},
        {"rank": 1, "ranks": "auto"},
        {"rank": 2, "world_size": 2},
        {"rank": -1, "world_size": 2},
        {"rank": 0, "world_size": 0},
        {"rank": True, "world_size": 2},
        {"rank": 1.0, "world_size": 2},
        {"ranks": "all"},
        {"ranks": True},
    ],
    ids=str,
)
def test_wrong_ranks_are_refused(ds: ShardDataset, wrong: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="rank"):
        DataLoader(ds, 10, **wrong)


def test_ranks_may_be_strings_or_integers() -> None:
    assert checked_ranks("0", "1") == (0, 1)
    assert checked_ranks(3, 4) == (3, 4)


PROCESS = """
import json, sys
import torch.distributed as dist
from recordio import DataLoader, ShardDataset
from recordio.reader.order.ranks import found_ranks

folder, rank, meeting = sys.argv[1], int(sys.argv[2]), sys.argv[3]
before = found_ranks()
dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=2)
loader = DataLoader(ShardDataset(folder), 5, True, ranks="auto", window_samples=20)
batches = [batch["number"].tolist() for batch in loader]
gathered = [None, None]
dist.all_gather_object(gathered, (batches, loader.state_dict()))
dist.destroy_process_group()
print(json.dumps([before, loader.rank, loader.world_size, gathered]))
"""


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_torch_distributed_processes_share_the_epoch(ds: ShardDataset, tmp_path: Path) -> None:
    """It knows better than the variables, which here say something else."""
    import json
    import os

    folder = str(ds.store.storage.folder)  # type: ignore[attr-defined]
    environment = os.environ | {"SLURM_PROCID": "7", "SLURM_NTASKS": "8"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, folder, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    outputs = []
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        outputs.append(json.loads(out.splitlines()[-1]))
    for rank, (before, found, world, _) in enumerate(outputs):
        assert (before, found, world) == ([7, 8], rank, 2)
    (first, state), (second, other) = outputs[0][3]
    assert outputs[1][3] == outputs[0][3]
    assert state == other
    assert sorted(n for batch in first + second for n in batch) == list(range(50))
    alone = [batch["number"].tolist() for batch in DataLoader(ds, 10, True, window_samples=20)]
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(batch) for batch in alone]
