"""A training job to kill: `python training.py DATASET FOLDER EPOCHS WORKER_TYPE`, or the same under torchrun.

Each rank appends a line per batch to FOLDER/log.RANK: the epoch, the position after the batch, the samples. Rank 0
saves the loader's state after every third batch; a job resumes from it if it exists. FOLDER/pids.RANK lists workers.
While FOLDER/hold exists, the job waits in the middle of the last epoch, so that it cannot end before it is killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from recordio import DataLoader, ShardDataset

GLOBAL_BATCH = 12


def with_pid(sample: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.001)
    return sample | {"pid": os.getpid()}


def main() -> None:
    dataset, folder, epochs, kind = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        from torch import distributed

        distributed.init_process_group("gloo")
    loader = DataLoader(
        ShardDataset(dataset).map(with_pid),
        GLOBAL_BATCH // world,
        shuffle=True,
        num_workers=2,
        ranks="auto",
        worker_type=kind,  # type: ignore[arg-type]
        window_bytes=3000,
        persistent_workers=True,
    )
    state, pids = folder / "state.json", set()
    if state.exists():
        loader.load_state_dict(json.loads(state.read_text()))
    with (folder / f"log.{loader.rank}").open("a") as log:
        while (epoch := loader.state_dict()["epoch"]) < epochs:
            for step, batch in enumerate(loader):
                after = loader.state_dict()
                place = (after["epoch"], after["position"]) if after["epoch"] == epoch else (epoch, len(loader.dataset))
                print(*place, *batch["number"].tolist(), file=log, flush=True)
                if pids != (pids := pids | set(batch["pid"].tolist())):
                    (folder / f"pids.{loader.rank}").write_text(" ".join(map(str, pids)))
                while place == (epochs - 1, len(loader.dataset) // 2) and (folder / "hold").exists():
                    time.sleep(0.01)
                if world > 1:
                    distributed.barrier()
                if step % 3 == 2 and loader.rank == 0:
                    state.with_suffix(".new").write_text(json.dumps(after))
                    os.replace(state.with_suffix(".new"), state)
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
