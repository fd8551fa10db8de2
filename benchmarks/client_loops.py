"""Small training runs, one for each client, as its documentation has them. Each tells its Run what batches it saw."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from client_runs import Run
from torch import distributed, nn

import recordio
import recordio.torch

Train = Callable[[Run], None]


@dataclass(frozen=True)
class Client:
    """A client. `no` says why a cell of the table is not applicable."""

    train: Train
    packages: tuple[str, ...] = ()  # names on PyPI
    pairs: bool = False
    no: dict[str, str] = field(default_factory=dict)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(8, 1)
    return model, torch.optim.SGD(model.parameters(), 0.01)


def ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def plain(run: Run) -> None:
    run.set_seed(torch.manual_seed)
    model, optimizer = parts()
    if ranks() > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
    wrapped = nn.parallel.DistributedDataParallel(model) if ranks() > 1 else model
    loader = run.loader()
    begun = run.begin(loader)
    for _ in range(begun, run.epochs):
        for batch in loader:
            run.see(batch["id"])
            step(wrapped, optimizer, batch["x"])
            if run.due():
                torch.save(loader.state_dict(), run.checkpoint)
                run.stop()


def lightning(run: Run) -> None:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(8, 1)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            run.see(batch["id"])
            return self.model(batch["x"]).square().mean()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    class Saving(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if run.due():
                trainer.save_checkpoint(run.checkpoint)
                run.stop()

    run.set_seed(lambda seed: L.seed_everything(seed, verbose=False))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks(),
        max_epochs=run.epochs,
        callbacks=[Saving()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.folder,
    )
    trainer.fit(Module(), run.loader(), ckpt_path=run.checkpoint if run.resumes else None)


def fabric(run: Run) -> None:
    _fabric(run, set_up=True)


def fabric_alone(run: Run) -> None:
    """The loader as it is, which finds its ranks by itself."""
    _fabric(run, set_up=False)


def _fabric(run: Run, set_up: bool) -> None:
    from lightning.fabric import Fabric, seed_everything

    run.set_seed(lambda seed: seed_everything(seed, verbose=False))
    engine = Fabric(accelerator="cpu", devices=ranks())
    engine.launch()
    model, optimizer = engine.setup(*parts())
    made = run.loader()
    begun = 0
    if run.resumes:
        state = engine.load(run.checkpoint)["loader"]
        made.load_state_dict(state)
        begun = state["epoch"]
    loader = engine.setup_dataloaders(made) if set_up else made
    for _ in range(begun, run.epochs):
        for batch in loader:
            run.see(batch["id"])
            optimizer.zero_grad()
            engine.backward(model(batch["x"]).square().mean())
            optimizer.step()
            if run.due():
                engine.save(run.checkpoint, {"loader": made.state_dict()})
                run.stop()


def accelerate(run: Run) -> None:
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    run.set_seed(set_seed)
    engine = Accelerator(cpu=True)
    model, optimizer = parts()
    made = run.loader()
    prepared = engine.prepare(model, optimizer, *([] if run.shares else [made]))
    model, optimizer, loader = prepared if not run.shares else (*prepared, made)
    epoch, skipped = torch.load(run.checkpoint) if run.resumes else (0, 0)
    for number in range(epoch, run.epochs):
        loader.set_epoch(number)
        batches = engine.skip_first_batches(loader, skipped) if skipped else loader
        for index, batch in enumerate(batches, skipped):
            run.see(batch["id"])
            optimizer.zero_grad()
            engine.backward(model(batch["x"]).square().mean())
            optimizer.step()
            if run.due():
                torch.save((number, index + 1), run.checkpoint)
                run.stop()
        skipped = 0


def ignite(run: Run) -> None:
    import ignite.distributed as idist
    from ignite.engine import Engine, Events
    from ignite.utils import manual_seed

    run.set_seed(manual_seed)
    if ranks() > 1:
        idist.initialize("gloo")
    model, optimizer = parts()
    model = idist.auto_model(model)
    loader = run.loader()

    def update(engine: Engine, batch: Any) -> None:
        run.see(batch["id"])
        step(model, optimizer, batch["x"])

    trainer = Engine(update)

    @trainer.on(Events.ITERATION_COMPLETED)
    def save(engine: Engine) -> None:
        if run.due():
            torch.save((engine.state_dict(), loader.state_dict()), run.checkpoint)
            run.stop()

    if run.resumes:
        states = torch.load(run.checkpoint)
        trainer.load_state_dict(states[0])
        loader.load_state_dict(states[1])
    trainer.run(loader, max_epochs=run.epochs)


def stateful(run: Run) -> None:
    """torchdata's loader over IterableShards, without worker processes."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    run.set_seed(torch.manual_seed)
    if ranks() > 1:
        distributed.init_process_group("gloo")
    model, optimizer = parts()
    if run.asked.get("torchs"):
        loader = StatefulDataLoader(run.dataset(), run.batch_size, shuffle=True)
    else:
        shards = recordio.torch.IterableShards(run.dataset(), True, run.batch_size, **run.options())
        loader = StatefulDataLoader(shards, run.batch_size)
    epoch = 0
    if run.resumes:
        state, epoch = torch.load(run.checkpoint)
        loader.load_state_dict(state)
    for number in range(epoch, run.epochs):
        for batch in loader:
            run.see(batch["id"])
            step(model, optimizer, batch["x"])
            if run.due():
                torch.save((loader.state_dict(), number), run.checkpoint)
                run.stop()


def jax(run: Run) -> None:
    """NumPy's arrays: recordio.DataLoader, and torch's for comparison."""
    import jax
    import jax.numpy as jnp

    if ranks() > 1:
        port = int(os.environ["MASTER_PORT"]) + 1
        jax.distributed.initialize(f"127.0.0.1:{port}", ranks(), int(os.environ["RANK"]))
    gradient = jax.jit(jax.grad(lambda w, x: jnp.square(x @ w).mean()))
    if run.asked.get("torchs"):
        loader = run.loader()
    else:
        own = run.options() | ({} if run.seed is None else {"seed": run.seed})
        if own.pop("ranks", None):
            own |= {"rank": jax.process_index(), "world_size": jax.process_count()}
        loader = recordio.DataLoader(run.dataset(), run.batch_size, shuffle=True, drop_last=False, **own)
    begun = run.begin(loader)
    w = jnp.zeros(8)
    for _ in range(begun, run.epochs):
        for batch in loader:
            run.see(batch["id"])
            w -= 0.01 * gradient(w, jnp.asarray(batch["x"]))
            if run.due():
                torch.save(loader.state_dict(), run.checkpoint)
                run.stop()
