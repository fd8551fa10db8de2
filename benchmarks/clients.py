"""Training clients with our loader: whether the samples come out as promised, and how fast.

    python benchmarks/clients.py [--sections exact speed] [--clients Lightning Keras] [--repeats 5] [--json]

Every cell is measured by running the client in a process of its own, on a dataset of 1,000 samples in batches of 16,
shuffled: the last batch of an epoch has 8. "yes" means that the ids which the client's training step was given are

- once: each sample once in each of two epochs;
- order: those of our loader alone, batch by batch;
- weights: those of our loader alone with `weights=`;
- resumed: after a checkpoint 20 batches into the second epoch and the end of the process, in a new process, the rest of
  that epoch, batch by batch;
- two ranks: of two processes with ranks="auto", each sample once in each epoch;
- shared out: the same, where the client itself shares the samples out;
- seeds: the same again after the client's own seed function was given the same number, others after another.

Speed is in samples a second over the last epoch of 40,000 samples, in batches of 256; medians over the repeats, which
take turns within a process: the client with our loader, the client with torch's own over the same dataset, our loader
alone. Clients that are not installed are named under the table.
"""

from __future__ import annotations

import argparse
import functools
import json
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import client_loops as loops
import client_trainers as trainers
from client_loops import Client
from client_runs import SAMPLES, STOP_AFTER, Run, expected, maker, speeds, write
from measuring import Row, answer, in_process, machine, say, scratch, show

NO_RANKS = "fit has no ranks of its own; the gradients are the caller's to share"
ONLY_OURS = "nobody but the loader does"
NO_STATE = "has no checkpoint within an epoch"
OWN_ORDER = "builds torch's own loader over the dataset, with torch's sampler"
CLIENTS: dict[str, Client] = {
    "plain torch": Client(loops.plain, no={"shared out": ONLY_OURS}),
    "DDP": Client(loops.plain, no={"shared out": ONLY_OURS}),
    "Lightning": Client(loops.lightning, ("lightning",)),
    "Fabric, setup_dataloaders": Client(loops.fabric, ("lightning",)),
    "Fabric, our loader as it is": Client(loops.fabric_alone, ("lightning",), no={"shared out": ONLY_OURS}),
    "accelerate": Client(loops.accelerate, ("accelerate",)),
    "HF Trainer, our loader": Client(trainers.hf_trainer, ("transformers", "accelerate"), no={"shared out": ONLY_OURS}),
    "HF Trainer, train_dataset": Client(
        trainers.hf_dataset,
        ("transformers", "accelerate"),
        no={"order": OWN_ORDER, "weights": OWN_ORDER, "two ranks": OWN_ORDER},
    ),
    "ignite": Client(loops.ignite, ("pytorch-ignite",), no={"shared out": ONLY_OURS}),
    "skorch": Client(
        trainers.skorch, ("skorch",), True, {"resumed": NO_STATE, "two ranks": NO_RANKS, "shared out": NO_RANKS}
    ),
    "timm, our loader": Client(trainers.timm, ("timm",), True, {"shared out": ONLY_OURS}),
    "timm, create_loader": Client(
        trainers.timm_loader,
        ("timm",),
        True,
        {"order": OWN_ORDER, "weights": OWN_ORDER, "resumed": OWN_ORDER, "two ranks": OWN_ORDER},
    ),
    "fastai": Client(trainers.fastai, ("fastai",), True, {"resumed": NO_STATE, "shared out": ONLY_OURS}),
    "Keras": Client(trainers.keras, ("keras",), True, {"shared out": NO_RANKS}),
    "JAX": Client(loops.jax, ("jax",), no={"shared out": ONLY_OURS}),
    "Ray Train": Client(trainers.ray_train, ("ray",)),
    "torchdata, IterableShards": Client(loops.stateful, ("torchdata",), no={"shared out": ONLY_OURS}),
}
EPOCH = list(range(SAMPLES))
Batches = list[list[int]]


class Trial:
    """The runs of a client, each made once, and what they say."""

    def __init__(self, client: str, folder: Path) -> None:
        self.client, self.folder = client, folder
        write(folder)

    @functools.cached_property
    def plain(self) -> Batches:
        return self._run(name="plain")[0]

    def once(self) -> str:
        ids = flat(self.plain)
        half = len(ids) // 2
        if len(set(ids[:half])) == len(set(ids[half:])) == half < SAMPLES:
            return f"no: {half} samples of {SAMPLES}, none twice"
        return verdict([sorted(ids[:half]), sorted(ids[half:])], [EPOCH, EPOCH])

    def order(self) -> str:
        return verdict(self.plain, expected(self.folder))

    def weights(self) -> str:
        return verdict(self._run(name="weighted", weighted=True)[0], expected(self.folder, weighted=True))

    def resumed(self) -> str:
        (before,) = self._run(name="before", stop_after=STOP_AFTER)
        (after,) = self._run(name="after", resumes=True)
        if before != self.plain[:STOP_AFTER]:
            return "no: not even before the checkpoint"
        repeated = len(set(flat(before[-20:])) & set(flat(after)))
        rest = self.plain[STOP_AFTER:]
        return "yes" if after == rest else f"no: {len(flat(after))} samples follow, {repeated} of them again"

    def two_ranks(self, ranks: str | None = None) -> str:
        found = [flat(batches) for batches in self._run(2, name="ranks", ranks=ranks)]
        if any(len(ids) != SAMPLES for ids in found):
            return f"no: {len(found[0])} and {len(found[1])} samples in two epochs, not {SAMPLES} each"
        half = SAMPLES // 2
        epochs = [sorted(found[0][start : start + half] + found[1][start : start + half]) for start in (0, half)]
        return verdict(epochs, [EPOCH, EPOCH])

    def seeds(self) -> str:
        first, again, other = (self._run(name="seed", seed=seed) for seed in (1, 1, 2))
        if first != again:
            return "no: equal seeds, other samples"
        return "yes" if first != other else "no: other seeds, the same samples"

    def _run(self, world: int = 1, **asked: Any) -> list[Batches]:
        """The batches of each rank of a run, in a process of its own. Raises RuntimeError if it fails."""
        for old in self.folder.glob(f"{asked['name']}.*"):
            old.unlink()
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world}", "--no-python"]
        launched = (world > 1 or self.client == "DDP") and self.client != "Ray Train"
        row = in_process(
            __file__,
            {"folder": str(self.folder), "client": self.client, "workers": world, **asked},
            before=[*torchrun, f"--master-port={free_port()}"] if launched else (),
            variables={"OMP_NUM_THREADS": "1"},
        )
        notes = sorted(self.folder.glob(f"{asked['name']}.*"))
        if len(notes) != world:
            raise RuntimeError(row.get("failed") or f"{len(notes)} of {world} ranks came to their end")
        return [json.loads(path.read_text()) for path in notes]


TRIALS: dict[str, Callable[[Trial], str]] = {
    "once": Trial.once,
    "order": Trial.order,
    "weights": Trial.weights,
    "resumed": Trial.resumed,
    "two ranks": functools.partial(Trial.two_ranks, ranks="auto"),
    "shared out": Trial.two_ranks,
    "seeds": Trial.seeds,
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def flat(batches: Batches) -> list[int]:
    return [one for batch in batches for one in batch]


def verdict(found: Any, wanted: Any) -> str:
    return "yes" if found == wanted else "no: other samples"


def missing(name: str) -> list[str]:
    return [package for package in CLIENTS[name].packages if not is_installed(package)]


def is_installed(package: str) -> bool:
    return find_spec({"pytorch-ignite": "ignite"}.get(package, package)) is not None


def exact(name: str) -> Row:
    """The row of a client in the table of promises."""
    row: Row = {"client": titled(name)}
    with scratch(None) as folder:
        trial = Trial(name, folder)
        for cell, ask in TRIALS.items():
            try:
                no = CLIENTS[name].no.get(cell)
                row[cell] = f"not applicable: {no}" if no else ask(trial)
            except RuntimeError as error:
                row[cell] = f"no: {error}"
            say(f"{name}, {cell}: {row[cell]}")
    return row


def speed(name: str, repeats: int) -> Row:
    """The row of a client in the table of speeds."""
    with scratch(None) as folder:
        write(folder)
        found = in_process(__file__, {"folder": str(folder), "client": name, "repeats": repeats}, timeout=600)
    if "failed" in found:
        return {"client": titled(name), "ours": found["failed"], "torch's": None, "ours / torch's": None, "alone": None}
    ours, torchs, bare = (round(median(found[way])) for way in ("ours", "torch", "alone"))
    say(f"{name}: {ours}, {torchs}, {bare}")
    return {"client": titled(name), "ours": ours, "torch's": torchs, "ours / torch's": ours / torchs, "alone": bare}


def titled(name: str) -> str:
    packages = CLIENTS[name].packages or ("torch",)
    return f"{name} ({', '.join(version(package) for package in packages[:1])})"


def one(request: Row) -> Row:
    """In a process of its own: a run, or the runs for a speed."""
    folder, client = Path(request.pop("folder")), CLIENTS[request.pop("client")]
    if "repeats" in request:
        return dict(speeds(client.train, maker(folder, client.pairs), request["repeats"]))
    run = Run(folder, client.pairs, **request)
    client.train(run)
    if not run.asked.get("noted"):
        run.note()
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=("exact", "speed"), default=["exact", "speed"])
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return answer(one(options.one))
    there = [name for name in options.clients if not missing(name)]
    if "exact" in options.sections:
        show([exact(name) for name in there], options.json, "the samples")
    if "speed" in options.sections:
        show([speed(name, options.repeats) for name in there], options.json, "samples a second")
    if not options.json:
        print(f"\n{machine(('torch', 'numpy'))}")
    for name in options.clients:
        if missing(name):
            say(f"{name}: not measured, {', '.join(missing(name))} not installed")
    return None


if __name__ == "__main__":
    main()
