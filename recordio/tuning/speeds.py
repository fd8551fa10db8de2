"""How fast a dataset is read on each path, and what that is held against."""

from __future__ import annotations

from dataclasses import dataclass

IN_ORDER, SHUFFLED, RANDOM, ONE = "in order", "shuffled", "random batches", "one sample"
NO_WORKERS = "no workers"
DEVICE, CACHE = "device", "system's cache"


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast samples are read on a path: medians of the rounds.

    Attributes:
        path: "in order", "shuffled", "random batches", "one sample".
        workers: "no workers", "2 threads", "1 process".
        cold: whether the files were out of the system's cache.
        rate: samples a second; lowest, highest: in the round where it was lowest, and highest.
        batch_seconds: between two batches, the median; slow_batch_seconds: the 99th percentile. Of single samples on
            that path; None where there were too few.
        first_batch_seconds: from the begin of an epoch to its first batch, workers started in it; None without epochs.
        held_nbytes: memory that it took at most, above that before; None if unknown.
        of_limit: the rate by that of its limit; None without one.
        limit: the name of that limit.
    """

    path: str
    workers: str
    cold: bool
    rate: float
    lowest: float
    highest: float
    batch_seconds: float | None = None
    slow_batch_seconds: float | None = None
    first_batch_seconds: float | None = None
    held_nbytes: int | None = None
    of_limit: float | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a part of the work gives by itself.

    Attributes:
        name: a stage of a loader, done by one thread; "device" or "system's cache" for the files alone.
        rate: samples a second.
        nbytes_per_second: of files, where it reads them.
    """

    name: str
    rate: float
    nbytes_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured of a dataset.

    Attributes:
        samples, nbytes, shards: of the dataset, all fields.
        sample_nbytes: that a sample takes in the files, of the fields that are read, on average.
        io: how files are read, and why.
        open_seconds: to open it, when it has been opened before.
        speeds: by path.
        limits: of the files, then of the stages.
        notes: what was not measured, and why.
    """

    samples: int
    nbytes: int
    shards: int
    sample_nbytes: float
    io: str
    batch_size: int
    seconds: float
    rounds: int
    open_seconds: float
    speeds: tuple[Speed, ...]
    limits: tuple[Limit, ...]
    notes: tuple[str, ...]
