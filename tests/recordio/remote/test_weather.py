"""Servers that are away, slow, stingy or unknown, and what the command line says."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from recordio import ShardDataset, StorageError
from recordio.tools.main import main
from tests.recordio.remote.certificates import Certificates, make_certificates
from tests.recordio.remote.faulty_server import FOREVER, FaultyServer, Request, faulty_server, free_port
from tests.recordio.remote.stored_dataset import COUNT, MANIFEST, QUICK, SHARD, Stored, numbers

pytestmark = pytest.mark.timeout(20)
RIGHT = list(range(COUNT))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_a_server_that_starts_later(stored: Stored) -> None:
    port = free_port()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(numbers, f"http://127.0.0.1:{port}/bucket/data", {"retry_seconds": 15.0})
        time.sleep(0.3)  # some tries are refused
        assert not reading.done()
        with faulty_server(stored.below("data"), port):
            assert reading.result() == RIGHT


def test_a_server_that_is_away_within_an_epoch(stored: Stored) -> None:
    with faulty_server(stored.below("data")) as server:
        ds = ShardDataset(server.dataset, storage={"retry_seconds": 15.0}, cache=None)
        ds[0]
        port = server.port
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(ds.take, np.arange(COUNT))
        time.sleep(0.3)
        assert not reading.done()
        with faulty_server(stored.below("data"), port):
            assert reading.result()["number"].tolist() == RIGHT


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1/bucket/data", "the connection is refused: is the server up"),
        ("http://nothing.invalid/bucket/data", "the name of the host cannot be resolved: check the URL"),
    ],
)
def test_nobody_there(address: str, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        numbers(address, QUICK | {"allow_http": True})


def test_without_tls_to_other_machines_only_if_that_is_allowed() -> None:
    with pytest.raises(StorageError, match="'allow_http': True"):
        numbers("http://nothing.invalid/bucket/data", QUICK)


def test_a_store_that_takes_some_requests_at_a_time(server: FaultyServer) -> None:
    running, lock = 0, threading.Lock()

    def judge(request: Request) -> str | None:
        nonlocal running
        with lock:
            if running >= 2:
                return "429"
            running += 1
        time.sleep(0.005)
        with lock:
            running -= 1
        return None

    server.judge = judge
    for name, data in list(server.objects.items()):
        server.objects |= {name.replace("data/", f"data{k}/"): data for k in range(6)}
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda k: numbers(f"{server.dataset}{k}", {"retry_seconds": 15.0}), range(6))
        assert list(found) == [RIGHT] * 6


def test_requests_in_a_second(server: FaultyServer) -> None:
    began = time.monotonic()
    assert numbers(server.dataset, QUICK | {"max_requests_per_second": 20}) == RIGHT
    assert time.monotonic() - began >= (len(server.requests) - 1) / 20


def test_megabytes_in_a_second(server: FaultyServer, stored: Stored) -> None:
    nbytes = sum(len(data) for name, data in stored.objects.items() if name.endswith(".rio"))
    began = time.monotonic()
    assert numbers(server.dataset, QUICK | {"max_mbytes_per_second": 2 * nbytes / 1e6}) == RIGHT
    assert time.monotonic() - began >= 0.2


def test_a_byte_now_and_then(server: FaultyServer, stored: Stored) -> None:
    name, byte = stored.parts["page"]
    server.fail("drip", f"data/{name}", FOREVER, byte)
    with pytest.raises(StorageError, match="the answer comes too slowly"):
        numbers(server.dataset, QUICK | {"timeout_seconds": 0.2, "retry_seconds": 0.5})


def test_a_certificate_of_an_own_authority(stored: Stored, certificates: Certificates) -> None:
    with faulty_server(stored.below("data"), tls=certificates.context()) as server:
        with pytest.raises(StorageError, match=r"signed by an authority unknown here: storage=\{'root_certificate'"):
            numbers(server.dataset, QUICK)
        trusted: dict[str, Any] = QUICK | {"root_certificate": str(certificates.authority)}
        assert numbers(server.dataset, trusted) == RIGHT


def test_tls_to_a_server_without(server: FaultyServer) -> None:
    with pytest.raises(StorageError, match="does not speak TLS"):
        numbers(server.dataset.replace("http:", "https:"), QUICK)


@pytest.mark.parametrize("mode", ["denied", "no-bucket", "503", "reset", "missing", "corrupt", "skewed"])
@pytest.mark.parametrize("name", [MANIFEST, SHARD])
def test_the_command_line_says_it_in_one_line(
    name: str, mode: str, server: FaultyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fail(mode, f"data/{name}", FOREVER)
    code = main(["verify", server.dataset, "--storage", "retry_seconds=0.2"])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert "Traceback" not in out + err
    assert "Debug source" not in out + err
    assert sum(1 for _ in itertools.chain(err.splitlines(), out.splitlines())) <= 4


CAUSES = {  # of an answer: the way forward
    "denied": "requester_pays",
    "expired": "renew them",
    "expired-400": "renew them",
    "skewed": "clock is wrong by many minutes: set it",
    "signature": "check the credentials",
    "no-bucket": "check the URL",
    "region": "storage={'region': ...}",
}


@pytest.mark.parametrize("mode", CAUSES)
def test_the_command_line_says_cause_and_way_forward(
    mode: str, server: FaultyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fail(mode, f"data/{MANIFEST}", FOREVER)
    assert CAUSES[mode] in _error_of(server.dataset, capsys)


def test_the_command_line_names_credentials_certificate_and_url(
    stored: Stored, certificates: Certificates, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nowhere")
    assert "no credentials for S3 were found" in _error_of("s3://bucket/data", capsys)
    assert "check the URL" in _error_of("https://nothing.invalid/data", capsys)
    with faulty_server(stored.below("data"), tls=certificates.context()) as server:
        assert "storage={'root_certificate': ...} adds it" in _error_of(server.dataset, capsys)


def _error_of(url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command says."""
    assert main(["info", url, "--storage", "retry_seconds=0.2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    return err
