"""Threads or processes: the workers of a loader whose `worker_type` is "auto"."""

from __future__ import annotations

import contextlib
import multiprocessing
import operator
import pickle
import random
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal

import numpy as np

from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import IndexRequest
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.processing import Processing
from recordio.reader.view import DatasetView

_CALLER = 5  # of the loader, from here, which Runs._take calls, that Runs.begin, and that DataLoader._delivered
_PROBED = 2  # samples
# On 16 processors 4 threads made 0.84 of the pictures that 4 processes did, and 16 threads 0.45 of what 16 did: each
# call of a library hands over the interpreter's lock, and waking up the next thread takes longer than to hold it.
_MOST_THREADS = 4
_THREADED = {"jax", "tensorflow"}  # hold locks in threads of their own, which a fork would never see released

Work = tuple[DatasetView | Processing, ...]


def work_of(dataset: DatasetView) -> Work:
    """The dataset and its functions: these may be set anew, as in `ds.transform = function`."""
    return dataset, *(part.processing for part in dataset.parts)


def is_same_work(one: Work, other: Work) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def choose_workers(options: LoaderOptions, make: BatchMaker, dataset: DatasetView) -> Literal["thread", "process"]:
    """The workers of an epoch. Warns of what is lost where they cannot be processes, but should.

    Threads are in the training process, where a `worker_init_fn` would seed the generators that the training draws
    from, and where random functions of other people draw from them in an order that is chance. Such work is for
    processes. Whether functions are random is found out: they process two samples. Of more than a few workers that
    decode or process samples, threads would wait for each other.
    """
    if not options.num_workers or options.worker_type == "process":
        return "process" if options.worker_type == "process" else "thread"
    init = options.worker_init_fn
    if options.worker_type == "auto":
        if init is None and not _draws(make, dataset):
            return _by_number(options.num_workers, make)
        if (why := _unpicklable(options, make)) is None:
            return "process"
    elif init is not None:
        why = "worker_type is 'thread'"
    else:
        return "thread"
    lost = "worker_init_fn is not called" if init is not None else "random functions draw in an order that is chance"
    warnings.warn(f"{lost}, for the workers are threads: {why}", RuntimeWarning, stacklevel=_CALLER)
    return "thread"


def _by_number(workers: int, make: BatchMaker) -> Literal["thread", "process"]:
    """Processes if many workers process samples, where that asks nothing of functions and scripts."""
    if workers <= _MOST_THREADS or not make.processes_samples:
        return "thread"
    if _start_method() == "fork" and not _THREADED & sys.modules.keys():
        return "process"
    warnings.warn(
        f"more than {_MOST_THREADS} threads gain little, and this process should not fork: worker_type='process', with "
        "multiprocessing_context='spawn' beside JAX or TensorFlow, takes processes, for functions of a module and a "
        'script that is guarded by `if __name__ == "__main__":`',
        RuntimeWarning,
        stacklevel=_CALLER + 1,
    )
    return "thread"


def _draws(make: BatchMaker, dataset: DatasetView) -> bool:
    """Whether functions that are not of this package draw from the process's generators, which stay as they are."""
    if not make.calls_others:
        return False
    collate_fn = _copied(make.collate_fn)
    with _generators_kept() as before:
        for part in dataset.parts:
            indices = list(range(min(_PROBED, len(part))))
            with contextlib.suppress(Exception):  # the loader raises it when it comes to the sample
                tried = part._with(_transforms=_copied(part._transforms), _maps=_copied(part._maps))
                BatchMaker([tried], collate_fn, make.unbatched)(IndexRequest(indices, 0))
        return _states() != before


def _copied(functions: Any) -> Any:
    """Copies, if they can be made: one that opens a file when it is first called must not do so before a fork."""
    try:
        return pickle.loads(pickle.dumps(functions))
    except Exception:  # noqa: BLE001 whatever a user's object raises
        return functions


@contextlib.contextmanager
def _generators_kept() -> Iterator[tuple[bytes, bytes]]:
    """Gives the states of the global generators, and restores them."""
    torch: Any = sys.modules.get("torch")
    python, numpys = random.getstate(), np.random.get_state(legacy=False)
    torchs = None if torch is None else torch.get_rng_state()
    try:
        yield _states()
    finally:
        random.setstate(python)
        np.random.set_state(numpys)
        if torchs is not None:
            torch.set_rng_state(torchs)


def _states() -> tuple[bytes, bytes]:
    torch: Any = sys.modules.get("torch")
    own = pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))
    return own, b"" if torch is None else torch.get_rng_state().numpy().tobytes()


def _unpicklable(options: LoaderOptions, make: BatchMaker) -> str | None:
    """Why the work cannot be sent to new processes; None if it can, or need not be."""
    if _start_method() == "fork":
        return None
    try:
        ForkingPickler.dumps((make, options.worker_init_fn))
    except Exception as error:  # noqa: BLE001 whatever a user's object raises
        return f"{error}; define functions in a module, or give multiprocessing_context='fork'"
    return None


def _start_method() -> str:
    """How processes start. The default is the first way; to ask for it would settle it for good."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
