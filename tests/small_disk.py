"""A file system of a few kilobytes, which only the processes of one command see."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


@functools.cache
def _is_possible() -> bool:
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


needs_small_disk = pytest.mark.skipif(not _is_possible(), reason="no private mounts here")


def on_small_disk(folder: Path, kbytes: int, script: str, env: Mapping[str, str]) -> list[str]:
    """The lines that a shell script writes, with a small disk mounted on the folder. It must succeed."""
    mount = f"set -e; mount -t tmpfs -o size={kbytes}k none {folder}\n"
    command = ["unshare", "-Urm", "sh", "-c", mount + script]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
