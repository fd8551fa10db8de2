"""Brings whole shards to the cache, in pieces, before they are read."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable

from recordio.errors import StorageError
from recordio.remote.remote_shard import RemoteShard
from recordio.remote.shard_fetch import ShardFetch
from recordio.remote.shard_parts import MAX_RANGE

_AT_A_TIME = 16  # pieces

Piece = tuple[RemoteShard, list[ShardFetch], int]


def predownload(shards: Iterable[RemoteShard], report: Callable[[int], object]) -> None:
    """Brings shards to the cache, one after the other; their indexes are known.

    Args:
        shards: the shards.
        report: told how many bytes of each piece are there now.

    Raises StorageError, also when the cache takes nothing more; CorruptError.
    """
    under_way: deque[Piece] = deque()
    try:
        for shard in shards:
            for begin in range(0, shard.place.nbytes, MAX_RANGE):
                nbytes = min(MAX_RANGE, shard.place.nbytes - begin)
                under_way.append((shard, shard.want([(begin, nbytes)]), nbytes))
                if len(under_way) >= _AT_A_TIME:
                    report(_finished(under_way.popleft()))
        while under_way:
            report(_finished(under_way.popleft()))
    finally:
        for piece in under_way:  # what has arrived in memory is given back
            with contextlib.suppress(Exception):
                _finished(piece)


def _finished(piece: Piece) -> int:
    """The bytes of a piece, when it is on disk."""
    shard, fetches, nbytes = piece
    for fetch in fetches:
        shard.wait(fetch)
    if sum(map(shard.give_back, fetches)):
        raise StorageError("the cache takes nothing more: it is full, or not to be written").at(file=shard.name)
    return nbytes
