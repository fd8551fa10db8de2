"""Attributes computed at first use: once, and without a lock that a fork could inherit."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import recordio
from recordio.lazy import lazy


class Slow:
    """Computes as long as the event of its class says."""

    computed = 0
    started, go_on = threading.Event(), threading.Event()

    @lazy
    def value(self) -> object:
        """What it is."""
        self.started.set()
        self.go_on.wait(10)
        self.computed += 1
        return object()


def test_is_computed_once_for_each_object() -> None:
    Slow.go_on.set()
    one, other = Slow(), Slow()
    assert one.value is one.value is not other.value
    assert one.computed == 1
    assert Slow.__dict__["value"].__doc__ == "What it is."


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_forked_meanwhile_waits_for_nobody() -> None:
    Slow.started.clear()
    Slow.go_on.clear()
    thread = threading.Thread(target=lambda: Slow().value)
    thread.start()
    Slow.started.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        Slow.go_on = threading.Event()
        Slow.go_on.set()
        _ = Slow().value
        os._exit(0)
    Slow.go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_no_module_has_properties_that_lock() -> None:
    package = Path(recordio.__file__).parent
    modules = [path for top in ("", "reader", "writer", "tools") for path in (package / top).rglob("*.py")]
    assert len(modules) > 100
    assert [path.name for path in modules if "@cached_property" in path.read_text("utf-8")] == []
