"""A loader that is left while the network hangs ends soon, and the next epoch is as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from recordio import DataLoader, ShardDataset
from tests.processes_seen import soon
from tests.recordio.remote.datasets import same
from tests.recordio.remote.faulty_server import FOREVER, FaultyServer
from tests.recordio.remote.stored_dataset import Stored

pytestmark = pytest.mark.timeout(60)  # the network would be waited for 600
HANGS: dict[str, Any] = {"retry_seconds": 600.0, "timeout_seconds": 300.0}


def loader_of(server: FaultyServer, **options: Any) -> DataLoader:
    ds = ShardDataset(server.dataset, storage=HANGS, cache=None)
    return DataLoader(ds, 2, window_bytes=1 << 11, prefetch_bytes=0, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2, "worker_type": "thread"},
        {"num_workers": 2, "worker_type": "thread", "persistent_workers": True},
        {"num_workers": 2, "worker_type": "process"},
        {"num_workers": 2, "worker_type": "process", "persistent_workers": True},
    ],
    ids=["alone", "threads", "persistent threads", "processes", "persistent processes"],
)
def test_ctrl_c_ends_a_loader_that_waits(server: FaultyServer, stored: Stored, options: dict[str, Any]) -> None:
    expected = list(loader_of(server))
    name, byte = stored.parts["page"]
    server.clear()
    server.fail("hang", f"data/{name}", FOREVER, byte)
    loader = loader_of(server, **options)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt_when, lambda: hangs(server, f"data/{name}", byte))
        with pytest.raises(KeyboardInterrupt):
            list(loader)
    server.clear()
    assert all(same(one, other) for one, other in zip(loader_of(server, **options), expected, strict=True))


def hangs(server: FaultyServer, name: str, byte: int) -> bool:
    ranges = [request.range or (0, 0) for request in server.asked(name)]
    return any(low <= byte < high for low, high in ranges)


def interrupt_when(reached: Callable[[], bool]) -> None:
    """Sends Ctrl-C to this process a little later."""
    assert soon(reached)
    time.sleep(0.5)  # until the loader waits
    os.kill(os.getpid(), signal.SIGINT)
