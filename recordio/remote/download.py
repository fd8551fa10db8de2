"""Whole objects into files of this machine: in large pieces, several at a time, each tried again for minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from recordio.errors import CorruptError
from recordio.remote.helper_process import HelperProcess, RemoteError, asked
from recordio.remote.shard_parts import MAX_RANGE
from recordio.remote.write_target import RemoteTarget

_AHEAD = 16  # pieces of an object at a time


def download(place: RemoteTarget, name: str, nbytes: int, descriptor: int, report: Callable[[int], None]) -> None:
    """Writes an object of this length into a file, from its beginning. `report` is told of the bytes of each piece.

    Raises CorruptError if it is missing or of another length, StorageError.
    """
    found = place.version(name)
    if found is None:
        raise CorruptError("the shard is missing").at(file=name)
    if found[0] != nbytes:
        raise CorruptError(f"the shard has {found[0]} bytes, the manifest says {nbytes}").at(file=name)
    try:
        asked(partial(_fetch, place, name, nbytes, descriptor, report))
    except RemoteError as error:
        raise place.explained("read from", error, name) from error


def _fetch(
    place: RemoteTarget, name: str, nbytes: int, descriptor: int, report: Callable[[int], None], helper: HelperProcess
) -> None:
    store, file = helper.store(place.url, place.options), helper.attach(descriptor)
    ahead: deque[tuple[int, Future[Any]]] = deque()
    try:
        for begin in range(0, nbytes, MAX_RANGE):
            end = min(begin + MAX_RANGE, nbytes)
            ahead.append((end - begin, helper.submit("fetch", store, name, begin, end, (file, begin), b"")))
            if len(ahead) == _AHEAD:
                _finish(*ahead.popleft(), report)
        while ahead:
            _finish(*ahead.popleft(), report)
    finally:
        wait([future for _, future in ahead])  # the helper must not write into a file that is closed
        helper.detach(file)


def _finish(nbytes: int, future: Future[Any], report: Callable[[int], None]) -> None:
    future.result()
    report(nbytes)
