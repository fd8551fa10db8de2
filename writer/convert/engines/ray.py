"""Makes units as tasks of Ray, on any machine of a cluster, in a folder that all of them share, or for an object store.

Each attempt at a unit writes in a folder of its own and moves the finished shard to the staging folder: a task that
Ray took for lost, and that goes on beside its replacement, can do no harm, as both move the same bytes. This process
alone looks at what is there and publishes it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from recordio.errors import DatasetError, RecordIOError, WorkerError
from recordio.packages import optional
from recordio.storage.base import storage_error
from recordio.storage.scratch import ScratchFolder
from recordio.writer.convert.plan import Plan
from recordio.writer.convert.publication import UnitSender
from recordio.writer.convert.staging import Staging, finished_note
from recordio.writer.convert.units import Report, Unit, finished_unit, make_unit

_RETRIES = 5  # of a unit whose worker or machine was lost
_AHEAD = 2  # tasks for each processor of the cluster, running or waiting
_ATTEMPT = "attempt-"

_opened: dict[str, Plan] = {}  # the plan of the run that this worker process works for


def run_ray(
    plan: Plan, units: Sequence[int], staging: Staging, progress: Report | None, sender: UnitSender | None = None
) -> list[Unit]:
    """Makes the units in any order, as many at a time as the cluster has processors, or as there are workers.

    With a `sender` each machine sends what it has made, and no folder is shared.

    Raises the error of the first that fails, RecordIOError for one whose worker died time and again, WorkerError for a
    function that cannot be sent, DatasetError without a cluster or a shared folder.
    """
    ray = _connected()
    for left in staging.folder.glob(f"{_ATTEMPT}*"):
        shutil.rmtree(left, ignore_errors=True)
    task = ray.remote(max_retries=_RETRIES, scheduling_strategy="SPREAD")(_make)
    run, sent = uuid.uuid4().hex, ray.put(_pickled(ray, plan))
    running: list[Any] = []
    made: list[Unit] = []
    done = 0

    def finish_one() -> None:
        nonlocal done
        made.append(_finished(ray, running))
        done += len(plan.indices(made[-1].number))
        if progress:
            progress(done)

    try:
        for unit in units:
            while len(running) >= _at_a_time(ray, plan):
                finish_one()
            running.append(task.remote(run, sent, unit, staging, sender))
        while running:
            finish_one()
    finally:
        _stop(ray, running)
    return list(_seen(plan, units, staging)) if sender is None else made


def connect() -> None:
    """Connects the command line to the cluster of RAY_ADDRESS, or to that of this machine. Raises DatasetError."""
    ray = _ray()
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError as error:
        raise DatasetError(
            f"there is no Ray cluster: start one by `ray start`, or set RAY_ADDRESS ({error})"
        ) from error


def _ray() -> Any:
    return optional("ray", "conversions on a cluster", "ray")


def _connected() -> Any:
    ray = _ray()
    if not ray.is_initialized():
        raise DatasetError(
            'engine="ray" uses the cluster that this process is connected to, and it is connected to none: call '
            'ray.init(address="auto") for a running one, or ray.init() for one of this machine alone'
        )
    return ray


def _pickled(ray: Any, plan: Plan) -> bytes:
    """The plan, with functions by value where Ray sends them so. As bytes, or its arrays would be read-only there."""
    try:
        return ray.cloudpickle.dumps(plan)  # type: ignore[no-any-return]
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise WorkerError(f"the source or fn cannot be sent to other processes: {error}") from error


def _at_a_time(ray: Any, plan: Plan) -> int:
    asked = plan.options.workers
    return max(1, asked) if asked is not None else max(1, _AHEAD * int(ray.cluster_resources().get("CPU", 1)))


def _make(run: str, sent: bytes, unit: int, staging: Staging, sender: UnitSender | None) -> Unit:
    """The task: one attempt at a unit."""
    if run not in _opened:
        _opened.clear()
        _opened[run] = pickle.loads(sent)
    plan = _opened[run]
    if sender is None:
        return _make_in_folder(plan, unit, staging)
    scratch = ScratchFolder()
    try:
        own = Staging(scratch.path, staging.first)
        return sender.send(make_unit(plan, unit, own, lambda samples: None), own)
    finally:
        scratch.remove()


def _make_in_folder(plan: Plan, unit: int, staging: Staging) -> Unit:
    own = Staging(staging.folder / f"{_ATTEMPT}{uuid.uuid4().hex}", staging.first)
    try:
        own.folder.mkdir()
    except OSError as error:
        raise storage_error("make the folder", own.folder, error) from error
    try:
        made = make_unit(plan, unit, own, lambda samples: None)
        for path, place in ((own.shard(unit), staging.shard(unit)), (own.note(unit), staging.note(unit))):
            os.replace(path, place)
    except OSError as error:
        if isinstance(error, RecordIOError):
            raise
        raise storage_error("rename", own.folder, error) from error
    finally:
        shutil.rmtree(own.folder, ignore_errors=True)
    return made


def _finished(ray: Any, running: list[Any]) -> Unit:
    """Waits for a task, and takes it out. Returns what it has made, and raises its error."""
    (ready,), _ = ray.wait(running, num_returns=1)
    running.remove(ready)
    try:
        return ray.get(ready)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        cause: BaseException | None = error.cause
        if isinstance(cause, (RecordIOError, MemoryError)):
            raise cause from error
        raise RecordIOError(f"a task of Ray failed: {cause or error}") from error
    except ray.exceptions.RayError as error:
        raise RecordIOError(
            f"a worker of Ray died {_RETRIES + 1} times in the same work, or its machine was lost; finished shards are "
            f"kept, run it again ({type(error).__name__})"
        ) from error


def _stop(ray: Any, running: list[Any]) -> None:
    """Cancels what still runs, and waits for its end: files that it makes would be in the way of the next run."""
    for task in running:
        ray.cancel(task)
    if running:
        ray.wait(running, num_returns=len(running), timeout=60)


def _seen(plan: Plan, units: Sequence[int], staging: Staging) -> Iterator[Unit]:
    """The finished units as this process finds them."""
    os.listdir(staging.folder)  # a network's file system looks again for names that it did not know
    for unit in units:
        found = finished_unit(plan, unit, finished_note(staging, unit))
        if found is None:
            raise DatasetError(
                "a shard that another machine has made is not to be seen here: the destination has to be a folder that "
                "all machines of the cluster share"
            ).at(file=str(staging.shard(unit)))
        yield found
