"""Real servers on this machine, where they are installed: each is a program that runs for the tests of one file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recordio.remote.helper_process import asked
from recordio.remote.options import StorageOptions
from tests.processes_seen import soon


def program(name: str, how_to_get: str) -> str:
    """The path of a program, in PATH or beside Python; skips the test if it is not installed."""
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is not installed: {how_to_get}")
    return found


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """The program, which listens at a port, and is ended in the end; what it says is in `folder`/log."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            assert soon(lambda: process.poll() is not None or is_listening(port)), "it does not listen"
            assert process.poll() is None, (folder / "log").read_text("utf-8", "replace")[-2000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def upload(url: str, storage: Mapping[str, Any], objects: Mapping[str, bytes]) -> None:
    """Puts objects below a URL, by the helper."""
    options = StorageOptions.of(storage)
    for name, data in objects.items():
        asked(lambda helper: helper.submit("put", helper.store(url, options), name, data, "overwrite").result())  # noqa: B023
