"""More of client_loops.py: the clients whose models or datasets have a shape of their own."""

from __future__ import annotations

import os
from typing import Any

import torch
from client_loops import parts, ranks, step
from client_runs import Run
from torch import nn

import recordio.torch


def _hf(run: Run, own_loader: bool) -> None:
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor, id: torch.Tensor) -> dict[str, torch.Tensor]:
            run.see(id)
            return {"loss": self.linear(x).square().mean()}

    class Loading(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return run.loader()

    class Saving(TrainerCallback):  # type: ignore[misc]
        def on_save(self, *_: Any, **__: Any) -> None:
            if run.asked.get("stop_after"):
                run.stop()

    seed = 42 if run.seed is None else run.seed
    set_seed(seed)
    arguments = TrainingArguments(
        output_dir=str(run.checkpoint),
        use_cpu=True,
        seed=seed,
        per_device_train_batch_size=run.batch_size,
        num_train_epochs=run.epochs,
        save_strategy="steps" if run.asked.get("stop_after") else "no",
        save_steps=run.asked.get("stop_after", 500),
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
    )
    kind = Loading if own_loader else Trainer
    trainer = kind(Model(), arguments, train_dataset=run.dataset(), callbacks=[Saving()])
    trainer.train(resume_from_checkpoint=run.resumes or None)


def hf_trainer(run: Run) -> None:
    _hf(run, own_loader=True)


def hf_dataset(run: Run) -> None:
    _hf(run, own_loader=False)


def skorch(run: Run) -> None:
    from skorch import NeuralNet
    from torch.utils import data

    class Net(NeuralNet):  # type: ignore[misc]
        def get_dataset(self, X: Any, y: Any = None) -> Any:
            return X  # skorch takes what is no torch Dataset for an array

        def get_loss(self, y_pred: Any, y_true: Any, *_: Any, **__: Any) -> torch.Tensor:
            run.see(y_true)
            return y_pred.square().mean()  # type: ignore[no-any-return]

    run.set_seed(torch.manual_seed)
    torchs = run.asked.get("torchs")
    options = {} if torchs else {f"iterator_train__{name}": value for name, value in run.options().items()}
    net = Net(
        nn.Linear(8, 1),
        criterion=nn.MSELoss,
        iterator_train=data.DataLoader if torchs else recordio.torch.DataLoader,
        iterator_train__shuffle=True,
        batch_size=run.batch_size,
        max_epochs=run.epochs,
        train_split=None,
        lr=0.01,
        verbose=0,
        **options,
    )
    net.fit(run.dataset(), y=None)


def timm(run: Run) -> None:
    """Its mixup and its train step work on any loader's batches; create_loader builds torch's own."""
    from timm.utils import AverageMeter, random_seed

    run.set_seed(random_seed)
    model, optimizer = parts()
    if ranks() > 1:
        torch.distributed.init_process_group("gloo")
    loader, losses = run.loader(), AverageMeter()
    begun = run.begin(loader)
    for epoch in range(begun, run.epochs):
        if not run.asked.get("torchs"):
            loader.set_epoch(epoch)
        for x, ids in loader:
            run.see(ids)
            step(model, optimizer, x)
            losses.update(0.0, len(x))
            if run.due():
                torch.save(loader.state_dict(), run.checkpoint)
                run.stop()


def timm_loader(run: Run) -> None:
    """create_loader, over pictures: it assigns `dataset.transform`."""
    from timm.data import create_loader
    from timm.utils import random_seed

    random_seed(42 if run.seed is None else run.seed)
    if ranks() > 1:
        torch.distributed.init_process_group("gloo")
    model, optimizer = parts()
    loader = create_loader(
        run.dataset(pictures=True),
        input_size=(3, 8, 8),
        batch_size=run.batch_size,
        is_training=True,
        no_aug=True,
        use_prefetcher=False,
        num_workers=0,
        distributed=ranks() > 1,
        persistent_workers=False,
    )
    for epoch in range(run.epochs):
        if ranks() > 1:
            loader.sampler.set_epoch(epoch)
        for x, ids in loader:
            run.see(ids)
            step(model, optimizer, x[:, 0, 0])


def fastai(run: Run) -> None:
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.torch_core import set_seed

    def loss(predicted: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        run.see(ids)
        return predicted.square().mean()

    run.set_seed(set_seed)
    if ranks() > 1:
        torch.distributed.init_process_group("gloo")
    empty = recordio.torch.DataLoader(run.dataset()[:0])
    loaders = DataLoaders(run.loader(), empty, device=torch.device("cpu"))
    learner = Learner(loaders, nn.Linear(8, 1), loss_func=loss, path=run.folder)
    learner.fit(run.epochs, 0.01)


def keras(run: Run) -> None:
    """fit takes a batch for a trial first, from an iterator of its own: so each epoch is told its number."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    class Model(keras.Sequential):  # type: ignore[misc, name-defined]
        def train_step(self, batch: Any) -> Any:
            run.see(batch[1])
            return super().train_step(batch)

    class Epochs(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if state is not None and epoch == begun:
                loader.load_state_dict(state)
            elif not run.asked.get("torchs"):
                loader.set_epoch(epoch)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if run.due():
                torch.save(loader.state_dict(), run.checkpoint)
                run.stop()

    run.set_seed(keras.utils.set_random_seed)
    if ranks() > 1:
        torch.distributed.init_process_group("gloo")
    loader = run.loader()
    state = torch.load(run.checkpoint) if run.resumes else None
    begun = state["epoch"] if state else 0
    model = Model([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss=lambda ids, predicted: predicted.square().mean())
    model.fit(loader, epochs=run.epochs, initial_epoch=begun, verbose=0, callbacks=[Epochs()])


def ray_train(run: Run) -> None:
    """One process, or one for each rank, of Ray's own."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer, enable_reproducibility, prepare_data_loader

    def work() -> None:
        context = ray.train.get_context()
        os.environ["RANK"] = str(context.get_world_rank())
        run.set_seed(enable_reproducibility)
        model, optimizer = parts()
        loader = run.loader()
        begun = run.begin(loader)
        prepared = prepare_data_loader(loader)
        for epoch in range(begun, run.epochs):
            if context.get_world_size() > 1:
                prepared.sampler.set_epoch(epoch)
            for batch in prepared:
                run.see(batch["id"])
                step(model, optimizer, batch["x"])
                if run.due():
                    torch.save(loader.state_dict(), run.checkpoint)
                    run.note()
                    return
        run.note() if not run.fast else run.checkpoint.write_text(str(run.rate()))

    if not ray.is_initialized():
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    scaling = ScalingConfig(num_workers=run.asked.get("workers", 1), resources_per_worker={"CPU": 1})
    trainer = TorchTrainer(work, scaling_config=scaling, run_config=RunConfig(storage_path=str(run.folder / "ray")))
    trainer.fit()
    if run.fast:
        run.known_rate = float(run.checkpoint.read_text())
    run.asked["noted"] = True
