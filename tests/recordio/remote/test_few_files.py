"""A process that may have few files open reads as ever, and nobody waits for what cannot come."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

import recordio.remote.helper_process as helper_process
from recordio import Bytes, DatasetWriter, Scalar, StorageError
from recordio.remote.helper_process import helper
from recordio.remote.messages import Incoming, encode
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.faulty_server import FaultyServer
from tests.recordio.remote.stored_dataset import numbers

pytestmark = pytest.mark.timeout(120)
FILES, COUNT = 100, 120
APART = 70_000  # bytes between the numbers of two samples: each is a request of its own
READ = """
import json, sys, recordio
from tests.recordio.remote.buckets import Bucket
url, endpoint, cache = json.loads(sys.argv[1])
storage = Bucket(endpoint, None).storage
dataset = recordio.ShardDataset(url, storage=storage, cache=cache, fields=["n"])
print(json.dumps([int(n) for batch in recordio.DataLoader(dataset, batch_size=10) for n in batch["n"]]))
"""


@pytest.fixture(scope="module")
def many_ranges(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("local") / "data"
    schema = {"n": Scalar("int64"), "apart": Bytes()}
    with DatasetWriter(folder, schema, block_bytes=1, compression="none") as writer:
        for n in range(COUNT):
            writer.write({"n": n, "apart": bytes([n]) * APART})
    return bucket.upload(folder, "few_files")


@pytest.mark.parametrize("hard", [FILES, 1 << 12])
@pytest.mark.parametrize("cached", [False, True])
def test_an_epoch(many_ranges: str, bucket: Bucket, cached: bool, hard: int, tmp_path: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (FILES, hard))
    asked = json.dumps([many_ranges, bucket.endpoint, str(tmp_path / "cache") if cached else None])
    command = [sys.executable, "-c", READ, asked]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, env=path, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert json.loads(done.stdout) == list(range(COUNT))


def test_descriptors_that_were_lost_are_an_error() -> None:
    ours, theirs = socket.socketpair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        socket.send_fds(ours, [encode(0, "attach", 1)], [0])
        most = max(map(int, os.listdir("/proc/self/fd"))) + 1
        spare = [os.dup(0) for _ in range(most - len(os.listdir("/proc/self/fd")) + 1)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                Incoming(theirs).receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for descriptor in spare:
                os.close(descriptor)


def test_the_thread_that_takes_answers_ends(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(numbers(server.dataset, {})) > 0
    pid = helper().pid

    def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    caught: list[threading.ExceptHookArgs] = []
    with monkeypatch.context() as patched:
        patched.setattr(helper_process.HelperProcess, "_answered", fails)
        patched.setattr(threading, "excepthook", caught.append)
        with pytest.raises(StorageError, match="has died 3 times"):
            numbers(server.dataset, {})
    assert [str(one.exc_value) for one in caught] == ["a fault of ours"] * 3
    assert len(numbers(server.dataset, {})) > 0
    assert helper().pid != pid
