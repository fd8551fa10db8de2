"""Caches whose helper or whose trainer dies while it fills them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recordio import ShardDataset
from recordio.remote import helper_process
from recordio.remote.cache_folder import CacheFolder
from tests.faults.crashing import Dies, child
from tests.processes_seen import soon

CALLS = "open close pwrite ftruncate write writev fsync rename replace mkdir utime".split()
_DIES = (
    "import sys; sys.path[:] = {path!r}; import tests.faults.filling as filling; filling.doomed({doom!r}); "
    "from recordio.remote.helper import main; main({descriptor}, {parent})"
)


def doomed(doom: str) -> None:
    """The next helper dies at a call; those after it live."""
    with contextlib.suppress(FileNotFoundError):
        at, how = json.loads(Path(doom).read_text())
        os.unlink(doom)
        Dies(at, how, CALLS)


def read(url: str, storage: Any, cache: Path) -> list[Any]:
    """Every sample, in an order that fetches single pages, then whole runs."""
    ds = ShardDataset(url, storage=storage, cache=cache)
    some = np.random.default_rng(0).permutation(len(ds))
    ds.take(some[:10])
    columns = ds.take(np.arange(len(ds)))
    return [columns["number"].tolist(), columns["text"]]


def faults_of(cache: Path) -> list[str]:
    """What is wrong with a cache: nothing that it says is present may be anything but what was written."""
    found = CacheFolder(cache).verify()
    return [f"{found.cleared} of {found.pages} pages are wrong"] if found.cleared else []


@contextlib.contextmanager
def new_helper(start: str | None = None) -> Iterator[None]:
    """A helper of its own, started in another way."""
    before = helper_process._START
    _end_helper()
    helper_process._START = start or before
    try:
        yield
    finally:
        _end_helper()
        helper_process._START = before


def _end_helper() -> None:
    """Ends the helper, and those that fetches of a helper that has died start meanwhile."""
    current = helper_process._current
    while True:
        with current.lock:
            helper, current.helper = current.helper, None
        if helper is None:
            return
        helper.close()
        assert soon(lambda: all(thread.name != "recordio-remote" for thread in threading.enumerate()))


def killed_helper(url: str, storage: Any, top: Path, how: str, expected: list[Any]) -> tuple[int, list[str]]:
    """The helper dies at a call of a fill, at each of the first and then at some: the last one, and what went wrong."""
    out: list[str] = []
    for at in (*range(1, 25), *range(25, 500, 20)):
        cache, doom = top / f"cache-{how}-{at}", top / f"doom-{how}-{at}"
        doom.write_text(json.dumps([at, how]))
        start = _DIES.replace("{doom!r}", repr(os.fspath(doom)))
        with new_helper(start):
            first = helper_process.helper().pid
            found = read(url, storage, cache)
            # What it wrote last may be read before it answers, or dies: nobody has noticed that yet.
            helper_process.asked(lambda helper: helper.submit("stats").result())
            has_survived = helper_process.helper().pid == first
        out += [f"call {at}: wrong samples"] if found != expected else []
        out += [f"call {at}: {fault}" for fault in faults_of(cache)]
        if has_survived:
            break
    return at, out


def killed_trainer(url: str, storage: Any, top: Path, how: str, expected: list[Any]) -> tuple[int, list[str]]:
    """The trainer dies at every call of a fill in turn; another one goes on."""
    out: list[str] = []
    for at in range(1, 500):
        cache = top / f"cache-{how}-{at}"

        def fill(cache: Path = cache, at: int = at) -> None:
            Dies(at, how, CALLS)
            read(url, storage, cache)

        status = os.waitstatus_to_exitcode(os.waitpid(child(fill), 0)[1])
        out += [f"call {at}: exit {status}"] if status not in (0, 9) else []
        out += [f"call {at}: {fault}" for fault in faults_of(cache)]
        out += [f"call {at}: wrong samples"] if read(url, storage, cache) != expected else []
        if status == 0:
            break
    return at, out
