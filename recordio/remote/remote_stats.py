"""What this process has read of object stores so far."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass

_lock = threading.Lock()
_read = 0
_discarded = 0


def count_read(nbytes: int) -> None:
    """Counts bytes that were read from the cache or from memory."""
    global _read
    with _lock:
        _read += nbytes


def count_discarded(ranges: int) -> None:
    """Counts ranges that were kept, and were found to be damaged."""
    global _discarded
    with _lock:
        _discarded += ranges


@dataclass(frozen=True, slots=True)
class RemoteStats:
    """Counts of a process, of all datasets in object stores, since it began to read any.

    Attributes:
        bytes_read: what was read, wherever it lay by then.
        bytes_fetched: what came over the network, for reading or ahead of it.
        requests: requests sent.
        retries: requests sent again since they had failed.
        throttled: answers that said "slow down".
        hedged: late requests that were sent a second time.
        refetched: ranges fetched again since their bytes, as they arrived or in the cache, were not those that were
            written.
        latency_p50, latency_p99: seconds from sending a request to its last byte, of the latest 4,096.
    """

    bytes_read: int
    bytes_fetched: int
    requests: int
    retries: int
    throttled: int
    hedged: int
    refetched: int
    latency_p50: float
    latency_p99: float

    @property
    def hit_rate(self) -> float:
        """The share of what was read that this process did not fetch: it was in the cache."""
        return max(0.0, 1 - self.bytes_fetched / self.bytes_read) if self.bytes_read else 0.0


def remote_stats() -> RemoteStats | None:
    """None in a process that has read of no object store. Raises StorageError."""
    if "recordio.remote.helper_process" not in sys.modules:
        return None
    from recordio.remote.helper_process import asked

    counts = asked(lambda helper: helper.submit("stats")).result()
    counts["refetched"] += _discarded
    names = [name for name in RemoteStats.__slots__ if name != "bytes_read"]
    return RemoteStats(_read, **{name: counts[name] for name in names})
