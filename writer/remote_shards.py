"""Finished shards on their way into an object store: put where nothing is, under another number if something is."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from recordio.errors import RecordIOError, StorageError
from recordio.format.layout import FOOTER
from recordio.format.manifest import ShardEntry
from recordio.format.parity import ParityEntry, stated_digest
from recordio.format.shard import Footer
from recordio.process_guard import ThreadPool
from recordio.remote.write_target import RemoteTarget
from recordio.writer.restamp import renumbered
from recordio.writer.shard_sink import shard_number

TAIL_NBYTES = FOOTER.size  # a file of parity says what it is in fewer bytes, and is longer
_MOST_TRIES = 100
_CHECKS = 32  # of shards, at a time


def put_shard(target: RemoteTarget, path: Path, entry: ShardEntry) -> ShardEntry:
    """Sends a shard under its number, or another if that is taken; the file is removed. The entry for the manifest.

    The same shard may be there already, sent by a writer that was stopped: that is as good. Raises StorageError.
    """
    with contextlib.ExitStack() as copies:
        sent, own = path, entry
        for _ in range(_MOST_TRIES):
            if target.put_new(own.name, sent) or holds(target, own):
                path.unlink(missing_ok=True)
                return own
            if target.version(own.name) is not None:  # else the store refused since two asked at a time
                number = 1 + max(remote_numbers(target), default=own.number)
                folder = copies.enter_context(tempfile.TemporaryDirectory(dir=path.parent))
                sent, own = renumbered(sent, own, number, Path(folder))
    raise StorageError(f"no number is free for a shard at {target.location}: too many writers are at work there")


def holds(target: RemoteTarget, entry: ShardEntry | ParityEntry) -> bool:
    """Whether the object of this name is this shard or parity, by its length and its end. Raises StorageError."""
    found = target.tail(entry.name, TAIL_NBYTES)
    return found is not None and is_tail_of(entry, found[1], found[0])


def is_tail_of(entry: ShardEntry | ParityEntry, tail: bytes, nbytes: int) -> bool:
    """Whether these are the last TAIL_NBYTES of the file that is meant, which has so many bytes."""
    with contextlib.suppress(RecordIOError):
        if nbytes == entry.nbytes and len(tail) == TAIL_NBYTES:
            if isinstance(entry, ParityEntry):
                return stated_digest(tail, nbytes) == entry.digest
            footer = Footer.decode(tail, nbytes)
            return (footer.number, footer.digest) == (entry.number, entry.digest)
    return False


def all_hold(target: RemoteTarget, entries: Iterable[ShardEntry | ParityEntry]) -> list[bool]:
    """The same of many shards, at a time. Raises StorageError."""
    with ThreadPool(_CHECKS, "recordio-check") as pool:
        return list(pool.map(partial(holds, target), entries))


def remote_numbers(target: RemoteTarget) -> Iterable[int]:
    """The numbers of all shards there, published or not. Raises StorageError."""
    numbers = (shard_number(one.name) for one in target.list())
    return [number for number in numbers if number is not None]
