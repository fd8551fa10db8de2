"""What a loader has delivered, and where its time has gone: counted while it runs, by batch and by window.

Cheap enough to be always on. Times are nanoseconds inside, of a clock that worker processes share, and seconds outside.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self

from recordio.arguments import describe
from recordio.display.text import bytes_text
from recordio.errors import SchemaError
from recordio.reader.batches.load_times import LoadTimes
from recordio.reader.batches.requests import BatchResult
from recordio.reader.loading.flow import NEVER, Flow
from recordio.reader.loading.joint_access import joint_access
from recordio.remote.remote_stats import RemoteStats, remote_stats

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset
    from recordio.reader.view import DatasetView

_SECOND = 1e-9


@dataclass
class Stalls:
    """How long the making of batches has waited for windows: what was not yet read when it was needed.

    Attributes:
        seconds: in all.
        longest: the longest wait, in seconds.
        making: the seconds of those that workers waited in the middle of a batch.
        planning: the seconds of those that the consumer's thread waited for indexes of shards, to plan windows.
    """

    seconds: float = 0.0
    longest: float = 0.0
    making: float = 0.0
    planning: float = 0.0

    def add(self, seconds: float, making: bool = False, planning: bool = False) -> None:
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        self.making += seconds if making else 0.0
        self.planning += seconds if planning else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of a loader at one moment. Seconds are summed over the threads or processes that share the work.

    Attributes:
        samples, batches, skipped, windows: as many.
        seconds: of iteration, without the time between epochs.
        starved: the consumer waited for batches.
        blocked: no batch was being made, because the consumer had not asked for more.
        stalled: batches waited for windows.
        making: batches were being made.
        ready: batches lay ready, summed over them.
        loading: windows were being loaded.
        loaded_samples, nbytes, stored_nbytes: samples to deliver from the windows that were loaded, the bytes of their
            pages, decoded and as they are stored.
        storage, unpack, gather, transform, collate, handover: see LoaderStats.
        cache_hits, cache_misses: decoded pages that reads by index found in memory, or not.
    """

    samples: int
    batches: int
    skipped: int
    windows: int
    seconds: float
    starved: float
    blocked: float
    stalled: float
    making: float
    ready: float
    loading: float
    loaded_samples: int
    nbytes: int
    stored_nbytes: int
    storage: float
    unpack: float
    gather: float
    transform: float
    collate: float
    handover: float
    cache_hits: int
    cache_misses: int

    def since(self, earlier: Counts) -> Counts:
        """What has been added since an earlier moment."""
        before = asdict(earlier)
        return Counts(**{name: value - before[name] for name, value in asdict(self).items()})

    def as_dict(self, prefix: str = "loader/") -> dict[str, float]:
        """Flat numbers; see LoaderStats.as_dict."""
        seconds = self.seconds or 1e-9
        per_sample = self.nbytes / max(1, self.loaded_samples)
        found = {
            "samples": self.samples,
            "batches": self.batches,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "samples_per_second": self.samples / seconds,
            "batches_per_second": self.batches / seconds,
            "bytes_per_second": self.samples * per_sample / seconds,
            "starved_seconds": self.starved,
            "starved_share": min(1.0, self.starved / seconds),
            "blocked_seconds": self.blocked,
            "blocked_share": min(1.0, self.blocked / seconds),
            "stalled_seconds": self.stalled,
            "batches_ready": self.ready / seconds,
            "batches_being_made": self.making / seconds,
            "windows_loaded": self.windows,
            "bytes_read": self.stored_nbytes,
        }
        found |= {f"{stage}_seconds": getattr(self, stage) for stage in STAGES}
        if looked := self.cache_hits + self.cache_misses:
            found["cache_hit_rate"] = self.cache_hits / looked
        return {prefix + name: value for name, value in found.items()}


STAGES = ("storage", "unpack", "gather", "transform", "collate", "handover")


@dataclass
class LoaderStats:
    """Counts of a loader since it was made, good to read while it runs.

    Its stages: `storage`, reads of files; `unpack`, checksums and decompression, which are one pass over a page, and of
    pages in a memory map the reading too; `gather`, samples put together as they are stored, and without workers the
    planning; `transform`, pictures decoded, functions and maps; `collate`, batches made of samples; `handover`, batches
    packed and taken over between processes.

    Attributes:
        batches, samples, skipped: how many were delivered, and how many samples left out.
        errors: the first reasons for leaving out samples.
        io: how the files of the datasets are read, and why.
        stalls: how long batches have waited for data.
    """

    batches: int = 0
    samples: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)
    io: str = ""
    stalls: Stalls = field(default_factory=Stalls)
    flow: Flow = field(default_factory=Flow, repr=False)
    stores: Iterable[OpenDataset] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        self.loads: deque[LoadTimes] = deque()  # threads append to it, which is atomic
        self._loaded = LoadTimes()
        self._report: tuple[int, Callable[[str], Any], Counts] | None = None

    @classmethod
    def of(cls, dataset: DatasetView) -> Self:
        """For the loader of a dataset."""
        stores = [part.store for part in dataset.parts]
        return cls(io=joint_access(stores)[1], stores=stores)

    def __getstate__(self) -> dict[str, Any]:
        """Numbers alone: a copy in another process has no files, and reports to nobody."""
        return {**self.__dict__, "flow": replace(self.flow, next_line=NEVER), "stores": (), "_report": None}

    @property
    def remote(self) -> RemoteStats | None:
        """What this process has read of object stores: requests, bytes, hit rate, retries, latency. None if nothing."""
        return remote_stats()

    def add(self, result: BatchResult) -> None:
        self.batches += result.batch is not None
        self.samples += result.samples
        self.skipped += result.skipped
        if result.errors:
            self.errors += result.errors[: 10 - len(self.errors)]
        if result.times is not None:
            self.flow.add(result.times)
        if self.flow.handed >= self.flow.next_line:
            self._say()

    def fold(self) -> None:
        """Adds up what windows have taken. For the thread of the consumer, or whoever reads the counts."""
        while self.loads:
            self._loaded.add(self.loads.popleft())

    def counts(self) -> Counts:
        """All counters now; `counts().since(earlier)` is what an interval has added."""
        self.fold()
        flow, loaded, caches = self.flow, self._loaded, [store.page_cache for store in self.stores]
        own = (flow.making or flow.waited) - flow.transform - flow.collate  # without workers the consumer makes them
        stalled = self.stalls.making + (0.0 if flow.making else self.stalls.planning)
        return Counts(
            samples=self.samples,
            batches=self.batches,
            skipped=self.skipped,
            windows=loaded.windows,
            seconds=(flow.waited + flow.held) * _SECOND,
            starved=flow.waited * _SECOND,
            blocked=(flow.idle if flow.making else flow.held) * _SECOND,
            stalled=self.stalls.seconds,
            making=(flow.making or flow.waited) * _SECOND,
            ready=flow.ready * _SECOND,
            loading=loaded.loading * _SECOND,
            loaded_samples=loaded.samples,
            nbytes=loaded.nbytes,
            stored_nbytes=loaded.stored_nbytes,
            storage=loaded.storage * _SECOND,
            unpack=loaded.unpack * _SECOND,
            gather=max(0.0, own * _SECOND - stalled),
            transform=flow.transform * _SECOND,
            collate=flow.collate * _SECOND,
            handover=flow.handover * _SECOND,
            cache_hits=sum(cache.hits for cache in caches),
            cache_misses=sum(cache.misses for cache in caches),
        )

    def as_dict(self, since: Counts | None = None, prefix: str = "loader/") -> dict[str, float]:
        """Flat numbers, for TensorBoard, W&B and the like: `run.log(loader.stats.as_dict())`.

        Rates are a second of iteration, shares are of it. `starved_...`: the consumer waited for batches.
        `blocked_...`: no batch was being made, because the consumer had not asked for more. `stalled_seconds`: batches
        waited for windows. `batches_ready` and `batches_being_made`: how many on average. Stages are seconds, summed
        over the threads or processes that share the work. `bytes_per_second`: of samples decoded, by the mean of the
        windows; 0 for reads by index. `cache_hit_rate`: of decoded pages, for reads by index in this process.

        Args:
            since: earlier `counts()`, to have what was added since; None for everything.
            prefix: of the names.
        """
        found = self.counts() if since is None else self.counts().since(since)
        remote = self.remote
        more = {} if remote is None else {f"{prefix}remote_hit_rate": remote.hit_rate}
        return found.as_dict(prefix) | more

    def log_every(self, seconds: float | None, to: Callable[[str], Any] | None = None) -> None:
        """A line of what was added, about every so many seconds, when a batch is delivered; None ends it.

        Args:
            seconds: above 0.
            to: is called with the line, such as `logger.info`; it goes to standard error if None.
        """
        if seconds is None:
            self.flow.next_line, self._report = NEVER, None
            return
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 1e9:
            raise SchemaError(f"log_every takes a number of seconds above 0, or None, not {describe(seconds)}")
        interval = int(seconds * 1e9)
        self._report = interval, to or _to_standard_error, self.counts()
        self.flow.next_line = perf_counter_ns() + interval

    def _say(self) -> None:
        if self._report is None:
            return
        interval, to, before = self._report
        now = self.counts()
        self._report = interval, to, now
        self.flow.next_line = self.flow.handed + interval
        to(line_of(now.since(before)))


def line_of(counts: Counts) -> str:
    """'1,234 samples/s  12.3 MB/s  starved 12 %  blocked 0 %  2.0 batches ready  transform 61 %  gather 9 %'."""
    found = counts.as_dict("")
    busy = {stage: getattr(counts, stage) for stage in STAGES}
    every = sum(busy.values()) or 1e-9
    shares = [f"{stage} {time / every:.0%}" for stage, time in sorted(busy.items(), key=lambda one: -one[1]) if time]
    said = [
        f"{found['samples_per_second']:,.0f} samples/s",
        f"{bytes_text(found['bytes_per_second'])}/s",
        f"starved {found['starved_share']:.0%}",
        f"blocked {found['blocked_share']:.0%}",
        f"{found['batches_ready']:.1f} batches ready",
        *shares[:4],
    ]
    return "  ".join(said)


def _to_standard_error(line: str) -> None:
    sys.stderr.write(f"recordio: {line}\n")
