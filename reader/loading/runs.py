"""The runs of a loader's epochs: begun, kept for the next epoch, ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recordio.process_guard import interrupt_held
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.loading.epoch_run import EpochRun
from recordio.reader.loading.options import LoaderOptions, WorkerType
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.loading.worker_choice import Work, choose_workers, is_same_work, work_of
from recordio.reader.view import DatasetView
from recordio.reader.workers.thread_trial import ThreadTrial


@dataclass
class Choice:
    """How the batches of some work are made, in all epochs.

    Attributes:
        work: the work.
        given: the options of the loader.
        options: the same, with the kind of workers that was chosen.
        trial: says how many threads make batches at a time.
    """

    work: Work
    given: LoaderOptions
    options: LoaderOptions
    trial: ThreadTrial

    @property
    def workers(self) -> WorkerType:
        """The kind of workers that was chosen."""
        return self.options.worker_type


class Runs:
    """The idle run that persistent_workers keep, and what was found out about the functions of the dataset.

    `stats`: where runs count what they do.
    """

    def __init__(self, stats: LoaderStats) -> None:
        self._stats = stats
        self._idle: tuple[EpochRun, Work, LoaderOptions] | None = None
        self.choice: Choice | None = None

    def begin(self, options: LoaderOptions, make: BatchMaker, dataset: DatasetView, epoch_key: int) -> UnderWay:
        """The run of an epoch: the idle one if this process made it for this work, else a new one."""
        return UnderWay(self, options, dataset, self._take(options, make, dataset, epoch_key))

    def _take(self, options: LoaderOptions, make: BatchMaker, dataset: DatasetView, epoch_key: int) -> EpochRun:
        work, idle, self._idle = work_of(dataset), self._idle, None
        if idle is not None and idle[0].is_ours:
            if idle[2] is options and is_same_work(idle[1], work):
                return idle[0]
            idle[0].close()
        choice = self.choice
        if choice is None or choice.given is not options or not is_same_work(choice.work, work):
            chosen = replace(options, worker_type=choose_workers(options, make, dataset))
            trial = ThreadTrial(options.num_workers, ended=not make.calls_functions)
            self.choice = choice = Choice(work, options, chosen, trial)
        return EpochRun(make, choice.options, epoch_key, choice.trial, self._stats)

    def leave(self, run: EpochRun, options: LoaderOptions, dataset: DatasetView, *, reusable: bool) -> None:
        """Keeps a run or ends it."""
        if reusable and options.persistent_workers and self._idle is None and run.rest():
            self._idle = run, work_of(dataset), options
        else:
            run.close()


@dataclass(slots=True)
class UnderWay:
    """A run in a `with` block, after which it is kept, or ended if there was an error. Ctrl-C cannot interrupt that."""

    runs: Runs
    options: LoaderOptions
    dataset: DatasetView
    run: EpochRun

    def __enter__(self) -> EpochRun:
        return self.run

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        dropped = error is GeneratorExit
        with interrupt_held(in_finalizer=dropped):
            self.runs.leave(self.run, self.options, self.dataset, reusable=dropped or error is None)
