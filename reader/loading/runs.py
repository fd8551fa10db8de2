"""The runs of a loader's epochs: begun, kept for the next epoch, ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recordio.reader.batches.maker import BatchMaker
from recordio.reader.loading.epoch_run import EpochRun
from recordio.reader.loading.options import LoaderOptions, WorkerType
from recordio.reader.loading.worker_choice import Work, choose_workers, is_same_work, work_of
from recordio.reader.view import DatasetView
from recordio.reader.workers.thread_trial import ThreadTrial


@dataclass
class Choice:
    """How the batches of some work are made, in all epochs."""

    work: Work
    workers: WorkerType
    trial: ThreadTrial


class Runs:
    """The idle run that persistent_workers keep, and what was found out about the functions of the dataset."""

    def __init__(self) -> None:
        self._idle: tuple[EpochRun, Work, LoaderOptions] | None = None
        self.choice: Choice | None = None

    def take(self, options: LoaderOptions, make: BatchMaker, dataset: DatasetView, epoch_key: int) -> EpochRun:
        """The idle run if this process made it for this work, else a new one."""
        work, idle, self._idle = work_of(dataset), self._idle, None
        if idle is not None and idle[0].is_ours:
            if idle[2] is options and is_same_work(idle[1], work):
                return idle[0]
            idle[0].close()
        if self.choice is None or not is_same_work(self.choice.work, work):
            trial = ThreadTrial(options.num_workers, ended=not make.calls_functions)
            self.choice = Choice(work, choose_workers(options, make, dataset), trial)
        return EpochRun(make, replace(options, worker_type=self.choice.workers), epoch_key, self.choice.trial)

    def leave(self, run: EpochRun, options: LoaderOptions, dataset: DatasetView, reusable: bool) -> None:
        """Keeps a run or ends it."""
        if reusable and options.persistent_workers and self._idle is None and run.rest():
            self._idle = run, work_of(dataset), options
        else:
            run.close()
